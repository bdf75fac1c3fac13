"""What the processes of a commit say to each other, and a client who begins transactions."""

from dataclasses import dataclass
from enum import Enum

from perseus.algo import Id, Process, on


class State(Enum):
    """What a process knows of a transaction; of one that is not known it has not voted."""

    PREPARED = "prepared"
    # Of three phases alone: everybody voted yes.
    PRECOMMITTED = "pre-committed"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Begin:
    """A client asks for a transaction."""

    transaction: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """Asks for a vote."""

    transaction: str


@dataclass(frozen=True, slots=True)
class Voted:
    """Who votes yes can no longer abort alone."""

    transaction: str
    yes: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a transaction ended."""

    transaction: str
    outcome: State


@dataclass(frozen=True, slots=True)
class Told:
    """The outcome is on this process's disk."""

    transaction: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Asks how a transaction ended."""

    transaction: str


@dataclass(frozen=True, slots=True)
class PreCommit:
    """Everybody voted yes."""

    transaction: str


@dataclass(frozen=True, slots=True)
class Query:
    """Asks for a process's state; the sender coordinates from now on."""

    transaction: str


@dataclass(frozen=True, slots=True)
class Report:
    """A process's state."""

    transaction: str
    state: State


class CommitClient(Process):
    """Begins one transaction after the other, each at a coordinator of its own."""

    servers = "n"
    patience_s = 3.0
    pause_s = (0.0, 2.0)

    def start(self) -> None:
        self.count = 0
        self.outcomes: dict[str, State] = {}
        self.after(self.pause_s, self._begin)

    def _begin(self) -> None:
        self.count += 1
        self.transaction = f"{self.id}.{self.count}"
        servers = self.group(self.servers)
        self.send(servers[self.random.below(len(servers))], Begin(self.transaction))
        self._next: object = self.after(self.patience_s, self._leave, self.transaction)

    def _leave(self, transaction: str) -> None:
        if transaction == self.transaction and transaction not in self.outcomes:
            self._begin()

    @on(Outcome)
    def ended(self, sender: Id, message: Outcome) -> None:
        is_new = message.transaction not in self.outcomes
        self.outcomes[message.transaction] = message.outcome
        if is_new and message.transaction == self.transaction:
            self.after(self.pause_s, self._begin)
