"""One server of Raft; numbers in parentheses are chapters of Ongaro's dissertation."""

from typing import Any

from perseus.algo import Id, Process, Timer, durable, on
from perseus.algo.library.raft.messages import (
    Append,
    Appended,
    ChangeServers,
    Done,
    Entry,
    Install,
    Kept,
    NotLeader,
    Propose,
    Query,
    Role,
    Snapshot,
    Vote,
    Voted,
)

# Entries that one Append carries at most.
BATCH_MAXIMUM = 64
# Clients whose last result is remembered; the one that was silent longest is forgotten first.
SESSIONS_MAXIMUM = 1000


class Raft(Process):
    """One server."""

    heartbeat_s = 0.25
    election_s = (1.0, 2.0)
    # Entries after which the log is cut; 0 keeps it whole.
    snapshot_after = 200

    term: int = durable(0)
    voted_for: Id | None = durable(None)
    # Entries after the snapshot: the first stands at index snapshot.index + 1.
    log: list[Entry] = durable([])
    snapshot: Snapshot | None = durable(None)

    # What a subclass says.

    def restore(self, saved: Any) -> None:
        """Sets the state to what ``save`` gave, or to the first state for None."""
        self.state: Any = list(saved or ())

    def save(self) -> Any:
        """The state as an immutable value."""
        return tuple(self.state)

    def apply(self, command: Any) -> Any:
        """Changes the state by a command; its result."""
        self.state.append(command)
        return len(self.state)

    def answer(self, query: Any) -> Any:
        """What a query finds; it changes nothing."""
        return tuple(self.state)

    # Birth and rebirth.

    def start(self) -> None:
        if self.snapshot is None:
            self.snapshot = Snapshot(0, 0, None, self.everyone)
        # The last index that only the snapshot holds.
        self.base = self.snapshot.index
        self.role = Role.FOLLOWER
        self.leader: Id | None = None
        self._heard_s = float("-inf")
        self.commit = self.applied = self.snapshot.index
        self._take_up(self.snapshot)
        self.servers = self._servers_at(self.last_index)
        self.votes: set[Id] = set()
        self.is_pre = False
        self.round = 0
        self._clock: Timer = self.after(self.election_s, self._election_due)

    # The log, counted from 1.

    @property
    def last_index(self) -> int:
        return self.base + len(self.log)

    def _keep(self, snapshot: Snapshot, rest: list[Entry]) -> None:
        """The snapshot takes the place of what comes before the rest of the log."""
        self.snapshot = snapshot
        self.log = rest
        self.base = snapshot.index

    def term_at(self, index: int) -> int:
        """The term of an entry, of the snapshot's end, or -1 where nothing is known."""
        base = self.base
        if index == base:
            return self.snapshot.term if self.snapshot is not None else 0
        if base < index <= base + len(self.log):
            return self.log[index - base - 1].term
        return -1

    def _servers_at(self, index: int) -> tuple[Id, ...]:
        """The newest configuration in the log counts, committed or not (4.1)."""
        assert self.snapshot is not None
        for entry in reversed(self.log[: max(0, index - self.base)]):
            if entry.kind == "servers":
                found: tuple[Id, ...] = entry.command
                return found
        return self.snapshot.servers

    # Terms.

    def _see(self, term: int) -> None:
        """A higher term makes anybody a follower in it."""
        if term > self.term:
            self.term = term
            self.voted_for = None
            self._follow(None)

    def _follow(self, leader: Id | None) -> None:
        if self.role is Role.LEADER:
            self._give_up_leading()
        self.role = Role.FOLLOWER
        self.leader = leader
        self._wait_for_leader()

    def _wait_for_leader(self) -> None:
        self._clock.cancel()
        self._clock = self.after(self.election_s, self._election_due)

    # Elections.

    def _election_due(self) -> None:
        self._clock = self.after(self.election_s, self._election_due)
        if self.id in self.servers:
            self._campaign(is_pre=True)

    def _campaign(self, is_pre: bool) -> None:
        self.role = Role.CANDIDATE
        self.leader = None
        self.is_pre = is_pre
        self.votes = {self.id}
        if not is_pre:
            self.term += 1
            self.voted_for = self.id
        last = self.last_index
        ask = Vote(self.term + is_pre, last, self.term_at(last), is_pre)
        for server in self.servers:
            if server != self.id:
                self.send(server, ask)
        self._count_votes()

    @on(Vote)
    def vote(self, sender: Id, message: Vote) -> None:
        """Grants if the candidate's log is as good, once a term, and not under a live leader."""
        if message.is_pre:
            is_led = self.role is Role.LEADER or self.now < self._heard_s + self.election_s[0]
            grant = message.term > self.term and not is_led and self._is_as_good(message)
            self.send(sender, Voted(message.term if grant else self.term, grant, True))
            return
        self._see(message.term)
        grant = (
            message.term == self.term
            and self.voted_for in (None, sender)
            and self._is_as_good(message)
        )
        if grant:
            self.voted_for = sender
            self._wait_for_leader()
        self.send(sender, Voted(self.term, grant, False))

    def _is_as_good(self, message: Vote) -> bool:
        last = self.last_index
        return (message.last_term, message.last_index) >= (self.term_at(last), last)

    @on(Voted)
    def voted(self, sender: Id, message: Voted) -> None:
        if not message.granted:
            self._see(message.term)
            return
        wanted = self.term + self.is_pre
        if self.role is not Role.CANDIDATE or message.is_pre != self.is_pre:
            return
        if message.term == wanted and sender in self.servers:
            self.votes.add(sender)
            self._count_votes()

    def _count_votes(self) -> None:
        if len(self.votes) * 2 <= len(self.servers):
            return
        if self.is_pre:
            self._campaign(is_pre=False)
        else:
            self._lead()

    # Leading.

    def _lead(self) -> None:
        self.role = Role.LEADER
        self.leader = self.id
        self._clock.cancel()
        last = self.last_index
        self.next = dict.fromkeys(self.servers, last + 1)
        self.match = dict.fromkeys(self.servers, 0)
        # By server, the last round of heartbeats it answered.
        self.heard = dict.fromkeys(self.servers, 0)
        self.waiting: dict[int, tuple[Id, int]] = {}
        # (index and round to wait for, who asked, sequence, query).
        self.reads: list[tuple[int, int, Id, int, Any]] = []
        # An entry of its own term commits what earlier leaders left (5.4.2, 6.4).
        self._take(Entry(self.term, "nothing"))
        self._quorum_s = self.now
        self._beat()

    def _give_up_leading(self) -> None:
        for client, sequence in self.waiting.values():
            self.send(client, NotLeader(sequence, None))
        for _, _, client, sequence, _ in self.reads:
            self.send(client, NotLeader(sequence, None))
        self.waiting, self.reads = {}, []

    def _beat(self) -> None:
        """One round of heartbeats; a leader that hears no majority stops leading."""
        if self.now > self._quorum_s + self.election_s[1]:
            self._follow(None)
            return
        self.round += 1
        self.heard[self.id] = self.round
        self._clock = self.after(self.heartbeat_s, self._beat)
        for server in self.servers:
            if server != self.id:
                self._send_entries(server)

    def _send_entries(self, server: Id) -> None:
        first = self.next.setdefault(server, self.last_index + 1)
        base = self.base
        if first <= base:
            assert self.snapshot is not None
            self.send(server, Install(self.term, self.snapshot, self.round))
            return
        begin = first - base - 1
        entries = tuple(self.log[begin : begin + BATCH_MAXIMUM])
        prev_term = self.term_at(first - 1)
        self.send(server, Append(self.term, first - 1, prev_term, entries, self.commit, self.round))

    def _take(self, entry: Entry) -> int:
        """A new entry at the end of the leader's log; its index."""
        self.log.append(entry)
        index = self.last_index
        if entry.kind == "servers":
            self.servers = entry.command
        if self.servers == (self.id,):
            # Nobody's answer comes after the disk's: its own word has to.
            self.send(self.id, Kept(self.term, index))
        else:
            self.match[self.id] = index
            self._advance_commit()
        return index

    @on(Kept)
    def kept(self, sender: Id, message: Kept) -> None:
        """What was sent after a step leaves when the step is durable, this too."""
        if self.role is Role.LEADER and message.term == self.term:
            self.match[self.id] = max(message.index, self.match[self.id])
            self._advance_commit()

    @on(Appended)
    def appended(self, sender: Id, message: Appended) -> None:
        self._see(message.term)
        if self.role is not Role.LEADER or message.term != self.term:
            return
        if message.round > self.heard.get(sender, 0):
            self.heard[sender] = message.round
            self._answer_reads()
            if self._agreed(self.heard) == self.round:
                self._quorum_s = self.now
        if message.success:
            if message.index > self.match.get(sender, 0):
                self.match[sender] = message.index
                self._advance_commit()
            self.next[sender] = max(self.next.get(sender, 1), message.index + 1)
            if self.next[sender] <= self.last_index and self.role is Role.LEADER:
                self._send_entries(sender)
        elif message.index < self.next.get(sender, 1):
            self.next[sender] = max(message.index, self.match.get(sender, 0) + 1)
            self._send_entries(sender)

    def _agreed(self, numbers: dict[Id, int]) -> int:
        """The highest number that a majority of the servers has reached."""
        ranked = sorted([numbers.get(server, 0) for server in self.servers])
        return ranked[(len(ranked) - 1) // 2]

    def _advance_commit(self) -> None:
        agreed = self._agreed(self.match)
        # Only entries of its own term are committed by counting (5.4.2).
        if agreed > self.commit and self.term_at(agreed) == self.term:
            self.commit = agreed
            self._apply_committed()
            self._answer_reads()

    # Following.

    @on(Append)
    def append(self, sender: Id, message: Append) -> None:
        if not self._obey(sender, message.term, message.round):
            return
        first = message.prev_index + 1
        base = self.base
        if message.prev_index < base:
            # What the snapshot holds is committed, so it agrees.
            entries = message.entries[base - message.prev_index :]
            first = base + 1
        elif self.term_at(message.prev_index) != message.prev_term:
            again = min(message.prev_index, self.last_index + 1)
            self.send(sender, Appended(self.term, False, self._conflict(again), message.round))
            return
        else:
            entries = message.entries
        self._store(first, entries)
        end = message.prev_index + len(message.entries)
        if min(message.commit, end) > self.commit:
            self.commit = min(message.commit, end)
            self._apply_committed()
        self.send(sender, Appended(self.term, True, max(end, base), message.round))

    def _obey(self, leader: Id, term: int, round: int) -> bool:
        self._see(term)
        if term < self.term:
            self.send(leader, Appended(self.term, False, 0, round))
            return False
        if self.role is not Role.FOLLOWER or self.leader != leader:
            self.role = Role.FOLLOWER
            self.leader = leader
        self._heard_s = self.now
        self._wait_for_leader()
        return True

    def _conflict(self, index: int) -> int:
        """The first index of the term at ``index``: that term's entries all go at once."""
        term = self.term_at(index)
        while term >= 0 and index - 1 > self.base and self.term_at(index - 1) == term:
            index -= 1
        return max(index, self.commit + 1)

    def _store(self, first: int, entries: tuple[Entry, ...]) -> None:
        """Keeps what agrees, and cuts the log only where an entry differs."""
        for offset, entry in enumerate(entries):
            place = first + offset - self.base - 1
            if place < len(self.log) and self.log[place].term == entry.term:
                continue
            cut = self.log[place:]
            del self.log[place:]
            self.log.extend(entries[offset:])
            if any(each.kind == "servers" for each in (*cut, *entries[offset:])):
                self.servers = self._servers_at(self.last_index)
            return

    @on(Install)
    def install(self, sender: Id, message: Install) -> None:
        if not self._obey(sender, message.term, message.round):
            return
        new = message.snapshot
        if new.index > self.commit:
            keeps = self.term_at(new.index) == new.term
            rest = self.log[new.index - self.base :] if keeps else []
            self._keep(new, list(rest))
            self.commit = self.applied = new.index
            self._take_up(new)
            self.servers = self._servers_at(self.last_index)
        self.send(sender, Appended(self.term, True, max(new.index, self.base), message.round))

    # The state machine.

    def _take_up(self, snapshot: Snapshot) -> None:
        self.restore(snapshot.state)
        self.sessions = {client: (n, result) for client, n, result in snapshot.sessions}

    def _apply_committed(self) -> None:
        while self.applied < self.commit:
            self.applied += 1
            entry = self.log[self.applied - self.base - 1]
            result = self._apply_entry(entry)
            if self.role is Role.LEADER and self.applied in self.waiting:
                client, sequence = self.waiting.pop(self.applied)
                self.send(client, Done(sequence, result))
            is_removed = entry.kind == "servers" and self.id not in entry.command
            if is_removed and self.role is Role.LEADER:
                self._follow(None)
        if self.snapshot_after and self.applied - self.base >= self.snapshot_after:
            self._compact()

    def _apply_entry(self, entry: Entry) -> Any:
        if entry.kind != "command":
            return None
        sequence, result = self.sessions.pop(entry.client, (0, None))
        if entry.sequence > sequence:
            result = self.apply(entry.command)
            sequence = entry.sequence
        self.sessions[entry.client] = (sequence, result)
        if len(self.sessions) > SESSIONS_MAXIMUM:
            del self.sessions[next(iter(self.sessions))]
        return result

    def _compact(self) -> None:
        """Puts what is applied into the snapshot and off the log."""
        assert self.snapshot is not None
        sessions = tuple((client, n, result) for client, (n, result) in self.sessions.items())
        servers = self._servers_at(self.applied)
        term = self.term_at(self.applied)
        made = Snapshot(self.applied, term, self.save(), servers, sessions)
        rest = self.log[self.applied - self.base :]
        self._keep(made, list(rest))

    # Clients.

    def _leads(self, sender: Id, sequence: int) -> bool:
        if self.role is not Role.LEADER:
            self.send(sender, NotLeader(sequence, self.leader))
            return False
        return True

    @on(Propose)
    def propose(self, sender: Id, message: Propose) -> None:
        if not self._leads(sender, message.sequence):
            return
        sequence, result = self.sessions.get(sender, (0, None))
        if message.sequence <= sequence:
            if message.sequence == sequence:
                self.send(sender, Done(sequence, result))
            return
        entry = Entry(self.term, "command", message.command, sender, message.sequence)
        self._take_for(sender, message.sequence, entry)

    def _take_for(self, client: Id, sequence: int, entry: Entry) -> None:
        self.waiting[self.last_index + 1] = (client, sequence)
        self._take(entry)
        for server in self.servers:
            # Who is being caught up already gets it with the rest.
            if server != self.id and self.next.get(server, 0) == self.last_index:
                self._send_entries(server)

    @on(ChangeServers)
    def change_servers(self, sender: Id, message: ChangeServers) -> None:
        """One server more or less, when the change before is committed (4.1)."""
        if not self._leads(sender, message.sequence):
            return
        is_quiet = self.term_at(self.commit) == self.term and not any(
            entry.kind == "servers" for entry in self.log[self.commit - self.base :]
        )
        differ = set(message.servers) ^ set(self.servers)
        if not differ and is_quiet:
            # Who asks again has not heard that it is done.
            self.send(sender, Done(message.sequence, None))
            return
        if len(differ) != 1 or not is_quiet:
            self.send(sender, NotLeader(message.sequence, self.id))
            return
        self._take_for(sender, message.sequence, Entry(self.term, "servers", message.servers))

    @on(Query)
    def read(self, sender: Id, message: Query) -> None:
        """Waits for a round of heartbeats begun after the read, and for its own term (6.4)."""
        if not self._leads(sender, message.sequence):
            return
        index = max(self.commit, self.base)
        if self.term_at(self.commit) != self.term:
            index = self.last_index
        self.reads.append((index, self.round + 1, sender, message.sequence, message.query))
        if len(self.reads) == 1:
            self._clock.cancel()
            self._beat()
        self._answer_reads()

    def _answer_reads(self) -> None:
        if not self.reads:
            return
        agreed = self._agreed(self.heard)
        ready = [r for r in self.reads if r[0] <= self.applied and r[1] <= agreed]
        if not ready:
            return
        self.reads = [r for r in self.reads if not (r[0] <= self.applied and r[1] <= agreed)]
        for _, _, client, sequence, query in ready:
            self.send(client, Done(sequence, self.answer(query)))
        if self.reads and all(r[1] > self.round for r in self.reads):
            self._clock.cancel()
            self._beat()
