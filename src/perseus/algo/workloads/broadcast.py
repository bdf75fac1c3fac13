"""Broadcast: what one node is told, all nodes have; reads show it.

The first client also tells each node the topology, whom it should talk to: a node answers
and may do as it likes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from perseus.algo import Id
from perseus.algo.history import Operation
from perseus.algo.workloads.caller import Error
from perseus.algo.workloads.sets import AddingClient

__all__ = [
    "Broadcast",
    "BroadcastClient",
    "BroadcastOk",
    "Error",
    "Read",
    "ReadOk",
    "Topology",
    "TopologyOk",
]


@dataclass(frozen=True, slots=True)
class Broadcast:
    """All nodes are to have this."""

    message: Any


@dataclass(frozen=True, slots=True)
class BroadcastOk:
    """This node has it."""


@dataclass(frozen=True, slots=True)
class Read:
    """What is here?"""


@dataclass(frozen=True, slots=True)
class ReadOk:
    """All that is here, in any order."""

    messages: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """Whom each node should talk to."""

    # By node its neighbours.
    topology: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class TopologyOk:
    """It is known."""


class BroadcastClient(AddingClient):
    """Broadcasts and reads."""

    answers: ClassVar = {Broadcast: BroadcastOk, Read: ReadOk, Topology: TopologyOk}

    def start(self) -> None:
        super().start()
        self.untold = list(self.nodes) if self.number == 0 else []

    def draw(self) -> tuple[Id, Any]:
        if self.untold:
            # A node that does not answer has its turn again.
            self.untold.append(self.untold.pop(0))
            return self.untold[-1], Topology(ring(self.nodes))
        return super().draw()

    def add(self, value: int) -> Broadcast:
        return Broadcast(value)

    def read(self) -> Read:
        return Read()

    def values_of(self, answer: Any) -> tuple[Any, ...] | None:
        return answer.messages if isinstance(answer, ReadOk) else None

    def learn(self, node: Id, operation: Operation) -> None:
        if isinstance(operation.result, TopologyOk):
            self.untold.remove(node)
        else:
            super().learn(node, operation)


def ring(nodes: tuple[Id, ...]) -> dict[str, tuple[str, ...]]:
    """Each node has the one before it and the one after it as neighbours."""
    count = len(nodes)
    near = {node: {nodes[n - 1], nodes[(n + 1) % count]} for n, node in enumerate(nodes)}
    return {node: tuple(sorted(others - {node})) for node, others in near.items()}
