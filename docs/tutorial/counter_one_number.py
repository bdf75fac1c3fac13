"""Step 4, first try: gossip the sum, the highest wins."""

from dataclasses import dataclass

from perseus.algo import Process, durable, on
from perseus.algo.workloads.counters import Add, AddOk, Read, ReadOk


@dataclass(frozen=True)
class Tell:
    """What one node thinks the sum is."""

    value: int


class Node(Process):
    """Takes the highest sum that it hears of."""

    value: int = durable(0)

    def start(self):
        self.after(0.3, self.gossip)

    def gossip(self):
        self.after(0.3, self.gossip)
        self.broadcast(Tell(self.value))

    @on(Tell)
    def heard(self, sender, message):
        self.value = max(self.value, message.value)

    @on(Add)
    def add(self, sender, message):
        self.value += message.delta
        self.reply(AddOk())

    @on(Read)
    def read(self, sender, message):
        self.reply(ReadOk(self.value))
