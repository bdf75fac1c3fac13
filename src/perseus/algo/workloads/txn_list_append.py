"""Transactions on lists: each appends to some and reads some, and all of it happens at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from perseus.algo import Id, View, at_end, sometimes
from perseus.algo.checkers import serializability
from perseus.algo.checkers.serializability import Status, Transaction
from perseus.algo.history import Operation, merged
from perseus.algo.workloads.caller import Caller, Error, has_failed, is_done

__all__ = ["Error", "Step", "TransactionClient", "Txn", "TxnOk"]

# ("r", key, None), answered as ("r", key, values); ("append", key, value) is answered as it is.
Step = tuple[str, Any, Any]


@dataclass(frozen=True, slots=True)
class Txn:
    """Steps to be done at once."""

    txn: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class TxnOk:
    """The steps, with what was read."""

    txn: tuple[Step, ...]


class TransactionClient(Caller):
    """Transactions of a few steps on a few keys, after a while other ones."""

    keys = 3
    keys_last_s = 20.0
    steps = 4
    answers: ClassVar = {Txn: TxnOk}

    def start(self) -> None:
        super().start()
        self.appended = 0

    def draw(self) -> tuple[Id, Any]:
        count = 1 + self.random.below(self.steps)
        return self.any_node(), Txn(tuple(self._step() for _ in range(count)))

    def _step(self) -> Step:
        key = int(self.now / self.keys_last_s) * self.keys + self.random.below(self.keys)
        if self.random.below(2):
            return "r", key, None
        self.appended += 1
        return "append", key, self.appended * len(self.everyone) + self.number


def transactions(history: Iterable[Operation]) -> list[Transaction]:
    """A history as the judge of serializability takes it."""
    return [_transaction(number, operation) for number, operation in enumerate(history)]


def _transaction(number: int, operation: Operation) -> Transaction:
    status = Status.UNKNOWN
    steps = operation.what.txn
    if has_failed(operation):
        status = Status.ABORTED
    elif is_done(operation):
        status, steps = Status.COMMITTED, operation.result.txn
    made: list[serializability.Append | serializability.Read] = []
    for what, key, value in steps:
        if what == "append":
            made.append(serializability.Append(str(key), value))
        else:
            values = tuple(value or ()) if is_done(operation) else None
            made.append(serializability.Read(str(key), values))
    return Transaction(f"{operation.client}#{number}", tuple(made), status)


@at_end(TransactionClient)
def transactions_are_serializable(view: View[TransactionClient]) -> None:
    """They could have run one after the other; else the anomaly is named."""
    history = merged((client.history for client in view.processes), view.began_s)
    for operation in history:
        if is_done(operation):
            asked = [step[:2] for step in operation.what.txn]
            told = [tuple(step[:2]) for step in operation.result.txn]
            assert asked == told, f"{operation.what} was answered with {operation.result}"
    verdict = serializability.check(transactions(history))
    assert verdict.is_serializable, str(verdict)


@sometimes(TransactionClient)
def a_read_finds_more_than_one_value(view: View[TransactionClient]) -> bool:
    """Lists grow."""
    history = view.changed.history
    if not history or not is_done(history[-1]):
        return False
    return any(what == "r" and len(value or ()) > 1 for what, _, value in history[-1].result.txn)
