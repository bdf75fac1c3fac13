"""Multi-Paxos and the quorum register with one mistake each, for the simulator to find."""

from perseus.algo import Id, on
from perseus.algo.library.kv import Get, Put
from perseus.algo.library.paxos import NOTHING, Accept, Ballot, Command, Paxos
from perseus.algo.library.paxos import Vote as PaxosVote
from perseus.algo.library.register import Register, RegisterClient, Store, Tag, Versioned


class VolatilePromise(Paxos):
    """Forgets in a crash what it promised."""

    def start(self) -> None:
        self.promised = Ballot(0, "")
        super().start()


class VolatileVotes(Paxos):
    """Forgets in a crash what it accepted."""

    def start(self) -> None:
        self.votes = {}
        super().start()


class TakesTheLowestVote(Paxos):
    """Takes over the vote of the lowest ballot, not of the highest."""

    heartbeat_s = 0.2
    election_s = (0.2, 0.5)

    def _highest_votes(self) -> dict[int, PaxosVote]:
        votes = [vote for promise in self.promises.values() for vote in promise.votes]
        votes.sort(key=lambda vote: vote.ballot, reverse=True)
        return {vote.slot: vote for vote in votes}


class AcceptsOldBallots(Paxos):
    """Accepts whatever is proposed, in spite of its promise."""

    def _obey(self, ballot: Ballot) -> bool:
        self._see(ballot)
        return True


class LeavesGaps(Paxos):
    """Takes over what others began, and leaves open what they had not."""

    def _propose(self, command: Command) -> None:
        if command == NOTHING:
            self.next_slot += 1
        else:
            super()._propose(command)


class AcceptsInMemory(Paxos):
    """Says that it accepted, and keeps the vote in memory alone."""

    @on(Accept)
    def accept(self, sender: Id, message: Accept) -> None:
        super().accept(sender, message)
        self._changes.pop(("votes", message.slot), None)


class DoesTwice(Paxos):
    """Proposes again what a client says again, and does it again."""

    def _asked_for(self, command: Command) -> None:
        if self.is_leading:
            self._propose(command)
        else:
            super()._asked_for(command)

    def _perform(self, command: Command) -> None:
        self.results.pop(command.client, None)
        super()._perform(command)


PAXOS = [
    VolatilePromise,
    VolatileVotes,
    TakesTheLowestVote,
    AcceptsOldBallots,
    LeavesGaps,
    AcceptsInMemory,
    DoesTwice,
]


class ReadsOnce(RegisterClient):
    """Gives what it found, and does not store it first."""

    def _store(self, newest: Versioned) -> None:
        if isinstance(self.history[-1].what, Get):
            self.result = newest.value
            self._finish()
        else:
            super()._store(newest)


class ReadsOnceRegister(Register):
    """With clients that read in one phase."""

    client = ReadsOnce


class AsksTooFew(RegisterClient):
    """Takes two answers of five for a majority."""

    def _heard(self, server: Id, answer: Versioned) -> bool:
        self.answers[server] = answer
        return len(self.answers) == 2


class TooFewRegister(Register):
    """With clients that take fewer than a majority."""

    client = AsksTooFew


class WritesBlindly(RegisterClient):
    """Counts its own writes, and does not look at others' tags."""

    def _store(self, newest: Versioned) -> None:
        if isinstance(self.history[-1].what, Put):
            newest = Versioned(Tag(len(self.history), self.id, 0), newest.value)
        super()._store(newest)


class BlindRegister(Register):
    """With clients that write in one phase."""

    client = WritesBlindly


class TagsWithoutWriter(RegisterClient):
    """Makes tags that others make too."""

    def _ask(self, message: Store) -> None:
        if isinstance(message, Store) and message.versioned.tag.writer == self.id:
            tag = Tag(message.versioned.tag.count, "", 0)
            message = Store(message.phase, message.key, Versioned(tag, message.versioned.value))
        super()._ask(message)


class SharedTagsRegister(Register):
    """With clients whose tags are not their own."""

    client = TagsWithoutWriter


class VolatileRegister(Register):
    """Forgets in a crash what it stored."""

    def start(self) -> None:
        self.stored = {}
        super().start()


class StoresTheLast(Register):
    """Stores what comes last, older or not."""

    @on(Store)
    def store(self, sender: Id, message: Store) -> None:
        self.stored[message.key] = message.versioned
        super().store(sender, message)


REGISTER = [
    ReadsOnceRegister,
    TooFewRegister,
    BlindRegister,
    SharedTagsRegister,
    VolatileRegister,
    StoresTheLast,
]
