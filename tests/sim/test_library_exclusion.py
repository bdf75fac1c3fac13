"""Elections, mutual exclusion and leases under all faults, broken on purpose, and their limits."""

import pytest

from perseus.algo import Process
from perseus.sim import runner
from tests.sim import library_bugs_exclusion
from tests.sim.library_runs import assert_clean, found, short, with_one_down

# For each mistake the first seed that shows it:
# `perseus sim tests/sim/library_bugs_exclusion.py:NAME --time 30`.
FIRST_SEEDS = {
    "FollowsAnybody": 2,
    "WaitsForTheLeaderForGood": 434,
    "LeadsInSilence": 0,
    "PassesEverythingOn": 0,
    "DrawsAgain": 0,
    "StandsOnce": 0,
    "EntersAtTheHead": 2,
    "OrderDoesNotMatter": 0,
    "ForgetsTheQueue": 0,
    "ComparesTimesOnly": 0,
    "GivesLeaveInside": 0,
    "ForgetsWhoWaits": 0,
    "unfenced": 1,
    "reads_do_not_fence": 16,
    "forgets_the_token": 0,
    "forgets_the_holders_life": 0,
    # With --faults steady: clocks drift, and do not jump.
    "grants_at_once": 4,
    "counts_from_the_answer": 1,
}


@pytest.mark.parametrize(
    "target",
    ["election:Bully", "election:Ring", "mutex:LamportMutex", "mutex:RicartAgrawala"],
)
def test_it_holds(target: str) -> None:
    assert_clean(short(f"perseus.algo.library.{target}"), range(20))


def test_the_fenced_store_holds_whatever_clocks_do() -> None:
    assert_clean(short("perseus.algo.library.lease:leases"), range(40))


@pytest.mark.parametrize("bug", library_bugs_exclusion.ALL, ids=lambda bug: bug.__name__)
def test_a_mistake_is_found(bug: type[Process]) -> None:
    _found(bug.__name__)


@pytest.mark.parametrize("bug", library_bugs_exclusion.LEASES)
def test_a_mistake_in_leases_is_found(bug: str) -> None:
    _found(bug)


@pytest.mark.parametrize("bug", library_bugs_exclusion.STEADY_LEASES)
def test_a_mistake_in_time_is_found(bug: str) -> None:
    assert _found(bug, "steady") == "always one believes"


def _found(bug: str, faults: str = "all") -> str:
    return found(f"{library_bugs_exclusion.__file__}:{bug}", FIRST_SEEDS[bug], faults)


def test_without_jumps_of_clocks_one_believes_that_it_holds_the_lease() -> None:
    target = f"{library_bugs_exclusion.__file__}:alone"
    for seed in range(20):
        outcome = runner.run_one(short(target, "steady"), seed)
        assert outcome.violation is None, f"{outcome.violation} at seed {seed}"


def test_with_jumps_two_may_believe_it() -> None:
    assert found(f"{library_bugs_exclusion.__file__}:alone", 8) == "always one believes"


@pytest.mark.parametrize(
    ("target", "waited_for"),
    [
        ("election:Ring", "eventually every election ends"),
        ("mutex:LamportMutex", "eventually all who ask get in"),
        ("mutex:RicartAgrawala", "eventually all who ask get in"),
    ],
)
def test_who_needs_everybody_waits_while_one_is_down(target: str, waited_for: str) -> None:
    outcome = with_one_down(f"perseus.algo.library.{target}", "n3")
    assert outcome.violation is not None and outcome.violation.name == waited_for


def test_a_lease_does_not_need_its_last_holder() -> None:
    assert with_one_down("perseus.algo.library.lease:leases", "holder3").violation is None
