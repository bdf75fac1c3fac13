"""Makes a failing run smaller: fewer faults, a calm network.

The faults are left out by delta debugging (Zeller and Hildebrandt, "Simplifying and
Isolating Failure-Inducing Input", 2002): halves, then quarters, and so on. What is
kept fails with the same property, though perhaps in another way.
"""

from dataclasses import dataclass, replace

from perseus.sim.runner import Plan, world
from perseus.sim.watch import Outcome, Violation

RUNS_MAXIMUM = 300


@dataclass(frozen=True)
class Shrunk:
    """A smaller run that fails."""

    about: Plan
    violation: Violation
    runs: int


class _Search:
    def __init__(self, seed: int, name: str) -> None:
        self._seed = seed
        self._name = name
        self.runs = 0

    def fails(self, about: Plan) -> Violation | None:
        """How it fails, if it does so with the same property."""
        if self.runs >= RUNS_MAXIMUM:
            return None
        self.runs += 1
        violation = world(about, self._seed).run().violation
        return violation if violation is not None and violation.name == self._name else None


def shrink(about: Plan, outcome: Outcome) -> Shrunk:
    """The smallest run found that fails with the same property as ``outcome``."""
    assert outcome.violation is not None
    search = _Search(outcome.seed, outcome.violation.name)
    best, violation = about, outcome.violation
    places = tuple(range(len(world(about, outcome.seed).plan)))
    best = replace(best, keep=places)
    calm = replace(best, is_calm=True)
    if (found := search.fails(calm)) is not None:
        best, violation = calm, found
    best, violation = _fewer_faults(search, best, violation)
    return Shrunk(best, violation, search.runs)


def _fewer_faults(search: _Search, about: Plan, violation: Violation) -> tuple[Plan, Violation]:
    places = list(about.keep or ())
    parts = 2
    while places:
        size = max(1, len(places) // parts)
        for at in range(0, len(places), size):
            rest = places[:at] + places[at + size :]
            found = search.fails(replace(about, keep=tuple(rest)))
            if found is not None:
                places, violation = rest, found
                parts = max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(places), parts * 2)
    return replace(about, keep=tuple(places)), violation
