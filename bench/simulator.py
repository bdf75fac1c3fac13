"""The simulator: how fast Raft passes under all faults, on one core and on all."""

import os
import time
from collections.abc import Sequence

from bench.base import Bench, Row

SECONDS_PER_S_TARGET = 1000.0
SEEDS_TARGET_S = 20.0
SEEDS = 200
UNTIL_S = 60.0
RAFT = "perseus.algo.library.raft:Raft"
KV = "perseus.algo.library.kv:Kv"


def simulator(bench: Bench) -> list[Row]:
    """Five nodes under all faults: simulated seconds a second, and the wait for many seeds."""
    seeds = range(20 if bench.quick else SEEDS)
    return [
        _rate("sim: Raft, 5 nodes, all faults, one core", RAFT, seeds),
        _rate("sim: the same as a map with 3 clients", KV, seeds),
        _wait(seeds),
    ]


def _run(target: str, seeds: Sequence[int], processes: int) -> tuple[float, float]:
    """Seconds that were simulated, and that it took."""
    from perseus.sim.faults import PRESETS
    from perseus.sim.runner import Plan, run_many

    about = Plan(target, PRESETS["all"], until_s=UNTIL_S)
    start, simulated_s = time.perf_counter(), 0.0
    for outcome in run_many(about, seeds, processes):
        if outcome.violation is not None:
            raise RuntimeError(f"seed {outcome.seed} of {target}: {outcome.violation}")
        simulated_s += outcome.simulated_s
    return simulated_s, time.perf_counter() - start


def _rate(what: str, target: str, seeds: Sequence[int]) -> Row:
    simulated_s, took_s = _run(target, seeds, 1)
    rate = simulated_s / took_s
    wanted = f">= {SECONDS_PER_S_TARGET:g}"
    return Row(what, rate, "simulated s/s", wanted, rate >= SECONDS_PER_S_TARGET)


def _wait(seeds: Sequence[int]) -> Row:
    took_s = _run(KV, seeds, os.cpu_count() or 1)[1]
    what = f"sim: {len(seeds)} seeds of {UNTIL_S:g} s of that map, all cores"
    return Row(what, took_s, "s", f"<= {SEEDS_TARGET_S:g}", took_s <= SEEDS_TARGET_S)
