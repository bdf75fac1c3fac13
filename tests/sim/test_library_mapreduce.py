"""The master of MapReduce under all faults, as it stands and broken."""

from dataclasses import replace

import pytest

from perseus.sim import runner
from perseus.sim.faults import PRESETS
from perseus.sim.runner import Plan
from tests.sim import library_bugs_mapreduce as bugs
from tests.sim.library_runs import assert_clean, assert_encodable

JOB = Plan("perseus.algo.library.mapreduce:mapreduce", PRESETS["all"])

FIRST_SEEDS = {
    "commits_the_last": 0,
    "leases_for_ever": 1,
    "adds_what_comes_twice": 1,
    "finishes_with_what_it_has": 2,
    "mixes_partitions": 22,
}


def test_it_holds() -> None:
    assert_clean(JOB, range(30))


def test_all_of_it_can_be_sent_and_kept() -> None:
    assert_encodable(JOB)


@pytest.mark.parametrize("bug", FIRST_SEEDS)
def test_a_mistake_is_found(bug: str) -> None:
    about = replace(JOB, target=f"{bugs.__file__}:{bug}")
    assert runner.run_one(about, FIRST_SEEDS[bug]).violation is not None
