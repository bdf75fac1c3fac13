"""Failure detectors: a guess who is dead, by who has fallen silent.

``Heartbeat``: silence longer than a timeout, which grows with each mistake: the
eventually perfect detector of Chandra and Toueg, "Unreliable Failure Detectors for
Reliable Distributed Systems" (1996), figure 10. ``PhiAccrual``: how unlikely such a
silence is, given the intervals so far: Hayashibara, Defago, Yared, Katayama, "The phi
Accrual Failure Detector" (2004).

Promise, once messages are timely and nothing else goes wrong: from some time on who is dead
is suspected for good (strong completeness), and nobody else is (eventual strong accuracy).
Before that, anybody may be suspected: a detector cannot tell dead from slow or cut off,
and a clock that jumps is silence too. Assume a bound on delays that holds in the end.
"""

from dataclasses import dataclass
from math import erfc, log10, sqrt

from perseus.algo import Id, View, always, eventually, on, sometimes
from perseus.algo.library.ghosts import lasts, notes
from perseus.algo.library.mortal import Mortal


@dataclass(frozen=True, slots=True)
class Beat:
    """I am up: the so-manieth beat since the so-manieth start."""

    life: int
    number: int


class Detector(Mortal):
    """Sends heartbeats, listens for those of its peers, and looks for silence."""

    beat_s = 0.5
    # Of the mortals; see there.
    lifetime_s = (1.0, 20.0)

    def start(self) -> None:
        super().start()
        self.number = 0
        # Times that it looked.
        self.looks = 0
        self.latest = dict.fromkeys(self.peers, (-1, 0))
        self.heard_s = dict.fromkeys(self.peers, self.now)
        self.suspected: set[Id] = set()
        # How often a suspicion was given up.
        self.mistakes = 0
        self.after((0.0, self.beat_s), self.beat)
        self.after(self.beat_s, self.look)

    def beat(self) -> None:
        self.number += 1
        self.broadcast(Beat(self.restarts, self.number))
        self.after(self.beat_s, self.beat)

    @on(Beat)
    def beaten(self, sender: Id, beat: Beat) -> None:
        """What was overtaken or doubled says nothing new."""
        before = self.latest[sender]
        if (beat.life, beat.number) <= before:
            return
        self.latest[sender] = (beat.life, beat.number)
        self.heard(sender, self.now - self.heard_s[sender], beat.life == before[0])
        self.heard_s[sender] = self.now
        if sender in self.suspected:
            self.suspected.discard(sender)
            self.mistakes += 1

    def look(self) -> None:
        self.looks += 1
        for peer in self.peers:
            if self.is_silent(peer, self.now - self.heard_s[peer]):
                self.suspected.add(peer)
        self.after(self.beat_s / 2, self.look)

    # What a subclass says.

    def heard(self, peer: Id, interval_s: float, is_same_life: bool) -> None:
        """A beat came after that time, of a peer that had not started anew meanwhile or had."""

    def is_silent(self, peer: Id, silence_s: float) -> bool:
        """Whether this is too long."""
        raise AssertionError("a subclass knows")


class Heartbeat(Detector):
    """A timeout for each peer, which learns from mistakes."""

    timeout_s = 1.2
    longer_s = 0.5
    # Bounds the time to notice a death.
    timeout_most_s = 5.0

    def start(self) -> None:
        super().start()
        self.timeouts = dict.fromkeys(self.peers, self.timeout_s)

    def heard(self, peer: Id, interval_s: float, is_same_life: bool) -> None:
        if peer in self.suspected and is_same_life:
            longer_s = self.timeouts[peer] + self.longer_s
            self.timeouts[peer] = min(longer_s, self.timeout_most_s)

    def is_silent(self, peer: Id, silence_s: float) -> bool:
        return silence_s > self.timeouts[peer]


class PhiAccrual(Detector):
    """``phi`` is the suspicion as a number: 1 is wrong one time in ten, 2 in a hundred, ..."""

    threshold = 8.0
    samples = 50
    # Intervals are never taken for more regular than this.
    deviation_least_s = 0.1

    def start(self) -> None:
        super().start()
        # The last intervals of each peer; at first a guess.
        self.intervals = {peer: [self.beat_s * 0.75, self.beat_s * 1.25] for peer in self.peers}

    def heard(self, peer: Id, interval_s: float, is_same_life: bool) -> None:
        # How long it was down says nothing about how it beats.
        if is_same_life:
            self.intervals[peer].append(interval_s)
            del self.intervals[peer][: -self.samples]

    def is_silent(self, peer: Id, silence_s: float) -> bool:
        return self.phi(peer, silence_s) >= self.threshold

    def phi(self, peer: Id, silence_s: float) -> float:
        """-log10 of the chance that a beat comes later still, intervals being normal."""
        intervals = self.intervals[peer]
        mean_s = sum(intervals) / len(intervals)
        variance = sum((each - mean_s) ** 2 for each in intervals) / len(intervals)
        deviation_s = max(sqrt(variance), self.deviation_least_s)
        later = erfc((silence_s - mean_s) / deviation_s / sqrt(2.0)) / 2.0
        return -log10(max(later, 1e-300))


@eventually(Detector, within_s=90.0)
def who_is_suspected_is_dead_and_no_other(view: View[Detector]) -> bool:
    """Strong completeness and eventual strong accuracy: all agree, for as long as one looks."""
    living = {process.id for process in view.processes}
    some = view.changed
    dead = set(some.everyone) - living
    right = len(dead) >= some.deaths and all(p.suspected == dead for p in view.processes)
    return lasts(view, right, 5.0)


@sometimes(Detector)
def a_suspicion_is_given_up(view: View[Detector]) -> bool:
    """It was wrong, or its node came back."""
    return view.changed.mistakes > 0


@always(Heartbeat)
def silence_is_noticed_in_time(view: View[Heartbeat]) -> None:
    """When it has looked, it suspects whoever it has not heard for longer than it waits, by its
    own clock: while its machine sleeps nobody is silent."""
    process, mine = view.changed, notes(view)
    for peer, latest in process.latest.items():
        if mine.get(peer, (None, 0.0))[0] != latest:
            mine[peer] = (latest, process.now)
    if mine.get("looks") == process.looks:
        return
    mine["looks"] = process.looks
    for peer in process.latest:
        silent_s = process.now - mine[peer][1]
        bound_s = min(process.timeouts[peer], process.timeout_most_s)
        is_noticed = silent_s <= bound_s or peer in process.suspected
        assert is_noticed, f"{process.id} trusts {peer}, silent for {silent_s:.1f} s"


@always(PhiAccrual)
def suspicion_grows_in_silence(view: View[PhiAccrual]) -> None:
    """Accruement: while nothing is heard of a peer, phi does not go down."""
    process, mine = view.changed, notes(view)
    if mine.get("looks") == process.looks:
        return
    mine["looks"] = process.looks
    for peer, latest in process.latest.items():
        before, phi_before = mine.get(peer, (None, 0.0))
        phi = process.phi(peer, process.now - process.heard_s[peer])
        assert before != latest or phi >= phi_before, f"{phi} of {peer} after {phi_before}"
        mine[peer] = (latest, phi)
