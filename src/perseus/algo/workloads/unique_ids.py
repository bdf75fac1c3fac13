"""Unique ids: a node gives an id that no node has given, nor will."""

from dataclasses import dataclass
from typing import Any, ClassVar

from perseus.algo import Id, View, always
from perseus.algo.workloads.caller import Caller, Error, is_done

__all__ = ["Error", "Generate", "GenerateClient", "GenerateOk"]


@dataclass(frozen=True, slots=True)
class Generate:
    """Asks for an id."""


@dataclass(frozen=True, slots=True)
class GenerateOk:
    """An id of any type."""

    id: Any


class GenerateClient(Caller):
    """Asks often."""

    pause_s = (0.0, 0.3)
    answers: ClassVar = {Generate: GenerateOk}

    def draw(self) -> tuple[Id, Any]:
        return self.any_node(), Generate()


@always(GenerateClient)
def no_id_is_given_twice(view: View[GenerateClient]) -> None:
    """To nobody, and by no node."""
    client = view.changed
    if not client.history or not is_done(client.history[-1]):
        return
    mark = (client.id, len(client.history))
    given = repr(client.history[-1].result.id)
    first = view.ghost.setdefault(given, mark)
    assert first == mark, f"{given} was given to {first[0]} and to {client.id}"
