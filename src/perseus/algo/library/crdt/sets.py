"""Sets: one that grows, one where removal is for good, one where the adding wins."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from perseus.algo import Id


@dataclass(frozen=True, slots=True)
class GSet:
    """It grows only."""

    value: frozenset[Hashable] = frozenset()

    def add(self, item: Hashable) -> "GSet":
        return GSet(self.value | {item})

    def merge(self, other: "GSet") -> "GSet":
        return self if other.value <= self.value else GSet(self.value | other.value)


@dataclass(frozen=True, slots=True)
class TwoPhaseSet:
    """What was removed once never comes back."""

    added: frozenset[Hashable] = frozenset()
    removed: frozenset[Hashable] = frozenset()

    @property
    def value(self) -> frozenset[Hashable]:
        return self.added - self.removed

    def add(self, item: Hashable) -> "TwoPhaseSet":
        return TwoPhaseSet(self.added | {item}, self.removed)

    def remove(self, item: Hashable) -> "TwoPhaseSet":
        """Only what is there can be removed."""
        return TwoPhaseSet(self.added, self.removed | ({item} & self.added))

    def merge(self, other: "TwoPhaseSet") -> "TwoPhaseSet":
        if other.added <= self.added and other.removed <= self.removed:
            return self
        return TwoPhaseSet(self.added | other.added, self.removed | other.removed)


@dataclass(frozen=True, slots=True, order=True)
class Dot:
    """One update: a replica's so many-th."""

    count: int
    replica: Id


@dataclass(frozen=True, slots=True)
class ORSet:
    """A removal takes away what its replica saw, so an item that is added at the same time
    stays. Each adding is a dot; a dot that was seen and is not there has been removed."""

    items: Mapping[Dot, Hashable] = field(default_factory=dict)
    # By replica, the last of its dots that was seen: all before it were seen too.
    seen: Mapping[Id, int] = field(default_factory=dict)

    @property
    def value(self) -> frozenset[Hashable]:
        return frozenset(self.items.values())

    def __contains__(self, item: Hashable) -> bool:
        return item in self.items.values()

    def add(self, replica: Id, item: Hashable) -> "ORSet":
        dot = Dot(self.seen.get(replica, 0) + 1, replica)
        rest = self.remove(item)
        return ORSet({**rest.items, dot: item}, {**self.seen, replica: dot.count})

    def remove(self, item: Hashable) -> "ORSet":
        return ORSet({dot: each for dot, each in self.items.items() if each != item}, self.seen)

    def clear(self) -> "ORSet":
        """Removes all that was seen."""
        return ORSet({}, self.seen)

    def has_removed(self, dot: Dot) -> bool:
        return dot.count <= self.seen.get(dot.replica, 0) and dot not in self.items

    def merge(self, other: "ORSet") -> "ORSet":
        if self == other:
            return self
        items = {dot: item for dot, item in self.items.items() if not other.has_removed(dot)}
        items |= {dot: item for dot, item in other.items.items() if not self.has_removed(dot)}
        seen = dict(self.seen)
        for replica, count in other.seen.items():
            seen[replica] = max(seen.get(replica, 0), count)
        return self if items == self.items and seen == self.seen else ORSet(items, seen)
