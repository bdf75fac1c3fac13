"""A map of keys to values that behaves as one copy: linearizable reads, writes, compare-and-set."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

from perseus.algo import Id, View, at_end, sometimes
from perseus.algo.checkers import linearizability
from perseus.algo.history import UNKNOWN, Operation, merged
from perseus.algo.workloads.caller import KEY_MISSING, PRECONDITION_FAILED, Caller, Error

__all__ = [
    "Cas",
    "CasOk",
    "Error",
    "KvClient",
    "Read",
    "ReadOk",
    "Write",
    "WriteOk",
]


@dataclass(frozen=True, slots=True)
class Read:
    """What is the value? Error 20 when there is none."""

    key: Any


@dataclass(frozen=True, slots=True)
class ReadOk:
    """It is this."""

    value: Any


@dataclass(frozen=True, slots=True)
class Write:
    """Sets the value."""

    key: Any
    value: Any


@dataclass(frozen=True, slots=True)
class WriteOk:
    """It is set."""


@dataclass(frozen=True, slots=True)
class Cas:
    """Error 22 when the value is not ``from_``, which is called ``from`` under Maelstrom."""

    key: Any
    from_: Any
    to: Any


@dataclass(frozen=True, slots=True)
class CasOk:
    """It was that, and is set."""


# Errors that tell of the state, and so are answers.
TELLING = (KEY_MISSING, PRECONDITION_FAILED)


class KvClient(Caller):
    """Reads, writes and swaps a few keys, after a while other ones; every other client only reads.

    Who only reads stays at a node as long as that answers at once. So when most cannot, because
    nobody leads them, it gets to one that needs nobody's leave: one that led, say, and has not
    heard that others have begun without it. No value is written twice: each read tells of which
    write it is.
    """

    clients = 6
    pause_s = (0.0, 0.2)
    keys = 2
    keys_last_s = 10.0
    # The patience of who only reads. What a read might have found is no puzzle for the judge.
    at_once_s = 0.4
    answers: ClassVar = {Read: ReadOk, Write: WriteOk, Cas: CasOk}

    def start(self) -> None:
        super().start()
        self.only_reads = self.number % 2 == 1
        if self.only_reads:
            self.patience_s = self.at_once_s
        self.node = self.any_node()
        self.written = 0
        # By key, the value that was there last for all that it knows.
        self.seen: dict[int, Any] = {}

    def draw(self) -> tuple[Id, Any]:
        key = int(self.now / self.keys_last_s) * self.keys + self.random.below(self.keys)
        if not self.only_reads:
            return self.any_node(), self._draw_one(key)
        if self.history and not is_answered(self.history[-1]):
            self.node = self.any_node()
        return self.node, Read(key)

    def _draw_one(self, key: int) -> Any:
        what = self.random.below(3)
        if what == 0:
            return Read(key)
        self.written += 1
        value = self.written * len(self.everyone) + self.number
        return Write(key, value) if what == 1 else Cas(key, self.seen.get(key, 0), value)

    def learn(self, node: Id, operation: Operation) -> None:
        what, answer = operation.what, operation.result
        if isinstance(answer, ReadOk):
            self.seen[what.key] = answer.value
        elif isinstance(answer, WriteOk):
            self.seen[what.key] = what.value
        elif isinstance(answer, CasOk):
            self.seen[what.key] = what.to


def is_answered(operation: Operation) -> bool:
    """It was told something of the state."""
    result = operation.result
    return operation.is_over and not (isinstance(result, Error) and result.code not in TELLING)


class Model:
    """One key, as one copy; None where it has no value."""

    def begin(self) -> Hashable:
        return None

    def step(self, state: Any, operation: Any, result: Any) -> tuple[bool, Hashable]:
        known = result is not UNKNOWN
        missing = isinstance(result, Error) and result.code == KEY_MISSING
        if isinstance(operation, Read):
            return not known or (state is None if missing else _value(result) == state), state
        if isinstance(operation, Write):
            return True, operation.value
        swaps = state is not None and state == operation.from_
        if not known:
            return True, operation.to if swaps else state
        if isinstance(result, Error):
            return state is None if missing else not swaps, state
        return swaps, operation.to


def _value(result: Any) -> Any:
    return result.value if isinstance(result, ReadOk) else None


def judged(history: list[Operation]) -> list[Operation]:
    """Without what is known not to have happened, and reads that were not answered."""
    return [
        operation
        for operation in history
        if is_answered(operation) or not (operation.is_over or isinstance(operation.what, Read))
    ]


@at_end(KvClient)
def history_is_linearizable(view: View[KvClient]) -> None:
    """One copy could have given all these answers, each between its question and its end."""
    history = judged(merged((client.history for client in view.processes), view.began_s))
    verdict = linearizability.check(history, Model(), key=lambda what: what.key)
    assert verdict.is_linearizable is not False, str(verdict)


@sometimes(KvClient)
def a_swap_succeeds(view: View[KvClient]) -> bool:
    """Clients see what others wrote."""
    history = view.changed.history
    return bool(history) and isinstance(history[-1].result, CasOk)
