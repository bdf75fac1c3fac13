"""Step 6: the leader's log, on every node."""

from dataclasses import dataclass
from typing import Any

from election import Election

from perseus.algo import always, durable, on


@dataclass(frozen=True)
class Entry:
    """A command, and the term whose leader took it."""

    term: int
    command: Any


@dataclass(frozen=True)
class Append:
    """Entries for the place ``after``, where the one before is of ``after_term``."""

    term: int
    after: int
    after_term: int
    entries: tuple
    commit: int


@dataclass(frozen=True)
class Appended:
    """The logs agree up to ``count``; or they do not, and may up to ``count``."""

    term: int
    agrees: bool
    count: int


class Log(Election):
    """What a majority has on disk is committed, and applied in order."""

    log: list = durable([])

    def start(self):
        super().start()
        self.commit = 0

    def progress(self):
        return self.term_at(len(self.log)), len(self.log)

    def term_at(self, count):
        return self.log[count - 1].term if count else 0

    def lead(self):
        self.next = dict.fromkeys(self.peers, len(self.log))
        self.match = dict.fromkeys(self.peers, 0)
        self.log.append(Entry(self.term, None))
        super().lead()

    def news(self, peer):
        after = self.next[peer]
        entries = tuple(self.log[after : after + 50])
        return Append(self.term, after, self.term_at(after), entries, self.commit)

    @on(Append)
    def append(self, sender, message):
        self.see(message.term)
        if message.term < self.term:
            return
        self.be_patient()
        after = message.after
        if after > len(self.log) or self.term_at(after) != message.after_term:
            count = min(len(self.log), after - 1)
            self.send(sender, Appended(self.term, False, count))
            return
        for place, entry in enumerate(message.entries, after):
            if place < len(self.log) and self.log[place].term != entry.term:
                del self.log[place:]
            if place == len(self.log):
                self.log.append(entry)
        count = after + len(message.entries)
        self.advance(min(message.commit, count))
        self.send(sender, Appended(self.term, True, count))

    @on(Appended)
    def appended(self, sender, message):
        self.see(message.term)
        if not self.leads or message.term < self.term:
            return
        if not message.agrees:
            self.next[sender] = max(message.count, self.match[sender])
            return
        self.match[sender] = max(message.count, self.match[sender])
        self.next[sender] = self.match[sender]
        agreed = sorted([*self.match.values(), len(self.log)])[-self.majority]
        if self.term_at(agreed) == self.term:
            self.advance(agreed)

    def advance(self, commit):
        while self.commit < commit:
            self.commit += 1
            self.apply(self.log[self.commit - 1])

    def apply(self, entry):
        """What a command does is for others to say."""


class Counting(Log):
    """A leader that has something to say, for a while."""

    def beat(self):
        if len(self.log) < 60:
            self.log.append(Entry(self.term, len(self.log)))
        super().beat()


@always(Log)
def what_is_committed_stays(view):
    """No two nodes commit different entries at one place."""
    node = view.changed
    for place, entry in enumerate(node.log[: node.commit]):
        first = view.ghost.setdefault(place, entry)
        assert first == entry, f"{node.id} has {entry} at {place}, which was {first}"
