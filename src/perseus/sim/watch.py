"""Watches a run: checks its properties after each step, and says how it went."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from perseus.algo.layout import Layout
from perseus.algo.process import Process
from perseus.algo.properties import Check, Property, View, properties_of
from perseus.sim.where import raised_at

# Places where handlers raised that are kept of one run.
ERRORS_MAXIMUM = 20


# What is broken when a durable value was changed in place; not a property, but a mistake in
# the use of ``durable``.
UNSEEN = "durable"


class Watchable(Protocol):
    """A run that is watched: a simulated one, or one that is taken up again from its trace."""

    seed: int
    steps: int
    messages: int
    crashes: int
    # True time since it began.
    now: float
    # How long it goes on after the faults, whatever is awaited; 0: no longer than that takes.
    settle_s: float


class Violation(Exception):
    """A property does not hold."""

    def __init__(self, name: str, said: str, at_s: float) -> None:
        super().__init__(f"{name}: {said}" if said else name)
        self.name = name
        self.said = said
        self.at_s = at_s

    def __reduce__(self) -> tuple[Any, ...]:
        return Violation, (self.name, self.said, self.at_s)


def said_of(error: Exception) -> str:
    """What a property says by raising: an assertion its words; anything else is a defect of
    the property, and said with the place where it was raised."""
    if isinstance(error, AssertionError):
        return str(error)
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = ""
    if traceback is not None:
        file = os.path.basename(traceback.tb_frame.f_code.co_filename)
        where = f" at {file}:{traceback.tb_lineno}"
    return f"the property itself raised {type(error).__name__}{where}: {error}"


@dataclass(frozen=True, slots=True)
class Raised:
    """Exceptions of handlers at one place, each a crash of its node."""

    # The class of the process.
    process: str
    # "file:line".
    place: str
    # The class of the exception, and what the first of them said.
    error: str
    said: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells one place from another."""
        return self.process, self.place, self.error

    def __str__(self) -> str:
        said = f": {self.said}" if self.said else ""
        return f"{self.process} at {self.place}: {self.error}{said}"


def count(errors: dict[Raised, int], one: Raised, times: int = 1) -> None:
    """Adds to what is known of its place, if there is room for one more."""
    known = next((each for each in errors if each.key == one.key), one)
    if known in errors or len(errors) < ERRORS_MAXIMUM:
        errors[known] = errors.get(known, 0) + times


@dataclass(frozen=True)
class Outcome:
    """How one run went."""

    seed: int
    # None when every property held.
    violation: Violation | None
    # The "sometimes" that did happen, by name.
    reached: frozenset[str]
    steps: int
    messages: int
    crashes: int
    simulated_s: float
    # Exceptions of handlers, each a crash, and how often.
    errors: dict[Raised, int] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """How long a run is to read: its steps, and what they sent."""
        return self.steps + self.messages


class _Watched:
    """One property and what it has seen of this run."""

    __slots__ = ("check", "property", "view")

    def __init__(self, what: Property) -> None:
        self.property = what
        self.view: View[Any] = View()
        self.check = what.check


class Watch:
    """The properties of one world."""

    def __init__(self, world: Watchable, layout: Layout) -> None:
        self._world = world
        self._kinds: list[type[Process]] = []
        self._watched = [_Watched(each) for each in properties_of(layout)]
        # By class of the process that steps: what is looked at after its step, as it is used
        # there: the check, what it is given, and whose it is.
        self._always: dict[type[Process], list[tuple[Check, View[Any], _Watched]]] = {}
        self._sometimes: dict[type[Process], list[_Watched]] = {}
        self._awaited: list[_Watched] = []
        self._reached: set[str] = set()
        self._errors: dict[Raised, int] = {}
        self._settled_at_s = -1.0
        # All is quiet and every "eventually" has held.
        self.is_settled = False

    @property
    def properties(self) -> list[Property]:
        return [watched.property for watched in self._watched]

    @property
    def settle_s(self) -> float:
        """How long to go on after the faults, for what must hold eventually."""
        return max((w.property.within_s for w in self._awaited), default=0.0)

    @property
    def awaited(self) -> list[Property]:
        """What must hold eventually, and has not since the faults ended."""
        return [watched.property for watched in self._awaited]

    @property
    def reached(self) -> frozenset[str]:
        """The "sometimes" that did happen, by name."""
        return frozenset(self._reached)

    def add(self, kind: type[Process]) -> None:
        """Watches the properties of one more class."""
        if kind in self._kinds:
            return
        self._kinds.append(kind)
        known = {id(watched.property) for watched in self._watched}
        new = [each for each in properties_of(kind) if id(each) not in known]
        self._watched += [_Watched(each) for each in new]
        mine = [w for w in self._watched if issubclass(kind, w.property.subject)]
        always = [w for w in mine if w.property.kind == "always"]
        self._always[kind] = [(w.check, w.view, w) for w in always]
        self._sometimes[kind] = [w for w in mine if w.property.kind == "sometimes"]

    def refresh(self, processes: Sequence[Process]) -> None:
        """Who is up has changed."""
        for watched in self._watched:
            subject = watched.property.subject
            watched.view.processes = [p for p in processes if isinstance(p, subject)]

    def clocks_began(self, at_s: float) -> None:
        """What the clients' clock said when the run began, where that was not 0."""
        for watched in self._watched:
            watched.view.began_s = at_s

    def after_step(self, process: Process) -> None:
        """Raises Violation when something that must always hold does not."""
        kind, now_s = process.__class__, self._world.now
        watched = None
        try:
            for check, view, watched in self._always[kind]:
                view.changed = process
                view.now_s = now_s
                if check(view) is False:
                    raise self._violation(watched.property, "")
        except Violation:
            raise
        except Exception as error:
            assert watched is not None
            raise self._violation(watched.property, said_of(error)) from None
        if self._sometimes[kind]:
            self._look_out(kind, process)
        if self._awaited and self._settled_at_s >= 0.0:
            self._wait(process)

    def _look_out(self, kind: type[Process], process: Process) -> None:
        now_s = self._world.now
        for watched in self._sometimes[kind]:
            view = watched.view
            view.changed = process
            view.now_s = now_s
            if self._holds(watched):
                self._has_reached(watched)

    def _has_reached(self, watched: _Watched) -> None:
        """It need not be looked at again in this run."""
        self._reached.add(watched.property.name)
        for kind, left in self._sometimes.items():
            # New lists: the old one may be gone through at this moment.
            self._sometimes[kind] = [each for each in left if each is not watched]

    def _wait(self, process: Process) -> None:
        for watched in list(self._awaited):
            # Looked at after every step; one of another class must not pass for its own.
            if isinstance(process, watched.property.subject):
                watched.view.changed = process
            elif watched.view.processes:
                watched.view.changed = watched.view.processes[0]
            watched.view.now_s = self._world.now
            if self._world.now > self._settled_at_s + watched.property.within_s:
                raise self._never(watched.property)
            # Before the first step of its class there is nothing to look at.
            if hasattr(watched.view, "changed") and self._holds(watched):
                self._awaited.remove(watched)
        self.is_settled = not self._awaited and self._world.settle_s == 0.0

    def _holds(self, watched: _Watched) -> bool:
        try:
            return watched.check(watched.view) is not False
        except AssertionError as error:
            if watched.property.kind in ("always", "at_end"):
                raise self._violation(watched.property, str(error)) from None
            return False
        except Exception as error:
            # Not "not yet": who wrote it is to know, and which of his properties it is.
            raise self._violation(watched.property, said_of(error)) from None

    def _violation(self, broken: Property, said: str) -> Violation:
        return Violation(f"{broken.kind} {broken.name}", said, self._world.now)

    def settle(self) -> None:
        """The faults are over: what must hold eventually is waited for."""
        self._settled_at_s = self._world.now
        self._awaited = [w for w in self._watched if w.property.kind == "eventually"]
        for watched in self._awaited:
            if watched.view.processes:
                watched.view.changed = watched.view.processes[0]

    def end(self) -> None:
        """The time is over; raises Violation for what never came."""
        for watched in self._awaited:
            raise self._never(watched.property)
        self.judge()

    def judge(self) -> None:
        """Looks at what is to hold of the whole run; raises Violation."""
        for watched in self._watched:
            if watched.property.kind == "at_end":
                watched.view.now_s = self._world.now
                if not self._holds(watched):
                    raise self._violation(watched.property, "")

    def _never(self, broken: Property) -> Violation:
        return self._violation(broken, f"not within {broken.within_s:g} s after the faults")

    def crashed(self, process: Process, error: BaseException) -> None:
        """A handler raised."""
        name, place = type(process).__name__, raised_at(error, process)
        count(self._errors, Raised(name, place, type(error).__name__, str(error)))

    def outcome(self, violation: Violation | None) -> Outcome:
        """How it went."""
        world = self._world
        return Outcome(
            world.seed,
            violation,
            self.reached,
            world.steps,
            world.messages,
            world.crashes,
            world.now,
            dict(self._errors),
        )
