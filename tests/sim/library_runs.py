"""What tests of the library share: an algorithm holds, and its broken forms do not."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from perseus.algo import Process
from perseus.algo.codec import Codec
from perseus.algo.properties import properties_of
from perseus.sim import runner
from perseus.sim.load import load
from perseus.sim.runner import Plan
from perseus.sim.watch import Outcome


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
    kinds = [group.kind for group in load(about.target, about.workload).groups.values()]
    known = [each for kind in kinds for each in properties_of(kind)]
    return {each.name for each in known if each.kind == "sometimes"}


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
