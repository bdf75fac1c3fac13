"""Raft with one mistake each, of those that people do make: the simulator has to find them."""

from typing import Any

from perseus.algo import Id, on
from perseus.algo.library.kv import Kv
from perseus.algo.library.raft.messages import (
    Append,
    Appended,
    Entry,
    Install,
    Query,
    Snapshot,
    Vote,
)


class VolatileVote(Kv):
    """Forgets in a crash whom it voted for."""

    def start(self) -> None:
        self.voted_for = None
        super().start()


class VolatileTerm(Kv):
    """Forgets in a crash which term it is in."""

    def start(self) -> None:
        self.term = 0
        super().start()


class CommitsOldTerms(Kv):
    """Commits entries of earlier terms by counting replicas (figure 8 of the paper)."""

    heartbeat_s = 0.05

    def _advance_commit(self) -> None:
        agreed = self._agreed(self.match)
        if agreed > self.commit:
            self.commit = agreed
            self._apply_committed()
            self._answer_reads()

    def _lead(self) -> None:
        super()._lead()
        # Without the entry of its own term, as the paper's first form.
        if self.log and self.log[-1].kind == "nothing":
            self.log.pop()
            self.match[self.id] = self.last_index


class VotesForAnyLog(Kv):
    """Votes for candidates that lack entries."""

    def _is_as_good(self, message: Vote) -> bool:
        return True


class VotesTwice(Kv):
    """Votes for whoever asks."""

    @on(Vote)
    def vote(self, sender: Id, message: Vote) -> None:
        if not message.is_pre and message.term >= self.term:
            self._see(message.term)
            self.voted_for = None
        super().vote(sender, message)


class SmallMajority(Kv):
    """Takes half for a majority."""

    def _agreed(self, numbers: dict[Id, int]) -> int:
        ranked = sorted([numbers.get(server, 0) for server in self.servers])
        return ranked[len(ranked) // 2 + 1]


class AcceptsGaps(Kv):
    """Does not look whether the log agrees before new entries."""

    @on(Append)
    def append(self, sender: Id, message: Append) -> None:
        if message.prev_index > self.base:
            prev_term = self.term_at(min(message.prev_index, self.last_index))
            prev_index = min(message.prev_index, self.last_index)
            message = Append(
                message.term,
                prev_index,
                prev_term,
                message.entries,
                message.commit,
                message.round,
            )
        super().append(sender, message)


class KeepsWhatDiffers(Kv):
    """Adds new entries behind those that a leader of another term left."""

    def _store(self, first: int, entries: tuple[Entry, ...]) -> None:
        place = first - self.base - 1
        if len(self.log) <= place + len(entries):
            super()._store(first, entries)


class CutsOnEachAppend(Kv):
    """Cuts the log behind an old Append that comes late, though nothing differs."""

    def _store(self, first: int, entries: tuple[Entry, ...]) -> None:
        place = first - self.base - 1
        del self.log[place:]
        self.log.extend(entries)


class ForgetsSessions(Kv):
    """Does a command again that is asked for again."""

    def _apply_entry(self, entry: Entry) -> Any:
        self.sessions.pop(entry.client, None)
        return super()._apply_entry(entry)


class SnapshotsForgetSessions(Kv):
    """Leaves the clients' last commands out of a snapshot."""

    snapshot_after = 1

    def _compact(self) -> None:
        super()._compact()
        made = self.snapshot
        assert made is not None
        self.snapshot = Snapshot(made.index, made.term, made.state, made.servers)


class ReadsAtOnce(Kv):
    """Answers reads without a round of heartbeats: perhaps after another was elected."""

    @on(Query)
    def read(self, sender: Id, message: Query) -> None:
        if self._leads(sender, message.sequence):
            self.reads.append((0, 0, sender, message.sequence, message.query))
            self._answer_reads()


class InstallsOldSnapshots(Kv):
    """Goes back to an old snapshot that comes late."""

    snapshot_after = 5

    @on(Install)
    def install(self, sender: Id, message: Install) -> None:
        if not self._obey(sender, message.term, message.round):
            return
        new = message.snapshot
        self._keep(new, [])
        self.commit = self.applied = new.index
        self._take_up(new)
        self.servers = self._servers_at(self.last_index)
        self.send(sender, Appended(self.term, True, new.index, message.round))


class AnswersBeforeCommit(Kv):
    """Tells the client that it is done when the leader alone has it."""

    def _take_for(self, client: Id, sequence: int, entry: Entry) -> None:
        from perseus.algo.library.raft.messages import Done

        super()._take_for(client, sequence, entry)
        self.send(client, Done(sequence, None))


ALL = [
    VolatileVote,
    VolatileTerm,
    CommitsOldTerms,
    VotesForAnyLog,
    VotesTwice,
    SmallMajority,
    AcceptsGaps,
    KeepsWhatDiffers,
    CutsOnEachAppend,
    ForgetsSessions,
    SnapshotsForgetSessions,
    ReadsAtOnce,
    InstallsOldSnapshots,
    AnswersBeforeCommit,
]
