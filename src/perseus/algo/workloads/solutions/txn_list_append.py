"""Transactions: each is one command of Raft's log, so they do happen one after the other."""

from typing import Any

from perseus.algo import Id, on
from perseus.algo.library.raft import Service
from perseus.algo.workloads.txn_list_append import Step, Txn, TxnOk


class Node(Service):
    """The lists, and nothing else."""

    snapshot_after = 50

    def restore(self, saved: Any) -> None:
        self.state: dict[Any, tuple[Any, ...]] = dict(saved or ())

    def save(self) -> Any:
        return tuple(self.state.items())

    @on(Txn)
    def txn(self, sender: Id, message: Txn) -> None:
        self.submit(message)

    def apply(self, command: Txn) -> Any:
        return TxnOk(tuple(self._do(*step) for step in command.txn))

    def _do(self, what: str, key: Any, value: Any) -> Step:
        values = self.state.get(key, ())
        if what == "r":
            return what, key, values
        self.state[key] = (*values, value)
        return what, key, value
