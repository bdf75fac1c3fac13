"""A map from keys to values on Raft, and clients that try it: linearizable, exactly once."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from perseus.algo import Id, Process, Timer, View, at_end, on, sometimes
from perseus.algo.checkers import linearizability
from perseus.algo.history import UNKNOWN, Operation, merged
from perseus.algo.library.raft import Done, NotLeader, Propose, Query, Raft


@dataclass(frozen=True, slots=True)
class Put:
    """Sets a key; gives None."""

    key: str
    value: int


@dataclass(frozen=True, slots=True)
class Swap:
    """Sets a key to ``new`` if it is ``old``; gives whether it was."""

    key: str
    old: int | None
    new: int


@dataclass(frozen=True, slots=True)
class Get:
    """The value of a key, None where there is none. A query, not a command."""

    key: str


def do(state: dict[str, int], what: Any) -> Any:
    """Does one of these to a map; its result."""
    if isinstance(what, Get):
        return state.get(what.key)
    if isinstance(what, Put):
        state[what.key] = what.value
        return None
    is_old = state.get(what.key) == what.old
    if is_old:
        state[what.key] = what.new
    return is_old


class RegisterModel:
    """One key, as one copy."""

    def begin(self) -> Hashable:
        return None

    def step(self, state: Any, operation: Any, result: Any) -> tuple[bool, Hashable]:
        known = result is not UNKNOWN
        if isinstance(operation, Get):
            return not known or result == state, state
        if isinstance(operation, Put):
            return True, operation.value
        swapped = state == operation.old
        return not known or result == swapped, operation.new if swapped else state


class KvClient(Process):
    """Does one random thing after the other, and keeps the history of it."""

    servers = "n"
    keys = ("x", "y")
    patience_s = 1.0
    pause_s = (0.0, 1.0)

    def start(self) -> None:
        self.history: list[Operation] = []
        self.sequence = 0
        self.target = self.group(self.servers)[0]
        self.after(self.pause_s, self._invoke)

    def _invoke(self) -> None:
        self.sequence += 1
        key = self.keys[self.random.below(len(self.keys))]
        what: Any = (Get(key), Put(key, self._value()), Swap(key, self._value(), self._value()))[
            self.random.below(3)
        ]
        self.history.append(Operation(self.id, what, self.now))
        self._ask()

    def _value(self) -> int:
        return self.random.below(5)

    def _ask(self) -> None:
        what = self.history[-1].what
        is_query = isinstance(what, Get)
        message = Query(self.sequence, what) if is_query else Propose(self.sequence, what)
        self.send(self.target, message)
        self.impatience: Timer = self.after(self.patience_s, self._try_another, None)

    def _try_another(self, leader: Id | None) -> None:
        servers = self.group(self.servers)
        self.impatience.cancel()
        self.target = leader or servers[self.random.below(len(servers))]
        self._ask()

    @on(NotLeader)
    def not_leader(self, sender: Id, message: NotLeader) -> None:
        if message.sequence == self.sequence and not self.history[-1].is_over:
            self.impatience.cancel()
            self.impatience = self.after((0.01, 0.1), self._try_another, message.leader)

    @on(Done)
    def done(self, sender: Id, message: Done) -> None:
        if message.sequence == self.sequence and not self.history[-1].is_over:
            self.impatience.cancel()
            self.history[-1].end(self.now, message.result)
            self.after(self.pause_s, self._invoke)


class Kv(Raft):
    """The servers."""

    client = KvClient
    clients = 3

    def restore(self, saved: Any) -> None:
        self.state = dict(saved or ())

    def save(self) -> Any:
        return tuple(sorted(self.state.items()))

    def apply(self, command: Any) -> Any:
        return do(self.state, command)

    def answer(self, query: Any) -> Any:
        return do(self.state, query)


@sometimes(Kv)
def a_log_is_cut(view: View[Kv]) -> bool:
    """A snapshot takes the place of entries: only what clients bring makes a log so long."""
    return view.changed.base > 0


@at_end(KvClient)
def history_is_linearizable(view: View[KvClient]) -> None:
    """One copy could have given all these answers."""
    history = merged((client.history for client in view.processes), view.began_s)
    verdict = linearizability.check(history, RegisterModel(), key=lambda what: what.key)
    assert verdict.is_linearizable is not False, str(verdict)


@sometimes(KvClient)
def a_swap_succeeds(view: View[KvClient]) -> bool:
    """Clients get through, and see what others wrote."""
    history = view.changed.history
    return bool(history) and isinstance(history[-1].what, Swap) and history[-1].result is True
