"""A service on Raft that takes requests at every server, and answers who asked.

A server proposes what it was asked to the leader, one command after the other, each until
it is known to be done: Raft's sessions see to it that it is done once. What waits is in
memory, and a crash leaves it without an answer.
"""

from collections import deque
from typing import Any

from perseus.algo import Asker, Id, Timer, durable, on
from perseus.algo.library.raft.messages import Done, NotLeader, Propose
from perseus.algo.library.raft.server import Raft

# Requests that wait at one server; more get no answer.
WAITING_MAXIMUM = 1000


class Service(Raft):
    """``submit`` a command while its request is handled; ``apply`` gives the answer."""

    proposal_s = 0.7
    not_leader_s = (0.02, 0.1)

    # The number of the last command proposed from here.
    proposed: int = durable(0)

    def start(self) -> None:
        super().start()
        self.requests: deque[tuple[Asker, Any]] = deque()
        self._impatience: Timer | None = None

    def submit(self, command: Any) -> None:
        """Answers the request at hand when the command is done."""
        if len(self.requests) < WAITING_MAXIMUM:
            self.requests.append((self.asker, command))
            if len(self.requests) == 1:
                self._propose_next()

    def _propose_next(self) -> None:
        self.proposed += 1
        self._propose(None)

    def _propose(self, leader: Id | None) -> None:
        self._stop_waiting()
        anybody = self.everyone[self.random.below(len(self.everyone))]
        command = self.requests[0][1]
        self.send(leader or self.leader or anybody, Propose(self.proposed, command))
        self._impatience = self.after(self.proposal_s, self._propose, None)

    def _stop_waiting(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()

    @on(NotLeader)
    def not_leader(self, sender: Id, message: NotLeader) -> None:
        if self.requests and message.sequence == self.proposed:
            self._stop_waiting()
            self._impatience = self.after(self.not_leader_s, self._propose, message.leader)

    @on(Done)
    def done(self, sender: Id, message: Done) -> None:
        if self.requests and message.sequence == self.proposed:
            self._stop_waiting()
            asker, _ = self.requests.popleft()
            self.reply(message.result, asker)
            if self.requests:
                self._propose_next()
