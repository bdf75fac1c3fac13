"""Chance that is the same for the same seed on every machine and Python version.

Only ``random()`` of Python's Mersenne Twister is promised to stay as it is; all
else is made from it here. Streams with different names do not disturb each
other: a run with one fault fewer draws the same delays.
"""

import random
from collections.abc import Sequence
from math import log
from typing import TypeVar
from zlib import crc32

T = TypeVar("T")


class Chance:
    """One stream of a seed."""

    __slots__ = ("random",)

    def __init__(self, seed: int, name: str = "") -> None:
        # From 0 up to but not including 1.
        self.random = random.Random(seed << 32 | crc32(name.encode())).random

    def uniform(self, low: float, high: float) -> float:
        """Between ``low`` and ``high``."""
        return low + (high - low) * self.random()

    def exponential(self, mean: float) -> float:
        """A pause between things that happen at random, ``mean`` apart."""
        return -mean * log(1.0 - self.random())

    def below(self, count: int) -> int:
        """A whole number from 0 up to but not including ``count``."""
        return int(self.random() * count)

    def choice(self, items: Sequence[T]) -> T:
        """One of them."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """``count`` of them, in the order drawn."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(min(count, len(left)))]
