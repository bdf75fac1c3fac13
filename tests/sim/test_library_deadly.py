"""What lives with the loss of a minority: some nodes die, and do not come back."""

from dataclasses import replace

import pytest

from perseus.algo import Group, Layout, Process
from perseus.algo.library.broadcast import TotalOrder
from perseus.algo.library.commit import ThreePhaseCommit, TwoPhaseCommit
from perseus.sim.faults import PRESETS
from perseus.sim.world import World
from tests.sim.library_runs import SHORT_S, assert_clean, short

SEEDS = 20


@pytest.mark.parametrize(
    "target",
    [
        "kv:Kv",
        "paxos:Paxos",
        "vsr:Vsr",
        "register:Register",
        "detectors:Heartbeat",
        "detectors:PhiAccrual",
        "swim:Swim",
        "broadcast:BestEffort",
        "broadcast:Reliable",
        "broadcast:Causal",
        "election:Bully",
        "lease:leases",
        "mapreduce:mapreduce",
    ],
)
def test_it_holds_without_the_dead(target: str) -> None:
    about = short(f"perseus.algo.library.{target}", "deadly")
    assert_clean(replace(about, until_s=2 * SHORT_S), range(SEEDS))


def test_total_order_needs_no_more_than_a_majority() -> None:
    # Of itself one dies in each run; here the faults say how many.
    layout = Layout(n=Group(TotalOrder, options={"mortals": 0}))
    for seed in range(SEEDS):
        outcome = World(layout, 5, seed, PRESETS["deadly"], until_s=SHORT_S).run()
        assert outcome.violation is None, f"{outcome.violation} at seed {seed}"


def blocked(kind: type[Process]) -> list[int]:
    """The seeds at which who lives waits in vain, where silence means a crash."""
    faults = replace(PRESETS["crash"], is_deadly=True)
    runs = [World(Layout.of(kind), 5, seed, faults).run() for seed in range(SEEDS)]
    broken = [outcome for outcome in runs if outcome.violation is not None]
    assert all(str(outcome.violation).startswith("eventually") for outcome in broken)
    return [outcome.seed for outcome in broken]


def test_three_phases_do_not_need_the_dead_and_two_do() -> None:
    assert not blocked(ThreePhaseCommit)
    assert blocked(TwoPhaseCommit)
