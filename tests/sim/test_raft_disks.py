"""A server of Raft that loses its disk: under its old name it breaks what held."""

from perseus.sim import runner
from perseus.sim.faults import PRESETS
from perseus.sim.runner import Plan
from tests.sim import raft_disks

# The first with which a committed entry is lost; at others the leader and the empty one send
# to each other without end, for Raft does not count on that.
LOST_SEED = 84


def about(name: str) -> Plan:
    return Plan(f"{raft_disks.__file__}:{name}", PRESETS["all"])


def test_a_server_that_comes_back_empty_under_its_name_is_found() -> None:
    violation = runner.run_one(about("ComesBackEmpty"), LOST_SEED).violation
    assert violation is not None and violation.name == "always what is committed stays"


def test_without_its_disk_it_stays_out_and_another_takes_its_place() -> None:
    reached: set[str] = set()
    # At 15 the operator is not told that a change was made, and asks for it again.
    for seed in range(25):
        outcome = runner.run_one(about("replaced"), seed)
        assert outcome.violation is None, (seed, outcome.violation)
        assert outcome.errors == {}, seed
        reached |= outcome.reached
    assert {"the new one is in", "the new one leads"} <= reached
