"""Multi-Paxos and the quorum register under all faults, as they stand and broken."""

import pytest

from perseus.algo import Process
from perseus.sim.faults import PRESETS
from perseus.sim.runner import Plan
from tests.sim import library_bugs_agreement as bugs
from tests.sim.library_runs import assert_clean, assert_encodable, assert_listed, outcome_of

PAXOS = Plan("perseus.algo.library.paxos:Paxos", PRESETS["all"])
REGISTER = Plan("perseus.algo.library.register:Register", PRESETS["all"])
ALL: list[type[Process]] = [*bugs.PAXOS, *bugs.REGISTER]

# For each mistake a seed that shows it, with
# `perseus sim tests/sim/library_bugs_agreement.py:NAME`.
FIRST_SEEDS = {
    "VolatilePromise": 208,
    "VolatileVotes": 4,
    "TakesTheLowestVote": 27,
    "AcceptsOldBallots": 88,
    "LeavesGaps": 71,
    "AcceptsInMemory": 0,
    "DoesTwice": 1,
    "ReadsOnceRegister": 83,
    "TooFewRegister": 5,
    "BlindRegister": 0,
    "SharedTagsRegister": 0,
    "VolatileRegister": 0,
    "StoresTheLast": 0,
}


@pytest.mark.parametrize("about", [PAXOS, REGISTER], ids=lambda about: about.target)
def test_it_holds(about: Plan) -> None:
    assert_clean(about, range(20))


@pytest.mark.parametrize("about", [PAXOS, REGISTER], ids=lambda about: about.target)
def test_all_of_it_can_be_sent_and_kept(about: Plan) -> None:
    assert_encodable(about)


@pytest.mark.parametrize("bug", ALL, ids=lambda bug: bug.__name__)
def test_a_mistake_is_found(bug: type[Process]) -> None:
    outcome = outcome_of(PAXOS, bug, bugs.__file__, FIRST_SEEDS[bug.__name__])
    assert outcome.violation is not None


def test_every_mistake_has_its_seed() -> None:
    assert_listed(ALL, FIRST_SEEDS)
