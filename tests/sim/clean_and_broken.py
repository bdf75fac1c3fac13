"""What tests of the library share: clean runs that get everywhere, mistakes that are found."""

from perseus.sim import runner
from perseus.sim.faults import PRESETS, Fault
from perseus.sim.load import load
from perseus.sim.runner import Plan
from perseus.sim.watch import Outcome
from perseus.sim.world import World

UNTIL_S = 30.0


def about(target: str, faults: str = "all") -> Plan:
    """A short run of it."""
    return Plan(target, PRESETS[faults], until_s=UNTIL_S)


def assert_clean(target: str, seeds: int = 20, faults: str = "all") -> None:
    """Every property holds in all runs, no handler raises, and each "sometimes" is reached."""
    plan = about(target, faults)
    reached: set[str] = set()
    for seed in range(seeds):
        outcome = runner.run_one(plan, seed)
        again = f"perseus sim {target} --faults {faults} --time {UNTIL_S:g} --seed {seed}"
        assert outcome.violation is None, f"{outcome.violation}: {again}"
        assert outcome.errors == {}, f"{outcome.errors}: {again}"
        reached |= outcome.reached
    wanted = {each.name for each in runner.world(plan, 0).properties if each.kind == "sometimes"}
    assert reached == wanted


def found(target: str, seed: int, faults: str = "all") -> str:
    """Which property the mistake breaks at its seed."""
    outcome = runner.run_one(about(target, faults), seed)
    assert outcome.violation is not None, f"{target} is clean at seed {seed}"
    return outcome.violation.name


def with_one_down(target: str, node: str, seed: int = 1) -> Outcome:
    """A run without other faults, in which one node goes down and stays so past its end."""
    down = Fault("crash", 0.5, 10 * UNTIL_S, (node,))
    layout = load(target)
    return World(layout, 5, seed, PRESETS["none"], faults_plan=[down], until_s=UNTIL_S).run()
