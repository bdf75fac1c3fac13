"""Step 3, first try: tell everybody, once."""

from dataclasses import dataclass

from perseus.algo import Process, durable, on
from perseus.algo.workloads.broadcast import (
    Broadcast,
    BroadcastOk,
    Read,
    ReadOk,
    Topology,
    TopologyOk,
)


@dataclass(frozen=True)
class Tell:
    """News for a peer."""

    messages: tuple


class Node(Process):
    """Tells its peers what it is told."""

    messages: set = durable(set())

    @on(Broadcast)
    def told(self, sender, message):
        self.messages.add(message.message)
        self.broadcast(Tell((message.message,)))
        self.reply(BroadcastOk())

    @on(Tell)
    def heard(self, sender, message):
        self.messages |= set(message.messages)

    @on(Read)
    def read(self, sender, message):
        self.reply(ReadOk(tuple(self.messages)))

    @on(Topology)
    def topology(self, sender, message):
        self.reply(TopologyOk())
