"""What the members of any atomic commit have in common, and what must hold of it."""

from typing import Any

from perseus.algo import Id, Process, View, always, at_end, durable, on, sometimes
from perseus.algo.library.commit.messages import Begin, CommitClient, Outcome, Prepare, State

ENDS = (State.COMMITTED, State.ABORTED)


class Member(Process):
    """One process: a participant of every transaction, and the coordinator of some."""

    client = CommitClient
    clients = 2

    # The coordinator's patience with votes.
    votes_within_s: float
    # The share of transactions that this process votes against.
    refusal = 0.1

    states: dict[str, State] = durable({})
    # Of a transaction that this process is in doubt about: who coordinates it.
    in_doubt: dict[str, Id] = durable({})

    def start(self) -> None:
        # As coordinator, of a transaction that is voted on: who voted yes.
        self.votes: dict[str, set[Id]] = {}
        self.waiting: dict[str, Id] = {}
        # Transactions that ended in the last step; after a crash, all of them.
        self.ended = tuple(name for name, state in self.states.items() if state in ENDS)

    # As coordinator, the first phase.

    @on(Begin)
    def begin(self, sender: Id, message: Begin) -> None:
        name = message.transaction
        state = self.states.get(name)
        if state in ENDS:
            self.send(sender, Outcome(name, state))
            return
        self.waiting[name] = sender
        if state is None and name not in self.votes:
            self.votes[name] = set()
            self._send_all(Prepare(name))
            self.after(self.votes_within_s, self._votes_are_due, name)

    def _votes_are_due(self, name: str) -> None:
        if name in self.votes:
            self._decide(name, State.ABORTED)

    def _decide(self, name: str, outcome: State) -> None:
        """Ends a transaction for all."""
        raise AssertionError("a subclass knows")

    # As participant.

    def _vote(self, name: str, coordinator: Id) -> bool:
        """Votes once; who votes yes is in doubt from then on."""
        if name not in self.states:
            if self.random.random() < self.refusal:
                self._end(name, State.ABORTED)
            else:
                self.states[name] = State.PREPARED
                self.in_doubt[name] = coordinator
        return self.states[name] is not State.ABORTED

    def _end(self, name: str, outcome: State) -> None:
        if self.states.get(name) is not outcome:
            self.states[name] = outcome
            self.in_doubt.pop(name, None)
            self.ended = (name,)
        if name in self.waiting:
            self.send(self.waiting.pop(name), Outcome(name, outcome))

    def _send_all(self, message: Any) -> None:
        for process in self.everyone:
            self.send(process, message)


def _newly_ended(view: View[Member]) -> tuple[str, ...]:
    """What ended since this process was looked at last."""
    process = view.changed
    if view.ghost.get(process.id) is process.ended:
        return ()
    view.ghost[process.id] = process.ended
    return process.ended


@always(Member)
def outcomes_agree(view: View[Member]) -> None:
    """No process commits what another aborts."""
    for name in _newly_ended(view):
        mine = view.changed.states[name]
        for process in view.processes:
            theirs = process.states.get(name)
            said = f"{name}: {mine} at {view.changed.id}, {theirs} at {process.id}"
            assert {mine, theirs} != set(ENDS), said


@always(Member)
def all_voted_for_what_is_committed(view: View[Member]) -> bool:
    """A commit needs the vote of every process."""
    return all(
        name in process.states
        for name in _newly_ended(view)
        if view.changed.states[name] is State.COMMITTED
        for process in view.processes
    )


@at_end(Member)
def all_outcomes_agree(view: View[Member]) -> None:
    """Nor does one that was down for a while."""
    ended: dict[str, State] = {}
    for process in view.processes:
        for name, state in process.states.items():
            if state in ENDS:
                assert ended.setdefault(name, state) is state, f"{process.id} {state} {name}"


@sometimes(Member)
def a_transaction_commits(view: View[Member]) -> bool:
    """Everybody is for it."""
    process = view.changed
    return any(process.states[name] is State.COMMITTED for name in process.ended)
