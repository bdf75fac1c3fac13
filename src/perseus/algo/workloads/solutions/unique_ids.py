"""Unique ids: the node's own name, and a number that survives crashes."""

from perseus.algo import Id, Process, durable, on
from perseus.algo.workloads.unique_ids import Generate, GenerateOk


class Node(Process):
    """Counts."""

    given: int = durable(0)

    @on(Generate)
    def generate(self, sender: Id, message: Generate) -> None:
        self.given += 1
        self.reply(GenerateOk(f"{self.id}-{self.given}"))
