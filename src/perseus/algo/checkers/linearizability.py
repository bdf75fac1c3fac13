"""Whether a history could have come from one copy that does one thing at a time.

The search of Wing and Gong, "Testing and Verifying Concurrent Objects" (1993), with
the memory of Lowe, "Testing for Linearizability" (2017): a set of operations that are
linearized already together with the state they lead to is never tried twice. Histories
of independent objects are judged one by one (Herlihy and Wing 1990: locality).
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from perseus.algo.history import Operation

# Pairs of (operations done, state) looked at before a history is given up as too hard.
STATES_MAXIMUM = 2_000_000


class Model(Protocol):
    """The object as one copy: states are hashable and do not change."""

    def begin(self) -> Hashable:
        """The first state."""

    def step(self, state: Any, operation: Any, result: Any) -> tuple[bool, Hashable]:
        """Whether it may give this result in this state (UNKNOWN fits any), and what follows."""


@dataclass(frozen=True)
class Verdict:
    """``is_linearizable`` None says that the search was given up."""

    is_linearizable: bool | None
    # The longest order found, when it is not.
    longest: Sequence[Operation] = ()
    # What no order explains: the operations that could have come next.
    stuck: Sequence[Operation] = ()

    def __str__(self) -> str:
        if self.is_linearizable:
            return "linearizable"
        if self.is_linearizable is None:
            return "too hard to judge"
        after = f"after {self.longest[-1]}" if self.longest else "at the beginning"
        return f"{after} nothing fits of: " + "; ".join(str(each) for each in self.stuck)


def check(
    history: Iterable[Operation],
    model: Model,
    key: Callable[[Any], Hashable] | None = None,
) -> Verdict:
    """Judges a history; ``key`` names the object that an operation is about."""
    objects: dict[Hashable, list[Operation]] = {}
    for operation in history:
        objects.setdefault(key(operation.what) if key else None, []).append(operation)
    given_up = False
    for operations in objects.values():
        verdict = _Search(operations, model).run()
        if verdict.is_linearizable is False:
            return verdict
        given_up |= verdict.is_linearizable is None
    return Verdict(None if given_up else True)


class _Event:
    """A call or a return, in a doubly linked list from which what is linearized is lifted."""

    __slots__ = ("after", "before", "is_call", "match", "number")

    def __init__(self, number: int, is_call: bool) -> None:
        self.number = number
        self.is_call = is_call
        self.match: _Event | None = None
        self.before: _Event | None = None
        self.after: _Event | None = None

    def lift(self) -> None:
        """Takes a call and its return out of the list."""
        for event in (self, self.match):
            if event is not None:
                assert event.before is not None
                event.before.after = event.after
                if event.after is not None:
                    event.after.before = event.before

    def put_back(self) -> None:
        """Undoes the last ``lift``."""
        for event in (self.match, self):
            if event is not None:
                assert event.before is not None
                event.before.after = event
                if event.after is not None:
                    event.after.before = event


class _Search:
    def __init__(self, operations: list[Operation], model: Model) -> None:
        self._operations = operations
        self._model = model
        self._head = _Event(-1, True)
        self._link()
        self._over = sum(1 << n for n, each in enumerate(operations) if each.is_over)

    def _link(self) -> None:
        events: list[tuple[float, int, int, _Event]] = []
        for number, operation in enumerate(self._operations):
            call = _Event(number, True)
            events.append((operation.invoked, 0, number, call))
            if operation.is_over:
                call.match = _Event(number, False)
                # What begins at the very moment of an end may have been before it.
                events.append((operation.returned, 1, number, call.match))
        last = self._head
        for *_, event in sorted(events, key=lambda each: each[:3]):
            last.after, event.before = event, last
            last = event

    def run(self) -> Verdict:
        state = self._model.begin()
        done = 0
        seen: set[tuple[int, Hashable]] = set()
        stack: list[tuple[_Event, Hashable]] = []
        longest: list[Operation] = []
        stuck: list[Operation] = []
        entry = self._head.after
        while done & self._over != self._over:
            if entry is not None and entry.is_call:
                operation = self._operations[entry.number]
                fits, following = self._model.step(state, operation.what, operation.result)
                mark = (done | 1 << entry.number, following)
                if fits and mark not in seen:
                    if len(seen) >= STATES_MAXIMUM:
                        return Verdict(None)
                    seen.add(mark)
                    stack.append((entry, state))
                    state, done = following, mark[0]
                    entry.lift()
                    entry = self._head.after
                else:
                    entry = entry.after
                continue
            # A return that nothing before it explains, or the end: take the last choice back.
            if len(stack) >= len(longest):
                longest = [self._operations[each.number] for each, _ in stack]
                stuck = self._open()
            if not stack:
                return Verdict(False, longest, stuck)
            chosen, state = stack.pop()
            done &= ~(1 << chosen.number)
            chosen.put_back()
            entry = chosen.after
        return Verdict(True)

    def _open(self) -> list[Operation]:
        """The operations that could come next: those called before the next return."""
        found = []
        event = self._head.after
        while event is not None and event.is_call:
            found.append(self._operations[event.number])
            event = event.after
        return found
