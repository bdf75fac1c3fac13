"""Gossiped documents and Merkle trees with one mistake each, for the simulator to find."""

from dataclasses import replace

from perseus.algo import Id, on
from perseus.algo.library.crdt import GCounter, LWWRegister, ORMap, ORSet, PNCounter, Replica
from perseus.algo.library.crdt.replica import Copy
from perseus.algo.library.merkle import AntiEntropy, Items, MerkleTree


def with_value(document: ORMap, key: str, value: object) -> ORMap:
    return replace(document, values={**document.values, key: value})


class TheLastToComeWins(Replica):
    """Takes a register as it comes, whatever its stamp."""

    def merged(self, mine: ORMap, theirs: ORMap) -> ORMap:
        name = theirs.values.get("name")
        both = super().merged(mine, theirs)
        return with_value(both, "name", name) if name is not None else both


class StampsWithTheClock(Replica):
    """Stamps are the same for two replicas that write at once: one of them stays with each."""

    def merged(self, mine: ORMap, theirs: ORMap) -> ORMap:
        both = super().merged(mine, theirs)
        one, other = mine.values.get("name"), theirs.values.get("name")
        if not isinstance(one, LWWRegister) or not isinstance(other, LWWRegister):
            return both
        is_draw = one.stamp.count == other.stamp.count
        return with_value(both, "name", one) if is_draw else both


class AddsWhatComes(Replica):
    """Adds up counters, so that what comes twice counts twice."""

    def merged(self, mine: ORMap, theirs: ORMap) -> ORMap:
        both = super().merged(mine, theirs)
        one, other = mine.values.get("likes"), theirs.values.get("likes")
        if not isinstance(one, PNCounter) or not isinstance(other, PNCounter) or one == other:
            return both
        counts = dict(one.up.counts)
        for name, count in other.up.counts.items():
            if name != self.id:
                counts[name] = counts.get(name, 0) + count
        return with_value(both, "likes", PNCounter(GCounter(counts), both.values["likes"].down))


class BringsBackWhatWasRemoved(Replica):
    """Merges sets as if nothing was ever removed."""

    def merged(self, mine: ORMap, theirs: ORMap) -> ORMap:
        both = super().merged(mine, theirs)
        one, other = mine.values.get("tags"), theirs.values.get("tags")
        if isinstance(one, ORSet) and isinstance(other, ORSet):
            items = {**one.items, **other.items}
            return with_value(both, "tags", ORSet(items, both.values["tags"].seen))
        return both


class EditsInMemory(Replica):
    """Tells others of edits that a crash makes it forget."""

    def _edit(self) -> None:
        super()._edit()
        self._changes.pop(("document",), None)
        self._changes.pop(("seen",), None)


class ForgetsWhatItSaw(Replica):
    """Takes a copy and not the count of the edits in it."""

    @on(Copy)
    def copy(self, sender: Id, message: Copy) -> None:
        super().copy(sender, replace(message, seen=GCounter()))


CRDT = [
    TheLastToComeWins,
    StampsWithTheClock,
    AddsWhatComes,
    BringsBackWhatWasRemoved,
    EditsInMemory,
    ForgetsWhatItSaw,
]


class HashesOnlyKeys(AntiEntropy):
    """Its tree does not see that a value is newer."""

    def start(self) -> None:
        super().start()
        self.tree = MerkleTree(dict.fromkeys(self.items))

    def _set(self, key: str, register: LWWRegister) -> None:
        super()._set(key, register)
        self.tree.set(key, None)


class GivesAndDoesNotTake(AntiEntropy):
    """Takes what it is sent for newer than what it has."""

    @on(Items)
    def take(self, sender: Id, message: Items) -> None:
        for key, register in message.items:
            self._set(key, register)
        super().take(sender, message)


class KeepsItemsInMemory(AntiEntropy):
    """Acknowledges what is not on its disk."""

    def _set(self, key: str, register: LWWRegister) -> None:
        super()._set(key, register)
        self._changes.pop(("items", key), None)


class KeepsAnOldTree(AntiEntropy):
    """Does not hash anew what an exchange brought."""

    @on(Items)
    def take(self, sender: Id, message: Items) -> None:
        before = self.tree
        self.tree = MerkleTree({})
        super().take(sender, message)
        self.tree = before


MERKLE = [HashesOnlyKeys, GivesAndDoesNotTake, KeepsItemsInMemory, KeepsAnOldTree]
