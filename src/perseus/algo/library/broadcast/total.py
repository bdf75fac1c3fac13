"""Total order broadcast on Raft: what is delivered is Raft's log."""

from typing import Any

from perseus.algo import Id, Timer, durable, on
from perseus.algo.library.broadcast.reliable import Key
from perseus.algo.library.mortal import Mortal
from perseus.algo.library.raft import Done, NotLeader, Propose, Raft


class TotalOrder(Mortal, Raft):
    """Each proposes what it says to the leader, one after the other, until it is done.

    Raft's sessions see to it that an item that is proposed again is not delivered again.
    """

    items = 8
    pause_s = (0.2, 5.0)
    patience_s = 1.5
    snapshot_after = 15

    said: int = durable(0)
    # How many of those are known to be in the log.
    done: int = durable(0)

    def start(self) -> None:
        super().start()
        self.is_proposing = False
        self.impatience: Timer = self.after(self.patience_s, self.propose_next)
        self.after(self.pause_s, self.speak)

    @property
    def delivered(self) -> list[Key]:
        """As far as this process has applied the log; built anew after a crash."""
        items: list[Key] = self.state
        return items

    def speak(self) -> None:
        if self.said < self.items:
            self.said += 1
            if not self.is_proposing:
                self.propose_next()
            self.after(self.pause_s, self.speak)

    def propose_next(self, leader: Id | None = None) -> None:
        self.impatience.cancel()
        self.is_proposing = self.done < self.said
        if self.is_proposing:
            number = self.done + 1
            anybody = self.everyone[self.random.below(len(self.everyone))]
            self.send(leader or self.leader or anybody, Propose(number, (self.id, number)))
            self.impatience = self.after(self.patience_s, self.propose_next)

    @on(NotLeader)
    def not_leader(self, sender: Id, message: NotLeader) -> None:
        if message.sequence == self.done + 1 and self.is_proposing:
            self.impatience.cancel()
            self.impatience = self.after((0.05, 0.3), self.propose_next, message.leader)

    @on(Done)
    def proposed(self, sender: Id, message: Done) -> None:
        if message.sequence == self.done + 1:
            self.done += 1
            self.propose_next(sender)

    def apply(self, command: Any) -> Any:
        self.state.append(command)
        return None
