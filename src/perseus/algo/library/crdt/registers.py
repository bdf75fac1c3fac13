"""Registers: the last writer wins, or all values that no writer had seen are kept."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from perseus.algo import Id
from perseus.algo.library.crdt.sets import Dot, ORSet

NEVER = Dot(0, "")


@dataclass(frozen=True, slots=True)
class LWWRegister:
    """The write of the highest stamp wins. Stamps count as Lamport's clocks do, so a write
    wins over all that its replica had seen; between others the replica's name decides."""

    value: Any = None
    stamp: Dot = NEVER

    def write(self, replica: Id, value: Any) -> "LWWRegister":
        return LWWRegister(value, Dot(self.stamp.count + 1, replica))

    def merge(self, other: "LWWRegister") -> "LWWRegister":
        return max(self, other, key=lambda register: register.stamp)


@dataclass(frozen=True, slots=True)
class MVRegister:
    """Writes at the same time are all kept, until somebody who sees them writes again."""

    versions: ORSet = field(default_factory=ORSet)

    @property
    def values(self) -> frozenset[Hashable]:
        return self.versions.value

    def write(self, replica: Id, value: Hashable) -> "MVRegister":
        return MVRegister(self.versions.clear().add(replica, value))

    def merge(self, other: "MVRegister") -> "MVRegister":
        versions = self.versions.merge(other.versions)
        return self if versions is self.versions else MVRegister(versions)
