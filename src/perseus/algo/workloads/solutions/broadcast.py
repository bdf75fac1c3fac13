"""Broadcast by gossip: each tells each other one what that one is not known to have."""

from dataclasses import dataclass
from typing import Any

from perseus.algo import Id, Process, durable, on
from perseus.algo.workloads.broadcast import (
    Broadcast,
    BroadcastOk,
    Read,
    ReadOk,
    Topology,
    TopologyOk,
)


@dataclass(frozen=True, slots=True)
class Gossip:
    """News."""

    messages: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class GossipOk:
    """Also those are known here."""

    messages: tuple[Any, ...]


class Node(Process):
    """Tells again until it is answered."""

    gossip_s = (0.2, 0.4)

    messages: set[Any] = durable(set())

    def start(self) -> None:
        # By peer what it is known to have; after a crash nothing is known.
        self.known: dict[Id, set[Any]] = {peer: set() for peer in self.peers}
        self.after(self.gossip_s, self.gossip)

    def gossip(self) -> None:
        self.after(self.gossip_s, self.gossip)
        for peer in self.peers:
            if fresh := self.messages - self.known[peer]:
                self.send(peer, Gossip(tuple(sorted(fresh))))

    @on(Broadcast)
    def add(self, sender: Id, message: Broadcast) -> None:
        self.messages.add(message.message)
        self.reply(BroadcastOk())

    @on(Gossip)
    def heard(self, sender: Id, message: Gossip) -> None:
        self.messages |= set(message.messages)
        self.known[sender] |= set(message.messages)
        self.send(sender, GossipOk(message.messages))

    @on(GossipOk)
    def arrived(self, sender: Id, message: GossipOk) -> None:
        self.known[sender] |= set(message.messages)

    @on(Read)
    def read(self, sender: Id, message: Read) -> None:
        self.reply(ReadOk(tuple(sorted(self.messages))))

    @on(Topology)
    def topology(self, sender: Id, message: Topology) -> None:
        self.reply(TopologyOk())
