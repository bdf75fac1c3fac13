"""A linearizable map: Raft's log says in which order all happens, reads too."""

from typing import Any

from perseus.algo import Id, on
from perseus.algo.library.raft import Service
from perseus.algo.workloads.caller import KEY_MISSING, PRECONDITION_FAILED, Error
from perseus.algo.workloads.lin_kv import Cas, CasOk, Read, ReadOk, Write, WriteOk


class Node(Service):
    """Any node takes a request; the log decides."""

    snapshot_after = 50

    def restore(self, saved: Any) -> None:
        self.state: dict[Any, Any] = dict(saved or ())

    def save(self) -> Any:
        return tuple(self.state.items())

    @on(Read)
    @on(Write)
    @on(Cas)
    def request_came(self, sender: Id, message: Any) -> None:
        self.submit(message)

    def apply(self, command: Any) -> Any:
        if isinstance(command, Write):
            self.state[command.key] = command.value
            return WriteOk()
        if command.key not in self.state:
            return Error(KEY_MISSING, "there is no such key")
        value = self.state[command.key]
        if isinstance(command, Read):
            return ReadOk(value)
        if value != command.from_:
            return Error(PRECONDITION_FAILED, f"it is {value!r}")
        self.state[command.key] = command.to
        return CasOk()
