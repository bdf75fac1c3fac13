"""Raft with a server that loses its disk: one mistake that people make then, and what is right.

A server that comes back empty under its old name has forgotten its votes, and entries that
are committed because it had them. It has to stay out; another one, which has promised
nothing to anybody, is added in its place.
"""

from dataclasses import dataclass

from perseus.algo import Group, Id, Layout, Process, Timer, View, durable, on, sometimes
from perseus.algo.library.kv import Kv, KvClient
from perseus.algo.library.raft import ChangeServers, Done, NotLeader, Role, Snapshot

LOSES = "n1"


class LosesItsDisk(Kv):
    """n1 does, in its first crash."""

    # On another disk: the person who puts in a new one knows.
    is_lost: bool = durable(False)

    def start(self) -> None:
        if self.id == LOSES and self.restarts and not self.is_lost:
            self.term, self.voted_for, self.log, self.snapshot = 0, None, [], None
            self.is_lost = True
        super().start()


class ComesBackEmpty(LosesItsDisk):
    """...and goes on under its name, as if it had never promised anything."""


@dataclass(frozen=True)
class Lost:
    """My disk is empty."""


@dataclass(frozen=True)
class Begin:
    """Be a server that is to be added."""


@dataclass(frozen=True)
class Begun:
    """It is there, under this id."""

    server: Id


class Member(LosesItsDisk):
    """...says so, and is out for good, whatever it is asked."""

    def start(self) -> None:
        super().start()
        if self.is_lost:
            self.send(self.group("operator")[0], Lost())
            self.stop()


class Added(Kv):
    """A server that nobody knows yet: it votes for nobody and waits until it is added."""

    def start(self) -> None:
        if self.snapshot is None:
            self.snapshot = Snapshot(0, 0, None, self.group("n"))
        super().start()


class Spare(Process):
    """A machine that is there in case of need."""

    is_needed: bool = durable(False)

    def start(self) -> None:
        if self.is_needed:
            self.spawn(Added, "kv")

    @on(Begin)
    def begin(self, sender: Id, message: Begin) -> None:
        if not self.is_needed:
            self.is_needed = True
            self.spawn(Added, "kv")
        self.send(sender, Begun(f"{self.id}/kv"))


class Operator(Process):
    """Takes who lost its disk from the servers, and adds the spare one: one at a time."""

    def start(self) -> None:
        self.servers = self.group("n")
        self.rest = tuple(server for server in self.servers if server != LOSES)
        self.steps: list[tuple[Id, ...]] = []
        self.done_count = 0
        self.impatience: Timer | None = None

    @on(Lost)
    def lost(self, sender: Id, message: Lost) -> None:
        self._begin()

    def _begin(self) -> None:
        if not self.steps:
            self.send(self.group("spare")[0], Begin())
            self.after(1.0, self._begin)

    @on(Begun)
    def begun(self, sender: Id, message: Begun) -> None:
        if not self.steps:
            self.steps = [self.rest, (*self.rest, message.server)]
            self._ask(self.rest[0])

    def _ask(self, server: Id | None) -> None:
        if self.impatience is not None:
            self.impatience.cancel()
        if self.done_count < len(self.steps):
            message = ChangeServers(self.done_count + 1, self.steps[self.done_count])
            self.send(server or self.rest[self.random.below(len(self.rest))], message)
            self.impatience = self.after(1.0, self._ask, None)

    @on(NotLeader)
    def not_leader(self, sender: Id, message: NotLeader) -> None:
        if message.sequence == self.done_count + 1 and self.impatience is not None:
            self.impatience.cancel()
            self.impatience = self.after((0.1, 0.3), self._ask, message.leader)

    @on(Done)
    def done(self, sender: Id, message: Done) -> None:
        if message.sequence == self.done_count + 1:
            self.done_count += 1
            self._ask(sender)


replaced = Layout(
    n=Group(Member, 5),
    spare=Group(Spare, 1),
    operator=Group(Operator, 1, is_client=True),
    client=Group(KvClient, 3, is_client=True),
)


@sometimes(Operator)
def the_new_one_is_in(view: View[Operator]) -> bool:
    """Both changes are committed."""
    return view.changed.done_count == 2


@sometimes(Added)
def the_new_one_leads(view: View[Added]) -> bool:
    """It is a server like the others."""
    return view.changed.role is Role.LEADER
