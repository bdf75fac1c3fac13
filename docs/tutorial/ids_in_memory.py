"""Step 2, first try: a name and a number."""

from perseus.algo import Process, on
from perseus.algo.workloads.unique_ids import Generate, GenerateOk


class Node(Process):
    """Counts."""

    def start(self):
        self.given = 0

    @on(Generate)
    def generate(self, sender, message):
        self.given += 1
        self.reply(GenerateOk(f"{self.id}-{self.given}"))
