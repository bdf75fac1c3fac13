"""Multi-Paxos: a log of which a majority chooses each place, and a map that follows it.

From Lamport, "Paxos Made Simple" (2001), and van Renesse and Altinbuken, "Paxos Made
Moderately Complex" (2015). Each process is acceptor, learner and would-be leader at
once; who leads has done phase 1 for all slots to come, and gives each command one
round of phase 2.

Promises: no two processes choose different commands for one slot, whatever the network
and crashes do; a command is done once, and each answer fits one copy of the map
(reads go through the log as well). While a majority is up and hears each other, commands
get through. Assumes that disks keep what was written. The log is kept whole: cutting it
is as in Raft (``library.raft``) and left out here.
"""

from dataclasses import dataclass, field
from typing import Any

from perseus.algo import Id, Process, Timer, View, always, durable, eventually, on, sometimes
from perseus.algo.library.kv import KvClient, do
from perseus.algo.library.raft import Done, NotLeader, Propose, Query

# Commands that one message teaches who lags behind.
BATCH_MAXIMUM = 64


@dataclass(frozen=True, slots=True, order=True)
class Ballot:
    """One leader's try; the higher wins. Every process has ballots of its own."""

    round: int
    leader: Id


@dataclass(frozen=True, slots=True)
class Command:
    """What a client asks for; the same (client, sequence) again has no further effect."""

    client: Id
    sequence: int
    what: Any


# Fills a slot for which no client's command is left.
NOTHING = Command("", 0, None)


@dataclass(frozen=True, slots=True)
class Vote:
    """That an acceptor accepted a command for a slot in a ballot."""

    slot: int
    ballot: Ballot
    command: Command


@dataclass(frozen=True, slots=True)
class Prepare:
    """Phase 1a: asks for a promise, and for what was accepted from the slot ``first`` on."""

    ballot: Ballot
    first: int


@dataclass(frozen=True, slots=True)
class Promise:
    """Phase 1b: nothing of a lower ballot will be accepted; what was chosen and accepted."""

    ballot: Ballot
    first: int
    chosen: tuple[Command, ...]
    votes: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class Accept:
    """Phase 2a."""

    ballot: Ballot
    slot: int
    command: Command


@dataclass(frozen=True, slots=True)
class Accepted:
    """Phase 2b."""

    ballot: Ballot
    slot: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """A higher ballot was promised."""

    ballot: Ballot


@dataclass(frozen=True, slots=True)
class Chosen:
    """These were chosen, from the slot ``first`` on."""

    first: int
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The leader lives, and knows what was chosen for so many slots."""

    ballot: Ballot
    chosen: int


@dataclass(frozen=True, slots=True)
class Learn:
    """Asks what was chosen from the slot ``first`` on."""

    first: int


@dataclass(slots=True)
class Open:
    """A slot for which the leader proposes, and who accepted."""

    command: Command
    accepted: set[Id] = field(default_factory=set)


class Paxos(Process):
    """One process of the group."""

    client = KvClient
    clients = 3

    heartbeat_s = 0.25
    election_s = (1.0, 2.0)

    # As acceptor. What is chosen needs no votes any more, and its votes are dropped.
    promised: Ballot = durable(Ballot(0, ""))
    votes: dict[int, Vote] = durable({})
    # As learner: the slots from 0 on without a gap.
    chosen: list[Command] = durable([])

    def start(self) -> None:
        self.ballot = Ballot(0, "")
        self.is_leading = False
        self.leader: Id | None = None
        self.promises: dict[Id, Promise] = {}
        self.open: dict[int, Open] = {}
        # Chosen for slots behind a gap.
        self.ahead: dict[int, Command] = {}
        # The acceptance of the last step, for the properties.
        self.last_vote: Vote | None = None
        self.state: dict[str, int] = {}
        self.results: dict[Id, tuple[int, Any]] = {}
        for command in self.chosen:
            self._perform(command)
        self._clock: Timer = self.after(self.election_s, self._campaign)

    # Phase 1: the whole log at once.

    def _campaign(self) -> None:
        """A ballot above all seen. It is promised at once, so that no crash brings it twice."""
        self.ballot = self.promised = Ballot(self.promised.round + 1, self.id)
        self.is_leading = False
        self.leader = None
        self.promises = {}
        self._clock = self.after(self.election_s, self._campaign)
        self._send_all(Prepare(self.ballot, len(self.chosen)))

    @on(Prepare)
    def prepare(self, sender: Id, message: Prepare) -> None:
        if not self._obey(message.ballot):
            return
        votes = [vote for slot, vote in self.votes.items() if slot >= message.first]
        chosen = tuple(self.chosen[message.first :])
        self.send(sender, Promise(message.ballot, message.first, chosen, tuple(votes)))

    @on(Promise)
    def promise(self, sender: Id, message: Promise) -> None:
        if not message.ballot == self.ballot == self.promised or self.is_leading:
            return
        self._learn(message.first, message.chosen)
        self.promises[sender] = message
        if len(self.promises) >= self.majority:
            self._lead()

    def _lead(self) -> None:
        """Proposes again what may have been chosen: the vote of the highest ballot."""
        self.is_leading = True
        self.leader = self.id
        self._clock.cancel()
        self.open = {}
        highest = self._highest_votes()
        self.next_slot = len(self.chosen)
        for slot in range(len(self.chosen), max(highest, default=-1) + 1):
            self._propose(highest[slot].command if slot in highest else NOTHING)
        self._beat()

    def _highest_votes(self) -> dict[int, Vote]:
        highest: dict[int, Vote] = {}
        for promise in self.promises.values():
            for vote in promise.votes:
                known = highest.get(vote.slot)
                if known is None or known.ballot < vote.ballot:
                    highest[vote.slot] = vote
        return highest

    # Phase 2: one slot.

    def _propose(self, command: Command) -> None:
        slot = self.next_slot
        self.next_slot += 1
        self.open[slot] = Open(command)
        self._send_all(Accept(self.ballot, slot, command))

    @on(Accept)
    def accept(self, sender: Id, message: Accept) -> None:
        if not self._obey(message.ballot):
            return
        self.leader = sender
        if message.slot < len(self.chosen):
            self.send(sender, Chosen(message.slot, (self.chosen[message.slot],)))
            return
        self.last_vote = Vote(message.slot, message.ballot, message.command)
        self.votes[message.slot] = self.last_vote
        self.send(sender, Accepted(message.ballot, message.slot))

    @on(Accepted)
    def accepted(self, sender: Id, message: Accepted) -> None:
        place = self.open.get(message.slot)
        if message.ballot != self.ballot or not self.is_leading or place is None:
            return
        place.accepted.add(sender)
        if len(place.accepted) >= self.majority:
            self.broadcast(Chosen(message.slot, (place.command,)))
            self._learn(message.slot, (place.command,))

    # Ballots.

    def _obey(self, ballot: Ballot) -> bool:
        """Promises the ballot, unless a higher one was promised."""
        if ballot < self.promised:
            self.send(ballot.leader, Refuse(self.promised))
            return False
        self._see(ballot)
        if ballot.leader != self.id:
            self._clock.cancel()
            self._clock = self.after(self.election_s, self._campaign)
        return True

    @on(Refuse)
    def refused(self, sender: Id, message: Refuse) -> None:
        self._see(message.ballot)

    def _see(self, ballot: Ballot) -> None:
        """A higher ballot ends one's own."""
        if ballot <= self.promised:
            return
        self.promised = ballot
        self.leader = None
        if self.is_leading:
            self.is_leading = False
            self._clock.cancel()
            self._clock = self.after(self.election_s, self._campaign)

    # Leading.

    def _beat(self) -> None:
        """Says that the leader lives, and says again what was not heard."""
        self._clock = self.after(self.heartbeat_s, self._beat)
        self.broadcast(Heartbeat(self.ballot, len(self.chosen)))
        for slot, place in self.open.items():
            for acceptor in self.everyone:
                if acceptor not in place.accepted:
                    self.send(acceptor, Accept(self.ballot, slot, place.command))

    @on(Heartbeat)
    def heartbeat(self, sender: Id, message: Heartbeat) -> None:
        if self._obey(message.ballot):
            self.leader = sender
            if message.chosen > len(self.chosen):
                self.send(sender, Learn(len(self.chosen)))

    @on(Learn)
    def teach(self, sender: Id, message: Learn) -> None:
        end = message.first + BATCH_MAXIMUM
        self.send(sender, Chosen(message.first, tuple(self.chosen[message.first : end])))

    # Learning.

    @on(Chosen)
    def learn(self, sender: Id, message: Chosen) -> None:
        self._learn(message.first, message.commands)

    def _learn(self, first: int, commands: tuple[Command, ...]) -> None:
        for slot, command in enumerate(commands, first):
            if slot >= len(self.chosen):
                self.ahead[slot] = command
            self.open.pop(slot, None)
        while len(self.chosen) in self.ahead:
            self._take(len(self.chosen))

    def _take(self, slot: int) -> None:
        command = self.ahead.pop(slot)
        self.chosen.append(command)
        self.votes.pop(slot, None)
        self._perform(command)
        if self.is_leading and command.client:
            self._answer(command.client)

    def _perform(self, command: Command) -> None:
        """Does a command, but not twice."""
        done, _ = self.results.get(command.client, (0, None))
        if command.sequence > done:
            self.results[command.client] = (command.sequence, do(self.state, command.what))

    def _answer(self, client: Id) -> None:
        self.send(client, Done(*self.results[client]))

    # Clients.

    @on(Propose)
    def asked_to_do(self, sender: Id, message: Propose) -> None:
        self._asked_for(Command(sender, message.sequence, message.command))

    @on(Query)
    def asked_to_read(self, sender: Id, message: Query) -> None:
        self._asked_for(Command(sender, message.sequence, message.query))

    def _asked_for(self, command: Command) -> None:
        client = command.client
        if not self.is_leading:
            self.send(client, NotLeader(command.sequence, self.leader))
        elif command.sequence <= self.results.get(client, (0, None))[0]:
            self._answer(client)
        elif all(place.command != command for place in self.open.values()):
            self._propose(command)

    def _send_all(self, message: Any) -> None:
        for process in self.everyone:
            self.send(process, message)


@always(Paxos)
def one_command_is_chosen_for_a_slot(view: View[Paxos]) -> None:
    """Agreement: what one process learned for a slot is what all learn."""
    process = view.changed
    seen: dict[Any, int] = view.ghost.setdefault("seen", {})
    first: dict[int, Command] = view.ghost.setdefault("first", {})
    life = (process.id, process.restarts)
    for slot in range(seen.get(life, 0), len(process.chosen)):
        command = process.chosen[slot]
        known = first.setdefault(slot, command)
        assert known == command, f"{process.id} has {command} at {slot}, which was {known}"
    seen[life] = len(process.chosen)


@always(Paxos)
def one_command_is_proposed_in_a_ballot(view: View[Paxos]) -> bool:
    """A ballot stands for at most one command in each slot."""
    vote = view.changed.last_vote
    if vote is None:
        return True
    known: Command = view.ghost.setdefault((vote.ballot, vote.slot), vote.command)
    return known == vote.command


@always(Paxos)
def a_process_keeps_its_promise(view: View[Paxos]) -> bool:
    """No acceptor accepts in a lower ballot than it promised in this life."""
    process = view.changed
    life = (process.id, process.restarts)
    before: Ballot = view.ghost.get(life, process.promised)
    view.ghost[life] = process.promised
    return process.promised >= before


@eventually(Paxos, within_s=20.0)
def one_leads_and_all_learn(view: View[Paxos]) -> bool:
    """One process leads, all follow it, and the log grows everywhere."""
    lengths = [len(process.chosen) for process in view.processes]
    first: int = view.ghost.setdefault("first", max(lengths, default=0))
    if min(lengths, default=0) <= first:
        return False
    leaders = {process.id for process in view.processes if process.is_leading}
    return len(leaders) == 1 and leaders == {process.leader for process in view.processes}


@sometimes(Paxos)
def a_second_process_leads(view: View[Paxos]) -> bool:
    """A leader is replaced."""
    process = view.changed
    return process.is_leading and view.ghost.setdefault("first", process.id) != process.id


@sometimes(Paxos)
def a_leader_takes_over_a_proposal(view: View[Paxos]) -> bool:
    """A new leader proposes what an earlier ballot had begun."""
    process = view.changed
    return process.is_leading and any(vote.ballot < process.ballot for vote in _told(process))


def _told(process: Paxos) -> list[Vote]:
    return [vote for promise in process.promises.values() for vote in promise.votes]
