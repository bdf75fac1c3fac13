"""A sequence that many insert into and delete from, as in an editor for many."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from perseus.algo import Id
from perseus.algo.library.crdt.sets import Dot

BEGINNING = Dot(0, "")


@dataclass(frozen=True, slots=True)
class Element:
    """What was inserted, and behind which element."""

    after: Dot
    item: Any


@dataclass(frozen=True, slots=True)
class Sequence:
    """A replicated growable array (RGA), as the tree of who was inserted behind whom.

    Of elements behind the same one the newer come first, so a run of typing stays together.
    Stamps count as Lamport's clocks do: newer than all that the replica had seen. Deleted
    elements stay as tombstones, for others may be behind them.
    """

    elements: Mapping[Dot, Element] = field(default_factory=dict)
    deleted: frozenset[Dot] = frozenset()

    @property
    def value(self) -> tuple[Any, ...]:
        return tuple(self.elements[dot].item for dot in self.dots())

    def dots(self) -> list[Dot]:
        """The stamps of what is not deleted, in the order of the sequence."""
        return [dot for dot in self._all() if dot not in self.deleted]

    def _all(self) -> Iterator[Dot]:
        behind: dict[Dot, list[Dot]] = {}
        for dot in sorted(self.elements):
            behind.setdefault(self.elements[dot].after, []).append(dot)
        waiting = list(behind.get(BEGINNING, ()))
        while waiting:
            dot = waiting.pop()
            yield dot
            waiting += behind.get(dot, ())

    def insert(self, replica: Id, place: int, item: Any) -> "Sequence":
        """Before what is at ``place`` now."""
        after = self.dots()[place - 1] if place > 0 else BEGINNING
        count = max((dot.count for dot in self.elements), default=0) + 1
        return Sequence({**self.elements, Dot(count, replica): Element(after, item)}, self.deleted)

    def delete(self, place: int) -> "Sequence":
        return Sequence(self.elements, self.deleted | {self.dots()[place]})

    def merge(self, other: "Sequence") -> "Sequence":
        if other.elements.keys() <= self.elements.keys() and other.deleted <= self.deleted:
            return self
        return Sequence({**self.elements, **other.elements}, self.deleted | other.deleted)
