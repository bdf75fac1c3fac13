"""Many runs: one for each seed, spread over the cores."""

import os
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

from perseus.sim.chance import Chance
from perseus.sim.faults import Fault, Faults, plan_of
from perseus.sim.load import load
from perseus.sim.watch import Outcome
from perseus.sim.world import Tracer, World

# Seeds that one process takes at a time.
BATCH = 8
# Batches asked for ahead of those that are taken off.
AHEAD = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What every run of a series has in common."""

    target: str
    faults: Faults
    nodes: int = 5
    until_s: float = 60.0
    settle_s: float = 0.0
    # Places in the drawn plan of faults that are kept; None keeps all.
    keep: tuple[int, ...] | None = None
    # No loss, doubling or lateness of messages.
    is_calm: bool = False
    # The problem that the target solves; "" when it brings its own clients.
    workload: str = ""


def world(about: Plan, seed: int, trace: Tracer | None = None) -> World:
    """The world of one seed, ready to run."""
    layout = load(about.target, about.workload)
    faults = about.faults.of_seed(Chance(seed, "world"))
    drawn = plan_of(faults, layout.servers(about.nodes), about.until_s, seed)
    if about.is_calm:
        faults = replace(faults, loss=0.0, duplication=0.0, late_share=0.0)
    return World(
        layout,
        about.nodes,
        seed,
        replace(faults, is_swarm=False),
        faults_plan=kept(drawn, about.keep),
        until_s=about.until_s,
        settle_s=about.settle_s,
        trace=trace,
    )


def kept(drawn: Sequence[Fault], places: tuple[int, ...] | None) -> list[Fault]:
    """The faults at those places of the plan."""
    if places is None:
        return list(drawn)
    return [drawn[place] for place in places if place < len(drawn)]


def run_one(about: Plan, seed: int) -> Outcome:
    """One run."""
    return world(about, seed).run()


def run_many(
    about: Plan, seeds: Sequence[int], processes: int = 0
) -> Generator[Outcome, None, None]:
    """The runs of all seeds, in their order; closing the iterator ends the rest."""
    load(about.target, about.workload)
    processes = processes or os.cpu_count() or 1
    if processes == 1 or len(seeds) <= BATCH:
        for seed in seeds:
            yield run_one(about, seed)
        return
    batches = [seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)]
    pool = ProcessPoolExecutor(processes, mp_context=get_context("fork"))
    try:
        waiting: list[Future[list[Outcome]]] = []
        for batch in batches:
            waiting.append(pool.submit(_run_batch, about, batch))
            if len(waiting) >= processes * AHEAD:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run_batch(about: Plan, seeds: Sequence[int]) -> list[Outcome]:
    return [run_one(about, seed) for seed in seeds]
