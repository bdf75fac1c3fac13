"""Pure state machines, and the driver that gives them durability.

A machine's ``step`` takes an instant and an event and returns what follows: the
key-value changes that make it durable, the effects to carry out once they are,
and a reply. It reads no clock, draws no chance, does no I/O and does not log;
time comes in as ``at``, chance as fields of events. Hence the simulator can
drive the very code that runs on the cluster.

Contract of ``step``: validate first, then change. A PerseusError raised from
``step`` means that nothing changed. Any other exception is a defect and stops
the daemon, for memory and disk may disagree.

The shape follows etcd-io/raft's Ready (persist, then send) and dask's
worker state machine (events in, instructions out).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from perseus.errors import PerseusError
from perseus.runtime.ports import Clock


@dataclass(frozen=True, slots=True)
class Instant:
    """When an event happens: ``now_s`` is monotonic, ``time_s`` is since 1970."""

    now_s: float
    time_s: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. Subclasses are frozen dataclasses."""

    @property
    def needs_room(self) -> bool:
        """Whether it is refused while the disk is full.

        So it is for what somebody asks for anew. What happened anyway, ends what was
        begun or makes room goes on.
        """
        return False


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time passed; sent about five times a second, for what is due by the clock."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Something to do once the step is durable. Subclasses are frozen dataclasses."""


@dataclass(frozen=True, slots=True)
class Write:
    """One change of the durable state; ``value`` None takes the key away."""

    key: bytes
    value: bytes | None


@dataclass(slots=True)
class Step:
    """What follows from one event."""

    writes: list[Write] = field(default_factory=list)
    # Effects for the outside, and Events for sibling machines (see Composite).
    effects: list[Effect | Event] = field(default_factory=list)
    reply: Any = None


class Machine(Protocol):
    """A pure state machine over durable keys that begin with one of its prefixes."""

    # Key prefixes that belong to this machine alone.
    prefixes: Sequence[bytes]
    # The event classes it takes.
    events: Sequence[type[Event]]

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Rebuilds the state from the durable keys, once, before the first step."""

    def step(self, at: Instant, event: Event) -> Step:
        """What follows from ``event``; see the module's contract."""


class Composite:
    """Several machines whose steps are one transaction.

    An effect that is itself an Event goes to every sibling that takes it, within
    the same step, in the order of ``machines``; such a follow-up must not raise,
    for its cause has already changed state. All writes are committed together,
    all other effects delivered after. The reply is the first machine's.
    """

    # Events, the first one included; effects are the machines' to bound.
    FOLLOW_UP_LIMIT = 100_000

    def __init__(self, machines: Iterable[Machine]) -> None:
        self.machines = list(machines)
        self._by_event: dict[type[Event], list[Machine]] = {}
        for machine in self.machines:
            for kind in machine.events:
                self._by_event.setdefault(kind, []).append(machine)
        self.events: Sequence[type[Event]] = list(self._by_event)
        self.prefixes: Sequence[bytes] = [p for m in self.machines for p in m.prefixes]

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Gives each machine the keys under its prefixes."""
        rows = list(items)
        for machine in self.machines:
            mine = tuple(machine.prefixes)
            machine.load([row for row in rows if row[0].startswith(mine)])

    def step(self, at: Instant, event: Event) -> Step:
        """One transaction over all machines."""
        total = Step()
        waiting: deque[Effect | Event] = deque([event])
        events = steps = 0
        while waiting:
            effect = waiting.popleft()
            if not isinstance(effect, Event):
                total.effects.append(effect)
                continue
            events += 1
            if events > self.FOLLOW_UP_LIMIT:
                raise RuntimeError(f"more than {self.FOLLOW_UP_LIMIT} follow-ups of one event")
            for machine in self._by_event[type(effect)]:
                following = _stepped(machine, at, effect, is_first=steps == 0)
                steps += 1
                total.writes += following.writes
                waiting.extend(following.effects)
                if events == 1 and total.reply is None:
                    total.reply = following.reply
        return total


def _stepped(machine: Machine, at: Instant, event: Event, is_first: bool) -> Step:
    """One machine's step. Only the first may refuse: what comes after it has a cause that has
    changed state already."""
    try:
        return machine.step(at, event)
    except PerseusError as error:
        if is_first:
            raise
        kind = type(machine).__name__
        raise RuntimeError(f"{kind} refused {type(event).__name__}: {error}") from error


class Committer(Protocol):
    """What the driver needs of a store: ordered, durable, all-or-nothing commits."""

    def commit(self, writes: Sequence[Write]) -> Awaitable[None]:
        """Durable when it returns, after every commit before it. No writes: a barrier."""

    def shortage(self) -> PerseusError | None:
        """Why what needs room is to be refused just now; None while there is room."""


class Numbering(Protocol):
    """Counts transactions; see ``membership.history``."""

    def take(self) -> Write:
        """The number of the next one, to be committed with it."""

    def keep(self, write: Write) -> None:
        """The transaction with that number is durable."""


class Driver:
    """Steps a machine, persists, then delivers: rule 2, persist before sending.

    Steps are atomic (no await inside) and commit in their order. A failed
    commit is final: ``on_failure`` is told, and every later call raises it.
    While the committer is short of room, events that need some are refused.
    """

    def __init__(
        self,
        machine: Machine,
        committer: Committer,
        clock: Clock,
        deliver: Callable[[Effect], None],
        on_failure: Callable[[BaseException], None],
        numbering: Numbering | None = None,
    ) -> None:
        self.machine = machine
        self._committer = committer
        self._clock = clock
        self._deliver = deliver
        self._on_failure = on_failure
        self._numbering = numbering
        self._failure: BaseException | None = None
        self._completions: set[asyncio.Future[Any]] = set()

    def instant(self) -> Instant:
        """Now, by both clocks."""
        return Instant(self._clock.now_s(), self._clock.time_s())

    async def do(self, event: Event) -> Any:
        """Steps, waits until it is durable, delivers the effects, returns the reply.

        A caller that is cancelled meanwhile loses only the reply: the step goes on
        to its end, for it has happened.
        """
        return await asyncio.shield(self.begin(event))

    def begin(self, event: Event) -> "asyncio.Future[Any]":
        """Steps now, and refuses now; the future is what ``do`` waits for.

        For a caller who tells nobody what came of the step, and so need not wait for the disk.
        """
        if self._failure is not None:
            raise self._failure
        # Before the step: after it, memory has what the disk has not.
        if event.needs_room and (shortage := self._committer.shortage()) is not None:
            raise shortage
        try:
            step = self.machine.step(self.instant(), event)
        except PerseusError:
            # Refused: nothing has changed.
            raise
        except Exception as defect:
            # Memory may be ahead of the disk, and nothing more may be told from it.
            self._fail(defect)
            raise
        number = None
        if self._numbering is not None and step.writes:
            number = self._numbering.take()
            step.writes.append(number)
        completion = asyncio.ensure_future(self._complete(step, number))
        # The event loop itself holds tasks weakly.
        self._completions.add(completion)
        completion.add_done_callback(self._completions.discard)
        return completion

    async def _complete(self, step: Step, number: Write | None) -> Any:
        try:
            await self._committer.commit(step.writes)
        except Exception as failure:
            self._fail(failure)
            raise
        if self._numbering is not None and number is not None:
            self._numbering.keep(number)
        for effect in step.effects:
            assert isinstance(effect, Effect)
            self._deliver(effect)
        return step.reply

    def _fail(self, failure: BaseException) -> None:
        if self._failure is None:
            self._failure = failure
            self._on_failure(failure)
