"""``perseus sim``: runs an algorithm under faults, from seeds, and shows what broke.

Exit code 0 when every property held, 1 when one did not or a "sometimes" never came.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perseus.algo.layout import Layout
from perseus.cli.console import Fleeting
from perseus.cli.main import Invocation
from perseus.cli.units import UsageError, parse_duration_s
from perseus.sim import diagram, explore, faults, runner, shrink, trace
from perseus.sim.load import load
from perseus.sim.runner import Plan
from perseus.sim.watch import Outcome

SEEDS_MAXIMUM = 10_000_000
NODES_MAXIMUM = 1000
STATES_MAXIMUM = 100_000_000
# What is advised where a bound of --explore cannot be.
_USUAL = {"depth": 30, "states": 200_000, "timeouts": 4, "crashes": 1}
REPORT_INTERVAL_S = 0.2


def simulate(invocation: Invocation) -> int:
    """Many seeds, or the one that ``--seed`` names."""
    fix_hashes()
    options = invocation.options
    about = _plan(options)
    layout = load(about.target, about.workload)
    if options.explore:
        _refuse_cluster(options, "--explore goes through states one after the other, here")
        return _explore(invocation, layout, about.nodes)
    if options.seed is not None:
        _refuse_cluster(options, "--seed is one run, here")
        return _replay(invocation, about, options.seed)
    return _Series(invocation, about, Fleeting(invocation.console)).run()


def _refuse_cluster(options: Any, why: str) -> None:
    if options.cluster:
        raise UsageError(f"--cluster is for many seeds; {why}", hint="--seeds 1000 --cluster")


def fix_hashes() -> None:
    """Begins anew with fixed hashes of text: the order of a set must not differ from run to
    run. A daemon-less command, so nothing is lost by it."""
    if not sys.flags.hash_randomization:
        return
    program = (
        "import sys; sys.path[:] = eval(sys.argv.pop(1));"
        "from perseus.cli.fast import start; start(sys.argv[1:])"
    )
    command = [sys.executable, "-s", "-X", "utf8", "-c", program, repr(sys.path), *sys.argv[1:]]
    sys.stdout.flush()
    os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})


def _plan(options: Any) -> Plan:
    if not 1 <= options.nodes <= NODES_MAXIMUM:
        raise UsageError(f"--nodes {options.nodes} is not possible", hint=f"1 to {NODES_MAXIMUM}")
    keep = None
    if options.keep is not None:
        try:
            places = options.keep.split(",") if options.keep != "none" else []
            keep = tuple(int(place) for place in places)
        except ValueError:
            raise UsageError(f"--keep {options.keep!r}", hint="numbers, as in --keep 0,4") from None
    return Plan(
        options.target,
        faults.preset(options.faults),
        options.nodes,
        parse_duration_s(options.time, "--time"),
        keep=keep,
        is_calm=options.calm,
        workload=options.workload,
    )


def command(about: Plan, options: Any, seed: int) -> str:
    """What to type to see one run again."""
    words = ["perseus sim", about.target]
    if about.workload:
        words.append(f"--workload {about.workload}")
    words += [f"--seed {seed}", f"--nodes {about.nodes}"]
    if options.faults != "all":
        words.append(f"--faults {options.faults}")
    words.append(f"--time {about.until_s:g}")
    if about.keep is not None:
        words.append(f"--keep {','.join(map(str, about.keep)) or 'none'}")
    if about.is_calm:
        words.append("--calm")
    return " ".join(words)


# One seed.


def _replay(invocation: Invocation, about: Plan, seed: int) -> int:
    console, options = invocation.console, invocation.options
    taken = trace.Trace()
    world = runner.world(about, seed, taken)
    outcome = world.run()
    if console.as_json:
        console.json(_as_json(outcome) | {"digest": taken.digest, "events": taken.count})
    else:
        if options.trace:
            console.line(trace.text(list(taken.events)))
        if options.diagram:
            console.line(diagram.text(list(taken.events)))
        for fault in world.plan:
            console.say(f"fault: {fault}")
        _tell(invocation, outcome)
        console.say(f"digest of its {taken.count} events: {taken.digest[:16]}")
    _draw(invocation, outcome, taken)
    return 0 if outcome.violation is None else 1


def _tell(invocation: Invocation, outcome: Outcome) -> None:
    console = invocation.console
    for error, count in outcome.errors.items():
        console.say(f"a handler raised, {count} times: {error}")
    if outcome.violation is None:
        console.line(
            f"seed {outcome.seed}: all properties held in {outcome.simulated_s:.1f} s,"
            f" {outcome.steps} steps, {outcome.crashes} crashes"
        )
    else:
        words = console.colour("broken", "red")
        at_s = outcome.violation.at_s
        console.line(f"seed {outcome.seed}: {words} after {at_s:.3f} s: {outcome.violation}")


def _draw(invocation: Invocation, outcome: Outcome, taken: trace.Trace) -> None:
    path = invocation.options.picture
    if path:
        title = f"seed {outcome.seed}: {outcome.violation or 'all properties held'}"
        Path(path).write_text(diagram.svg(list(taken.events), title))
        invocation.console.say(f"the picture is in {path}")


# All orders.


def _explore(invocation: Invocation, layout: Layout, nodes: int) -> int:
    console, options = invocation.console, invocation.options
    for flag in ("depth", "states"):
        if not 1 <= getattr(options, flag) <= STATES_MAXIMUM:
            raise UsageError(
                f"--{flag} {getattr(options, flag)} is not possible",
                hint=f"1 to {STATES_MAXIMUM}: --{flag} {_USUAL[flag]}",
            )
    for flag in ("timeouts", "crashes"):
        if getattr(options, flag) < 0:
            raise UsageError(
                f"--{flag} {getattr(options, flag)} is below 0",
                hint=f"0 or more: --{flag} {_USUAL[flag]}",
            )
    bounds = explore.Bounds(options.depth, options.timeouts, options.crashes, options.states)
    found = explore.Explorer(layout, nodes, bounds).run()
    if console.as_json:
        console.json(_explored_as_json(found))
    elif found.violation is None:
        all_of = "all" if found.is_complete else "the first"
        console.line(f"every always held in {all_of} {found.states} states")
        console.say(f"up to {found.depth} events, in {found.took_s:.1f} s")
        for name in sorted(found.reached):
            console.say(f"reached: {name}")
    else:
        console.line(f"{console.colour('broken', 'red')}: {found.violation}")
        console.line(diagram.text(found.events))
        console.say(f"{found.states} states in {found.took_s:.1f} s")
    if options.picture:
        title = str(found.violation or "every always held")
        Path(options.picture).write_text(diagram.svg(found.events, title))
    return 0 if found.violation is None else 1


def _explored_as_json(found: explore.Explored) -> dict[str, Any]:
    violation = found.violation
    return {
        "violation": None if violation is None else str(violation),
        "events": [str(event).strip() for event in found.events],
        "states": found.states,
        "depth": found.depth,
        "is_complete": found.is_complete,
        "reached": sorted(found.reached),
        "seconds": found.took_s,
    }


# Many seeds.


@dataclass
class _Series:
    invocation: Invocation
    about: Plan
    line: Fleeting
    begun_s: float = field(default_factory=time.monotonic)
    told_s: float = 0.0
    done: int = 0
    steps: int = 0
    simulated_s: float = 0.0
    reached: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def run(self) -> int:
        """Until one fails, or all have run."""
        options = self.invocation.options
        if not 1 <= options.seeds <= SEEDS_MAXIMUM:
            raise UsageError(f"--seeds {options.seeds} is not possible", hint="--seeds 1000")
        seeds = range(options.first, options.first + options.seeds)
        with self.line, closing(self._outcomes(seeds)) as outcomes:
            for outcome in outcomes:
                self._count(outcome)
                if outcome.violation is not None:
                    break
                self._progress(len(seeds))
        return self._held(seeds) if outcome.violation is None else self._failed(outcome)

    def _outcomes(self, seeds: Sequence[int]) -> Generator[Outcome, None, None]:
        """In the order of the seeds, from wherever they are run."""
        if not self.invocation.options.cluster:
            return runner.run_many(self.about, seeds, self.invocation.options.processes)
        from perseus.hosting import seeds as hosted

        parallel = self.invocation.options.processes
        return hosted.run_many(self.invocation.cluster, self.about, seeds, parallel)

    def _count(self, outcome: Outcome) -> None:
        self.done += 1
        self.steps += outcome.steps
        self.simulated_s += outcome.simulated_s
        self.reached.update(outcome.reached)
        self.errors.update(outcome.errors)

    def _progress(self, total: int) -> None:
        now_s = time.monotonic()
        if now_s > self.told_s + REPORT_INTERVAL_S:
            self.told_s = now_s
            self.line.show(f"{self.done} of {total} seeds")

    def _failed(self, outcome: Outcome) -> int:
        console, options = self.invocation.console, self.invocation.options
        smaller = None
        if not options.no_shrink:
            smaller = shrink.shrink(self.about, outcome)
        replay = command(self.about, options, outcome.seed)
        shorter = command(smaller.about, options, outcome.seed) if smaller else replay
        taken = trace.Trace()
        about = smaller.about if smaller else self.about
        last = runner.world(about, outcome.seed, taken).run()
        if console.as_json:
            console.json(_as_json(outcome) | {"replay": replay, "shrunk": shorter})
        else:
            _tell(self.invocation, outcome)
            console.line(f"again:   {replay}")
            if smaller:
                kept = len(smaller.about.keep or ())
                calm = ", no loss of messages" if smaller.about.is_calm else ""
                console.line(f"smaller: {shorter}")
                console.say(f"made smaller in {smaller.runs} runs: {kept} faults{calm}")
                console.say(f"which breaks as: {last.violation}")
        _draw(self.invocation, last, taken)
        return 1

    def _held(self, seeds: Sequence[int]) -> int:
        console = self.invocation.console
        took_s = time.monotonic() - self.begun_s
        world = runner.world(self.about, seeds[0])
        wanted = [p.name for p in world.properties if p.kind == "sometimes"]
        missing = [name for name in wanted if name not in self.reached]
        if console.as_json:
            console.json(
                {
                    "seeds": len(seeds),
                    "violation": None,
                    "never_reached": missing,
                    "simulated_s": self.simulated_s,
                    "steps": self.steps,
                    "seconds": took_s,
                    "errors": dict(self.errors),
                }
            )
            return 1 if missing else 0
        for error, count in self.errors.most_common():
            console.say(f"a handler raised, {count} times: {error}")
        for one in world.properties:
            console.line(f"{one.kind:10}  {one.name}{self._share(one.name, one.kind)}")
        console.say(
            f"{len(seeds)} seeds, {self.simulated_s:.0f} simulated seconds in {took_s:.1f} s"
        )
        for name in missing:
            console.say(f"no run reached `{name}`: the runs prove little; more --seeds or --time?")
        return 1 if missing else 0

    def _share(self, name: str, kind: str) -> str:
        if kind != "sometimes":
            return ": held"
        return f": in {self.reached[name]} of {self.done} runs"


def _as_json(outcome: Outcome) -> dict[str, Any]:
    violation = outcome.violation
    return {
        "seed": outcome.seed,
        "violation": None
        if violation is None
        else {"property": violation.name, "said": violation.said, "at_s": violation.at_s},
        "reached": sorted(outcome.reached),
        "steps": outcome.steps,
        "messages": outcome.messages,
        "crashes": outcome.crashes,
        "simulated_s": outcome.simulated_s,
        "errors": outcome.errors,
    }
