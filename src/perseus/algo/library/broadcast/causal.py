"""Causal broadcast by waiting (algorithm 3.15), on reliable broadcast."""

from perseus.algo import Id, durable, on
from perseus.algo.library.broadcast.reliable import Item, Reliable
from perseus.algo.library.clocks import Vector


class Causal(Reliable):
    """An item carries how many of each process its origin had delivered; it waits for those."""

    # How many of each process were delivered here.
    seen: Vector = durable(Vector())
    # Came, and wait.
    waiting: list[Item] = durable([])

    def announce(self, item: Item) -> None:
        """One's own is delivered at once: what one says next comes after it."""
        item = Item(item.origin, item.number, self.seen)
        self.known.add(item.key)
        for peer in self.peers:
            self.convey(peer, item)
        self.deliver_item(item)

    @on(Item)
    def item(self, sender: Id, item: Item) -> None:
        super().item(sender, item)
        self.deliver_what_waits()

    def deliver_item(self, item: Item) -> None:
        if self.is_ready(item):
            self.seen = self.seen.ticked(item.origin)
            super().deliver_item(item)
        else:
            self.waiting.append(item)

    def is_ready(self, item: Item) -> bool:
        """All that its origin had delivered, this one has too."""
        past: Vector = item.past
        return past <= self.seen

    def deliver_what_waits(self) -> None:
        """Each delivery may be what another waits for."""
        while ready := [item for item in self.waiting if self.is_ready(item)]:
            self.waiting.remove(ready[0])
            self.deliver_item(ready[0])
