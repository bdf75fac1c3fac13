"""Step 7, with a mistake: a read needs no log, does it?"""

from kv import Node

from perseus.algo import on
from perseus.algo.workloads.lin_kv import Read


class ReadsHere(Node):
    """Every node answers reads from what it has."""

    @on(Read)
    def read_here(self, sender, message):
        self.reply(self.do(message))
