"""A document on every process, edited everywhere, kept together by gossip.

After Demers and others, "Epidemic Algorithms for Replicated Database Maintenance" (1987):
now and then each process sends its copy to one that it draws, which merges it. No message
needs to arrive, and no process needs to be up at any time: safe under all faults with
durable copies. Copies are sent whole; sending what changed is an optimisation left out.
"""

from dataclasses import dataclass
from typing import Any

from perseus.algo import Id, Process, View, always, durable, eventually, on, sometimes
from perseus.algo.checkers import convergence
from perseus.algo.library.crdt.counters import GCounter, PNCounter
from perseus.algo.library.crdt.map import ORMap
from perseus.algo.library.crdt.registers import LWWRegister, MVRegister
from perseus.algo.library.crdt.sequence import Element, Sequence
from perseus.algo.library.crdt.sets import Dot, GSet, ORSet, TwoPhaseSet

# What can be in a message; hosts encode these classes and no others.
VALUES = (
    GCounter, PNCounter, GSet, TwoPhaseSet, ORSet, LWWRegister, MVRegister, Sequence,
    ORMap, Dot, Element,
)  # fmt: skip

TAGS = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class Copy:
    """A process's copy, and by process how many of its edits are in it."""

    document: ORMap
    seen: GCounter


class Replica(Process):
    """One copy. It edits at random, so many times in all, and gossips for ever."""

    edits = 40
    edit_s = (0.0, 2.0)
    gossip_s = (0.1, 0.5)

    document: ORMap = durable(ORMap())
    seen: GCounter = durable(GCounter())
    # What this process added to the counter, for the properties.
    likes: int = durable(0)

    def start(self) -> None:
        self.after(self.edit_s, self._edit)
        self.after(self.gossip_s, self._gossip)

    # Gossip.

    def _gossip(self) -> None:
        self.after(self.gossip_s, self._gossip)
        if self.peers:
            peer = self.peers[self.random.below(len(self.peers))]
            self.send(peer, Copy(self.document, self.seen))

    @on(Copy)
    def copy(self, sender: Id, message: Copy) -> None:
        self.document = self.merged(self.document, message.document)
        self.seen = self.seen.merge(message.seen)

    def merged(self, mine: ORMap, theirs: ORMap) -> ORMap:
        """Both as one."""
        return mine.merge(theirs)

    # Edits, one of each kind of value.

    def _edit(self) -> None:
        if self.seen.counts.get(self.id, 0) >= self.edits:
            return
        self.after(self.edit_s, self._edit)
        kinds = (self._like, self._visit, self._tag, self._untag, self._name, self._title,
                 self._write, self._erase, self._ban, self._read, self._drop)  # fmt: skip
        kinds[self.random.below(len(kinds))]()
        self.seen = self.seen.increment(self.id)

    def _set(self, key: str, value: Any) -> None:
        self.document = self.document.set(self.id, key, value)

    def _value(self, key: str, first: Any) -> Any:
        return self.document.values.get(key, first)

    def _like(self) -> None:
        by = self.random.below(5) - 2
        self._set("likes", self._value("likes", PNCounter()).add(self.id, by))
        self.likes += by

    def _visit(self) -> None:
        self._set("visits", self._value("visits", GCounter()).increment(self.id))

    def _tag(self) -> None:
        tag = TAGS[self.random.below(len(TAGS))]
        self._set("tags", self._value("tags", ORSet()).add(self.id, tag))

    def _untag(self) -> None:
        tag = TAGS[self.random.below(len(TAGS))]
        self._set("tags", self._value("tags", ORSet()).remove(tag))

    def _name(self) -> None:
        register = self._value("name", LWWRegister())
        self._set("name", register.write(self.id, self.random.below(100)))

    def _title(self) -> None:
        register = self._value("title", MVRegister())
        self._set("title", register.write(self.id, self.random.below(100)))

    def _write(self) -> None:
        text = self._value("text", Sequence())
        place = self.random.below(len(text.dots()) + 1)
        self._set("text", text.insert(self.id, place, self.random.below(10)))

    def _erase(self) -> None:
        text = self._value("text", Sequence())
        if text.dots():
            self._set("text", text.delete(self.random.below(len(text.dots()))))

    def _ban(self) -> None:
        banned = self._value("banned", TwoPhaseSet()).add(self.random.below(5))
        self._set("banned", banned.remove(self.random.below(5)))

    def _read(self) -> None:
        self._set("readers", self._value("readers", GSet()).add(self.id))

    def _drop(self) -> None:
        keys = sorted(self.document.values)
        if keys:
            self.document = self.document.remove(keys[self.random.below(len(keys))])


def _copies(view: View[Replica]) -> list[convergence.Copy]:
    return [convergence.Copy(each.id, each.seen, each.document) for each in view.processes]


@always(Replica)
def same_edits_make_the_same_document(view: View[Replica]) -> None:
    """Strong eventual consistency: who has seen the same edits has the same document."""
    changed = view.changed
    if view.ghost.get(changed.id) is changed.document:
        return
    view.ghost[changed.id] = changed.document
    mine = convergence.Copy(changed.id, changed.seen, changed.document)
    verdict = convergence.check([mine, *_copies(view)])
    assert verdict.is_convergent, str(verdict)


@eventually(Replica, within_s=60.0)
def all_hold_every_edit(view: View[Replica]) -> bool:
    """Gossip brings every edit to everybody, and none is lost or counted twice."""
    first = view.changed
    if any(each.seen != first.seen or each.document != first.document for each in view.processes):
        return False
    counter = first.document.values.get("likes", PNCounter())
    is_whole: bool = counter.value == sum(each.likes for each in view.processes)
    return is_whole and first.seen.value == first.edits * len(first.everyone)


@sometimes(Replica)
def a_register_holds_two_values(view: View[Replica]) -> bool:
    """Two replicas write at the same time, and both writes are kept."""
    title = view.changed.document.values.get("title", MVRegister())
    return len(title.values) > 1


@sometimes(Replica)
def a_dropped_key_comes_back(view: View[Replica]) -> bool:
    """A removal does not take away what it had not seen."""
    document = view.changed.document
    was_gone = view.ghost.get(view.changed.id, False)
    view.ghost[view.changed.id] = "text" in document.values and "text" not in document.keys
    return was_gone and "text" in document.keys
