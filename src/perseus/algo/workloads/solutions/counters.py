"""Counters: one number a node, up and down apart, merged by the highest of each."""

from dataclasses import dataclass

from perseus.algo import Id, Process, durable, on
from perseus.algo.library.crdt.counters import GCounter, PNCounter
from perseus.algo.workloads.counters import Add, AddOk, Read, ReadOk

# What is sent is known by name: PNCounter is made of GCounter.
__all__ = ["GCounter", "Node"]


@dataclass(frozen=True, slots=True)
class Merge:
    """All that one node knows."""

    counter: PNCounter


class Node(Process):
    """Solves g-counter and pn-counter."""

    gossip_s = (0.3, 0.6)

    counter: PNCounter = durable(PNCounter())

    def start(self) -> None:
        self.after(self.gossip_s, self.gossip)

    def gossip(self) -> None:
        self.after(self.gossip_s, self.gossip)
        self.broadcast(Merge(self.counter))

    @on(Merge)
    def merge(self, sender: Id, message: Merge) -> None:
        self.counter = self.counter.merge(message.counter)

    @on(Add)
    def add(self, sender: Id, message: Add) -> None:
        self.counter = self.counter.add(self.id, message.delta)
        self.reply(AddOk())

    @on(Read)
    def read(self, sender: Id, message: Read) -> None:
        self.reply(ReadOk(self.counter.value))
