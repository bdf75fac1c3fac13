"""Links between nodes that failed writers of late, for people: the writers went on elsewhere."""

from typing import NamedTuple

from perseus.runtime.machine import Instant

# How long a link that failed is told of; also how old the word "lately" is at most.
TOLD_S = 300.0
LINKS_MAXIMUM = 100


class BrokenLink(NamedTuple):
    """One node could not bring bytes to another."""

    # Ids; the first is empty where it was the writer itself that could not.
    source: str
    target: str
    # What the last writer saw.
    words: str
    until_s: float


class Links:
    """The links that failed last, each once. In memory alone."""

    def __init__(self) -> None:
        self._broken: dict[tuple[str, str], BrokenLink] = {}

    def note(self, at: Instant, source: str, target: str, words: str) -> None:
        """A writer met it just now."""
        self._broken.pop((source, target), None)
        link = BrokenLink(source, target, words, at.now_s + TOLD_S)
        self._broken[source, target] = link
        if len(self._broken) > LINKS_MAXIMUM:
            del self._broken[next(iter(self._broken))]

    def forget_node(self, node_id: str) -> None:
        """It is lost, which is told by itself, or gone."""
        for pair in [pair for pair in self._broken if node_id in pair]:
            del self._broken[pair]

    def tick(self, at: Instant) -> None:
        """Forgets what is no news any more."""
        for pair in [pair for pair, link in self._broken.items() if link.until_s <= at.now_s]:
            del self._broken[pair]

    @property
    def broken(self) -> list[BrokenLink]:
        """The newest last."""
        return list(self._broken.values())
