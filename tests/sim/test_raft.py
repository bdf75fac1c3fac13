"""Raft under all faults: clean as it stands, and broken wherever it is broken on purpose."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perseus.algo import Process
from perseus.sim import runner
from perseus.sim.faults import PRESETS
from perseus.sim.runner import Plan
from tests.sim import raft_bugs

ROOT = Path(__file__).resolve().parents[2]
KV = Plan("perseus.algo.library.kv:Kv", PRESETS["all"])

# For each mistake the first seed that shows it, with `perseus sim tests/sim/raft_bugs.py:NAME`.
# `make soak` looks for all of them from seed 0 on.
FIRST_SEEDS = {
    "VolatileVote": 410,
    "VolatileTerm": 0,
    "CommitsOldTerms": 0,
    "VotesForAnyLog": 6,
    "VotesTwice": 4,
    "SmallMajority": 2,
    "AcceptsGaps": 0,
    "KeepsWhatDiffers": 35,
    "CutsOnEachAppend": 2,
    "ForgetsSessions": 8,
    "SnapshotsForgetSessions": 189,
    "ReadsAtOnce": 3,
    "InstallsOldSnapshots": 439,
    "AnswersBeforeCommit": 0,
}


def test_raft_holds() -> None:
    reached: set[str] = set()
    for seed in range(40):
        outcome = runner.run_one(KV, seed)
        assert outcome.violation is None, f"perseus sim {KV.target} --seed {seed}"
        assert outcome.errors == {}, f"perseus sim {KV.target} --seed {seed}"
        reached |= outcome.reached
    assert reached == {"a second leader is elected", "a log is cut", "a swap succeeds"}


@pytest.mark.parametrize(("target", "seed"), [("broadcast:TotalOrder", 21), ("kv:Kv", 3)])
def test_a_server_alone_applies_what_is_on_its_disk(target: str, seed: int) -> None:
    about = Plan(f"perseus.algo.library.{target}", PRESETS["all"], nodes=1)
    outcome = runner.run_one(about, seed)
    assert outcome.violation is None


@pytest.mark.parametrize("bug", raft_bugs.ALL, ids=lambda bug: bug.__name__)
def test_a_mistake_is_found(bug: type[Process]) -> None:
    about = Plan(f"{raft_bugs.__file__}:{bug.__name__}", PRESETS["all"])
    outcome = runner.run_one(about, FIRST_SEEDS[bug.__name__])
    assert outcome.violation is not None


def test_every_mistake_has_its_seed() -> None:
    assert {bug.__name__ for bug in raft_bugs.ALL} == set(FIRST_SEEDS)


@pytest.mark.parametrize("target", [KV.target])
def test_a_seed_gives_the_same_run_whatever_the_hashes(target: str) -> None:
    program = (
        "import json, sys; from perseus.sim import runner, trace, faults\n"
        f"plan = runner.Plan({target!r}, faults.PRESETS['all'], until_s=20.0)\n"
        "taken = [trace.Trace() for _ in range(3)]\n"
        "for seed, one in enumerate(taken): runner.world(plan, seed, one).run()\n"
        "print(json.dumps([one.digest for one in taken]))"
    )
    said = []
    for hashes in ("0", "1", "7"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, check=True
        )
        said.append(json.loads(done.stdout))
    assert said[0] == said[1] == said[2]
    assert len(set(said[0])) == 3
