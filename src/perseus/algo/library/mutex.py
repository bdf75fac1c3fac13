"""Mutual exclusion by messages alone, first come first served by logical time.

``LamportMutex``: Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System"
(1978). All keep the queue of all requests; who is at its head and has heard something later
from everybody may enter. Needs FIFO links. ``RicartAgrawala``: Ricart and Agrawala, "An
Optimal Algorithm for Mutual Exclusion in Computer Networks" (1981). Everybody's leave is
asked for, and who has asked earlier gives it when it is through. Needs no order.

Promises, always: one is inside at most, and they enter in the order of their requests'
stamps. And if whoever is inside leaves, all who ask get in. Assumes reliable links and
processes that come back: all state is durable, also that one is inside, so that a holder that
crashes is inside still. While any process is down nobody new gets in, and if it is
for good, never: that is the algorithms' price (see ``lease`` for the other one).
"""

from dataclasses import dataclass

from perseus.algo import Id, View, always, durable, eventually, on, sometimes
from perseus.algo.library.clocks import Stamp
from perseus.algo.library.ghosts import notes
from perseus.algo.library.links import FifoLinks, PerfectLinks


@dataclass(frozen=True, slots=True)
class Ask:
    """I want to enter."""

    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Heard:
    """Your request is in my queue."""

    time: int


@dataclass(frozen=True, slots=True)
class Release:
    """I am out."""

    time: int


@dataclass(frozen=True, slots=True)
class Leave:
    """You may enter, for all I know."""

    time: int


class Mutex(PerfectLinks):
    """Each wants to be inside a few times, and stays a while."""

    entries = 4
    want_s = (0.1, 8.0)
    stay_s = (0.02, 0.3)

    time: int = durable(0)
    # The own request, from asking until leaving.
    mine: Stamp | None = durable(None)
    is_inside: bool = durable(False)
    entered: int = durable(0)

    def start(self) -> None:
        super().start()
        if self.is_inside:
            self.after(self.stay_s, self.leave)
        elif self.mine is None:
            self.after(self.want_s, self.ask)

    def tick(self, heard: int = 0) -> int:
        """Lamport's clock."""
        self.time = max(self.time, heard) + 1
        return self.time

    def ask(self) -> None:
        if self.entered < self.entries:
            self.mine = Stamp(self.tick(), self.id)
            self.convey_all(Ask(self.mine))
            self.asked_for(self.mine)
            self.enter_if_granted()

    def enter_if_granted(self) -> None:
        if self.mine is not None and not self.is_inside and self.is_granted(self.mine):
            self.is_inside = True
            self.entered += 1
            self.after(self.stay_s, self.leave)

    def leave(self) -> None:
        self.mine, self.is_inside = None, False
        self.tell_others()
        self.after(self.want_s, self.ask)

    # What a subclass says.

    def asked_for(self, mine: Stamp) -> None:
        """The own request goes out."""

    def is_granted(self, mine: Stamp) -> bool:
        """Whether this process may enter."""
        raise AssertionError("a subclass knows")

    def tell_others(self) -> None:
        """It is out again."""


class LamportMutex(FifoLinks, Mutex):
    """Everybody has the queue."""

    # The request of each process that has one.
    queue: dict[Id, Stamp] = durable({})
    # The last time that was heard from each peer.
    heard: dict[Id, int] = durable({})

    def asked_for(self, mine: Stamp) -> None:
        self.queue[self.id] = mine

    def is_granted(self, mine: Stamp) -> bool:
        """First in the queue, and nothing earlier can come from anybody."""
        is_first = all(mine <= stamp for stamp in self.queue.values())
        return is_first and all(Stamp(self.heard.get(peer, 0), peer) > mine for peer in self.peers)

    def tell_others(self) -> None:
        del self.queue[self.id]
        self.convey_all(Release(self.tick()))

    @on(Ask)
    def asked(self, sender: Id, message: Ask) -> None:
        self.queue[sender] = message.stamp
        self.hear(sender, message.stamp.time)
        self.convey(sender, Heard(self.tick()))

    @on(Heard)
    def asking_is_heard(self, sender: Id, message: Heard) -> None:
        self.hear(sender, message.time)

    @on(Release)
    def release(self, sender: Id, message: Release) -> None:
        del self.queue[sender]
        self.hear(sender, message.time)

    def hear(self, sender: Id, time: int) -> None:
        self.tick(time)
        self.heard[sender] = time
        self.enter_if_granted()


class RicartAgrawala(Mutex):
    """Everybody's leave is needed; 2(n - 1) messages for an entry."""

    # Who has given leave, and whose requests wait until this process is through.
    granted: set[Id] = durable(set())
    deferred: list[Id] = durable([])

    def asked_for(self, mine: Stamp) -> None:
        self.granted = set()

    def is_granted(self, mine: Stamp) -> bool:
        return len(self.granted) == len(self.peers)

    def tell_others(self) -> None:
        for peer in self.deferred:
            self.convey(peer, Leave(self.tick()))
        self.deferred = []

    @on(Ask)
    def asked(self, sender: Id, message: Ask) -> None:
        self.tick(message.stamp.time)
        if self.mine is not None and self.mine < message.stamp:
            self.deferred.append(sender)
        else:
            self.convey(sender, Leave(self.tick()))

    @on(Leave)
    def given_leave(self, sender: Id, message: Leave) -> None:
        self.tick(message.time)
        self.granted.add(sender)
        self.enter_if_granted()


@always(Mutex)
def one_is_inside(view: View[Mutex]) -> None:
    """Mutual exclusion; who crashes inside is inside."""
    process, ghost = view.changed, view.ghost
    inside = ghost.get("inside")
    if process.is_inside:
        assert inside in (None, process.id), f"{process.id} enters, {inside} is inside"
        ghost["inside"] = process.id
    elif inside == process.id:
        ghost["inside"] = None


@always(Mutex)
def they_enter_in_the_order_of_asking(view: View[Mutex]) -> None:
    """Fairness: by the stamps of their requests."""
    process, ghost = view.changed, view.ghost
    if process.is_inside and process.mine is not None:
        last: Stamp = ghost.get("last", process.mine)
        assert process.mine >= last, f"{process.mine} enters after {last}"
        ghost["last"] = process.mine


@eventually(Mutex, within_s=90.0)
def all_who_ask_get_in(view: View[Mutex]) -> bool:
    """No starvation, no deadlock."""
    return all(process.entered == process.entries for process in view.processes)


@sometimes(Mutex)
def one_waits_while_another_is_inside(view: View[Mutex]) -> bool:
    """There is something to exclude."""
    process, inside = view.changed, [p for p in view.processes if p.is_inside]
    return process.mine is not None and bool(inside) and not process.is_inside


@sometimes(Mutex)
def one_is_inside_still_after_a_crash(view: View[Mutex]) -> bool:
    """It crashed there."""
    mine = notes(view)
    was_born_inside: bool = mine.setdefault("inside", view.changed.is_inside)
    return was_born_inside and view.changed.restarts > 0
