"""Grow-only set: elements are added at any node, and all nodes come to have them."""

from dataclasses import dataclass
from typing import Any, ClassVar

from perseus.algo.workloads.caller import Error
from perseus.algo.workloads.sets import AddingClient

__all__ = ["Add", "AddOk", "Error", "Read", "ReadOk", "SetClient"]


@dataclass(frozen=True, slots=True)
class Add:
    """An element for the set."""

    element: Any


@dataclass(frozen=True, slots=True)
class AddOk:
    """It is in."""


@dataclass(frozen=True, slots=True)
class Read:
    """What is in the set?"""


@dataclass(frozen=True, slots=True)
class ReadOk:
    """The elements, in any order."""

    value: tuple[Any, ...]


class SetClient(AddingClient):
    """Adds and reads."""

    answers: ClassVar = {Add: AddOk, Read: ReadOk}

    def add(self, value: int) -> Add:
        return Add(value)

    def read(self) -> Read:
        return Read()

    def values_of(self, answer: Any) -> tuple[Any, ...] | None:
        return answer.value if isinstance(answer, ReadOk) else None
