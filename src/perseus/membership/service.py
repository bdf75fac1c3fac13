"""The master's side of the nodes' streams: service Agents.

One function serves nodes on the network and the agent in the master's own
process. A stream lives as long as its session: a newer stream of the node, the
end of its lease, a full outbox or a message out of turn end it, and the agent
dials again. The stream only carries; what follows from it is the machines' to say.

A heartbeat is answered at once, whatever waits for the disk: what it renews is kept
in memory alone. And a node's lease runs from its Welcome, not from when the disk was
asked to keep its session. So a slow disk makes the cluster slow, and no node lost.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from perseus.errors import (
    InternalError,
    InvalidError,
    PerseusError,
    RefusedError,
    UnavailableError,
)
from perseus.membership.commands import (
    Connect,
    Connected,
    Disconnected,
    HeartbeatReceived,
    Welcomed,
)
from perseus.membership.events import Replica
from perseus.membership.history import Mark
from perseus.membership.reports import Reports
from perseus.membership.sessions import Outbox, Sessions
from perseus.membership.state import Membership
from perseus.membership.values import capacity_from_message, load_from_message
from perseus.membership.waiting import end_all, first_to_end, within
from perseus.proto.v1 import agent_pb2
from perseus.rpc.call import Call, Caller
from perseus.runtime.machine import Driver
from perseus.runtime.ports import Clock

HELLO_TIMEOUT_S = 10.0
ATTEMPTS_MAXIMUM = 100_000
TEXT_MAXIMUM_LENGTH = 256

AttemptEvents = Callable[[str, int, Sequence[agent_pb2.AttemptEvent]], Awaitable[None]]
ChunkEvents = Callable[[str, int, Sequence[agent_pb2.ChunkEvent]], Awaitable[None]]

_log = logging.getLogger("perseus.membership")


class AgentsService:
    """Serves Agents; bind it with ``Registry.add("Agents", service)``."""

    def __init__(
        self,
        driver: Driver,
        membership: Membership,
        sessions: Sessions,
        clock: Clock,
        grant_key: bytes,
        on_attempt_events: AttemptEvents,
        on_chunk_events: ChunkEvents,
        state_mark: Callable[[], Mark] = Mark,
    ) -> None:
        """The handlers get (node_id, session, events); the events of a node come in order,
        the next only after the handler of those before has returned. ``state_mark`` says how
        far the master's state is on disk."""
        self._driver = driver
        self._membership = membership
        self._sessions = sessions
        self._clock = clock
        self._grant_key = grant_key
        self._on_attempt_events = on_attempt_events
        self._on_chunk_events = on_chunk_events
        self._state_mark = state_mark
        # Nodes of the cluster that were refused when they dialled last, and why.
        self.refusals: dict[str, RefusedError] = {}
        # Ends of sessions that are being recorded; their streams are gone already.
        self._endings: set[asyncio.Future[None]] = set()
        self._closing = False

    async def close(self) -> None:
        """Ends all streams and takes no more; afterwards the driver is not called from here.

        To be called before the store is closed.
        """
        self._closing = True
        self._sessions.close_all()
        if self._endings:
            await asyncio.wait(list(self._endings))

    async def connect(
        self, requests: AsyncIterator[agent_pb2.AgentMessage], call: Call
    ) -> AsyncIterator[agent_pb2.MasterMessage]:
        """The stream of one node; see agent.proto."""
        node_id = call.caller.node_id
        if not node_id:
            raise RefusedError(f"{call.caller} is not a node")
        if self._closing:
            raise UnavailableError("the master is stopping")
        incoming = requests.__aiter__()
        hello = await self._first_message(incoming)
        try:
            connected = await self._open_session(_connect_event(node_id, hello))
        except RefusedError as refusal:
            if self._membership.find(node_id) is not None:
                self.refusals[node_id] = refusal
            raise
        self.refusals.pop(node_id, None)
        reading: asyncio.Task[None] | None = None
        try:
            outbox = self._sessions.outbox(node_id, connected.session)
            # In memory alone: there is nothing to wait for.
            self._driver.begin(Welcomed(node_id, connected.session)).add_done_callback(_ignore)
            yield agent_pb2.MasterMessage(
                welcome=self._welcome(connected), state_mark=self._mark_message()
            )
            reading = asyncio.ensure_future(self._read(incoming, connected, outbox))
            while (message := await outbox.take()) is not None:
                yield message
        finally:
            # First of all, with no await before it, so that it happens in any case.
            self._end_session(connected)
            if reading is not None:
                await end_all([reading])

    async def _first_message(
        self, incoming: AsyncIterator[agent_pb2.AgentMessage]
    ) -> agent_pb2.Hello:
        try:
            message = await within(self._clock, HELLO_TIMEOUT_S, "a node's Hello", _next(incoming))
        except StopAsyncIteration:
            raise InvalidError("the stream ended before Hello") from None
        if not message.HasField("hello"):
            raise InvalidError("the stream does not begin with Hello")
        return message.hello

    async def _open_session(self, event: Connect) -> Connected:
        """Connects; a caller who leaves meanwhile leaves no session behind."""
        opening: asyncio.Future[Connected] = asyncio.ensure_future(self._driver.do(event))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._abandon)
            raise

    def _abandon(self, opening: "asyncio.Future[Connected]") -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._end_session(opening.result())

    def _end_session(self, connected: Connected) -> None:
        self._sessions.close(connected.node_id, connected.session)
        if self._closing:
            return
        event = Disconnected(connected.node_id, connected.session)
        ending = asyncio.ensure_future(self._record_end(event))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _record_end(self, event: Disconnected) -> None:
        try:
            await self._driver.do(event)
        except PerseusError as error:
            # The driver has failed and says so itself; the session ends with the master.
            _log.debug("the end of session %d of %s: %s", event.session, event.node_id, error)

    def _welcome(self, connected: Connected) -> agent_pb2.Welcome:
        return agent_pb2.Welcome(
            protocol=connected.protocol,
            lease_s=connected.lease_s,
            session=connected.session,
            node_id=connected.node_id,
            node_name=connected.name,
            grant_key=self._grant_key,
        )

    def _mark_message(self) -> agent_pb2.StateMark:
        mark = self._state_mark()
        return agent_pb2.StateMark(run=mark.run, number=mark.number)

    async def _read(
        self,
        incoming: AsyncIterator[agent_pb2.AgentMessage],
        connected: Connected,
        outbox: Outbox,
    ) -> None:
        """Takes in what the node says; however it ends, the outbox is told."""
        reports = Reports()
        try:
            await first_to_end(
                self._listen(incoming, connected, outbox, reports),
                self._record(reports, connected),
            )
            outbox.end()
        except PerseusError as error:
            outbox.end(error)
        except asyncio.CancelledError:
            outbox.end()
            raise
        except Exception as error:
            outbox.end(_unexpected(error, connected))

    async def _listen(
        self,
        incoming: AsyncIterator[agent_pb2.AgentMessage],
        connected: Connected,
        outbox: Outbox,
        reports: Reports,
    ) -> None:
        async for message in incoming:
            self._membership.check_session(connected.node_id, connected.session)
            if message.HasField("hello"):
                raise InvalidError("a second Hello on one stream")
            if message.HasField("heartbeat"):
                self._renew(message.heartbeat, connected)
                time_s = self._clock.time_s()
                outbox.answer(message.heartbeat.number, time_s, self._mark_message())
            await reports.put(message.attempt_events, message.chunk_events)

    def _renew(self, beat: agent_pb2.Heartbeat, connected: Connected) -> None:
        load = load_from_message(beat.load)
        event = HeartbeatReceived(connected.node_id, connected.session, load, beat.time_s)
        # The driver itself says what it could not commit.
        self._driver.begin(event).add_done_callback(_ignore)

    async def _record(self, reports: Reports, connected: Connected) -> None:
        node_id, session = connected.node_id, connected.session
        while True:
            attempts, chunks = await reports.take()
            if attempts:
                await self._on_attempt_events(node_id, session, attempts)
            if chunks:
                await self._on_chunk_events(node_id, session, chunks)


def caller_check(membership: Membership) -> Callable[[Caller], None]:
    """What ``Registry`` asks at every call: refuses nodes that are no longer of the cluster."""

    def check(caller: Caller) -> None:
        node_id = caller.node_id or caller.via_node_id
        if node_id and membership.find(node_id) is None:
            raise RefusedError(
                f"node {caller.name} is not (or no longer) part of this cluster",
                hint="join again with a new token, made on the master: perseus token create",
            )

    return check


def _connect_event(node_id: str, hello: agent_pb2.Hello) -> Connect:
    for text in (hello.version, hello.address, hello.chunk_address):
        if len(text) > TEXT_MAXIMUM_LENGTH:
            raise InvalidError(f"Hello has a text of over {TEXT_MAXIMUM_LENGTH} letters")
    if len(hello.attempts) > ATTEMPTS_MAXIMUM:
        raise InvalidError(f"Hello lists more than {ATTEMPTS_MAXIMUM} attempts")
    replicas = tuple(map(Replica.of, hello.replicas))
    return Connect(
        node_id=node_id,
        protocol_minimum=hello.protocol_minimum,
        protocol_maximum=hello.protocol_maximum,
        version=hello.version,
        address=hello.address,
        chunk_address=hello.chunk_address,
        capacity=capacity_from_message(hello.capacity),
        attempts=tuple(hello.attempts),
        replicas=replicas,
        certificate_expires_at_s=hello.certificate_expires_at_s,
        replicas_known=not hello.replicas_unknown,
        state_mark=(hello.state_mark.run, hello.state_mark.number),
        frozen=hello.frozen,
        certificate_begins_at_s=hello.certificate_begins_at_s,
    )


def _ignore(done: "asyncio.Future[None]") -> None:
    """Asks for the exception, so that asyncio does not complain that nobody did."""
    if not done.cancelled():
        done.exception()


async def _next(incoming: AsyncIterator[agent_pb2.AgentMessage]) -> agent_pb2.AgentMessage:
    return await incoming.__anext__()


def _unexpected(error: Exception, connected: Connected) -> PerseusError:
    _log.error("the stream of node %s broke", connected.name, exc_info=error)
    return InternalError(f"the stream of node {connected.name} broke: {error!r}")
