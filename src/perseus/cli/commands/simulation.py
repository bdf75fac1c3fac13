"""``perseus sim``: runs an algorithm under faults, from seeds, and shows what broke.

Exit code 0 when every property held; 1 when one did not or a "sometimes" never came, when
a step does not end, when runs do not repeat, or when a handler raised at one place in every
run; 2 for what was typed, 130 after ^C.
"""

import os
import sys
from dataclasses import replace
from typing import Any

from perseus.algo.layout import Layout
from perseus.algo.properties import Property
from perseus.cli.commands import simulated
from perseus.cli.commands.series import EXIT_INTERRUPTED, Series
from perseus.cli.main import Invocation
from perseus.cli.units import UsageError, checked, parse_duration_s
from perseus.shellwords import as_word
from perseus.sim import diagram, explore, faults, repeat, runner, trace
from perseus.sim.load import load
from perseus.sim.runner import Plan
from perseus.sim.watch import Outcome
from perseus.sim.world import World

NODES_MAXIMUM = 1000
STATES_MAXIMUM = 100_000_000
PROCESSES_MAXIMUM = 1000
# Seeds are of 64 bits.
SEED_MAXIMUM = (1 << 64) - 1
# What is advised where a bound of --explore cannot be.
_USUAL = {"depth": 30, "states": 200_000, "timeouts": 4, "crashes": 1}


def simulate(invocation: Invocation) -> int:
    """Many seeds, or the one that ``--seed`` names."""
    fix_hashes()
    options = invocation.options
    about = _plan(options)
    _check_seeds(options)
    simulated.check_picture(options.picture)
    layout = checked(load, about.target, about.workload)
    for stray in repeat.strays(layout):
        invocation.console.say(stray)
    if options.explore:
        _refuse_cluster(options, "--explore goes through states one after the other, here")
        return _explore(invocation, layout, about)
    if options.seed is not None:
        _refuse_cluster(options, "--seed is one run, here")
        return _replay(invocation, about, options.seed)
    _say_if_none(invocation, about, runner.world(about, options.first).properties)
    return Series(invocation, about, layout).run()


def _refuse_cluster(options: Any, why: str) -> None:
    if options.cluster:
        raise UsageError(f"--cluster is for many seeds; {why}", hint="--seeds 1000 --cluster")


def _say_if_none(invocation: Invocation, about: Plan, properties: list[Property]) -> None:
    """A class that promises nothing breaks nothing."""
    if not properties:
        name = about.target.rpartition(":")[2]
        invocation.console.say(
            f"{name} has no properties: nothing is looked at but that its steps end. Write what"
            f" must hold: @always({name}) above def what_holds(view), as in docs/algorithms.md"
        )


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
    for flag, least, most in (("nodes", 1, NODES_MAXIMUM), ("processes", 0, PROCESSES_MAXIMUM)):
        value = getattr(options, flag)
        if not least <= value <= most:
            raise UsageError(f"--{flag} {value} is not possible", hint=f"{least} to {most}")
    until_s = parse_duration_s(options.time, "--time")
    if until_s <= 0:
        raise UsageError(f"--time {options.time}: nothing happens in no time", hint="--time 60s")
    return Plan(
        options.target,
        checked(faults.preset, options.faults),
        options.nodes,
        until_s,
        keep=_kept(options.keep),
        is_calm=options.calm,
        workload=options.workload,
        step_limit_s=parse_duration_s(options.step_limit, "--step-limit"),
    )


def _kept(said: str | None) -> tuple[int, ...] | None:
    if said is None:
        return None
    try:
        places = tuple(int(place) for place in said.split(",")) if said != "none" else ()
    except ValueError:
        places = (-1,)
    if any(place < 0 for place in places):
        raise UsageError(f"--keep {said!r}", hint="numbers, as in --keep 0,4; or none")
    return places


def _check_seeds(options: Any) -> None:
    for flag in ("seed", "first"):
        value = getattr(options, flag)
        if value is not None and not 0 <= value <= SEED_MAXIMUM:
            raise UsageError(f"--{flag} {value} is no seed", hint=f"0 to {SEED_MAXIMUM}")
    if options.keep not in (None, "none") and options.seed is None:
        raise UsageError(
            f"--keep {options.keep} is of one run's faults, and other seeds have others",
            hint=f"--seed SEED --keep {as_word(options.keep)}",
        )


# One seed.


def _replay(invocation: Invocation, about: Plan, seed: int) -> int:
    taken = trace.Trace()
    _check_kept(about, seed)
    world = runner.world(about, seed, taken)
    _say_if_none(invocation, about, world.properties)

    def tell(outcome: Outcome) -> None:
        _tell_replayed(invocation, about, world, taken, outcome)

    outcome = runner.run(world, about.step_limit_s, last=tell)
    tell(outcome)
    return 0 if outcome.violation is None else 1


def _tell_replayed(
    invocation: Invocation, about: Plan, world: World, taken: trace.Trace, outcome: Outcome
) -> None:
    console = invocation.console
    if console.as_json:
        notes = repeat.strays(load(about.target, about.workload))
        told = {"digest": taken.digest, "events": taken.count, "notes": notes}
        console.json(simulated.as_json(outcome) | told)
    else:
        simulated.show(invocation, taken)
        for fault in world.plan:
            console.say(f"fault: {fault}")
        simulated.tell(invocation, outcome)
        console.say(f"digest of its {taken.count} events: {taken.digest[:16]}")
    simulated.draw(invocation, list(taken.events), simulated.title_of(outcome))


def _check_kept(about: Plan, seed: int) -> None:
    """Raises UsageError for faults that the run does not have."""
    count = len(runner.world(replace(about, keep=None), seed).plan)
    beyond = [place for place in about.keep or () if place >= count]
    if beyond:
        have = f"0 to {count - 1}" if count else "none"
        raise UsageError(
            f"--keep {beyond[0]}: the run of seed {seed} has {count} faults",
            hint=f"{have}; they are those of this --faults, --nodes and --time",
        )


# All orders.


def _explore(invocation: Invocation, layout: Layout, about: Plan) -> int:
    options = invocation.options
    _check_bounds(options)
    bounds = explore.Bounds(options.depth, options.timeouts, options.crashes, options.states)
    explorer = explore.Explorer(layout, about.nodes, bounds, about.step_limit_s)
    _say_if_none(invocation, about, explorer.properties)
    feed = simulated.Feed(invocation.console)

    def tell(found: explore.Explored) -> None:
        feed.clear()
        _tell_found(invocation, found)

    found = explorer.run(
        lambda states, depth: feed.show(f"{states} states, depth {depth}"), last=tell
    )
    tell(found)
    if found.ended_by == "interrupt":
        return EXIT_INTERRUPTED
    return 0 if found.violation is None else 1


def _tell_found(invocation: Invocation, found: explore.Explored) -> None:
    console = invocation.console
    if console.as_json:
        console.json(_explored_as_json(found))
    elif found.violation is None:
        _tell_explored(invocation, found)
    else:
        console.line(f"{console.colour('broken', 'red')}: {found.violation}")
        console.line(diagram.text(found.events))
        console.say(f"{found.states} states in {found.took_s:.1f} s")
    simulated.draw(invocation, found.events, str(found.violation or "every always held"))


def _check_bounds(options: Any) -> None:
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


def _tell_explored(invocation: Invocation, found: explore.Explored) -> None:
    """Nothing broke; how much that says."""
    console, options = invocation.console, invocation.options
    all_of = "all" if found.is_complete else "the first"
    short = f" of up to {options.depth} events" if found.ended_by == "depth" else ""
    console.line(f"every always held in {all_of} {found.states} states{short}")
    within = f"--depth {options.depth} --timeouts {options.timeouts} --crashes {options.crashes}"
    console.say(f"up to {found.depth} events of {within}, in {found.took_s:.1f} s")
    for name in sorted(found.reached):
        console.say(f"reached: {name}")
    for name in sorted(found.missing):
        console.warn(f"no state was `{name}`: the search proves little; wider bounds?")
    ending = {
        "states": f"there are more: --states {options.states * 10} goes further",
        "memory": "there are more, but no memory for them: fewer --nodes, or narrower bounds",
        "interrupt": "interrupted; there are more",
        "depth": f"runs go on after {options.depth} events: --depth {options.depth * 2}",
    }
    if found.ended_by:
        console.say(ending[found.ended_by])


def _explored_as_json(found: explore.Explored) -> dict[str, Any]:
    violation = found.violation
    return {
        "violation": None if violation is None else str(violation),
        "events": [str(event).strip() for event in found.events],
        "states": found.states,
        "depth": found.depth,
        "is_complete": found.is_complete,
        "ended_by": found.ended_by,
        "reached": sorted(found.reached),
        "never_reached": sorted(found.missing),
        "seconds": found.took_s,
    }
