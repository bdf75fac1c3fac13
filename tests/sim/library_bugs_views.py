"""Clocks, detectors, SWIM and snapshots with one mistake each."""

from typing import Any

from perseus.algo import Id, Process
from perseus.algo.library.clocks import LamportClock, Stamp, Vector, VectorClock
from perseus.algo.library.detectors import Beat, Heartbeat, PhiAccrual
from perseus.algo.library.links import Carry, PerfectLinks
from perseus.algo.library.snapshot import Bank, Cut, Marker
from perseus.algo.library.swim import Ack, Opinion, State, Swim


class ForgetsTheTime(LamportClock):
    """Tells times again after a crash."""

    def start(self) -> None:
        self.time = 0
        super().start()


class DoesNotListen(LamportClock):
    """Counts its own events alone."""

    def hear(self, stamp: Stamp) -> Stamp:
        return self.tick()


class TakesTheOthersVector(VectorClock):
    """Replaces what it knew instead of joining it."""

    def hear(self, stamp: Vector) -> Vector:
        mine = self.known[self.id]
        counts = {**dict(stamp.counts), self.id: max(mine, stamp[self.id])}
        self.known = Vector(tuple(sorted(counts.items())))
        return self.tick()


class JoinsWithoutTick(VectorClock):
    """Does not count receiving as an event."""

    def hear(self, stamp: Vector) -> Vector:
        self.known = self.known.joined(stamp)
        return self.known


class SuspectsForGood(Heartbeat):
    """Does not take a suspicion back."""

    def beaten(self, sender: Id, beat: Beat) -> None:
        was = sender in self.suspected
        super().beaten(sender, beat)
        if was:
            self.suspected.add(sender)


class TakesOldBeats(Heartbeat):
    """Takes a beat that comes late or again for a sign of life."""

    def beaten(self, sender: Id, beat: Beat) -> None:
        self.latest[sender] = max(self.latest[sender], (beat.life, beat.number))
        self.heard_s[sender] = self.now
        self.suspected.discard(sender)


class WaitsEverLonger(Heartbeat):
    """Doubles the timeout without bound."""

    def heard(self, peer: Id, interval_s: float, is_same_life: bool) -> None:
        if peer in self.suspected:
            self.timeouts[peer] *= 2.0


class TakesSilenceForAnInterval(PhiAccrual):
    """Gets used to a silence while it lasts."""

    def is_silent(self, peer: Id, silence_s: float) -> bool:
        self.intervals[peer].append(silence_s)
        return super().is_silent(peer, silence_s)


class AnyAliveOverrides(Swim):
    """Old news of being alive overrides a suspicion."""

    def take(self, opinion: Opinion) -> None:
        known = self.opinions.get(opinion.member)
        if known is not None and opinion.state is State.ALIVE is not known.state:
            self.opinions[opinion.member] = opinion
        super().take(opinion)


class DefendsOthers(Swim):
    """Refutes a suspicion in another's name."""

    def ack(self, sender: Id, message: Ack) -> None:
        known = self.opinions.get(message.member)
        if known is not None and known.state is not State.ALIVE:
            self.take(Opinion(known.member, known.incarnation + 1, State.ALIVE))
        super().ack(sender, message)


class DeathIsFinal(Swim):
    """As the paper has it, though members come back."""

    def take(self, opinion: Opinion) -> None:
        known = self.opinions.get(opinion.member)
        if known is None or known.state is not State.DEAD:
            super().take(opinion)


class NeverRefutes(Swim):
    """Lets itself be declared dead."""

    def refute(self, opinion: Opinion) -> None:
        pass


class MarkersOvertake(Bank):
    """Uses links without order."""

    def take(self, sender: Id, carry: Carry) -> None:
        PerfectLinks.take(self, sender, carry)


class ForgetsWhatIsOnItsWay(Bank):
    """Adds up accounts alone."""

    def arrive(self, sender: Id, message: Any) -> None:
        PerfectLinks.arrive(self, sender, message)


class SavesAfterTheMarkers(Bank):
    """Saves its own state when all markers have come, not at the first."""

    def report_when_whole(self, cut: Cut) -> None:
        self.saved[cut] = self.state()
        super().report_when_whole(cut)


class RecordsTheMarkedChannel(Bank):
    """Goes on recording a channel whose marker has come."""

    def marker(self, sender: Id, message: Marker) -> None:
        is_first = message.cut not in self.saved
        super().marker(sender, message)
        if is_first and (message.cut, sender) in self.recorded:
            self.after(1.0, self.close, message.cut, sender)
            self.recording[message.cut, sender] = self.recorded.pop((message.cut, sender))

    def close(self, cut: Cut, channel: Id) -> None:
        self.recorded[cut, channel] = self.recording.pop((cut, channel))
        self.report_when_whole(cut)


ALL: list[type[Process]] = [
    ForgetsTheTime,
    DoesNotListen,
    TakesTheOthersVector,
    JoinsWithoutTick,
    SuspectsForGood,
    TakesOldBeats,
    WaitsEverLonger,
    TakesSilenceForAnInterval,
    AnyAliveOverrides,
    DefendsOthers,
    DeathIsFinal,
    NeverRefutes,
    MarkersOvertake,
    ForgetsWhatIsOnItsWay,
    SavesAfterTheMarkers,
    RecordsTheMarkedChannel,
]
