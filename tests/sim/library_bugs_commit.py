"""Atomic commit with one mistake each, for the simulator to find."""

from perseus.algo import Id, on
from perseus.algo.library.commit import State, ThreePhaseCommit, TwoPhaseCommit
from perseus.algo.library.commit.messages import Ask, Report, Voted


class ForgetsItsVote(TwoPhaseCommit):
    """A participant that forgets in a crash that it voted, and so is free to abort."""

    def start(self) -> None:
        for name in list(self.in_doubt):
            del self.states[name], self.in_doubt[name]
        super().start()


class AbortsInDoubt(TwoPhaseCommit):
    """A participant that waits no longer, and aborts what it voted for."""

    def _remind(self) -> None:
        super()._remind()
        if self.asked > 3:
            for name in list(self.in_doubt):
                self._decide(name, State.ABORTED)


class CommitsByMajority(TwoPhaseCommit):
    """A coordinator that takes a majority's votes for all."""

    @on(Voted)
    def voted(self, sender: Id, message: Voted) -> None:
        super().voted(sender, message)
        if len(self.votes.get(message.transaction, ())) >= self.majority:
            self._decide(message.transaction, State.COMMITTED)


class DecidesInMemory(TwoPhaseCommit):
    """A coordinator that tells its decision before that is on its disk."""

    def _decide(self, name: str, outcome: State) -> None:
        super()._decide(name, outcome)
        if name in self.votes or outcome is State.COMMITTED:
            self._changes.pop(("states", name), None)
            self._changes.pop(("in_doubt", name), None)


class PresumesAbort(TwoPhaseCommit):
    """Answers who asks too early: it aborts what it is collecting votes for elsewhere."""

    @on(Ask)
    def ask(self, sender: Id, message: Ask) -> None:
        if self.states.get(message.transaction) is State.PREPARED and sender != self.id:
            self._decide(message.transaction, State.ABORTED)
        super().ask(sender, message)


class AbortsAlways(ThreePhaseCommit):
    """Who takes over aborts, though others may be pre-committed."""

    @on(Report)
    def report(self, sender: Id, message: Report) -> None:
        if message.transaction in self.terminations:
            message = Report(message.transaction, State.PREPARED)
        super().report(sender, message)


class Impatient(ThreePhaseCommit):
    """Takes what is slow for what is down."""

    hop_s = 0.05


TWO_PHASES = [
    ForgetsItsVote,
    AbortsInDoubt,
    CommitsByMajority,
    DecidesInMemory,
    PresumesAbort,
]
THREE_PHASES = [AbortsAlways, Impatient]
