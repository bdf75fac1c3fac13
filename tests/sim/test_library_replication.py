"""Gossiped documents and Merkle trees under all faults, as they stand and broken."""

import pytest

from perseus.algo import Process
from perseus.sim.faults import PRESETS
from perseus.sim.runner import Plan
from tests.sim import library_bugs_replication as bugs
from tests.sim.library_runs import assert_clean, assert_encodable, assert_listed, outcome_of

CRDT = Plan("perseus.algo.library.crdt:Replica", PRESETS["all"])
MERKLE = Plan("perseus.algo.library.merkle:AntiEntropy", PRESETS["all"])
ALL: list[type[Process]] = [*bugs.CRDT, *bugs.MERKLE]

FIRST_SEEDS = {
    "TheLastToComeWins": 0,
    "StampsWithTheClock": 1,
    "AddsWhatComes": 0,
    "BringsBackWhatWasRemoved": 0,
    "EditsInMemory": 0,
    "ForgetsWhatItSaw": 0,
    "HashesOnlyKeys": 0,
    "GivesAndDoesNotTake": 0,
    "KeepsItemsInMemory": 0,
    "KeepsAnOldTree": 1,
}


@pytest.mark.parametrize("about", [CRDT, MERKLE], ids=lambda about: about.target)
def test_it_holds(about: Plan) -> None:
    assert_clean(about, range(10))


@pytest.mark.parametrize("about", [CRDT, MERKLE], ids=lambda about: about.target)
def test_all_of_it_can_be_sent_and_kept(about: Plan) -> None:
    assert_encodable(about)


@pytest.mark.parametrize("bug", ALL, ids=lambda bug: bug.__name__)
def test_a_mistake_is_found(bug: type[Process]) -> None:
    outcome = outcome_of(CRDT, bug, bugs.__file__, FIRST_SEEDS[bug.__name__])
    assert outcome.violation is not None


def test_every_mistake_has_its_seed() -> None:
    assert_listed(ALL, FIRST_SEEDS)
