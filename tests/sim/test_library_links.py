"""Links, exactly-once delivery and broadcasts under all faults, and broken on purpose."""

import pytest

from perseus.algo import Process
from tests.sim import library_bugs_links
from tests.sim.library_runs import assert_clean, found, short

# For each mistake the first seed that shows it: `perseus sim tests/sim/library_bugs_links.py:NAME
# --time 30`.
FIRST_SEEDS = {
    "ForgetsWhatItInsistsOn": 0,
    "ForgetsWhatArrived": 0,
    "AcknowledgesTooMuch": 2,
    "DeliversAsItComes": 0,
    "CountsAnew": 0,
    "ForgetsAnswers": 2,
    "PostsPastTheOutbox": 0,
    "AnswersFirst": 0,
    "SendsWithoutLinks": 0,
    "PassesNothingOn": 2,
    "ForgetsWhatItKnew": 0,
    "WaitsForNothing": 0,
    "ForgetsWhatWaits": 45,
    "ProposesAnew": 0,
}


@pytest.mark.parametrize(
    "target",
    [
        "links:StubbornTalk",
        "links:PerfectTalk",
        "links:FifoTalk",
        "exactly_once:ExactlyOnce",
        "broadcast:BestEffort",
        "broadcast:Reliable",
        "broadcast:Causal",
        "broadcast:TotalOrder",
    ],
)
def test_it_holds(target: str) -> None:
    assert_clean(short(f"perseus.algo.library.{target}"), range(20))


@pytest.mark.parametrize("bug", library_bugs_links.ALL, ids=lambda bug: bug.__name__)
def test_a_mistake_is_found(bug: type[Process]) -> None:
    found(f"{library_bugs_links.__file__}:{bug.__name__}", FIRST_SEEDS[bug.__name__])


def test_best_effort_does_not_promise_agreement() -> None:
    target = f"{library_bugs_links.__file__}:BestEffortAgreement"
    assert found(target, 2) == "eventually the living agree"
