"""A grow-only set: a value that is merged, and sent around whole."""

from dataclasses import dataclass

from perseus.algo import Id, Process, durable, on
from perseus.algo.library.crdt.sets import GSet
from perseus.algo.workloads.g_set import Add, AddOk, Read, ReadOk


@dataclass(frozen=True, slots=True)
class Merge:
    """All that one node has."""

    elements: GSet


class Node(Process):
    """Now and then tells all that it has to everybody."""

    gossip_s = (0.3, 0.6)

    elements: GSet = durable(GSet())

    def start(self) -> None:
        self.after(self.gossip_s, self.gossip)

    def gossip(self) -> None:
        self.after(self.gossip_s, self.gossip)
        self.broadcast(Merge(self.elements))

    @on(Merge)
    def merge(self, sender: Id, message: Merge) -> None:
        self.elements = self.elements.merge(message.elements)

    @on(Add)
    def add(self, sender: Id, message: Add) -> None:
        self.elements = self.elements.add(message.element)
        self.reply(AddOk())

    @on(Read)
    def read(self, sender: Id, message: Read) -> None:
        self.reply(ReadOk(tuple(sorted(self.elements.value))))
