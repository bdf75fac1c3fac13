"""A value as it was at one moment, for one that could change later.

What a process sends or keeps is taken when it is sent, or when its step ends (``values``).
A value that can never change is taken as it is; of another one a copy is kept, and whoever
gets it opens a copy of his own. So a host passes on what was said, whatever its sender or
its receiver does to it afterwards, as a network and a disk do.
"""

from collections.abc import Callable, Collection, Sequence
from itertools import chain
from operator import is_
from typing import Any

# What a value could change in: its lists, dicts and sets, how long each of them is, and what it
# has. A dict is there twice, by its keys and by its values.
Insides = tuple[list[Collection[Any]], list[int], list[Sequence[Any]]]


class Kept:
    """What ``source`` was when it was taken. Nobody but the codec and the explorer look at
    ``value``, and nobody changes it."""

    __slots__ = ("_insides", "_is_same", "_source", "_value", "open")

    def __init__(
        self,
        source: Any,
        insides: Insides,
        opener: Callable[[], Any],
        is_same: Callable[[Any, Any], bool],
    ) -> None:
        """``is_same`` says whether two values are the same to the byte; raises InvalidError."""
        # A new copy of the value.
        self.open = opener
        self._source = source
        self._insides = insides
        self._is_same = is_same
        self._value: Any = None

    @property
    def value(self) -> Any:
        """A copy that is shared."""
        if self._value is None:
            self._value = self.open()
        return self._value

    def is_still(self, value: Any) -> bool:
        """Whether a value is what this one was; raises InvalidError for what it cannot be."""
        if value is self._source and are_unchanged(self._insides):
            return True
        return self._is_same(self.value, value)


def are_unchanged(insides: Insides) -> bool:
    """Whether the same things are in each of them, and in the same order. What they hold is
    immutable, or stands among them itself; so this is exact."""
    holders, lengths, contents = insides
    return [*map(len, holders)] == lengths and all(
        map(is_, chain.from_iterable(holders), chain.from_iterable(contents))
    )


def opened(value: Any) -> Any:
    """A copy of what was kept; what was taken as it is, itself."""
    return value.open() if value.__class__ is Kept else value
