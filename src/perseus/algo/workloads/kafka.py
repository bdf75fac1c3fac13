"""Logs as Kafka has them: messages get offsets, are polled in their order, and stay.

Consumers commit how far they are. A commit never moves back: a lower one changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from perseus.algo import Id, View, at_end, eventually, sometimes
from perseus.algo.history import Operation, merged
from perseus.algo.workloads.caller import Caller, Error, is_done

__all__ = [
    "CommitOffsets",
    "CommitOffsetsOk",
    "Error",
    "ListCommittedOffsets",
    "ListCommittedOffsetsOk",
    "LogClient",
    "Poll",
    "PollOk",
    "Send",
    "SendOk",
]


@dataclass(frozen=True, slots=True)
class Send:
    """A message for the log of a key."""

    key: str
    msg: Any


@dataclass(frozen=True, slots=True)
class SendOk:
    """Where it stands."""

    offset: int


@dataclass(frozen=True, slots=True)
class Poll:
    """What is there, from some offsets on?"""

    # By key the first offset that is wanted.
    offsets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PollOk:
    """What is there."""

    # By key pairs of offset and message, perhaps not all that there are.
    msgs: Mapping[str, tuple[tuple[int, Any], ...]]


@dataclass(frozen=True, slots=True)
class CommitOffsets:
    """Consumers are so far."""

    # By key the last offset that is done with.
    offsets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CommitOffsetsOk:
    """It is noted."""


@dataclass(frozen=True, slots=True)
class ListCommittedOffsets:
    """How far are consumers?"""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListCommittedOffsetsOk:
    """So far."""

    # Keys of which nothing was committed are left out.
    offsets: Mapping[str, int]


class LogClient(Caller):
    """Sends some messages, and polls, commits and lists all along."""

    sends = 25
    keys = ("a", "b", "c")
    answers: ClassVar = {
        Send: SendOk,
        Poll: PollOk,
        CommitOffsets: CommitOffsetsOk,
        ListCommittedOffsets: ListCommittedOffsetsOk,
    }

    def start(self) -> None:
        super().start()
        self.sent = 0
        self.acknowledged: set[tuple[str, Any]] = set()
        self.seen: set[tuple[str, Any]] = set()
        # By key where the next poll begins.
        self.positions = dict.fromkeys(self.keys, 0)

    def draw(self) -> tuple[Id, Any]:
        drawn = self.random.random()
        if drawn < 0.35 and self.sent < self.sends:
            self.sent += 1
            key = self.keys[self.random.below(len(self.keys))]
            return self.any_node(), Send(key, self.sent * len(self.everyone) + self.number)
        done = {key: offset - 1 for key, offset in self.positions.items() if offset}
        if drawn < 0.5 and done:
            return self.any_node(), CommitOffsets(done)
        if drawn < 0.6:
            return self.any_node(), ListCommittedOffsets(self.keys)
        if drawn < 0.7:
            # As a consumer that begins anew.
            self.positions = dict.fromkeys(self.keys, 0)
        return self.any_node(), Poll(dict(self.positions))

    def learn(self, node: Id, operation: Operation) -> None:
        what, answer = operation.what, operation.result
        if isinstance(what, Send):
            self.acknowledged.add((what.key, what.msg))
        elif isinstance(answer, PollOk):
            for key, found in answer.msgs.items():
                self.seen |= {(key, message) for _, message in found}
                if found:
                    self.positions[key] = max(self.positions[key], found[-1][0] + 1)


class Logs:
    """What a history tells of the logs; each method raises AssertionError for what is wrong."""

    def __init__(self, history: Iterable[Operation]) -> None:
        self.history = list(history)
        self._message: dict[tuple[str, int], Any] = {}
        self._offset: dict[tuple[str, Any], int] = {}
        self._tried = {
            (each.what.key, each.what.msg) for each in self.history if isinstance(each.what, Send)
        }

    def check(self) -> None:
        """All of it."""
        done = [operation for operation in self.history if is_done(operation)]
        for operation in done:
            if isinstance(operation.what, Send):
                self._stands(operation.what.key, operation.result.offset, operation.what.msg)
        polls = [operation for operation in done if isinstance(operation.what, Poll)]
        for poll in polls:
            self._in_order(poll)
        for poll in polls:
            self._without_gaps(poll)
        self._sends_in_order(done)
        self._commits(done)

    def _stands(self, key: str, offset: int, message: Any) -> None:
        first = self._message.setdefault((key, offset), message)
        assert first == message, f"{key} has {first} and {message} at offset {offset}"
        place = self._offset.setdefault((key, message), offset)
        assert place == offset, f"{key} has {message} at offsets {place} and {offset}"

    def _in_order(self, poll: Operation) -> None:
        for key, found in poll.result.msgs.items():
            last = poll.what.offsets.get(key, 0) - 1
            for offset, message in found:
                assert (key, message) in self._tried, f"nobody sent {message} to {key}"
                assert offset > last, f"a poll of {key} gives offset {offset} after {last}"
                last = offset
                self._stands(key, offset, message)

    def _without_gaps(self, poll: Operation) -> None:
        for key, found in poll.result.msgs.items():
            if not found:
                continue
            offsets = {offset for offset, _ in found}
            first, last = poll.what.offsets.get(key, 0), found[-1][0]
            for (other, offset), message in self._message.items():
                if other == key and first <= offset <= last:
                    assert offset in offsets, f"{poll.client} polls {key} past {message}: {poll}"

    def _sends_in_order(self, done: list[Operation]) -> None:
        last: dict[tuple[Id, str], int] = {}
        for send in done:
            if isinstance(send.what, Send):
                mark, offset = (send.client, send.what.key), send.result.offset
                before = last.get(mark, -1)
                assert offset > before, f"{send}: its last message there had offset {before}"
                last[mark] = offset

    def _commits(self, done: list[Operation]) -> None:
        commits = [each for each in self.history if isinstance(each.what, CommitOffsets)]
        for listed in done:
            if isinstance(listed.what, ListCommittedOffsets):
                for key in listed.what.keys:
                    self._committed(key, listed, commits)

    def _committed(self, key: str, listed: Operation, commits: list[Operation]) -> None:
        found = listed.result.offsets.get(key, -1)
        before = [c for c in commits if is_done(c) and c.returned < listed.invoked]
        least = max((c.what.offsets.get(key, -1) for c in before), default=-1)
        assert found >= least, f"{key}: {least} is committed, {listed.client} finds {found}"
        begun = [c for c in commits if c.invoked <= listed.returned]
        most = max((c.what.offsets.get(key, -1) for c in begun), default=-1)
        assert found <= most, f"{listed.client} finds {found} committed for {key}; nobody did"


@at_end(LogClient)
def logs_are_in_order_and_whole(view: View[LogClient]) -> None:
    """Each message has one offset, each offset one message, and no poll leaves one out."""
    Logs(merged((client.history for client in view.processes), view.began_s)).check()


@eventually(LogClient, within_s=60.0)
def every_client_sees_every_acknowledged_message(view: View[LogClient]) -> bool:
    """Nothing is lost."""
    if any(client.sent < client.sends for client in view.processes):
        return False
    sent = {each for client in view.processes for each in client.acknowledged}
    return all(sent <= client.seen for client in view.processes)


@sometimes(LogClient)
def a_poll_brings_several_messages(view: View[LogClient]) -> bool:
    """Logs grow."""
    history = view.changed.history
    if not history or not isinstance(history[-1].result, PollOk):
        return False
    return any(len(found) > 1 for found in history[-1].result.msgs.values())
