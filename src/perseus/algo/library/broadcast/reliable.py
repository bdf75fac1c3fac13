"""Best-effort and reliable broadcast (algorithms 3.1 and 3.3, "eager"), on perfect links."""

from dataclasses import dataclass
from typing import Any

from perseus.algo import Id, durable, on
from perseus.algo.library.links import PerfectLinks
from perseus.algo.library.mortal import Mortal

# (who said it, the number of what it said).
Key = tuple[Id, int]


@dataclass(frozen=True, slots=True)
class Item:
    """What was said. ``past`` is what a causal broadcast wants to know of it."""

    origin: Id
    number: int
    past: Any = None

    @property
    def key(self) -> Key:
        return self.origin, self.number


class Broadcast(Mortal, PerfectLinks):
    """What all have in common: each says a few things, and keeps what it delivers."""

    items = 8
    pause_s = (0.2, 5.0)

    said: int = durable(0)
    delivered: list[Key] = durable([])

    def start(self) -> None:
        super().start()
        self.after(self.pause_s, self.speak)

    def speak(self) -> None:
        if self.said < self.items:
            self.said += 1
            self.announce(Item(self.id, self.said))
            self.after(self.pause_s, self.speak)

    def announce(self, item: Item) -> None:
        """Tells all."""
        raise AssertionError("a subclass knows how")

    def deliver_item(self, item: Item) -> None:
        """Here it is."""
        self.delivered.append(item.key)


class BestEffort(Broadcast):
    """Sends it to each."""

    def announce(self, item: Item) -> None:
        for process in self.everyone:
            self.convey(process, item)

    @on(Item)
    def item(self, sender: Id, item: Item) -> None:
        self.deliver_item(item)


class Reliable(BestEffort):
    """Who hears it for the first time passes it on, so that it does not need its origin."""

    # What has come here, so that it is passed on and delivered once.
    known: set[Key] = durable(set())

    @on(Item)
    def item(self, sender: Id, item: Item) -> None:
        if item.key not in self.known:
            self.known.add(item.key)
            for peer in self.peers:
                if peer not in (sender, item.origin):
                    self.convey(peer, item)
            self.deliver_item(item)
