"""Three-phase commit; see the package."""

from dataclasses import dataclass, field

from perseus.algo import Id, Timer, View, eventually, on, sometimes
from perseus.algo.library.commit.member import ENDS, Member
from perseus.algo.library.commit.messages import (
    Ask,
    Outcome,
    PreCommit,
    Prepare,
    Query,
    Report,
    State,
    Voted,
)


@dataclass(slots=True)
class Termination:
    """What a process that takes over for the coordinator has heard of a transaction."""

    states: dict[Id, State] = field(default_factory=dict)


class ThreePhaseCommit(Member):
    """A member that coordinates, and takes part, in three phases."""

    # A message is sent, on disks and read within this time: the assumption that all rests on.
    hop_s = 2.0
    votes_within_s = 2 * hop_s
    # How long participants wait for who coordinates: a round, a hop, and some time to spare.
    patience_hops = 3.5
    # The next in rank waits so much longer that it hears of the one before.
    rank_hops = 2.5
    recovery_s = 1.0

    def start(self) -> None:
        super().start()
        # By transaction: the timer that runs while its coordinator is trusted.
        self.trust: dict[str, Timer] = {}
        self.terminations: dict[str, Termination] = {}
        # As coordinator, by transaction: who is pre-committed.
        self.precommitted: dict[str, set[Id]] = {}
        # Who crashed takes no part any more in what was under way: it asks how that ended.
        self.is_out_of = frozenset(self.in_doubt)
        # How this process ended a transaction that it took over, for the properties.
        self.took_over: State | None = None
        if self.is_out_of:
            self._recover()

    # The coordinator.

    @on(Voted)
    def voted(self, sender: Id, message: Voted) -> None:
        name = message.transaction
        votes = self.votes.get(name)
        if votes is None:
            return
        votes.add(sender)
        if not message.yes:
            self._decide(name, State.ABORTED)
        elif len(votes) == len(self.everyone):
            del self.votes[name]
            self._precommit_all(name)

    def _precommit_all(self, name: str) -> None:
        """The phase that two-phase commit lacks: all learn that all are for it."""
        self.precommitted[name] = set()
        self._send_all(PreCommit(name))
        self.after(2 * self.hop_s, self._commit, name)

    def _commit(self, name: str) -> None:
        """All who live are pre-committed, so nobody who lives can abort."""
        if self.precommitted.pop(name, None) is not None:
            self._decide(name, State.COMMITTED)

    def _decide(self, name: str, outcome: State) -> None:
        self.votes.pop(name, None)
        self._finish(name, outcome)
        self.broadcast(Outcome(name, self.states[name]))

    def _finish(self, name: str, outcome: State) -> None:
        if self.states.get(name) not in ENDS:
            self._end(name, outcome)
        if name in self.trust:
            self.trust.pop(name).cancel()

    # The participant.

    @on(Prepare)
    def prepare(self, sender: Id, message: Prepare) -> None:
        name = message.transaction
        if name not in self.is_out_of:
            yes = self._vote(name, sender)
            self.send(sender, Voted(name, yes))
            self._trust(name, sender)

    @on(PreCommit)
    def precommit(self, sender: Id, message: PreCommit) -> None:
        name = message.transaction
        if self.in_doubt.get(name) == sender and name not in self.is_out_of:
            self.states[name] = State.PRECOMMITTED
            self.send(sender, Report(name, State.PRECOMMITTED))
            self._trust(name, sender)

    @on(Outcome)
    def learn(self, sender: Id, message: Outcome) -> None:
        self._finish(message.transaction, message.outcome)

    def _trust(self, name: str, coordinator: Id) -> None:
        """Waits for it from now on; the first in rank loses patience first."""
        if name in self.trust:
            self.trust.pop(name).cancel()
        if name in self.in_doubt:
            self.in_doubt[name] = coordinator
            rank = self.everyone.index(self.id)
            hops = self.patience_hops + rank * self.rank_hops
            self.trust[name] = self.after(hops * self.hop_s, self._take_over, name)

    # Termination: the coordinator does not answer, so it has crashed.

    def _take_over(self, name: str) -> None:
        leads = name in self.votes or name in self.precommitted or name in self.terminations
        if name in self.in_doubt and not leads:
            self.in_doubt[name] = self.id
            self.terminations[name] = Termination()
            self._send_all(Query(name))
            self.after(2 * self.hop_s, self._terminate, name)

    @on(Query)
    def query(self, sender: Id, message: Query) -> None:
        """Who has not voted will not any more."""
        name = message.transaction
        if name in self.is_out_of:
            return
        if name not in self.states:
            self._end(name, State.ABORTED)
        self._trust(name, sender)
        self.send(sender, Report(name, self.states[name]))

    @on(Report)
    def report(self, sender: Id, message: Report) -> None:
        name = message.transaction
        if name in self.terminations:
            self.terminations[name].states[sender] = message.state
        precommitted = self.precommitted.get(name)
        if precommitted is not None and message.state is State.PRECOMMITTED:
            precommitted.add(sender)
            if len(precommitted) == len(self.everyone):
                self._commit(name)

    def _terminate(self, name: str) -> None:
        """Skeen's rule: by what those who live know, what can the others have done?"""
        states = set(self.terminations.pop(name).states.values())
        if self.in_doubt.get(name) != self.id:
            return
        if State.COMMITTED in states:
            self.took_over = State.COMMITTED
            self._decide(name, State.COMMITTED)
        elif State.ABORTED in states or State.PRECOMMITTED not in states:
            self.took_over = State.ABORTED
            self._decide(name, State.ABORTED)
        else:
            self.took_over = State.PRECOMMITTED
            self._precommit_all(name)

    # Recovery.

    def _recover(self) -> None:
        asks = [name for name in self.in_doubt if name in self.is_out_of]
        for name in asks:
            self.broadcast(Ask(name))
        if asks:
            self.after(self.recovery_s, self._recover)

    @on(Ask)
    def ask(self, sender: Id, message: Ask) -> None:
        state = self.states.get(message.transaction)
        if state in ENDS:
            self.send(sender, Outcome(message.transaction, state))


@eventually(ThreePhaseCommit, within_s=60.0)
def nobody_who_stayed_up_is_in_doubt(view: View[ThreePhaseCommit]) -> bool:
    """It does not block: who has not crashed in a transaction gets to its end."""
    process = view.changed
    settled: set[Id] = view.ghost.setdefault("settled", set())
    if all(name in process.is_out_of for name in process.in_doubt):
        settled.add(process.id)
    return all(each.id in settled for each in view.processes)


@sometimes(ThreePhaseCommit)
def one_takes_over_and_commits(view: View[ThreePhaseCommit]) -> bool:
    """The coordinator is down, and somebody who lives is pre-committed."""
    return view.changed.took_over is State.PRECOMMITTED


@sometimes(ThreePhaseCommit)
def one_takes_over_and_aborts(view: View[ThreePhaseCommit]) -> bool:
    """The coordinator is down, and nobody who lives is pre-committed."""
    return view.changed.took_over is State.ABORTED
