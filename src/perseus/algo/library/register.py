"""A register on a quorum: read and write with no leader and no consensus.

From Attiya, Bar-Noy and Dolev, "Sharing Memory Robustly in Message-Passing Systems"
(1995), with many writers after Lynch and Shvartsman (1997). A value bears a *tag*. To
write: ask a majority for its tags, then have a majority store the value under a higher
one. To read: ask a majority, take the value of the highest tag, and have a majority
store it before giving it; else a later read might find an older value.

Promises: reads and writes are linearizable, and each ends while a majority is up and
hears its client, whoever else is slow. It cannot compare and swap: that takes
consensus. Assumes that disks keep what was written.
"""

from dataclasses import dataclass
from typing import Any

from perseus.algo import Id, Process, View, always, at_end, durable, eventually, on, sometimes
from perseus.algo.checkers import linearizability
from perseus.algo.history import Operation, merged
from perseus.algo.library.kv import Get, Put, RegisterModel


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    """The order of writes. ``writer`` and ``life`` make it one write's own."""

    count: int
    writer: Id
    life: int


@dataclass(frozen=True, slots=True)
class Versioned:
    """A value and the write that it comes from."""

    tag: Tag
    value: int | None


NOT_WRITTEN = Versioned(Tag(0, "", 0), None)


@dataclass(frozen=True, slots=True)
class Query:
    """Asks for what is stored; ``phase`` tells a client's requests apart."""

    phase: int
    key: str


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored."""

    phase: int
    versioned: Versioned


@dataclass(frozen=True, slots=True)
class Store:
    """Asks to store it, unless something newer is there."""

    phase: int
    key: str
    versioned: Versioned


@dataclass(frozen=True, slots=True)
class Stored:
    """This or something newer is on disk."""

    phase: int


class RegisterClient(Process):
    """Reads and writes one after the other, at random, and keeps the history of it."""

    servers = "n"
    keys = ("x", "y")
    # Until a request is said again to those who have not answered.
    patience_s = 0.5
    pause_s = (0.0, 1.0)

    def start(self) -> None:
        self.history: list[Operation] = []
        self.phase = 0
        self.answers: dict[Id, Versioned] = {}
        self.after(self.pause_s, self._invoke)

    def _invoke(self) -> None:
        key = self.keys[self.random.below(len(self.keys))]
        what = Get(key) if self.random.below(2) else Put(key, self.random.below(1000))
        self.history.append(Operation(self.id, what, self.now))
        self.phase += 1
        self._ask(Query(self.phase, key))

    @on(Found)
    def found(self, sender: Id, message: Found) -> None:
        if message.phase == self.phase and self._heard(sender, message.versioned):
            self._store(max(self.answers.values(), key=lambda found: found.tag))

    def _store(self, newest: Versioned) -> None:
        """The second phase: a write's own value, or for a read what it found."""
        what = self.history[-1].what
        if isinstance(what, Put):
            newest = Versioned(Tag(newest.tag.count + 1, self.id, self.restarts), what.value)
        self.phase += 1
        self.result = newest.value
        self._ask(Store(self.phase, what.key, newest))

    @on(Stored)
    def stored(self, sender: Id, message: Stored) -> None:
        if message.phase == self.phase and self._heard(sender, NOT_WRITTEN):
            self._finish()

    def _finish(self) -> None:
        self.phase += 1
        is_read = isinstance(self.history[-1].what, Get)
        self.history[-1].end(self.now, self.result if is_read else None)
        self.after(self.pause_s, self._invoke)

    # A request to all, until a majority has answered.

    def _ask(self, message: Any) -> None:
        self.answers = {}
        self._ask_the_rest(message)

    def _ask_the_rest(self, message: Any) -> None:
        if message.phase != self.phase:
            return
        for server in self.group(self.servers):
            if server not in self.answers:
                self.send(server, message)
        self.after(self.patience_s, self._ask_the_rest, message)

    def _heard(self, server: Id, answer: Versioned) -> bool:
        """Whether this is the answer that makes a majority."""
        self.answers[server] = answer
        return len(self.answers) == len(self.group(self.servers)) // 2 + 1


class Register(Process):
    """One replica of the registers."""

    client = RegisterClient
    clients = 4

    stored: dict[str, Versioned] = durable({})

    def start(self) -> None:
        # The key of the last step, for the properties.
        self.last_key = ""

    @on(Query)
    def query(self, sender: Id, message: Query) -> None:
        self.send(sender, Found(message.phase, self.stored.get(message.key, NOT_WRITTEN)))

    @on(Store)
    def store(self, sender: Id, message: Store) -> None:
        self.last_key = message.key
        if message.versioned.tag > self.stored.get(message.key, NOT_WRITTEN).tag:
            self.stored[message.key] = message.versioned
        self.send(sender, Stored(message.phase))


@always(Register)
def a_tag_names_one_value(view: View[Register]) -> bool:
    """No two writes bear the same tag."""
    key = view.changed.last_key
    if not key:
        return True
    stored = view.changed.stored.get(key, NOT_WRITTEN)
    known: int | None = view.ghost.setdefault((key, stored.tag), stored.value)
    return known == stored.value


@always(Register)
def a_replica_does_not_go_back(view: View[Register]) -> bool:
    """What a replica holds gets only newer, in one life of it."""
    replica = view.changed
    if not replica.last_key:
        return True
    mark = (replica.id, replica.restarts, replica.last_key)
    tag = replica.stored.get(replica.last_key, NOT_WRITTEN).tag
    before: Tag = view.ghost.get(mark, tag)
    view.ghost[mark] = tag
    return tag >= before


@at_end(RegisterClient)
def history_is_linearizable(view: View[RegisterClient]) -> None:
    """One copy could have given all these answers."""
    history = merged((client.history for client in view.processes), view.began_s)
    verdict = linearizability.check(history, RegisterModel(), key=lambda what: what.key)
    assert verdict.is_linearizable is not False, str(verdict)


@eventually(RegisterClient, within_s=10.0)
def every_client_gets_through(view: View[RegisterClient]) -> bool:
    """Operations end, whatever went before."""
    begun = {client.id: len(client.history) for client in view.processes}
    first: dict[Id, int] = view.ghost.setdefault("first", begun)
    return all(begun[client] > first[client] for client in begun)


@sometimes(RegisterClient)
def replicas_differ(view: View[RegisterClient]) -> bool:
    """A majority answers a query with more than one version."""
    return len(set(view.changed.answers.values())) > 1
