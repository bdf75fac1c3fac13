"""Two-phase commit; see the package."""

from perseus.algo import Id, View, durable, eventually, on, sometimes
from perseus.algo.library.commit.member import ENDS, Member
from perseus.algo.library.commit.messages import Ask, Outcome, Prepare, State, Told, Voted


class TwoPhaseCommit(Member):
    """A member that coordinates, and takes part, in two phases."""

    votes_within_s = 2.0
    # The participants' patience with the outcome.
    doubt_s = 1.0

    # As coordinator: who has not said yet that the outcome is on its disk.
    untold: dict[str, tuple[Id, ...]] = durable({})

    def start(self) -> None:
        super().start()
        # How often this process has asked in vain how what it is in doubt about ended.
        self.asked = 0
        self._remind()

    # The coordinator.

    @on(Voted)
    def voted(self, sender: Id, message: Voted) -> None:
        votes = self.votes.get(message.transaction)
        if votes is None:
            return
        votes.add(sender)
        if not message.yes:
            self._decide(message.transaction, State.ABORTED)
        elif len(votes) == len(self.everyone):
            self._decide(message.transaction, State.COMMITTED)

    def _decide(self, name: str, outcome: State) -> None:
        """The commit point is this step's write to the disk."""
        self.votes.pop(name, None)
        self.untold[name] = self.peers
        self._end(name, outcome)
        self.broadcast(Outcome(name, outcome))

    @on(Told)
    def told(self, sender: Id, message: Told) -> None:
        name = message.transaction
        left = tuple(peer for peer in self.untold.get(name, ()) if peer != sender)
        if left:
            self.untold[name] = left
        else:
            self.untold.pop(name, None)

    # The participant.

    @on(Prepare)
    def prepare(self, sender: Id, message: Prepare) -> None:
        yes = self._vote(message.transaction, sender)
        self.send(sender, Voted(message.transaction, yes))

    @on(Outcome)
    def learn(self, sender: Id, message: Outcome) -> None:
        self._end(message.transaction, message.outcome)
        self.send(sender, Told(message.transaction))

    # What was lost is said again, and who is in doubt asks everybody.

    def _remind(self) -> None:
        self.after(self.doubt_s, self._remind)
        for name, untold in self.untold.items():
            for peer in untold:
                self.send(peer, Outcome(name, self.states[name]))
        self.asked = self.asked + 1 if self.in_doubt else 0
        for name in self.in_doubt:
            self._send_all(Ask(name))

    @on(Ask)
    def ask(self, sender: Id, message: Ask) -> None:
        """Cooperative termination. Who has not voted is free to abort; a coordinator that
        knows nothing has crashed before it decided; who is in doubt itself cannot help."""
        name = message.transaction
        has_forgotten = self.in_doubt.get(name) == self.id and name not in self.votes
        if name not in self.states or has_forgotten:
            self._decide(name, State.ABORTED)
        if self.states[name] in ENDS:
            self.send(sender, Outcome(name, self.states[name]))


@eventually(TwoPhaseCommit, within_s=20.0)
def nobody_is_left_in_doubt(view: View[TwoPhaseCommit]) -> bool:
    """When all are up again, all learn how each transaction ended."""
    return not any(process.in_doubt or process.untold for process in view.processes)


@sometimes(TwoPhaseCommit)
def participants_are_blocked(view: View[TwoPhaseCommit]) -> bool:
    """One asks everybody in vain: the coordinator alone knows, and is down."""
    return view.changed.asked > 3
