"""Whether copies that have seen the same updates are equal: strong eventual consistency.

Shapiro, Preguiça, Baquero and Zawirski, "Conflict-free Replicated Data Types" (2011). What
a copy has seen is named by any value that is equal for equal sets of updates: a set of
their names, or a vector of counts where each replica's updates are seen in their order.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Copy:
    """One replica's value, and the updates that went into it."""

    replica: str
    seen: Any
    value: Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """Two copies that differ though they have seen the same, or none."""

    one: Copy | None = None
    other: Copy | None = None

    @property
    def is_convergent(self) -> bool:
        return self.one is None

    def __str__(self) -> str:
        if self.one is None or self.other is None:
            return "convergent"
        return (
            f"{self.one.replica} and {self.other.replica} have seen the same updates,"
            f" {self.one.seen!r}, and hold {self.one.value!r} and {self.other.value!r}"
        )


def check(copies: Iterable[Copy]) -> Verdict:
    """Judges copies that may be of different times and of the same replica."""
    different: list[Copy] = []
    for copy in copies:
        same = next((each for each in different if each.seen == copy.seen), None)
        if same is None:
            different.append(copy)
        elif same.value != copy.value:
            return Verdict(same, copy)
    return Verdict()
