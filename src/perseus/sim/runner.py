"""Many runs: one for each seed, spread over the cores."""

import os
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from perseus.errors import UnavailableError
from perseus.sim.chance import Chance
from perseus.sim.faults import Fault, Faults, plan_of
from perseus.sim.load import load
from perseus.sim.parallel import DiedError, send_early, spread
from perseus.sim.patience import ENDLESS, STEP_LIMIT_S, Endless, limited
from perseus.sim.watch import Outcome
from perseus.sim.world import Tracer, World


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
    # True time that one step may take; 0: as long as it likes.
    step_limit_s: float = STEP_LIMIT_S


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


def run(
    made: World,
    step_limit_s: float = STEP_LIMIT_S,
    last: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """To its end; a step that does not end breaks it. Where nothing interrupts that step,
    ``last`` is told how it went, and this process ends."""
    end = last or _say
    try:
        with limited(made, step_limit_s, lambda said: end(made.broken(ENDLESS, said))):
            return made.run()
    except Endless as endless:
        return made.broken(ENDLESS, str(endless))


def _say(outcome: Outcome) -> None:
    print(f"perseus: seed {outcome.seed}: {outcome.violation}", file=sys.stderr, flush=True)


def run_one(
    about: Plan,
    seed: int,
    trace: Tracer | None = None,
    last: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """One run."""
    return run(world(about, seed, trace), about.step_limit_s, last)


def run_many(
    about: Plan,
    seeds: Sequence[int],
    processes: int = 0,
    beat: Callable[[], None] = lambda: None,
) -> Generator[Outcome, None, None]:
    """The runs of all seeds, in their order, in processes of their own but under a debugger;
    closing the iterator ends the rest. ``beat`` is called now and then while one is waited for."""
    load(about.target, about.workload)
    if sys.gettrace() is not None:
        for seed in seeds:
            yield run_one(about, seed)
        return
    processes = processes or os.cpu_count() or 1
    try:
        yield from spread(
            lambda seed: run_one(about, seed, last=send_early), seeds, processes, beat
        )
    except DiedError as died:
        ending = f"by signal {-died.code}" if died.code < 0 else f"with exit code {died.code}"
        raise UnavailableError(
            f"the process that ran seed {died.seed} ended {ending}",
            hint=f"does the program end it, or is memory short? by itself: --seed {died.seed}",
        ) from None
