"""Tries all orders: bounded model checking of a small configuration.

Where ``world`` draws one order of events from a seed, this goes through every one, the
short ones first: any message on its way may arrive next, any timer may fire, and, within
the bounds, any node may crash and start again. States that were seen are not gone into
again (they are told apart by a hash of 64 bits). What it finds is a shortest run that
breaks an "always".

Time stands still here: ``now`` is 0, ``after`` says only that something may happen later,
and chance always gives its least. An algorithm that needs clocks is one for ``world``. An
exception of a handler breaks a run here: there is no telling whether it was foreseen.
The shape follows Killian and others, "Life, Death, and the Critical Transition" (MaceMC,
2007), and Holzmann's SPIN.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from perseus.algo.codec import Codec
from perseus.algo.durability import Key, apply
from perseus.algo.kept import opened
from perseus.algo.layout import Layout
from perseus.algo.process import Handler, Id, Place, Process, UnfitError
from perseus.algo.properties import Property, View, properties_of
from perseus.algo.values import Values
from perseus.errors import InvalidError, PerseusError
from perseus.sim.clone import Clones, frozen
from perseus.sim.patience import (
    ENDLESS,
    MEMORY_LEFT_LEAST,
    STEP_LIMIT_S,
    Endless,
    limited,
    memory_left,
)
from perseus.sim.trace import Happened, brief
from perseus.sim.watch import UNSEEN, Violation, said_of
from perseus.sim.where import Step, raised_at

STATES_MAXIMUM = 200_000
# How many states more it sees between two looks at the memory that is left.
STATES_PER_LOOK = 1000


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far to go."""

    # Events of one run.
    depth: int = 30
    # Of one run: timers that fire, crashes.
    timeouts: int = 4
    crashes: int = 1
    states: int = STATES_MAXIMUM


@dataclass(frozen=True, slots=True)
class Explored:
    """What was found."""

    violation: Violation | None
    # The run that leads to it.
    events: tuple[Happened, ...]
    states: int
    # The longest run looked at.
    depth: int
    # No state within the bounds is left.
    is_complete: bool
    # What kept it from more: "states", "memory", "interrupt", or that runs went on after the
    # "depth"; "" when there is no more, or something broke.
    ended_by: str
    # The "sometimes" that were reached, and those that were not.
    reached: frozenset[str]
    missing: frozenset[str]
    took_s: float


class _Handle:
    """A timer. It never changes: whether it is pending stands in the state."""

    __slots__ = ("host", "number")

    def __init__(self, host: "_Host", number: int) -> None:
        self.host = host
        self.number = number

    def cancel(self) -> None:
        """It does not fire."""
        self.host.cell.timers.pop(self.number, None)


class _Least:
    """No chance at all."""

    def random(self) -> float:
        """Always 0."""
        return 0.0

    def uniform(self, low: float, high: float) -> float:
        """Always the least."""
        return low

    def below(self, count: int) -> int:
        """Always 0."""
        return 0


class _Host:
    """Drives whichever process takes the step at the moment."""

    def __init__(self, values: Values) -> None:
        self.cell: _Cell
        self.taken = values.taken
        self._number = 0

    def now_s(self, process: Process) -> float:
        """Time stands still."""
        return 0.0

    def knows(self, to: Id) -> bool:
        """All are in groups."""
        return False

    def after(
        self, process: Process, seconds: float, handler: Handler, arguments: tuple[Any, ...]
    ) -> _Handle:
        """It may fire at any time from now on."""
        self._number += 1
        self.cell.timers[self._number] = (handler, arguments)
        return _Handle(self, self._number)


@dataclass(slots=True)
class _Cell:
    """One process, its disk and its timers; None while it is down."""

    kind: type[Process]
    place: Place
    process: Process | None = None
    disk: dict[Key, Any] = field(default_factory=dict)
    timers: dict[int, tuple[Handler, tuple[Any, ...]]] = field(default_factory=dict)
    mark: Any = None

    def copy(self) -> "_Cell":
        """A cell of its own, in which handlers belong to the new process."""
        if self.process is None:
            return _Cell(self.kind, self.place, None, dict(self.disk), {}, None)
        clones = Clones(_Handle)
        process = clones.of(self.process)
        timers = {n: (clones.of(h), clones.of(a)) for n, (h, a) in self.timers.items()}
        return _Cell(self.kind, self.place, process, dict(self.disk), timers, None)

    def settle(self) -> None:
        """Takes down what tells this cell from others that it might be."""
        order = {number: rank for rank, number in enumerate(self.timers)}
        state = None if self.process is None else frozen(self.process, _Handle, order)
        timers = tuple(frozen(each, _Handle, order) for each in self.timers.values())
        disk = frozen(self.disk, _Handle, order)
        self.mark = hash((state, timers, disk))


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message on its way; two with one ``mark`` are the same."""

    to: Id
    sender: Id
    message: Any
    number: int
    answers: int
    mark: int


@dataclass(slots=True)
class _State:
    """One moment of a run. Cells are shared between states and never changed."""

    cells: dict[Id, _Cell]
    messages: tuple[_Sent, ...]
    # The notes of the properties on this run, and hashes of them.
    ghosts: tuple[dict[Any, Any], ...]
    ghost_marks: tuple[int, ...]
    timeouts: int
    crashes: int
    depth: int
    before: "_State | None" = None
    happened: tuple[Happened, ...] = ()

    def mark(self) -> int:
        """The hash by which it is known again."""
        messages = tuple(sorted([sent.mark for sent in self.messages]))
        cells = tuple([cell.mark for cell in self.cells.values()])
        return hash((cells, messages, self.ghost_marks, self.timeouts, self.crashes))


class _Search:
    """Goes through states, the ones of short runs first."""

    def __init__(self, bounds: Bounds, beat: Callable[[int, int], None]) -> None:
        self._bounds = bounds
        self._beat = beat
        self.seen: set[int] = set()
        self.deepest = 0
        self.ended_by = ""

    def run(self, first: _State, following: Callable[[_State], Iterator[_State]]) -> None:
        """Till there are no more, or something ends it."""
        waiting = deque([first])
        while waiting:
            state = waiting.popleft()
            self.deepest = max(self.deepest, state.depth)
            if state.depth >= self._bounds.depth:
                self.ended_by = "depth"
                continue
            for each in following(state):
                if self._is_new(each):
                    waiting.append(each)
            if len(self.seen) >= self._bounds.states and waiting:
                self.ended_by = "states"
                return
            if self.ended_by == "memory":
                return

    def _is_new(self, state: _State) -> bool:
        mark, count = state.mark(), len(self.seen)
        self.seen.add(mark)
        if len(self.seen) == count:
            return False
        if count % STATES_PER_LOOK == 0:
            self._beat(count, self.deepest)
            if memory_left() < MEMORY_LEFT_LEAST:
                self.ended_by = "memory"
        return True


class Explorer:
    """A search; ``run`` does it."""

    def __init__(
        self,
        layout: Layout,
        nodes: int,
        bounds: Bounds | None = None,
        step_limit_s: float = STEP_LIMIT_S,
    ) -> None:
        self._bounds = bounds or Bounds()
        self._step_limit_s = step_limit_s
        self.steps = 0
        # The one under way, and what it makes.
        self._stepping: tuple[Step, _State] | None = None
        self._host = _Host(Values(Codec.of(layout)))
        self._layout = layout
        self._members = layout.members(nodes)
        kinds = {group.kind for group in layout.groups.values()}
        found = {id(each): each for each in properties_of(layout)}
        for kind in sorted(kinds, key=lambda kind: kind.__qualname__):
            found |= {id(each): each for each in properties_of(kind)}
        self.properties = [p for p in found.values() if p.kind in ("always", "sometimes")]
        self._reached: set[str] = set()

    @property
    def step(self) -> Step | None:
        """The one under way."""
        return self._stepping[0] if self._stepping else None

    def run(
        self,
        beat: Callable[[int, int], None] = lambda states, depth: None,
        last: Callable[[Explored], None] = lambda found: None,
    ) -> Explored:
        """Goes through all states within the bounds, or to the first violation, or to ^C.
        ``beat`` is told now and then of the states seen, and of the depth. When a step does
        not end that nothing interrupts, ``last`` is told what was found, and this process ends."""
        begun_s = time.monotonic()
        broken: _Broken | None = None
        search = _Search(self._bounds, beat)
        try:
            with limited(
                self,
                self._step_limit_s,
                lambda said: last(self._found(search, self._endless(said), begun_s)),
            ):
                search.run(self._first(), self._following)
        except KeyboardInterrupt:
            search.ended_by = "interrupt"
        except _Broken as caught:
            broken = caught
        except Endless as endless:
            broken = self._endless(str(endless))
        except PerseusError as error:
            raise type(error)(f"{self.step}: {error.message}", hint=error.hint) from error
        return self._found(search, broken, begun_s)

    def _endless(self, said: str) -> "_Broken":
        state = self._stepping[1] if self._stepping else None
        return _Broken(Violation(ENDLESS, said, float(state.depth) if state else 0.0), state)

    def _found(self, search: _Search, broken: "_Broken | None", begun_s: float) -> Explored:
        violation = None if broken is None else broken.violation
        return Explored(
            violation,
            () if broken is None else _events(broken.state),
            len(search.seen),
            search.deepest,
            violation is None and search.ended_by in ("", "depth"),
            "" if violation else search.ended_by,
            reached := frozenset(self._reached),
            frozenset(each.name for each in self.properties if each.kind == "sometimes") - reached,
            time.monotonic() - begun_s,
        )

    # Where a run begins.

    def _first(self) -> _State:
        bounds = self._bounds
        ghosts: tuple[dict[Any, Any], ...] = tuple({} for _ in self.properties)
        state = _State({}, (), ghosts, (0,) * len(ghosts), bounds.timeouts, bounds.crashes, 0)
        for name, ids in self._members.items():
            for process_id in ids:
                place = Place(process_id, name, self._members)
                cell = _Cell(self._layout.groups[name].kind, place)
                cell.settle()
                state.cells[process_id] = cell
        for process_id in list(state.cells):
            # These are no events of a run.
            state = self._start(replace(state, depth=-1), process_id)
        return state

    def _start(self, state: _State, process_id: Id) -> _State:
        cell = state.cells[process_id].copy()
        options = self._layout.groups[cell.place.group].options
        cell.process = cell.kind._host_create(cell.place, self._host, _Least(), cell.disk, options)
        following = _begun(state, process_id, cell, Happened(0.0, "start", process_id))
        self._step(following, cell, cell.process._host_start, ())
        return following

    # What may happen next.

    def _following(self, state: _State) -> Iterator[_State]:
        tried = set()
        for at, sent in enumerate(state.messages):
            if sent.mark not in tried:
                tried.add(sent.mark)
                yield self._deliver(state, at)
        for process_id, cell in state.cells.items():
            if cell.process is None:
                yield self._start(state, process_id)
                continue
            if state.timeouts:
                for number in cell.timers:
                    yield self._fire(state, process_id, number)
            if state.crashes and not self._layout.groups[cell.place.group].is_client:
                yield self._crash(state, process_id)

    def _deliver(self, state: _State, at: int) -> _State:
        sent = state.messages[at]
        cell = state.cells[sent.to].copy()
        message = opened(sent.message)
        event = Happened(0.0, "receive", sent.to, brief(message), sent.sender)
        following = _begun(state, sent.to, cell, event)
        following.messages = state.messages[:at] + state.messages[at + 1 :]
        if cell.process is None:
            cell.settle()
        else:
            arguments = (sent.sender, message, sent.number, sent.answers)
            self._step(following, cell, cell.process._host_deliver, arguments)
        return following

    def _fire(self, state: _State, process_id: Id, number: int) -> _State:
        cell = state.cells[process_id].copy()
        handler, arguments = cell.timers.pop(number)
        event = Happened(0.0, "timer", process_id, handler.__name__)
        following = _begun(state, process_id, cell, event)
        following.timeouts -= 1
        self._step(following, cell, handler, arguments)
        return following

    def _crash(self, state: _State, process_id: Id) -> _State:
        process = state.cells[process_id].process
        if process is not None and (said := process._host_unseen()):
            raise _Broken(Violation(UNSEEN, said, state.depth), state)
        cell = state.cells[process_id].copy()
        cell.process = None
        cell.timers.clear()
        cell.place = cell.place._replace(restarts=cell.place.restarts + 1)
        cell.settle()
        following = _begun(state, process_id, cell, Happened(0.0, "crash", process_id))
        following.crashes -= 1
        return following

    # A step.

    def _step(
        self, state: _State, cell: _Cell, handler: Handler, arguments: tuple[Any, ...]
    ) -> None:
        process = cell.process
        assert process is not None
        self._host.cell = cell
        self.steps += 1
        self._stepping = Step(process, handler, arguments), state
        try:
            handler(*arguments)
        except UnfitError:
            raise
        except Exception as error:
            said = f"{self.step} at {raised_at(error, process)}: {type(error).__name__}: {error}"
            raise _Broken(Violation("a handler raised", said, state.depth), state) from error
        apply(cell.disk, process._host_changes())
        self._take_sends(state, process)
        if process._spawned:
            raise InvalidError(
                "processes that spawn others cannot be explored",
                hint="without --explore they can be simulated",
            )
        if process._is_over:
            cell.process = None
        cell.settle()
        self._look(state, process)
        self._stepping = None

    def _take_sends(self, state: _State, process: Process) -> None:
        sends, process._outbox = process._outbox, []
        for to, message, number, answers in sends:
            if to not in state.cells:
                raise InvalidError(
                    f"{process.id} sends to {to!r}, which is nobody",
                    hint="ids are in self.peers and self.group(name)",
                )
            mark = hash(frozen((to, process.id, message, number, answers), _Handle, {}))
            state.messages += (_Sent(to, process.id, message, number, answers, mark),)
            event = Happened(float(state.depth), "send", process.id, brief(opened(message)), to)
            state.happened += (event,)

    def _look(self, state: _State, process: Process) -> None:
        """The properties, each with a ghost of its own for this run."""
        ghosts, marks = list(state.ghosts), list(state.ghost_marks)
        for at, each in enumerate(self.properties):
            if not isinstance(process, each.subject):
                continue
            ghost = ghosts[at] = Clones(_Handle).of(ghosts[at])
            self._check(state, each, _view(state, each.subject, process, ghost))
            marks[at] = hash(frozen(ghost, _Handle, {})) if ghost else 0
        state.ghosts, state.ghost_marks = tuple(ghosts), tuple(marks)

    def _check(self, state: _State, each: Property, view: View[Any]) -> None:
        holds, said = False, ""
        try:
            holds = each.check(view) is not False
        except AssertionError as error:
            said = str(error)
        except Exception as error:
            broken = Violation(f"{each.kind} {each.name}", said_of(error), state.depth)
            raise _Broken(broken, state) from None
        if each.kind == "always" and not holds:
            raise _Broken(Violation(f"always {each.name}", said, state.depth), state)
        if each.kind == "sometimes" and holds:
            self._reached.add(each.name)


def _view(
    state: _State, subject: type[Process], process: Process, ghost: dict[Any, Any]
) -> View[Any]:
    view: View[Any] = View()
    up = [cell.process for cell in state.cells.values() if cell.process is not None]
    view.processes = [one for one in up if isinstance(one, subject)]
    view.changed = process
    view.ghost = ghost
    return view


def _begun(state: _State, process_id: Id, cell: _Cell, event: Happened) -> _State:
    """The state after an event, but for what the event does."""
    depth = state.depth + 1
    event = replace(event, at_s=float(depth))
    cells = {**state.cells, process_id: cell}
    return replace(state, cells=cells, depth=depth, before=state, happened=(event,))


class _Broken(Exception):
    def __init__(self, violation: Violation, state: _State | None) -> None:
        super().__init__(str(violation))
        self.violation = violation
        self.state = state


def _events(state: _State | None) -> tuple[Happened, ...]:
    """The run that led to a state, its messages tied to their sends."""
    steps = []
    while state is not None:
        steps.append(state.happened)
        state = state.before
    waiting: dict[tuple[Id, Id, str], list[int]] = {}
    events, mark = [], 0
    for event in (each for step in reversed(steps) for each in step):
        if event.kind == "send":
            mark += 1
            waiting.setdefault((event.who, event.peer, event.what), []).append(mark)
            event = replace(event, mark=mark)
        elif event.kind == "receive":
            event = replace(event, mark=waiting[(event.peer, event.who, event.what)].pop(0))
        events.append(event)
    return tuple(events)
