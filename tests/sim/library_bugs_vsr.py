"""Viewstamped Replication with one mistake each, for the simulator to find."""

from typing import Any

from perseus.algo import Id, on
from perseus.algo.library.kv import do
from perseus.algo.library.raft import Done, Query
from perseus.algo.library.vsr import InMemory, Replica, Status, Vsr
from perseus.algo.library.vsr.messages import (
    DoViewChange,
    Prepare,
    PrepareOk,
    RecoveryResponse,
    Request,
    StartView,
)


class CommitsByHalf(Vsr):
    """One replica fewer than a majority is enough for it."""

    @on(PrepareOk)
    def prepare_ok(self, sender: Id, message: PrepareOk) -> None:
        super().prepare_ok(sender, message)
        ranked = sorted(self.prepared.values(), reverse=True)
        if self.is_primary and len(ranked) >= self.majority - 1:
            self._commit_up_to(ranked[self.majority - 2])


class TakesTheLongestLog(Vsr):
    """Of the logs that are brought along, the longest, of whatever view."""

    def _start_view(self) -> None:
        longest = max(len(each.log) for each in self.brought.values())
        for sender, each in self.brought.items():
            if len(each.log) == longest:
                latest = DoViewChange(each.view, each.view, each.log, each.commit)
                self.brought[sender] = latest
        super()._start_view()


class TakesTheFirstLog(Vsr):
    """Begins a view with its own log, whatever others bring along."""

    def _start_view(self) -> None:
        own = DoViewChange(self.view, self.view, tuple(self.log), self.commit)
        self.brought[self.id] = own
        super()._start_view()


class CutsBeforeItKnows(Vsr):
    """Takes its log back to what is committed when it asks for a later view's, not when it has
    that: as the paper has it. Till then a majority's request may be on fewer."""

    def _ask_for_state(self, primary: Id, view: int) -> None:
        if view > self.view or self.status is not Status.NORMAL:
            del self.log[self.commit :]
        super()._ask_for_state(primary, view)


class PreparesWithGaps(Vsr):
    """Puts a request at the end, whatever its place."""

    @on(Prepare)
    def prepare(self, sender: Id, message: Prepare) -> None:
        if message.place > len(self.log) + 1 and self._follows(sender, message.view):
            self.log.append(message.request)
        super().prepare(sender, message)


class ObeysOldPrimaries(Vsr):
    """Takes up what an earlier view's primary prepares."""

    def _follows(self, primary: Id, view: int) -> bool:
        return super()._follows(primary, max(view, self.view))


class StartsOldViews(Vsr):
    """Begins a view that it has left, when word of it comes late."""

    @on(StartView)
    def start_view(self, sender: Id, message: StartView) -> None:
        self._take_up(message.view, message.log, message.commit)
        self.send(sender, PrepareOk(self.view, len(self.log)))


class VolatileView(Vsr):
    """Forgets in a crash which view it had left for."""

    silence_s = (0.2, 0.5)

    def start(self) -> None:
        self.view = self.last_normal
        super().start()


class VolatileLog(Vsr):
    """Forgets in a crash what it had prepared, and does not ask."""

    def start(self) -> None:
        del self.log[self.commit :]
        super().start()


class DoesTwice(Vsr):
    """Does again what a client says again."""

    def _asked_for(self, request: Request) -> None:
        if self.is_primary and request not in self.log[self.commit :]:
            self.log.append(request)
            self._send_prepare(len(self.log))
        else:
            super()._asked_for(request)

    def _perform(self, request: Request) -> None:
        self.results.pop(request.client, None)
        super()._perform(request)


class ReadsAtOnce(Vsr):
    """A primary reads from its own map: perhaps after another view has begun."""

    @on(Query)
    def asked_to_read(self, sender: Id, message: Query) -> None:
        if self.is_primary:
            self.send(sender, Done(message.sequence, do(self.state, message.query)))
        else:
            super().asked_to_read(sender, message)


class ComesBackEmpty(InMemory):
    """Takes part again with nothing in its memory."""

    def start(self) -> None:
        super().start()
        self.status = Status.NORMAL


class RecoversFromAnybody(InMemory):
    """Takes the log of whoever is primary in the view of one answer."""

    silence_s = (0.2, 0.5)

    @on(RecoveryResponse)
    def recovery_response(self, sender: Id, message: RecoveryResponse) -> None:
        self.responses = {}
        log: Any = message.log
        if self.status is Status.RECOVERING and log is not None:
            self._take_up(message.view, log, message.commit)


class TakesPartWhileItRecovers(InMemory):
    """Brings an empty log along to a view change."""

    def _is_changing_to(self, view: int) -> bool:
        if self.status is Status.RECOVERING and view > self.view:
            self._leave_for(view)
        return super()._is_changing_to(view)


DURABLE: list[type[Replica]] = [
    CommitsByHalf,
    TakesTheLongestLog,
    TakesTheFirstLog,
    CutsBeforeItKnows,
    PreparesWithGaps,
    ObeysOldPrimaries,
    StartsOldViews,
    VolatileView,
    VolatileLog,
    DoesTwice,
    ReadsAtOnce,
]
IN_MEMORY: list[type[Replica]] = [
    ComesBackEmpty,
    RecoversFromAnybody,
    TakesPartWhileItRecovers,
]
