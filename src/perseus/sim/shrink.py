"""Makes a failing run smaller: fewer faults, a calm network.

The faults are left out by delta debugging (Zeller and Hildebrandt, "Simplifying and
Isolating Failure-Inducing Input", 2002): halves, then quarters, and so on. What is
kept fails with the same property, though perhaps in another way. What broke at a moment
breaks not later then, nor after many more events: a run that is to be read has to be
short, too. What is judged when a run is over is as long with any faults.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

from perseus.sim.runner import Plan, run_one, world
from perseus.sim.watch import Outcome, Violation

RUNS_MAXIMUM = 300
# With fewer faults more happens in the same time. So much more is allowed, of the events of
# the run that was found, and of its time for messages that take a moment longer.
EVENTS_SHARE = 1.25
TIME_SHARE = 1.01


@dataclass(frozen=True)
class Shrunk:
    """A smaller run that fails."""

    about: Plan
    outcome: Outcome
    runs: int

    @property
    def violation(self) -> Violation:
        """How it fails."""
        assert self.outcome.violation is not None
        return self.outcome.violation


class _Search:
    def __init__(self, found: Outcome, beat: Callable[[int], None]) -> None:
        assert found.violation is not None
        self._seed = found.seed
        self._name = found.violation.name
        at_end = self._name.startswith(("eventually ", "at_end "))
        self._events_most = inf if at_end else found.events * EVENTS_SHARE
        self._until_s = inf if at_end else found.violation.at_s * TIME_SHARE
        self._beat = beat
        self.runs = 0

    def fails(self, about: Plan) -> Outcome | None:
        """How it goes, if it fails with the same property and is no longer."""
        if self.runs >= RUNS_MAXIMUM:
            return None
        self.runs += 1
        self._beat(self.runs)
        outcome = run_one(about, self._seed)
        broken = outcome.violation
        if broken is None or broken.name != self._name:
            return None
        is_long = broken.at_s > self._until_s or outcome.events > self._events_most
        return None if is_long else outcome


def shrink(about: Plan, found: Outcome, beat: Callable[[int], None] = lambda runs: None) -> Shrunk:
    """The smallest run found that fails with the same property as ``found``; ``beat`` is told
    of each run that is tried."""
    assert found.violation is not None
    search = _Search(found, beat)
    plan = world(about, found.seed).plan
    known = range(len(plan)) if about.keep is None else about.keep
    # What befalls nodes later than it failed does nothing.
    at_s = found.violation.at_s
    places = tuple(place for place, fault in zip(known, plan, strict=True) if fault.at_s <= at_s)
    best, outcome = replace(about, keep=places), found
    calm = replace(best, is_calm=True)
    if (failed := search.fails(calm)) is not None:
        best, outcome = calm, failed
    best, outcome = _fewer_faults(search, best, outcome)
    return Shrunk(best, outcome, search.runs)


def _fewer_faults(search: _Search, about: Plan, outcome: Outcome) -> tuple[Plan, Outcome]:
    places = list(about.keep or ())
    parts = 2
    while places:
        size = max(1, len(places) // parts)
        for at in range(0, len(places), size):
            rest = places[:at] + places[at + size :]
            found = search.fails(replace(about, keep=tuple(rest)))
            if found is not None:
                places, outcome = rest, found
                parts = max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(places), parts * 2)
    return replace(about, keep=tuple(places)), outcome
