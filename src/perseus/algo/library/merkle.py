"""Anti-entropy with Merkle trees: two replicas find what differs by comparing few hashes.

From DeCandia and others, "Dynamo: Amazon's Highly Available Key-value Store" (2007); the
trees are Merkle's (1987). Keys fall into buckets by their hash; a leaf is the hash of a
bucket, each other node the hash of its children. Now and then a replica sends its root to
another; where digests differ, they go one level down, taking turns, and at the leaves
exchange the buckets' items. Equal replicas send one hash; one key that differs costs
``DEPTH`` messages, however many keys there are.

Promises: every write that a replica acknowledged gets to all replicas, when they talk
again; of two writes of one key the newer stays, between writes at once the higher name.
Assumes that disks keep what was written, and nothing of the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from perseus.algo import Id, Process, View, always, durable, eventually, on, sometimes
from perseus.algo.library.crdt.registers import LWWRegister
from perseus.algo.library.crdt.sets import Dot

FANOUT = 4
DEPTH = 3
BUCKETS: int = FANOUT**DEPTH


def digest(*parts: object) -> bytes:
    """A hash that is the same on every machine."""
    made = blake2b(digest_size=16)
    for part in parts:
        made.update(repr(part).encode() + b"\n")
    return made.digest()


def bucket_of(key: str) -> int:
    """Which leaf a key is under."""
    return int.from_bytes(digest(key)[:8], "big") % BUCKETS


class MerkleTree:
    """The tree over a map from keys to values that have a ``repr`` of their own."""

    def __init__(self, items: Mapping[str, object]) -> None:
        self._buckets: list[dict[str, bytes]] = [{} for _ in range(BUCKETS)]
        for key, value in items.items():
            self._buckets[bucket_of(key)][key] = digest(value)
        # By level, from the root down.
        self._levels = [[b""] * FANOUT**level for level in range(DEPTH + 1)]
        for bucket in range(BUCKETS):
            self._hash_leaf(bucket)
        for level in range(DEPTH - 1, -1, -1):
            for place in range(FANOUT**level):
                self._hash(level, place)

    @property
    def root(self) -> bytes:
        return self._levels[0][0]

    def set(self, key: str, value: object) -> None:
        """Hashes one path anew."""
        place = bucket_of(key)
        self._buckets[place][key] = digest(value)
        self._hash_leaf(place)
        for level in range(DEPTH - 1, -1, -1):
            place //= FANOUT
            self._hash(level, place)

    def different(self, level: int, digests: Sequence[tuple[int, bytes]]) -> list[int]:
        """Which of the nodes of a level have other digests here."""
        return [place for place, theirs in digests if self._levels[level][place] != theirs]

    def children(self, level: int, places: Sequence[int]) -> tuple[tuple[int, bytes], ...]:
        """The digests one level below these nodes."""
        below = [place * FANOUT + child for place in places for child in range(FANOUT)]
        return tuple((place, self._levels[level + 1][place]) for place in below)

    def keys(self, buckets: Sequence[int]) -> list[str]:
        """The keys under these leaves."""
        return [key for bucket in buckets for key in sorted(self._buckets[bucket])]

    def _hash_leaf(self, bucket: int) -> None:
        self._levels[DEPTH][bucket] = digest(sorted(self._buckets[bucket].items()))

    def _hash(self, level: int, place: int) -> None:
        first = place * FANOUT
        self._levels[level][place] = digest(*self._levels[level + 1][first : first + FANOUT])


@dataclass(frozen=True, slots=True)
class Write:
    """A client's write; ``number`` tells its answers apart."""

    number: int
    key: str
    value: int


@dataclass(frozen=True, slots=True)
class Read:
    """Asks one replica for what it has."""

    number: int
    key: str


@dataclass(frozen=True, slots=True)
class Here:
    """Answers both: what the replica has on its disk."""

    number: int
    key: str
    register: LWWRegister


@dataclass(frozen=True, slots=True)
class Compare:
    """The sender's digests of these nodes of a level, with their places."""

    level: int
    digests: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Items:
    """What the sender has in these buckets; it may want what it lacks of them."""

    buckets: tuple[int, ...]
    items: tuple[tuple[str, LWWRegister], ...]
    wants: bool


NOTHING = LWWRegister()


class MerkleClient(Process):
    """Writes at one replica or another, then reads what it wrote at others."""

    servers = "n"
    writes = 100
    keys = 200
    patience_s = 1.0
    pause_s = (0.0, 0.5)

    def start(self) -> None:
        self.number = 0
        # By key: the newest that was acknowledged, and that was read since.
        self.acknowledged: dict[str, Dot] = {}
        self.found: dict[str, Dot] = {}
        self._next()

    def _next(self) -> None:
        """One thing after the other; without an answer, the next."""
        self.number += 1
        servers = self.group(self.servers)
        server = servers[self.random.below(len(servers))]
        known = list(self.acknowledged)
        if self.number <= self.writes or not known:
            key = f"k{self.random.below(self.keys)}"
            self.send(server, Write(self.number, key, self.random.below(1000)))
        else:
            missing = [key for key in known if not self._has_found(key)]
            self.send(server, Read(self.number, (missing or known)[0]))
        self.after(self.patience_s, self._leave, self.number)

    def _has_found(self, key: str) -> bool:
        return key in self.found and self.found[key] >= self.acknowledged[key]

    def _leave(self, number: int) -> None:
        if number == self.number:
            self._next()

    @on(Here)
    def here(self, sender: Id, message: Here) -> None:
        if message.number != self.number:
            return
        book = self.acknowledged if self.number <= self.writes else self.found
        stamp = message.register.stamp
        book[message.key] = max(book.get(message.key, stamp), stamp)
        self.number += 1
        self.after(self.pause_s, self._leave, self.number)


class AntiEntropy(Process):
    """One replica."""

    client = MerkleClient
    clients = 3

    compare_s = (0.2, 1.0)

    items: dict[str, LWWRegister] = durable({})

    def start(self) -> None:
        self.tree = MerkleTree(self.items)
        # The key that the last step set, and how many keys an exchange has brought.
        self.last_key = ""
        self.brought = 0
        self.after(self.compare_s, self._compare)

    def _set(self, key: str, register: LWWRegister) -> None:
        self.items[key] = register
        self.tree.set(key, register)
        self.last_key = key

    # Clients.

    @on(Write)
    def write(self, sender: Id, message: Write) -> None:
        register = self.items.get(message.key, NOTHING).write(self.id, message.value)
        self._set(message.key, register)
        self.send(sender, Here(message.number, message.key, register))

    @on(Read)
    def read(self, sender: Id, message: Read) -> None:
        register = self.items.get(message.key, NOTHING)
        self.send(sender, Here(message.number, message.key, register))

    # Anti-entropy.

    def _compare(self) -> None:
        self.after(self.compare_s, self._compare)
        if self.peers:
            peer = self.peers[self.random.below(len(self.peers))]
            self.send(peer, Compare(0, ((0, self.tree.root),)))

    @on(Compare)
    def compare(self, sender: Id, message: Compare) -> None:
        places = self.tree.different(message.level, message.digests)
        if not places:
            return
        if message.level < DEPTH:
            below = self.tree.children(message.level, places)
            self.send(sender, Compare(message.level + 1, below))
        else:
            self._send_items(sender, places, {}, True)

    @on(Items)
    def take(self, sender: Id, message: Items) -> None:
        theirs = dict(message.items)
        for key, register in message.items:
            mine = self.items.get(key, NOTHING)
            if mine.merge(register) != mine:
                self._set(key, mine.merge(register))
                self.brought += 1
        if message.wants:
            self._send_items(sender, message.buckets, theirs, False)

    def _send_items(
        self, to: Id, buckets: Sequence[int], theirs: Mapping[str, LWWRegister], wants: bool
    ) -> None:
        """What is here in these buckets and not there."""
        items = [(key, self.items[key]) for key in self.tree.keys(buckets)]
        lacking = tuple((key, mine) for key, mine in items if theirs.get(key) != mine)
        if lacking or wants:
            self.send(to, Items(tuple(buckets), lacking, wants))


@always(AntiEntropy)
def a_key_does_not_go_back(view: View[AntiEntropy]) -> bool:
    """What a replica has of a key gets only newer, in one life of it."""
    replica = view.changed
    if not replica.last_key:
        return True
    mark = (replica.id, replica.restarts, replica.last_key)
    stamp: Dot = replica.items[replica.last_key].stamp
    before: Dot = view.ghost.get(mark, stamp)
    view.ghost[mark] = stamp
    return stamp >= before


@eventually(AntiEntropy, within_s=60.0)
def all_are_equal(view: View[AntiEntropy]) -> bool:
    """All replicas have the same items, and trees that say so."""
    first = view.changed
    return all(
        replica.tree.root == first.tree.root and replica.items == first.items
        for replica in view.processes
    )


@eventually(MerkleClient, within_s=400.0)
def what_was_acknowledged_is_found(view: View[MerkleClient]) -> bool:
    """No acknowledged write is lost, but to a newer one."""
    return all(
        client.number > client.writes and all(map(client._has_found, client.acknowledged))
        for client in view.processes
    )


@sometimes(AntiEntropy)
def an_exchange_brings_many_keys(view: View[AntiEntropy]) -> bool:
    """A replica catches up after it was away."""
    replica = view.changed
    before: int = view.ghost.get(replica.id, 0)
    view.ghost[replica.id] = replica.brought
    return replica.brought - before >= 10
