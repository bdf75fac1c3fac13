"""The problem set: each problem's solution holds, and the mistakes in others are found."""

import inspect
from pathlib import Path

import pytest
import soak

from perseus.algo import Process, workloads
from perseus.algo.codec import Codec
from perseus.algo.maelstrom import from_body, to_body
from perseus.algo.workloads.lin_kv import Cas
from perseus.errors import InvalidError
from perseus.sim import runner
from perseus.sim.faults import PRESETS
from perseus.sim.load import load
from perseus.sim.runner import Plan
from tests.sim import workload_bugs
from tests.sim.library_runs import assert_clean, assert_encodable

ROOT = Path(__file__).resolve().parents[2]
UNTIL_S = 30.0
# By mistake the first seed that shows it, and the property that it breaks.
FIRST_SEEDS = {
    "EchoesTheLast": (0, "always what comes back is what was said"),
    "SaysNothing": (0, "eventually every client is answered"),
    "AnswersWithAnother": (0, "always answers fit their questions"),
    "CountsInMemory": (0, "always no id is given twice"),
    "TellsTheTime": (0, "always no id is given twice"),
    "TellsOnce": (0, "eventually every node has all that was acknowledged"),
    "HearsInMemory": (0, "eventually every node has all that was acknowledged"),
    "TakesArrivalForGranted": (1, "eventually every node has all that was acknowledged"),
    "ReplacesWhatItHas": (0, "eventually every node has all that was acknowledged"),
    "AddsInMemory": (0, "eventually every node has all that was acknowledged"),
    "ListsTwice": (0, "always what is read was added and is there once"),
    "CountsWhatComes": (0, "eventually every node has the sum of what was acknowledged"),
    "LosesUpdates": (0, "eventually every node has the sum of what was acknowledged"),
    "OneNumberForAll": (1, "eventually every node has the sum of what was acknowledged"),
    "OffsetsOfItsOwn": (0, "eventually every client sees every acknowledged message"),
    "PollsSkip": (0, "at_end logs are in order and whole"),
    "PollsBackward": (0, "at_end logs are in order and whole"),
    "CommitsGoBack": (0, "at_end logs are in order and whole"),
    "ReadsItsOwnCopy": (0, "at_end history is linearizable"),
    "ReadsAtTheLeader": (49, "at_end history is linearizable"),
    "SwapsWithoutLooking": (0, "at_end history is linearizable"),
    "AnswersTooEarly": (0, "at_end history is linearizable"),
    "AppendsToCopies": (0, "at_end transactions are serializable"),
    "ReadsBeforeItWrites": (0, "at_end transactions are serializable"),
    "AppliesStepByStep": (0, "at_end transactions are serializable"),
    "SaysItFailed": (0, "at_end transactions are serializable"),
}


def solution(workload: str, until_s: float = UNTIL_S) -> Plan:
    target = f"perseus.algo.workloads.solutions.{soak.SOLUTIONS[workload]}:Node"
    return Plan(target, PRESETS["all"], until_s=until_s, workload=workload)


@pytest.mark.parametrize("workload", workloads.CLIENTS)
def test_the_solution_holds(workload: str) -> None:
    assert_clean(solution(workload), range(15))


@pytest.mark.parametrize("workload", workloads.CLIENTS)
def test_all_of_it_can_be_sent_and_kept(workload: str) -> None:
    assert_encodable(solution(workload))


@pytest.mark.parametrize("workload", workloads.CLIENTS)
def test_a_seed_gives_the_same_run(workload: str) -> None:
    one, other = (runner.run_one(solution(workload), 4) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("bug", workload_bugs.ALL, ids=lambda bug: bug.__name__)
def test_a_mistake_is_found(bug: type[Process]) -> None:
    target = f"{workload_bugs.__file__}:{bug.__name__}"
    about = Plan(target, PRESETS["all"], until_s=UNTIL_S, workload=workload_bugs.ALL[bug])
    seed, name = FIRST_SEEDS[bug.__name__]
    violation = runner.run_one(about, seed).violation
    assert violation is not None and violation.name == name


@pytest.mark.parametrize(
    ("bug", "seed", "anomaly"),
    [
        ("ReadsBeforeItWrites", 2, "G-single"),
        ("ReadsBeforeItWrites", 2, "G2-item"),
        ("AppliesStepByStep", 1, "G1b"),
        ("AppliesStepByStep", 1, "lost update"),
        ("AppliesStepByStep", 3, "G0"),
        ("AppliesStepByStep", 3, "G1c"),
        ("SaysItFailed", 0, "G1a"),
    ],
)
def test_what_is_wrong_with_transactions_has_its_name(bug: str, seed: int, anomaly: str) -> None:
    target = f"{workload_bugs.__file__}:{bug}"
    about = Plan(target, PRESETS["all"], until_s=UNTIL_S, workload="txn-list-append")
    violation = runner.run_one(about, seed).violation
    assert violation is not None
    assert anomaly in [said.partition(":")[0] for said in violation.said.split("; ")]


def test_every_mistake_has_its_seed_and_every_problem_a_mistake() -> None:
    assert {bug.__name__ for bug in workload_bugs.ALL} == set(FIRST_SEEDS)
    assert set(workload_bugs.ALL.values()) == set(workloads.CLIENTS)


def test_every_problem_is_described() -> None:
    page = (ROOT / "docs/workloads.md").read_text()
    missing = [name for name in workloads.CLIENTS if f"## {name}\n" not in page]
    assert not missing
    for name in workloads.CLIENTS:
        client = workloads.client_of(name)
        for one in [*client.answers, *client.answers.values()]:  # type: ignore[attr-defined]
            assert f"`{_shape(one)}`" in page, _shape(one)


def _shape(message: type) -> str:
    body = ", ".join(name.removesuffix("_") for name in inspect.signature(message).parameters)
    return f"{message.__name__}({body})" if body else message.__name__


def test_all_that_is_soaked_is_there() -> None:
    assert set(soak.SOLUTIONS) == set(workloads.CLIENTS)
    for name in soak.ALGORITHMS:
        assert load(f"{soak.LIBRARY}.{name}").groups


def test_what_is_no_problem_or_no_solution_is_said() -> None:
    with pytest.raises(InvalidError, match="there is no workload 'eco'"):
        workloads.layout("eco", Process)
    with pytest.raises(InvalidError, match="one class"):
        load("perseus.algo.library.lease:leases", "echo")


def test_what_a_client_exchanges_does_not_come_twice() -> None:
    """Else a counter could not be right: an addition has no name."""
    layout = load("perseus.algo.workloads.solutions.counters:Node", "g-counter")
    assert layout.groups["client"].is_connected
    seen: list[tuple[str, int]] = []

    def look(at_s: float, kind: str, who: str, more: object) -> None:
        if kind == "receive":
            assert isinstance(more, tuple)
            if "client" in who or "client" in more[0]:
                seen.append((who, more[2]))

    for seed in range(5):
        seen.clear()
        runner.world(solution("g-counter"), seed, look).run()
        assert seen and len(set(seen)) == len(seen)


def test_a_field_that_python_has_no_name_for() -> None:
    body = {"type": "cas", "key": 1, "from": 2, "to": 3}
    assert from_body(Cas, body) == Cas(1, 2, 3)
    assert to_body(Cas(1, 2, 3)) == body


def test_messages_of_a_problem_have_names_of_their_own() -> None:
    """Under Maelstrom a message is known by its name alone."""
    for workload in workloads.CLIENTS:
        layout = load(solution(workload).target, workload)
        names = Codec.of(layout)._classes
        client = workloads.client_of(workload)
        for one in client.answers:  # type: ignore[attr-defined]
            assert names[one.__name__] is one
