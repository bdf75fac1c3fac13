"""Clocks, failure detectors, SWIM and snapshots under all faults, and broken on purpose."""

import pytest

from perseus.algo import Process
from perseus.algo.library.clocks import Stamp, Vector
from tests.sim import library_bugs_views
from tests.sim.library_runs import assert_clean, found, short

# For each mistake the first seed that shows it: `perseus sim tests/sim/library_bugs_views.py:NAME
# --time 30`.
FIRST_SEEDS = {
    "ForgetsTheTime": 0,
    "DoesNotListen": 0,
    "TakesTheOthersVector": 0,
    "JoinsWithoutTick": 0,
    "SuspectsForGood": 1,
    "TakesOldBeats": 1,
    "WaitsEverLonger": 21,
    "TakesSilenceForAnInterval": 0,
    "AnyAliveOverrides": 0,
    "DefendsOthers": 4,
    "DeathIsFinal": 2,
    "NeverRefutes": 1,
    "MarkersOvertake": 0,
    "ForgetsWhatIsOnItsWay": 0,
    "SavesAfterTheMarkers": 0,
    "RecordsTheMarkedChannel": 0,
}


@pytest.mark.parametrize(
    "target",
    [
        "clocks:LamportClock",
        "clocks:VectorClock",
        "detectors:Heartbeat",
        "detectors:PhiAccrual",
        "swim:Swim",
        "snapshot:Bank",
    ],
)
def test_it_holds(target: str) -> None:
    assert_clean(short(f"perseus.algo.library.{target}"), range(20))


@pytest.mark.parametrize("bug", library_bugs_views.ALL, ids=lambda bug: bug.__name__)
def test_a_mistake_is_found(bug: type[Process]) -> None:
    found(f"{library_bugs_views.__file__}:{bug.__name__}", FIRST_SEEDS[bug.__name__])


def test_stamps_are_in_a_total_order() -> None:
    assert Stamp(1, "n2") < Stamp(2, "n1") < Stamp(2, "n2")


def test_vectors_are_in_a_partial_order() -> None:
    nothing = Vector()
    one, other = nothing.ticked("a"), nothing.ticked("b")
    assert nothing < one <= one and not one < one
    assert one.is_concurrent_with(other) and not one <= other and not other <= one
    both = one.joined(other)
    assert both == other.joined(one) and one < both and other < both
    assert both.ticked("a")["a"] == 2 and both["c"] == 0
