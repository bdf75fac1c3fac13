"""Logs: Raft's log has all sends in one order, which gives each key's offsets."""

from typing import Any

from perseus.algo import Id, on
from perseus.algo.library.raft import Service
from perseus.algo.workloads.kafka import (
    CommitOffsets,
    CommitOffsetsOk,
    ListCommittedOffsets,
    ListCommittedOffsetsOk,
    Poll,
    PollOk,
    Send,
    SendOk,
)

# Messages of one key in one answer.
POLL_MAXIMUM = 10


class Node(Service):
    """The messages of each key, and how far its consumers are."""

    snapshot_after = 50

    def restore(self, saved: Any) -> None:
        logs, committed = saved or ((), ())
        self.logs: dict[str, list[Any]] = {key: list(log) for key, log in logs}
        self.committed: dict[str, int] = dict(committed)

    def save(self) -> Any:
        logs = tuple((key, tuple(log)) for key, log in self.logs.items())
        return logs, tuple(self.committed.items())

    @on(Send)
    @on(Poll)
    @on(CommitOffsets)
    @on(ListCommittedOffsets)
    def request_came(self, sender: Id, message: Any) -> None:
        self.submit(message)

    def apply(self, command: Any) -> Any:
        if isinstance(command, Send):
            log = self.logs.setdefault(command.key, [])
            log.append(command.msg)
            return SendOk(len(log) - 1)
        if isinstance(command, Poll):
            return PollOk({key: self._from(key, first) for key, first in command.offsets.items()})
        if isinstance(command, CommitOffsets):
            for key, offset in command.offsets.items():
                self.committed[key] = max(offset, self.committed.get(key, -1))
            return CommitOffsetsOk()
        known = {key: self.committed[key] for key in command.keys if key in self.committed}
        return ListCommittedOffsetsOk(known)

    def _from(self, key: str, first: int) -> tuple[tuple[int, Any], ...]:
        found = self.logs.get(key, [])[first : first + POLL_MAXIMUM]
        return tuple(enumerate(found, first))
