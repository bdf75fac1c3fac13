"""Which node a key belongs to, such that few keys move when nodes come and go.

``HashRing`` is consistent hashing: Karger and others, "Consistent Hashing and Random
Trees" (1997). Each node stands at many points of a circle; a key belongs to the node of
the next point. ``rendezvous`` is highest random weight: Thaler and Ravishankar, "Using
Name-Based Mappings to Increase Hit Rates" (1998). Each node draws a number for each key;
the highest has it.

Promises of both: whoever knows the same nodes gives the same answer, in whatever order it
learned of them and on whatever machine; a new node takes its share of the keys and no key
moves between others; keys of a node that goes spread over those that stay. The ring takes
O(log nodes) for a key, and shares that differ by some tenths; rendezvous takes O(nodes),
with shares as even as chance makes them, and takes weights.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from math import log

POINTS = 128
_SPAN = 1 << 64


def stable_hash(*words: str) -> int:
    """64 bits, the same on every machine and in every run."""
    made = blake2b(digest_size=8)
    for word in words:
        # With its length, so that ("ab", "c") is not ("a", "bc").
        encoded = word.encode()
        made.update(len(encoded).to_bytes(8, "big") + encoded)
    return int.from_bytes(made.digest(), "big")


class HashRing:
    """Nodes on a circle; immutable. A node with weight 2 stands at twice as many points."""

    def __init__(self, nodes: Iterable[str] | Mapping[str, float], points: int = POINTS) -> None:
        weights = dict(nodes) if isinstance(nodes, Mapping) else dict.fromkeys(nodes, 1.0)
        self.points = points
        self.weights: Mapping[str, float] = weights
        ring = sorted(
            (stable_hash(node, str(point)), node)
            for node, weight in weights.items()
            for point in range(round(points * weight))
        )
        self._at = [at for at, _ in ring]
        self._nodes = [node for _, node in ring]

    def place(self, key: str) -> str:
        """The node that a key belongs to."""
        return self.places(key, 1)[0]

    def places(self, key: str, count: int) -> list[str]:
        """The first ``count`` different nodes from the key on: its replicas, in their order."""
        found: dict[str, None] = {}
        first = bisect_right(self._at, stable_hash(key))
        for step in range(len(self._nodes)):
            if len(found) == count:
                break
            found[self._nodes[(first + step) % len(self._nodes)]] = None
        if not found:
            raise LookupError("a ring without nodes has no place for a key")
        return list(found)

    def with_node(self, node: str, weight: float = 1.0) -> "HashRing":
        """The ring with one node more."""
        return HashRing({**self.weights, node: weight}, self.points)

    def without_node(self, node: str) -> "HashRing":
        """The ring with one node less."""
        rest = {each: weight for each, weight in self.weights.items() if each != node}
        return HashRing(rest, self.points)


def rendezvous(key: str, nodes: Iterable[str] | Mapping[str, float], count: int = 1) -> list[str]:
    """The ``count`` nodes that a key belongs to, the first first; by weight when they have one."""
    weights = nodes if isinstance(nodes, Mapping) else dict.fromkeys(nodes, 1.0)
    ranked = sorted(weights, key=lambda node: (-_score(key, node, weights[node]), node))
    if not ranked:
        raise LookupError("without nodes there is no place for a key")
    return ranked[:count]


def _score(key: str, node: str, weight: float) -> float:
    """Draws such that a node has the highest with a chance that is its share of the weights."""
    drawn = (stable_hash(node, key) + 0.5) / _SPAN
    # Numbers next to 1 become 1.0, whose logarithm is nothing to divide by.
    return -weight / log(min(drawn, 1.0 - 2.0**-53))
