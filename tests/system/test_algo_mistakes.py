"""What a person is told who lets befall a run what cannot be, or is so already."""

from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from algo_harness import Lab
from harness import until

from perseus.cli import devcluster
from perseus.hosting.run import Run

# n3 ends at once whenever it begins.
PROGRAM = """
from perseus.algo import Process


class Node(Process):
    def start(self):
        if self.id == "n3":
            raise ValueError("on purpose")
"""
QUIET = """
from perseus.algo import Process


class Node(Process):
    pass
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with harness.cluster(tmp_path_factory.mktemp("algo"), 2) as cluster:
        made = Lab(cluster)
        with made.client:
            yield made


@pytest.fixture(scope="module")
def run(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    program = tmp_path_factory.mktemp("program") / "quiet.py"
    program.write_text(QUIET)
    made = lab.start(f"{program}:Node", 3)
    yield made
    lab.algo("stop", made.run).ok()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("partition RUN n1 n1", 2, "n1 cannot be on both sides"),
        ("partition RUN n1,n2 n3,n2", 2, "n2 cannot be on both sides"),
        ("partition RUN n1,n2,n3", 2, "nobody is left for the other side of n1, n2, n3"),
        ("partition RUN n9", 125, "has no process n9"),
        ("partition RUN n1 n9", 125, "its processes are: n1, n2, n3"),
        ("kill RUN nine", 125, "has no process nine"),
        ("kill RUN ,", 125, "no process of run"),
        ("slow RUN n1", 2, "--loss 0.2, or --delay 300ms"),
        ("heal RUN", 0, "no fault was on any process"),
        ("heal RUN n2", 0, "no fault was on n2"),
        ("watch RUN --process n9", 125, "has no process n9"),
        ("kill nonesuch n1", 125, "perseus algo ps"),
    ],
)
def test_what_cannot_be_meant_is_told(lab: Lab, run: Run, words: str, code: int, said: str) -> None:
    done = lab.algo(*words.replace("RUN", run.run).split())
    assert (done.code, said in done.stderr) == (code, True), done


def test_what_is_so_already_is_told(lab: Lab, run: Run) -> None:
    lab.algo("pause", run.run, "n1,n1").ok()
    again = lab.algo("pause", run.run, "n1,n2").ok()
    assert "n1 is paused already" in again.stderr and "n2 is" not in again.stderr
    assert f"perseus algo heal {run.run} n1" in again.stderr
    assert lab.algo("heal", run.run).ok().stderr == ""


def test_others_hear_one_again_that_is_healed(lab: Lab, run: Run) -> None:
    lab.algo("partition", run.run, "n1,n2", "n3").ok()
    assert lab.algo("heal", run.run, "n1").ok().stderr == ""
    deaf = {p.id: list(p.status.deaf_to) for p in lab.runs.look(run) if p.status}
    assert (deaf["n1"], deaf["n2"], deaf["n3"]) == ([], ["n3"], ["n2"])
    lab.algo("heal", run.run, "n3").ok()
    assert not any(p.status and p.status.deaf_to for p in lab.runs.look(run))


def test_one_that_is_down_is_not_paused_nor_killed(lab: Lab, tmp_path: Path) -> None:
    program = tmp_path / "raises.py"
    program.write_text(PROGRAM)
    run = lab.start(f"{program}:Node", 3)

    def refused() -> harness.Result | None:
        done = lab.algo("pause", run.run, "n3")
        if done.code == 0:
            # It was just beginning.
            lab.algo("heal", run.run, "n3").ok()
        return done if done.code else None

    assert "down just now, and so not paused: n3" in until(refused, "n3 is down").stderr
    job_id = lab.runs.jobs(run)["n3"]

    def told() -> bool:
        stderr = lab.algo("kill", run.run, "n3").ok().stderr
        return f"exit code 70: ValueError: on purpose; perseus logs --stderr {job_id}" in stderr

    until(told, "n3 was down already")
    lab.algo("stop", run.run).ok()


def test_who_could_not_be_told_and_why_is_in_the_words_of_the_cluster(lab: Lab, run: Run) -> None:
    away = next(process for process, node in run.nodes.items() if node == "node-2")
    devcluster.kill(lab.cluster.folder, "node-2")

    def is_lost() -> bool:
        return {node.name: node.state for node in lab.client.nodes()}["node-2"] == "lost"

    until(is_lost, "node-2 is lost")
    done = lab.algo("pause", run.run, f"n1,{away}")
    assert done.code == 125 and "told were: n1" in done.stderr, done
    assert f"{away} was not told: its task is pending, node-2 is lost" in done.stderr
    text = lab.algo("ps", run.run).ok().text
    assert "its task is pending, node-2 is lost" in text and "127.0.0.1" not in text
    devcluster.up(2, lab.cluster.folder)
    until(lambda: all(each.status for each in lab.runs.look(run)), "all are there again")
    lab.algo("heal", run.run).ok()


def test_a_run_that_is_stopped_is_told_as_such(lab: Lab, tmp_path: Path) -> None:
    program = tmp_path / "quiet.py"
    program.write_text(QUIET)
    run = lab.start(f"{program}:Node", 1)
    lab.algo("stop", run.run).ok()
    done = lab.algo("kill", run.run, "n1")
    assert done.code == 125 and f"run {run.run} is stopped" in done.stderr, done
    assert f"perseus algo run {program}:Node" in done.stderr
    states = [each["state"] for each in lab.cluster.perseus("--json", "algo", "ps", run.run).json()]
    assert set(states) == {"stopped"}
