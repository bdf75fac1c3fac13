"""Counters: what is added at any node is counted once, and all nodes come to the same sum."""

from dataclasses import dataclass
from typing import Any, ClassVar

from perseus.algo import Id, View, always, eventually
from perseus.algo.history import Operation
from perseus.algo.workloads.caller import Caller, Error, has_failed
from perseus.algo.workloads.sets import newest

__all__ = ["Add", "AddOk", "CounterClient", "Error", "GrowingClient", "Read", "ReadOk"]


@dataclass(frozen=True, slots=True)
class Add:
    """Adds to the sum; below 0 for pn-counter only."""

    delta: int


@dataclass(frozen=True, slots=True)
class AddOk:
    """It counts."""


@dataclass(frozen=True, slots=True)
class Read:
    """What is the sum?"""


@dataclass(frozen=True, slots=True)
class ReadOk:
    """As far as this node knows."""

    value: int


class CounterClient(Caller):
    """Adds and takes away, and reads all along."""

    additions = 20
    deltas = (-5, 5)
    answers: ClassVar = {Add: AddOk, Read: ReadOk}

    def start(self) -> None:
        super().start()
        self.made: list[Operation] = []
        # By node its newest answer to a read: when it came, and the sum.
        self.found: dict[Id, tuple[float, int]] = {}

    def draw(self) -> tuple[Id, Any]:
        self._note_addition()
        if len(self.made) < self.additions and self.random.below(2):
            low, high = self.deltas
            return self.any_node(), Add(low + self.random.below(high - low + 1))
        return self.any_node(), Read()

    def _note_addition(self) -> None:
        """Of the last request, which is over or given up by now."""
        if self.history and isinstance(self.history[-1].what, Add):
            self.made.append(self.history[-1])

    def learn(self, node: Id, operation: Operation) -> None:
        if isinstance(operation.result, ReadOk):
            self.found[node] = (self.now, operation.result.value)

    @property
    def additions_begun(self) -> list[Operation]:
        """Also the one under way; without those known not to have happened."""
        is_adding = self.history and isinstance(self.history[-1].what, Add)
        begun = [*self.made, self.history[-1]] if is_adding else self.made
        return [operation for operation in begun if not has_failed(operation)]


class GrowingClient(CounterClient):
    """Adds only."""

    deltas = (0, 5)


def sums(additions: list[Operation]) -> set[int]:
    """All that a counter may show: each addition that is not known to be over, or not."""
    known = sum(operation.what.delta for operation in additions if operation.is_over)
    possible = {known}
    for operation in additions:
        if not operation.is_over:
            possible |= {each + operation.what.delta for each in possible}
    return possible


@always(CounterClient)
def nothing_is_counted_that_was_not_added(view: View[CounterClient]) -> None:
    """What is read is between all that was taken away and all that was added."""
    client = view.changed
    if not client.history or not isinstance(client.history[-1].result, ReadOk):
        return
    value = client.history[-1].result.value
    deltas = [each.what.delta for one in view.processes for each in one.additions_begun]
    least, most = sum(d for d in deltas if d < 0), sum(d for d in deltas if d > 0)
    assert least <= value <= most, f"{value} is not between {least} and {most}"


@eventually(CounterClient, within_s=60.0)
def every_node_has_the_sum_of_what_was_acknowledged(view: View[CounterClient]) -> bool:
    """And perhaps of what was not answered; all nodes the same."""
    if any(len(client.made) < client.additions for client in view.processes):
        return False
    reads = {newest(view.processes, node) for node in view.processes[0].nodes}
    additions = [each for client in view.processes for each in client.additions_begun]
    return len(reads) == 1 and reads <= sums(additions)
