"""Step 4: one number for each node, which that node alone raises."""

from dataclasses import dataclass

from perseus.algo import Process, durable, on
from perseus.algo.workloads.counters import Add, AddOk, Read, ReadOk


@dataclass(frozen=True)
class Tell:
    """By node the sum of what was added there, as far as is known."""

    counts: dict


class Node(Process):
    """Takes the highest of each number; the sum of all is the value."""

    counts: dict = durable({})

    def start(self):
        self.after(0.3, self.gossip)

    def gossip(self):
        self.after(0.3, self.gossip)
        self.broadcast(Tell(dict(self.counts)))

    @on(Tell)
    def heard(self, sender, message):
        for node, count in message.counts.items():
            self.counts[node] = max(count, self.counts.get(node, 0))

    @on(Add)
    def add(self, sender, message):
        self.counts[self.id] = self.counts.get(self.id, 0) + message.delta
        self.reply(AddOk())

    @on(Read)
    def read(self, sender, message):
        self.reply(ReadOk(sum(self.counts.values())))
