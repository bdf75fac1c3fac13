"""One replica, whatever it keeps on disk; see the package."""

from collections.abc import Iterable
from enum import Enum
from typing import Any

from perseus.algo import Id, Process, Timer, on
from perseus.algo.library.kv import KvClient, do
from perseus.algo.library.raft import Done, NotLeader, Propose, Query
from perseus.algo.library.vsr.messages import (
    Commit,
    DoViewChange,
    GetState,
    NewState,
    Prepare,
    PrepareOk,
    Recovery,
    RecoveryResponse,
    Request,
    StartView,
    StartViewChange,
)


class Status(Enum):
    """What a replica is at."""

    NORMAL = "normal"
    VIEW_CHANGE = "view change"
    RECOVERING = "recovering"


class Replica(Process):
    """One replica of the map."""

    client = KvClient
    clients = 3

    heartbeat_s = 0.25
    # The patience with a silent primary, and with a view that does not begin.
    silence_s = (1.0, 2.0)

    # Subclasses say what of this survives a crash.
    view: int
    # The last view in which it was normal: its log is of that view.
    last_normal: int
    log: list[Request]
    # How many places of the log are committed.
    commit: int

    def start(self) -> None:
        self.status = Status.NORMAL if self.last_normal == self.view else Status.VIEW_CHANGE
        # As primary: by replica, the place up to which it has the log.
        self.prepared: dict[Id, int] = {}
        # Who else has left for this view, and, as its primary, what they brought along.
        self.started: set[Id] = set()
        self.brought: dict[Id, DoViewChange] = {}
        # Requests of this view's beginning that were not committed, for the properties.
        self.taken_over = 0
        self._begin_map()
        self._patience: Timer = self.after(self.silence_s, self._lose_patience)
        self.after(self.heartbeat_s, self._beat)

    # Views.

    def primary_of(self, view: int) -> Id:
        """Who is primary follows from the number."""
        return self.everyone[view % len(self.everyone)]

    @property
    def is_primary(self) -> bool:
        """Whether it gives requests their places."""
        return self.status is Status.NORMAL and self.primary_of(self.view) == self.id

    def _be_patient(self) -> None:
        self._patience.cancel()
        self._patience = self.after(self.silence_s, self._lose_patience)

    def _lose_patience(self) -> None:
        self._be_patient()
        if not self.is_primary:
            self._leave_for(self.view + 1)

    def _beat(self) -> None:
        """Says again what may have been lost."""
        self.after(self.heartbeat_s, self._beat)
        if self.is_primary:
            self.broadcast(Commit(self.view, self.commit))
            for place in range(self.commit + 1, len(self.log) + 1):
                self._send_prepare(place)
        elif self.status is Status.VIEW_CHANGE:
            self.broadcast(StartViewChange(self.view))
            self._do_view_change()

    # Normal operation (4.1).

    @on(Propose)
    def asked_to_do(self, sender: Id, message: Propose) -> None:
        self._asked_for(Request(sender, message.sequence, message.command))

    @on(Query)
    def asked_to_read(self, sender: Id, message: Query) -> None:
        self._asked_for(Request(sender, message.sequence, message.query))

    def _asked_for(self, request: Request) -> None:
        if not self.is_primary:
            known = self.primary_of(self.view) if self.status is Status.NORMAL else None
            self.send(request.client, NotLeader(request.number, known))
        elif request.number <= self.results.get(request.client, (0, None))[0]:
            self._answer(request.client)
        elif request not in self.log[self.commit :]:
            self.log.append(request)
            self._send_prepare(len(self.log))

    def _send_prepare(self, place: int) -> None:
        """Also to itself: its own word counts when its disk has it, as others' do."""
        self._send_all(Prepare(self.view, place, self.log[place - 1], self.commit))

    @on(Prepare)
    def prepare(self, sender: Id, message: Prepare) -> None:
        if not self._follows(sender, message.view):
            return
        if message.place == len(self.log) + 1:
            self.log.append(message.request)
        elif message.place > len(self.log):
            self._ask_for_state(sender, message.view)
        self.send(sender, PrepareOk(self.view, len(self.log)))
        self._commit_up_to(message.commit)

    @on(PrepareOk)
    def prepare_ok(self, sender: Id, message: PrepareOk) -> None:
        if message.view != self.view or not self.is_primary:
            return
        self.prepared[sender] = max(message.place, self.prepared.get(sender, 0))
        ranked = sorted(self.prepared.values(), reverse=True)
        if len(ranked) >= self.majority:
            self._commit_up_to(ranked[self.majority - 1])

    @on(Commit)
    def committed(self, sender: Id, message: Commit) -> None:
        if self._follows(sender, message.view):
            if message.commit > len(self.log):
                self._ask_for_state(sender, message.view)
            self._commit_up_to(message.commit)

    def _follows(self, primary: Id, view: int) -> bool:
        """Whether this is of the view it is normal in; of a later one, it is behind."""
        if view < self.view or self.status is Status.RECOVERING:
            return False
        if view > self.view or self.status is not Status.NORMAL:
            self._ask_for_state(primary, view)
            return False
        self._be_patient()
        return True

    def _commit_up_to(self, place: int) -> None:
        while self.commit < min(place, len(self.log)):
            request = self.log[self.commit]
            self.commit += 1
            self._perform(request)
            if self.is_primary:
                self._answer(request.client)

    # View changes (4.2).

    def _leave_for(self, view: int) -> None:
        """Takes part in no earlier view from now on."""
        self.view = view
        self.status = Status.VIEW_CHANGE
        self.started = set()
        self.brought = {}
        self._be_patient()
        self.broadcast(StartViewChange(view))
        self._do_view_change()

    def _is_changing_to(self, view: int) -> bool:
        if view > self.view and self.status is not Status.RECOVERING:
            self._leave_for(view)
        return view == self.view and self.status is Status.VIEW_CHANGE

    @on(StartViewChange)
    def start_view_change(self, sender: Id, message: StartViewChange) -> None:
        if self._is_changing_to(message.view):
            self.started.add(sender)
            self._do_view_change()

    def _do_view_change(self) -> None:
        """When a majority, this one with it, has left."""
        if len(self.started) + 1 >= self.majority:
            primary = self.primary_of(self.view)
            log = tuple(self.log)
            self.send(primary, DoViewChange(self.view, self.last_normal, log, self.commit))

    @on(DoViewChange)
    def do_view_change(self, sender: Id, message: DoViewChange) -> None:
        if self._is_changing_to(message.view):
            self.brought[sender] = message
            if len(self.brought) >= self.majority:
                self._start_view()

    def _start_view(self) -> None:
        """The log of the latest view holds all that can be committed; in it, the longest."""
        brought = self.brought.values()
        best = max(brought, key=lambda each: (each.last_normal, len(each.log)))
        commit = max(each.commit for each in brought)
        self._take_up(self.view, best.log, commit)
        self.broadcast(StartView(self.view, best.log, self.commit))
        for place in range(self.commit + 1, len(self.log) + 1):
            self._send_prepare(place)

    @on(StartView)
    def start_view(self, sender: Id, message: StartView) -> None:
        is_newer = message.view > self.view or self._is_changing_to(message.view)
        if is_newer and self.status is not Status.RECOVERING:
            self._take_up(message.view, message.log, message.commit)
            self.send(sender, PrepareOk(self.view, len(self.log)))

    def _take_up(self, view: int, log: Iterable[Request], commit: int) -> None:
        """From now on it is normal in this view. What it has committed is in every log."""
        self.log = list(log)
        self.view = self.last_normal = view
        self.status = Status.NORMAL
        self.prepared = {}
        self._be_patient()
        self._commit_up_to(commit)
        self.taken_over = len(self.log) - self.commit

    # State transfer (5.2).

    def _ask_for_state(self, primary: Id, view: int) -> None:
        """In a view of its own all that it has is in the primary's log; else what is committed.

        The rest stays until the answer is there: until then it may be what a majority has.
        """
        is_same = view == self.view and self.status is Status.NORMAL
        self.send(primary, GetState(view, len(self.log) if is_same else self.commit))

    @on(GetState)
    def get_state(self, sender: Id, message: GetState) -> None:
        if message.view == self.view and self.status is Status.NORMAL:
            rest = tuple(self.log[message.length :])
            self.send(sender, NewState(self.view, message.length, rest, self.commit))

    @on(NewState)
    def new_state(self, sender: Id, message: NewState) -> None:
        if message.view < self.view or self.status is Status.RECOVERING:
            return
        if message.view == self.view and self.status is Status.NORMAL:
            self.log.extend(message.rest[len(self.log) - message.length :])
            self._commit_up_to(message.commit)
        else:
            log = [*self.log[: message.length], *message.rest]
            self._take_up(message.view, log, message.commit)
        self.send(sender, PrepareOk(self.view, len(self.log)))

    # Recovery (4.3): the half of those who have not crashed.

    @on(Recovery)
    def recovery(self, sender: Id, message: Recovery) -> None:
        """Whoever recovers had left for its view, so the others follow it there."""
        if self.status is not Status.NORMAL:
            return
        if message.view > self.view:
            self._leave_for(message.view)
            return
        log = tuple(self.log) if self.is_primary else None
        self.send(sender, RecoveryResponse(message.nonce, self.view, log, self.commit))

    @on(RecoveryResponse)
    def recovery_response(self, sender: Id, message: RecoveryResponse) -> None:
        """Of no use to who does not recover."""

    # The map, and the last result of each client.

    def _begin_map(self) -> None:
        self.state: dict[str, int] = {}
        self.results: dict[Id, tuple[int, Any]] = {}
        for request in self.log[: self.commit]:
            self._perform(request)

    def _perform(self, request: Request) -> None:
        """Does a request, but not twice."""
        done, _ = self.results.get(request.client, (0, None))
        if request.number > done:
            self.results[request.client] = (request.number, do(self.state, request.what))

    def _answer(self, client: Id) -> None:
        self.send(client, Done(*self.results[client]))

    def _send_all(self, message: Any) -> None:
        for process in self.everyone:
            self.send(process, message)
