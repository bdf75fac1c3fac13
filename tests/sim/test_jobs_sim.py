"""Jobs under random faults: lost nodes, lost, late and doubled messages, a restarted master.

A failing seed is printed with the command that replays it.
"""

import os
import random

import pytest

from perseus.jobs import records
from tests.unit.jobs_harness import World, act

STEPS = 250
SEEDS = range(25)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_each_task_ends_once(seed: int) -> None:
    seed = int(os.environ.get("SEED", seed))
    chance = random.Random(seed)
    world = World(nodes=chance.choice((1, 2, 4)), cores=chance.choice((1, 2, 4)))
    try:
        for step in range(STEPS):
            act(world, chance)
            world.check()
            if step % 20 == 0:
                world.check_reload()
        world.settle()
        world.check()
        _check_end(world)
    except AssertionError:
        print(f"replay: SEED={seed} make test ARGS=tests/sim/test_jobs_sim.py")
        raise


def _check_end(world: World) -> None:
    """Nothing is held, every attempt's output was committed or discarded, never both."""
    for toy in world.toys.values():
        assert not toy.attempts
        assert not world.jobs.leased_to(toy.node_id)
    for job in world.jobs.jobs().values():
        assert job.state in records.ENDED_STATES
        for task in job.tasks:
            for number in range(1, task.attempt + 1):
                attempt = f"{job.job_id}.{task.index}.{number}"
                ends = world.outputs.committed[attempt], bool(world.outputs.discarded[attempt])
                assert ends in ((1, False), (0, True), (0, False))
