"""A value as it was at one moment, for one that could change later.

What a process sends or keeps is taken when it is sent, or when its step ends (``values``).
A value that can never change is taken as it is; of another one a copy is kept, and whoever
gets it opens a copy of his own. So a host passes on what was said, whatever its sender or
its receiver does to it afterwards, as a network and a disk do.
"""

from dataclasses import dataclass
from typing import Any, Protocol


class Keeper(Protocol):
    """Who made the copy: see ``values.Values``."""

    def copied(self, value: Any) -> Any:
        """One more copy."""

    def is_same(self, one: Any, other: Any) -> bool:
        """Whether they are the same to the byte."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Nobody but ``open`` and the codec looks at ``value``."""

    value: Any
    keeper: Keeper

    def open(self) -> Any:
        """A new copy of the value."""
        return self.keeper.copied(self.value)

    def is_still(self, value: Any) -> bool:
        """Whether a value is what this one was; raises InvalidError for what it cannot be."""
        return self.keeper.is_same(self.value, value)


def opened(value: Any) -> Any:
    """A copy of what was kept; what was taken as it is, itself."""
    return value.open() if value.__class__ is Kept else value
