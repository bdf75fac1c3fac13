"""Step 3: gossip. Tell again, until one peer at a time is known to know."""

from dataclasses import dataclass

from broadcast_once import Node as TellsOnce
from broadcast_once import Tell

from perseus.algo import on


@dataclass(frozen=True)
class Told:
    """These have arrived."""

    messages: tuple


class Node(TellsOnce):
    """Repeats what was not confirmed."""

    def start(self):
        self.confirmed = {peer: set() for peer in self.peers}
        self.after(0.3, self.gossip)

    def gossip(self):
        self.after(0.3, self.gossip)
        for peer in self.peers:
            if missing := self.messages - self.confirmed[peer]:
                self.send(peer, Tell(tuple(missing)))

    @on(Tell)
    def heard(self, sender, message):
        super().heard(sender, message)
        self.send(sender, Told(message.messages))

    @on(Told)
    def arrived(self, sender, message):
        self.confirmed[sender] |= set(message.messages)
