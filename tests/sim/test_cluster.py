"""The whole cluster, simulated: membership, filestore and jobs as they stand, under faults.

``make sim`` runs more seeds, ``make soak`` a thousand.
"""

import pytest

from perseus.algo import Layout
from perseus.sim.faults import PRESETS
from perseus.sim.world import World
from tests.sim.cluster import bugs
from tests.sim.cluster.layout import cluster

TARGET = "tests.sim.cluster.layout:cluster --faults steady"
SEEDS = 20
# For each mistake a seed that shows it, and with what.
FOUND = {
    "goes_on": (1, "a task runs on one node"),
    "thaws_itself": (11, "a task runs on one node"),
    "keeps_nothing": (0, "all comes to rest"),
    "copies_half": (1, "replicas converge"),
    "never_deletes": (0, "all comes to rest"),
    "answers_too_early": (0, "no acknowledged job is lost"),
    "forgets_attempts": (0, "an epoch has one holder"),
    "takes_any_end": (68, "an epoch has one holder"),
    "believes_lengths": (1, "all comes to rest"),
}


def test_the_cluster_keeps_its_invariants() -> None:
    reached: set[str] = set()
    for seed in range(SEEDS):
        outcome = World(cluster, 1, seed, PRESETS["steady"]).run()
        assert outcome.violation is None, f"perseus sim {TARGET} --seed {seed}"
        assert outcome.errors == {}, f"perseus sim {TARGET} --seed {seed}"
        reached |= outcome.reached
    assert reached == {
        "a task is lost and finishes",
        "a chain breaks and the file is closed",
        "a replica is copied",
        "an attempt stands still and goes on",
    }


@pytest.mark.parametrize("name", FOUND)
def test_a_broken_invariant_is_found(name: str) -> None:
    seed, said = FOUND[name]
    violation = World(getattr(bugs, name), 1, seed, PRESETS["steady"]).run().violation
    assert violation is not None and said in violation.name


def test_every_mistake_is_looked_for() -> None:
    made = {name for name, value in vars(bugs).items() if isinstance(value, Layout)}
    assert made - {"cluster"} == set(FOUND)
