"""Step 2: a name, and a number that survives."""

from perseus.algo import Process, durable, on
from perseus.algo.workloads.unique_ids import Generate, GenerateOk


class Node(Process):
    """Counts, and goes on counting after a crash."""

    given: int = durable(0)

    @on(Generate)
    def generate(self, sender, message):
        self.given += 1
        self.reply(GenerateOk(f"{self.id}-{self.given}"))
