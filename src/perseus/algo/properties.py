"""What must hold, written beside the algorithm::

    @always(Raft)
    def one_leader_a_term(view):            after every step, in every run
        ...
    @eventually(Raft, within_s=10)          some time after the faults have ended
    @sometimes(Raft)                        in at least one run, or the runs prove little
    @at_end(Client)                         of the whole run, looked at once

of a class of processes, or of a Layout: then of all its processes, whatever their class.

A property gets a ``View`` and returns whether it holds; an ``assert`` in it says more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from perseus.algo.layout import Layout
from perseus.algo.process import Process
from perseus.errors import InvalidError

AnyProcess = TypeVar("AnyProcess", bound=Process)
Subject = type[Process] | Layout
Check = Callable[["View[Any]"], bool | None]

Kind = Literal["always", "eventually", "sometimes", "at_end"]

WITHIN_S = 30.0


class View(Generic[AnyProcess]):
    """A run as a property sees it."""

    __slots__ = ("began_s", "changed", "ghost", "now_s", "processes")

    def __init__(self) -> None:
        # Those of the property's class that are up, in the order of their ids.
        self.processes: Sequence[AnyProcess] = ()
        # The process that has just taken a step.
        self.changed: AnyProcess
        # For the property's own notes on the run so far; empty when the run begins.
        self.ghost: dict[Any, Any] = {}
        # True time.
        self.now_s = 0.0
        # What the clock of the clients, which is one for all, said when the run began.
        self.began_s = 0.0


@dataclass(frozen=True, slots=True)
class Property:
    """A named condition on runs of an algorithm."""

    kind: Kind
    name: str
    # Whose steps it is looked at after, and which processes it sees.
    subject: type[Process]
    check: Check
    # Of "eventually": seconds after the last fault.
    within_s: float = WITHIN_S


def always(subject: Subject) -> Callable[[Check], Check]:
    """It holds after every step of a process of the class."""
    return _register("always", subject, WITHIN_S)


def eventually(subject: Subject, within_s: float = WITHIN_S) -> Callable[[Check], Check]:
    """It holds at some time within ``within_s`` after the faults have ended."""
    return _register("eventually", subject, within_s)


def sometimes(subject: Subject) -> Callable[[Check], Check]:
    """It holds after some step of some run: the runs do get there."""
    return _register("sometimes", subject, WITHIN_S)


def at_end(subject: Subject) -> Callable[[Check], Check]:
    """It holds when a run is over; for what is judged by a whole history."""
    return _register("at_end", subject, WITHIN_S)


def properties_of(subject: Subject) -> list[Property]:
    """Those of a class and of what it derives from, or of a layout alone."""
    if isinstance(subject, Layout):
        return list(subject._properties)
    bases = reversed(subject.__mro__)
    return [each for base in bases for each in vars(base).get("_properties", ())]


def _register(kind: Kind, subject: Subject, within_s: float) -> Callable[[Check], Check]:
    is_class = isinstance(subject, type) and issubclass(subject, Process) and subject is not Process
    if not is_class and not isinstance(subject, Layout):
        raise InvalidError(
            f"@{kind} needs the class or the Layout that it is a property of",
            hint=f"@{kind}(Raft) above def",
        )

    def register(check: Check) -> Check:
        name = check.__name__.replace("_", " ")
        kinds = Process if isinstance(subject, Layout) else subject
        subject._properties.append(Property(kind, name, kinds, check, within_s))
        return check

    return register
