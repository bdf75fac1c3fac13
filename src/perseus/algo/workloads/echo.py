"""Echo: a node answers with what it was told."""

from dataclasses import dataclass
from typing import Any, ClassVar

from perseus.algo import Id, View, always
from perseus.algo.workloads.caller import Caller, Error, is_done

__all__ = ["Echo", "EchoClient", "EchoOk", "Error"]


@dataclass(frozen=True, slots=True)
class Echo:
    """To be said back."""

    echo: Any


@dataclass(frozen=True, slots=True)
class EchoOk:
    """Said back."""

    echo: Any


class EchoClient(Caller):
    """Says something new each time."""

    answers: ClassVar = {Echo: EchoOk}

    def draw(self) -> tuple[Id, Any]:
        return self.any_node(), Echo(f"{self.id} says {len(self.history)}")


@always(EchoClient)
def what_comes_back_is_what_was_said(view: View[EchoClient]) -> None:
    """Each answer is the echo of its own question."""
    history = view.changed.history
    if history and is_done(history[-1]):
        said, heard = history[-1].what.echo, history[-1].result.echo
        assert said == heard, f"{said!r} came back as {heard!r}"
