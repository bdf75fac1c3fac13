"""Logical clocks: what happened before what, without asking what time it is.

From Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System" (1978);
vector clocks from Fidge, "Timestamps in Message-Passing Systems" (1988), and Mattern,
"Virtual Time and Global States of Distributed Systems" (1988).

``Stamp`` and ``Vector`` are values, for whatever algorithm needs them. An event that
happened before another has the smaller one (the clock condition); of vectors the
converse holds too: where neither is smaller, neither event knew of the other.

``LamportClock`` and ``VectorClock`` are small processes that show it. They assume nothing
of the network. A clock is durable: after a crash it must not tell a time again.
"""

from dataclasses import dataclass
from typing import Any

from perseus.algo import Id, Process, View, always, durable, on, sometimes
from perseus.algo.library.ghosts import fresh


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """A time of a Lamport clock; the ids make the order total."""

    time: int
    process: Id


@dataclass(frozen=True, slots=True)
class Vector:
    """How many events of each process are known: (id, count), by id, without zeros."""

    counts: tuple[tuple[Id, int], ...] = ()

    def __getitem__(self, process: Id) -> int:
        return dict(self.counts).get(process, 0)

    def ticked(self, process: Id) -> "Vector":
        """After one more event of that process."""
        return Vector._of({**dict(self.counts), process: self[process] + 1})

    def joined(self, other: "Vector") -> "Vector":
        """What both know together."""
        known = dict(self.counts)
        for process, count in other.counts:
            known[process] = max(count, known.get(process, 0))
        return Vector._of(known)

    def __le__(self, other: "Vector") -> bool:
        known = dict(other.counts)
        return all(count <= known.get(process, 0) for process, count in self.counts)

    def __lt__(self, other: "Vector") -> bool:
        return self != other and self <= other

    def is_concurrent_with(self, other: "Vector") -> bool:
        """Neither knew of the other."""
        return not self <= other and not other <= self

    @staticmethod
    def _of(counts: dict[Id, int]) -> "Vector":
        return Vector(tuple(sorted(counts.items())))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``cause`` is the (process, place) of the event that sent what
    was received; no clock looks at it, only the properties do."""

    stamp: Any
    cause: tuple[Id, int] | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Sent by the event at that place of its sender's."""

    stamp: Any
    place: int


class LogicalClock(Process):
    """Lets things happen, and stamps them. What a stamp is, a subclass says."""

    events_most = 20
    pause_s = (0.1, 2.0)

    events: list[Event] = durable([])

    def tick(self) -> Any:
        """The stamp of an event of one's own."""
        raise AssertionError("a subclass has a clock")

    def hear(self, stamp: Any) -> Any:
        """The stamp of receiving what was sent at ``stamp``."""
        raise AssertionError("a subclass has a clock")

    def start(self) -> None:
        self.after(self.pause_s, self.act)

    def act(self) -> None:
        """Something happens here, and perhaps another is told."""
        if len(self.events) >= self.events_most:
            return
        stamp = self.tick()
        self.events.append(Event(stamp))
        if self.peers and self.random.random() < 0.6:
            peer = self.peers[self.random.below(len(self.peers))]
            self.send(peer, Told(stamp, len(self.events) - 1))
        self.after(self.pause_s, self.act)

    @on(Told)
    def told(self, sender: Id, message: Told) -> None:
        stamp = self.hear(message.stamp)
        self.events.append(Event(stamp, (sender, message.place)))


class LamportClock(LogicalClock):
    """One number, greater than all that were seen."""

    time: int = durable(0)

    def tick(self) -> Stamp:
        self.time += 1
        return Stamp(self.time, self.id)

    def hear(self, stamp: Stamp) -> Stamp:
        self.time = max(self.time, stamp.time)
        return self.tick()


class VectorClock(LogicalClock):
    """One number for each process."""

    known: Vector = durable(Vector())

    def tick(self) -> Vector:
        self.known = self.known.ticked(self.id)
        return self.known

    def hear(self, stamp: Vector) -> Vector:
        self.known = self.known.joined(stamp)
        return self.tick()


@always(LogicalClock)
def what_happened_before_has_a_smaller_stamp(view: View[LogicalClock]) -> None:
    """The clock condition, between an event and those right before it; the rest follows."""
    process, stamps = view.changed, view.ghost
    for place in fresh(view, process.events):
        event = process.events[place]
        stamps[process.id, place] = event.stamp
        before = [(process.id, place - 1)] if place else []
        before += [event.cause] if event.cause else []
        for earlier in before:
            assert stamps[earlier] < event.stamp, f"{stamps[earlier]} before {event.stamp}"


@always(VectorClock)
def what_has_a_smaller_stamp_happened_before(view: View[VectorClock]) -> None:
    """Mattern's theorem, by the true history of each event: one bit for each known event."""
    process = view.changed
    known: dict[Id, list[tuple[int, int, Vector]]] = view.ghost.setdefault("known", {})
    mine = known.setdefault(process.id, [])
    # A crash takes back what was not yet durable.
    del mine[len(process.events) :]
    for event in process.events[len(mine) :]:
        past = mine[-1][1] if mine else 0
        if event.cause:
            past |= known[event.cause[0]][event.cause[1]][1]
        for events in known.values():
            for bit, _, stamp in events:
                happened_before = bool(past & bit)
                assert (stamp < event.stamp) == happened_before, f"{stamp} and {event.stamp}"
                assert not event.stamp <= stamp, f"{event.stamp} is not after {stamp}"
        bit = 1 << view.ghost.setdefault("bits", 0)
        view.ghost["bits"] += 1
        mine.append((bit, past | bit, event.stamp))


@sometimes(LamportClock)
def a_clock_is_set_forward(view: View[LamportClock]) -> bool:
    """Who hears of a later time jumps there."""
    events = view.changed.events
    return len(events) > 1 and events[-1].stamp.time > events[-2].stamp.time + 1


@sometimes(VectorClock)
def two_events_are_concurrent(view: View[VectorClock]) -> bool:
    """Neither knew of the other."""
    mine = view.changed.known
    return any(mine.is_concurrent_with(process.known) for process in view.processes)
