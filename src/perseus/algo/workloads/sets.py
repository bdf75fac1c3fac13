"""Values that are added anywhere and found everywhere: what ``broadcast`` and ``g_set`` ask."""

from typing import Any

from perseus.algo import Id, View, always, eventually
from perseus.algo.history import Operation
from perseus.algo.workloads.caller import Caller, has_failed, is_done


class AddingClient(Caller):
    """Adds some values, each once, and reads all along."""

    values = 20

    def start(self) -> None:
        super().start()
        # What was tried to add, and what a node has answered for.
        self.tried: list[int] = []
        self.added: list[int] = []
        # By node its newest answer to a read: when it came, and the values.
        self.found: dict[Id, tuple[float, tuple[Any, ...]]] = {}
        self.newest: tuple[Any, ...] = ()

    def draw(self) -> tuple[Id, Any]:
        if len(self.tried) < self.values and self.random.below(2):
            # Numbers that no other client has.
            value = len(self.tried) * len(self.everyone) + self.number
            self.tried.append(value)
            return self.any_node(), self.add(value)
        return self.any_node(), self.read()

    def add(self, value: int) -> Any:
        """The request that adds a value."""
        raise AssertionError("a subclass knows")

    def read(self) -> Any:
        """The request that reads all values."""
        raise AssertionError("a subclass knows")

    def values_of(self, answer: Any) -> tuple[Any, ...] | None:
        """What was read; None for another answer."""
        raise AssertionError("a subclass knows")

    def learn(self, node: Id, operation: Operation) -> None:
        values = self.values_of(operation.result)
        if values is not None:
            self.found[node] = (self.now, values)
            self.newest = values
        elif self.tried and operation.what == self.add(self.tried[-1]):
            self.added.append(self.tried[-1])

    @property
    def is_through(self) -> bool:
        """All is tried, and the last one answered or given up."""
        return len(self.tried) == self.values and self.history[-1].what == self.read()


@always(AddingClient)
def what_is_read_was_added_and_is_there_once(view: View[AddingClient]) -> None:
    """No value out of nowhere, and none twice."""
    values = view.changed.newest
    if view.ghost.get(view.changed.id) is values:
        return
    view.ghost[view.changed.id] = values
    tried = {value for client in view.processes for value in client.tried}
    strange = [value for value in values if value not in tried]
    assert not strange, f"nobody added {strange}"
    assert len(set(values)) == len(values), f"a value is there twice: {sorted(values)}"


@eventually(AddingClient, within_s=60.0)
def every_node_has_all_that_was_acknowledged(view: View[AddingClient]) -> bool:
    """And all have the same."""
    if not all(client.is_through for client in view.processes):
        return False
    added = {value for client in view.processes for value in client.added}
    reads = [newest(view.processes, node) for node in view.processes[0].nodes]
    return all(set(values) == set(reads[0]) for values in reads) and added <= set(reads[0])


def newest(clients: Any, node: Id) -> Any:
    """What was read last of a node by any client; () when nothing was."""
    found = [client.found[node] for client in clients if node in client.found]
    return max(found, key=lambda one: one[0])[1] if found else ()


__all__ = ["AddingClient", "has_failed", "is_done", "newest"]
