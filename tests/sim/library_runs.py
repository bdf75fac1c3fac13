"""What tests of the library share: an algorithm holds, and its broken forms do not."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from perseus.algo import Process
from perseus.algo.codec import Codec
from perseus.sim import runner
from perseus.sim.faults import PRESETS, Fault
from perseus.sim.load import load
from perseus.sim.runner import Plan
from perseus.sim.watch import Outcome
from perseus.sim.world import World

SHORT_S = 30.0


def assert_clean(about: Plan, seeds: Iterable[int]) -> None:
    """All properties hold, no handler raises, and each "sometimes" is reached."""
    reached: set[str] = set()
    for seed in seeds:
        outcome = runner.run_one(about, seed)
        solves = f" --workload {about.workload}" if about.workload else ""
        replay = f"perseus sim {about.target}{solves} --seed {seed} --time {about.until_s:g}"
        assert outcome.violation is None, f"{replay}: {outcome.violation}"
        assert outcome.errors == {}, replay
        reached |= outcome.reached
    assert reached == _sometimes(about)


def _sometimes(about: Plan) -> set[str]:
    properties = runner.world(about, 0).properties
    return {each.name for each in properties if each.kind == "sometimes"}


def short(target: str, faults: str = "all") -> Plan:
    """Half a minute of it."""
    return Plan(target, PRESETS[faults], until_s=SHORT_S)


def found(target: str, seed: int, faults: str = "all") -> str:
    """Which property the mistake breaks at its seed."""
    outcome = runner.run_one(short(target, faults), seed)
    assert outcome.violation is not None, f"{target} is clean at seed {seed}"
    return outcome.violation.name


def with_one_down(target: str, node: str, seed: int = 1) -> Outcome:
    """A run without other faults, in which one node goes down and stays so past its end."""
    down = Fault("crash", 0.5, 10 * SHORT_S, (node,))
    layout = load(target)
    return World(layout, 5, seed, PRESETS["none"], faults_plan=[down], until_s=SHORT_S).run()


def outcome_of(about: Plan, bug: type[Process], file: str, seed: int) -> Outcome:
    """The run of a broken form that stands in a file."""
    return runner.run_one(replace(about, target=f"{file}:{bug.__name__}"), seed)


def assert_listed(bugs: Sequence[type[Process]], seeds: dict[str, int]) -> None:
    """Every mistake has its seed."""
    assert {bug.__name__ for bug in bugs} == set(seeds)


def assert_encodable(about: Plan, seed: int = 0) -> None:
    """Every message, and all that is durable, is the same as bytes and back."""
    codec = Codec.of(load(about.target, about.workload))

    def look(at_s: float, kind: str, who: str, more: Any) -> None:
        if kind == "send":
            message = more[1]
            assert codec.decode(codec.encode(message)) == message

    world = runner.world(about, seed, look)
    assert world.run().violation is None
    for process in world._all_processes():
        for name in process._durable:
            value = process.__dict__[name]
            assert codec.decode(codec.encode(value)) == value
