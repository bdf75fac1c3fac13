"""The agent's side of the stream to the master: its lease, its reports, its directives.

Promises:

- The lease counts from when a heartbeat was *sent*, by this node's own clock, once
  it was answered. ``on_lease_lost`` is called a margin before it ends, exactly once
  for each loss, and before anything that came later is looked at: whoever wakes from
  a suspension compares clocks first.
- After a loss the stream is dropped and a new Hello tells the master what is left.
- ``post`` never blocks. It sends at once when nothing is being sent, and gathers
  into one message what comes while something is. What is posted while there is no
  stream is dropped, for the next Hello, and the owners in ``on_welcome``, tell all.
- A master that cannot be reached is dialled again for ever, with jittered, bounded
  pauses. A refusal (removed, or versions that do not meet) is final.

Handlers are called on the event loop and must not block.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from perseus.errors import IncompatibleError, PerseusError, RefusedError
from perseus.membership.history import Mark
from perseus.membership.lease import HeldLease
from perseus.membership.stream import AgentStream, MasterLink
from perseus.membership.waiting import first_to_end, within
from perseus.proto.v1 import agent_pb2, cluster_pb2
from perseus.runtime.ports import Clock, Random
from perseus.settings import Settings

DIAL_TIMEOUT_S = 10.0
HELLO_TIMEOUT_S = 30.0
# It waits for the master's disk. A master that is gone is noticed by the connection.
WELCOME_TIMEOUT_S = 60.0
# Pauses before dialling again double from the first to the longest, which is also
# at most this share of the lease, so that there is time to come back within it.
RECONNECT_FIRST_S = 0.1
RECONNECT_MAXIMUM_S = 5.0
RECONNECT_MAXIMUM_SHARE = 0.25
RECONNECT_DOUBLINGS = 10

_log = logging.getLogger("perseus.membership")


class LinkHandlers(Protocol):
    """What the agent does with what the link tells it."""

    def on_welcome(self, welcome: agent_pb2.Welcome) -> None:
        """A new session: repeat by ``post`` what is not acknowledged yet."""

    def on_directives(self, directives: Sequence[agent_pb2.Directive]) -> None:
        """What the master wants done, in order."""

    def on_acknowledged(self, attempts: Sequence[str]) -> None:
        """The ends of these attempts are durable at the master."""

    def on_state_mark(self, mark: Mark) -> None:
        """How far the master's state is on its disk; to be told in the next Hello."""

    def on_lease_renewed(self, until_s: float) -> None:
        """The node may act until then by ``clock.now_s``; the margin is taken off already."""

    def on_lease_lost(self) -> None:
        """Freeze all attempts now; the master may lease them to others soon."""

    def on_refused(self, error: PerseusError) -> None:
        """The master will never take this node as it is; ``run`` then raises ``error``."""


class AgentLink:
    """Keeps one stream to the master; see the module."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[MasterLink]],
        clock: Clock,
        random: Random,
        hello: Callable[[], agent_pb2.Hello | Awaitable[agent_pb2.Hello]],
        load: Callable[[], cluster_pb2.Load],
        handlers: LinkHandlers,
        settings: Settings,
    ) -> None:
        """``hello`` is asked for each stream anew; ``load`` for each heartbeat, and is quick."""
        self._dial = dial
        self._clock = clock
        self._random = random
        self._hello = hello
        self._load = load
        self._handlers = handlers
        self._settings = settings
        self._lease = HeldLease(clock, handlers.on_lease_renewed, handlers.on_lease_lost)
        # The stream that reports go to, from before its Hello is made.
        self._stream: AgentStream | None = None
        # Why there was no stream, the last time; None after Welcome.
        self.trouble: PerseusError | None = None
        # The latest session; 0 before the first.
        self.session = 0

    @property
    def lease_ends_at_s(self) -> float:
        """When the lease ends, by ``clock.now_s``; minus infinity without one."""
        return self._lease.ends_at_s

    def holds_lease(self) -> bool:
        """Whether the node may act now. Compares clocks, and tells of a loss if there is one."""
        return self._lease.check()

    @property
    def clock_ahead_s(self) -> float | None:
        """How far this node's clock is ahead of the master's, as the present stream has it;
        None while that is not known. It is known anew when the lease is renewed."""
        return None if self._stream is None else self._stream.clock_ahead_s

    @property
    def connected(self) -> bool:
        """Whether the master has welcomed the present stream."""
        return self._stream is not None and self._stream.welcomed

    def post(
        self,
        attempt_events: Iterable[agent_pb2.AttemptEvent] = (),
        chunk_events: Iterable[agent_pb2.ChunkEvent] = (),
    ) -> None:
        """Reports to the master; see the module for what happens without a stream."""
        if self._stream is not None:
            self._stream.post(attempt_events, chunk_events)

    def say_hello_again(self) -> None:
        """Ends the present stream, so that a new Hello tells what has changed: addresses,
        the certificate, the replicas of a chunkserver that was started anew."""
        if self._stream is not None:
            self._stream.give_up("this node has something new to say in its Hello")

    async def run(self) -> None:
        """Runs until it is cancelled, or raises the refusal that ended it."""
        await first_to_end(self._keep_streams(), self._lease.watch(self._settings.heartbeat_s))

    async def _keep_streams(self) -> None:
        failures = 0
        while True:
            started_s = self._clock.now_s()
            try:
                await self._one_stream()
            except (RefusedError, IncompatibleError) as refusal:
                self.trouble = refusal
                self._lease.lose()
                self._handlers.on_refused(refusal)
                raise
            except PerseusError as trouble:
                self._note(trouble)
            if self._clock.now_s() - started_s > self._settings.lease_s:
                failures = 0
            failures += 1
            await self._clock.sleep(self._pause_s(failures))

    def _note(self, trouble: PerseusError) -> None:
        """Logs a trouble once, not at every dialling."""
        if self.trouble is None or self.trouble.message != trouble.message:
            _log.warning("no stream to the master: %s", trouble)
        self.trouble = trouble

    def _pause_s(self, failures: int) -> float:
        doublings = min(failures - 1, RECONNECT_DOUBLINGS)
        longest_s = min(RECONNECT_MAXIMUM_S, self._settings.lease_s * RECONNECT_MAXIMUM_SHARE)
        pause_s = min(longest_s, RECONNECT_FIRST_S * 2**doublings)
        return self._random.uniform(pause_s / 2, pause_s)

    async def _one_stream(self) -> None:
        """One stream from dialling to its end; always raises why it ended."""
        link = await within(self._clock, DIAL_TIMEOUT_S, "dialling the master", self._dial())
        try:
            # The lease is compared with the clock before Hello says what is held under it.
            self._lease.check()
            stream = self._stream = AgentStream(link, self._clock, self._lease)
            lease_s = await self._greet(stream)
            await first_to_end(
                stream.beat(min(self._settings.heartbeat_s, lease_s / 3), lease_s),
                stream.send(self._load),
                self._receive(stream),
            )
        finally:
            self._stream = None
            await link.close()

    async def _greet(self, stream: AgentStream) -> float:
        """Hello and Welcome; returns the lease's length."""
        made = self._hello()
        if inspect.isawaitable(made):
            made = await within(self._clock, HELLO_TIMEOUT_S, "making this node's Hello", made)
        sent_at_s = self._clock.now_s()
        first = await within(
            self._clock, WELCOME_TIMEOUT_S, "the master's welcome", stream.greet(made)
        )
        if not first.HasField("welcome"):
            raise IncompatibleError(
                "the master did not begin with Welcome", hint="upgrade Perseus on this machine"
            )
        heard = [first]
        if not self._lease.begin(first.welcome.lease_s, sent_at_s):
            # The master's disk took most of the lease to keep the session.
            answers = stream.begin_lease(self._load())
            heard += await within(
                self._clock, WELCOME_TIMEOUT_S, "the answer to a heartbeat", answers
            )
        stream.check()
        stream.welcomed = True
        self.session = first.welcome.session
        self.trouble = None
        self._handlers.on_welcome(first.welcome)
        for message in heard:
            self._hand_on(message)
        return first.welcome.lease_s

    async def _receive(self, stream: AgentStream) -> None:
        while True:
            self._hand_on(await stream.receive())

    def _hand_on(self, message: agent_pb2.MasterMessage) -> None:
        if message.HasField("state_mark"):
            mark = message.state_mark
            self._handlers.on_state_mark(Mark(mark.run, mark.number))
        if message.acknowledged_attempts:
            self._handlers.on_acknowledged(list(message.acknowledged_attempts))
        if message.directives:
            self._handlers.on_directives(list(message.directives))
