"""Counters: one number for each replica, which that replica alone raises."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from perseus.algo import Id


@dataclass(frozen=True, slots=True)
class GCounter:
    """It grows only."""

    counts: Mapping[Id, int] = field(default_factory=dict)

    @property
    def value(self) -> int:
        return sum(self.counts.values())

    def increment(self, replica: Id, by: int = 1) -> "GCounter":
        assert by >= 0, "a GCounter does not shrink"
        return GCounter({**self.counts, replica: self.counts.get(replica, 0) + by})

    def merge(self, other: "GCounter") -> "GCounter":
        merged = dict(self.counts)
        for replica, count in other.counts.items():
            merged[replica] = max(merged.get(replica, 0), count)
        return self if merged == self.counts else GCounter(merged)


@dataclass(frozen=True, slots=True)
class PNCounter:
    """It goes up and down: two counters that grow."""

    up: GCounter = field(default_factory=GCounter)
    down: GCounter = field(default_factory=GCounter)

    @property
    def value(self) -> int:
        return self.up.value - self.down.value

    def add(self, replica: Id, by: int) -> "PNCounter":
        if by >= 0:
            return PNCounter(self.up.increment(replica, by), self.down)
        return PNCounter(self.up, self.down.increment(replica, -by))

    def merge(self, other: "PNCounter") -> "PNCounter":
        up, down = self.up.merge(other.up), self.down.merge(other.down)
        return self if up is self.up and down is self.down else PNCounter(up, down)
