"""One stream from an agent to the master: what waits to be sent, and its heartbeats."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable

from perseus.errors import LeaseLostError, UnavailableError
from perseus.membership.lease import HeldLease
from perseus.proto.v1 import agent_pb2, cluster_pb2
from perseus.runtime.ports import Clock, Link

# A master silent for this share of the lease is dialled anew while the lease still holds.
SILENCE_SHARE = 0.4
# Events that wait to be sent; above it the stream is dropped and Hello tells all.
OUTBOX_MAXIMUM_EVENTS = 100_000
MESSAGE_MAXIMUM_EVENTS = 1024
MESSAGE_MAXIMUM_BYTES = 1 << 20
UNANSWERED_MAXIMUM = 1000

MasterLink = Link[agent_pb2.AgentMessage, agent_pb2.MasterMessage]


class AgentStream:
    """Gathers reports into messages; ends with an error when the lease or the master is gone."""

    def __init__(self, link: MasterLink, clock: Clock, lease: HeldLease) -> None:
        self._link = link
        self._clock = clock
        self._lease = lease
        # A lease lost since the stream began makes what its Hello said untrue.
        self._losses = lease.losses
        self._incoming: AsyncIterator[agent_pb2.MasterMessage] | None = None
        self._attempt_events: deque[agent_pb2.AttemptEvent] = deque()
        self._chunk_events: deque[agent_pb2.ChunkEvent] = deque()
        # Why the stream is to be ended; empty while it is not.
        self._given_up = ""
        self._wake = asyncio.Event()
        self._number = 0
        self._heartbeat_due = False
        # When each heartbeat that is not answered yet was sent.
        self._sent_at_s: dict[int, float] = {}
        self._heard_at_s = clock.now_s()
        # The master has answered Hello.
        self.welcomed = False
        # How far this node's clock is ahead of the master's; None before the first answer.
        self.clock_ahead_s: float | None = None

    def post(
        self,
        attempt_events: Iterable[agent_pb2.AttemptEvent],
        chunk_events: Iterable[agent_pb2.ChunkEvent],
    ) -> None:
        """Adds reports; past the bound the stream is given up instead."""
        self._attempt_events.extend(attempt_events)
        self._chunk_events.extend(chunk_events)
        if len(self._attempt_events) + len(self._chunk_events) > OUTBOX_MAXIMUM_EVENTS:
            self._attempt_events.clear()
            self._chunk_events.clear()
            self.give_up(f"more than {OUTBOX_MAXIMUM_EVENTS} reports waited to be sent")
        self._wake.set()

    def give_up(self, reason: str) -> None:
        """Ends the stream as soon as nothing is being sent."""
        self._given_up = reason
        self._wake.set()

    def check(self) -> None:
        """Compares clocks; raises LeaseLostError when the lease was lost on this stream."""
        self._lease.check()
        if self._lease.losses != self._losses:
            raise LeaseLostError("this node's lease ended before the master renewed it")

    async def greet(self, hello: agent_pb2.Hello) -> agent_pb2.MasterMessage:
        """Sends Hello and returns the master's first message."""
        await self._link.send(agent_pb2.AgentMessage(hello=hello))
        return await self.receive()

    async def begin_lease(self, load: cluster_pb2.Load) -> list[agent_pb2.MasterMessage]:
        """Sends a heartbeat at once and waits until its answer begins the lease.

        Returns what the master has said until then; nothing of it was acted on.
        """
        message = agent_pb2.AgentMessage()
        self._add_heartbeat(message, load)
        await self._link.send(message)
        heard = []
        while not self._lease.check():
            heard.append(await self.receive())
        return heard

    async def receive(self) -> agent_pb2.MasterMessage:
        """The next message; raises UnavailableError when the master ends the stream."""
        if self._incoming is None:
            self._incoming = self._link.__aiter__()
        try:
            message = await self._incoming.__anext__()
        except StopAsyncIteration:
            raise UnavailableError("the master ended the stream") from None
        self.check()
        self._heard_at_s = self._clock.now_s()
        if message.HasField("heartbeat_answer"):
            self._answered(message.heartbeat_answer)
        return message

    async def beat(self, heartbeat_s: float, lease_s: float) -> None:
        """Asks for a heartbeat each ``heartbeat_s``; raises when the master is silent."""
        while True:
            self._heartbeat_due = True
            self._wake.set()
            await self._clock.sleep(heartbeat_s)
            self.check()
            silent_s = self._clock.now_s() - self._heard_at_s
            if silent_s > lease_s * SILENCE_SHARE and len(self._sent_at_s) > 1:
                raise UnavailableError(f"the master has not answered for {silent_s:.1f} s")

    async def send(self, load: Callable[[], cluster_pb2.Load]) -> None:
        """Sends what waits whenever something does; always raises in the end."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.check()
            if self._given_up:
                raise UnavailableError(self._given_up)
            if self._heartbeat_due or self._attempt_events or self._chunk_events:
                await self._link.send(self._next_message(load))

    def _next_message(self, load: Callable[[], cluster_pb2.Load]) -> agent_pb2.AgentMessage:
        message = agent_pb2.AgentMessage()
        if self._heartbeat_due:
            self._heartbeat_due = False
            self._add_heartbeat(message, load())
        room = MESSAGE_MAXIMUM_EVENTS
        size_bytes = 0
        while room and size_bytes < MESSAGE_MAXIMUM_BYTES and self._attempt_events:
            attempt_event = self._attempt_events.popleft()
            message.attempt_events.append(attempt_event)
            room -= 1
            size_bytes += attempt_event.ByteSize()
        while room and size_bytes < MESSAGE_MAXIMUM_BYTES and self._chunk_events:
            message.chunk_events.append(self._chunk_events.popleft())
            room -= 1
        if self._attempt_events or self._chunk_events:
            self._wake.set()
        return message

    def _add_heartbeat(self, message: agent_pb2.AgentMessage, load: cluster_pb2.Load) -> None:
        if len(self._sent_at_s) >= UNANSWERED_MAXIMUM:
            raise UnavailableError(f"{UNANSWERED_MAXIMUM} heartbeats have not been answered")
        self._number += 1
        message.heartbeat.CopyFrom(
            agent_pb2.Heartbeat(number=self._number, load=load, time_s=self._clock.time_s())
        )
        # Read before it is sent: a lease that seems shorter than it is does no harm.
        self._sent_at_s[self._number] = self._clock.now_s()

    def _answered(self, answer: agent_pb2.HeartbeatAnswer) -> None:
        number = answer.number
        sent_at_s = self._sent_at_s.get(number)
        if sent_at_s is None:
            return
        # An older master does not say it.
        if answer.time_s:
            self.clock_ahead_s = self._clock.time_s() - answer.time_s
        self._lease.renew(sent_at_s)
        # Answers come in order: those before it will not be answered any more.
        for older in [key for key in self._sent_at_s if key <= number]:
            del self._sent_at_s[older]
