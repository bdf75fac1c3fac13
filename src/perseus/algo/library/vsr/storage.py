"""What a replica has after a crash: what is on its disk, or what others tell it."""

from perseus.algo import Id, durable, on
from perseus.algo.library.vsr.messages import Recovery, RecoveryResponse, Request
from perseus.algo.library.vsr.replica import Replica, Status


class Vsr(Replica):
    """Has all of it on disk: to the others, its crash is a long silence."""

    view: int = durable(0)
    last_normal: int = durable(0)
    log: list[Request] = durable([])
    commit: int = durable(0)


class InMemory(Replica):
    """Has the number of its view on disk, and the log in the memories of a majority."""

    view: int = durable(0)

    def start(self) -> None:
        self.last_normal = self.view
        self.log = []
        self.commit = 0
        # What was answered since this start, by replica.
        self.responses: dict[Id, RecoveryResponse] = {}
        super().start()
        if self.restarts:
            self.status = Status.RECOVERING
            self._ask()

    # Recovery (4.3). What it knew it had told others, or it was of no consequence.

    def _lose_patience(self) -> None:
        if self.status is not Status.RECOVERING:
            super()._lose_patience()

    def _ask(self) -> None:
        """Numbers of starts are nonces: answers to an earlier life are told by them."""
        if self.status is Status.RECOVERING:
            self.broadcast(Recovery(self.restarts, self.view))
            self.after(self.heartbeat_s, self._ask)

    @on(RecoveryResponse)
    def recovery_response(self, sender: Id, message: RecoveryResponse) -> None:
        if self.status is not Status.RECOVERING or message.nonce != self.restarts:
            return
        known = self.responses.get(sender)
        if known is None or known.view <= message.view:
            self.responses[sender] = message
        if len(self.responses) >= self.majority:
            self._recover()

    def _recover(self) -> None:
        """With the log of the latest view's primary, if that is not before its own."""
        latest = max(response.view for response in self.responses.values())
        told = self.responses.get(self.primary_of(latest))
        if latest < self.view or told is None or told.view != latest or told.log is None:
            return
        self._take_up(latest, told.log, told.commit)
