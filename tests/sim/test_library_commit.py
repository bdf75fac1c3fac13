"""Atomic commit: safe, blocking with two phases, not with three, and what three cost."""

from dataclasses import replace

import pytest

from perseus.algo import Layout, Process, View, always
from perseus.algo.library.commit import ThreePhaseCommit, TwoPhaseCommit
from perseus.algo.library.commit.member import Member
from perseus.sim import runner
from perseus.sim.faults import PRESETS, Fault
from perseus.sim.runner import Plan
from perseus.sim.world import World
from tests.sim import library_bugs_commit as bugs
from tests.sim.library_runs import assert_clean, assert_encodable, assert_listed, outcome_of

TWO = Plan("perseus.algo.library.commit:TwoPhaseCommit", PRESETS["all"])
THREE = Plan("perseus.algo.library.commit:ThreePhaseCommit", PRESETS["crash"])

FIRST_SEEDS = {
    "ForgetsItsVote": 4,
    "AbortsInDoubt": 6,
    "CommitsByMajority": 0,
    "DecidesInMemory": 0,
    "PresumesAbort": 1,
}
FIRST_SEEDS_OF_THREE = {"AbortsAlways": 63, "Impatient": 0}
SPLIT_SEED = 26


def test_two_phases_hold() -> None:
    assert_clean(TWO, range(15))


def test_three_phases_hold_where_silence_means_a_crash() -> None:
    assert_clean(THREE, range(20))


@pytest.mark.parametrize("about", [TWO, THREE], ids=lambda about: about.target)
def test_all_of_it_can_be_sent_and_kept(about: Plan) -> None:
    assert_encodable(about)


@pytest.mark.parametrize("bug", bugs.TWO_PHASES, ids=lambda bug: bug.__name__)
def test_a_mistake_with_two_phases_is_found(bug: type[Process]) -> None:
    assert outcome_of(TWO, bug, bugs.__file__, FIRST_SEEDS[bug.__name__]).violation is not None


@pytest.mark.parametrize("bug", bugs.THREE_PHASES, ids=lambda bug: bug.__name__)
def test_a_mistake_with_three_phases_is_found(bug: type[Process]) -> None:
    seed = FIRST_SEEDS_OF_THREE[bug.__name__]
    assert outcome_of(THREE, bug, bugs.__file__, seed).violation is not None


def test_every_mistake_has_its_seed() -> None:
    assert_listed([*bugs.TWO_PHASES, *bugs.THREE_PHASES], FIRST_SEEDS | FIRST_SEEDS_OF_THREE)


class TwoWatched(TwoPhaseCommit):
    """Whose doubts are timed."""


class ThreeWatched(ThreePhaseCommit):
    """Whose doubts are timed."""


@always(TwoWatched)
@always(ThreeWatched)
def doubts_end_within_25_s(view: View[Member]) -> bool:
    process = view.changed
    since: dict[tuple[str, str], float] = view.ghost
    doubts = [since.setdefault((process.id, name), view.now_s) for name in process.in_doubt]
    return all(view.now_s < began + 25.0 for began in doubts)


def without_n1(kind: type[Process], seed: int) -> str:
    """What breaks when n1 crashes for good, at the commit after the third second."""
    gone = Fault("crash-before-commit", 3.0, 1e4, ("n1",))
    world = World(Layout.of(kind), 5, seed, PRESETS["none"], faults_plan=[gone], until_s=60.0)
    return str(world.run().violation)


def test_two_phases_block_without_their_coordinator_and_three_do_not() -> None:
    blocked = [seed for seed in range(12) if "doubts end" in without_n1(TwoWatched, seed)]
    assert blocked
    for seed in blocked:
        assert "doubts end" not in without_n1(ThreeWatched, seed)


def test_a_partition_splits_three_phases_and_not_two() -> None:
    cut = replace(THREE, faults=PRESETS["network"])
    outcome = runner.run_one(cut, SPLIT_SEED)
    assert outcome.violation is not None
    assert outcome.violation.name == "always outcomes agree"
    same = runner.run_one(replace(cut, target=TWO.target), SPLIT_SEED)
    assert same.violation is None
