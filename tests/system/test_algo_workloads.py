"""The problem set on a real cluster: solutions hold under faults, and a mistake is found.

``make soak`` tries all of it: PERSEUS_TEST_WHOLE.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import pytest
from algo_harness import Lab
from harness import ROOT, until

from perseus.algo.workloads import CLIENTS
from perseus.hosting.check import fetch
from perseus.hosting.run import Run

SOLUTIONS = "perseus.algo.workloads.solutions"
BUGS = ROOT / "tests/sim/workload_bugs.py"

# What each problem promises above all; and which are tried at the same time.
PROMISES = {
    "broadcast": "every node has all that was acknowledged",
    "echo": "what comes back is what was said",
    "g-counter": "every node has the sum of what was acknowledged",
    "g-set": "every node has all that was acknowledged",
    "kafka": "logs are in order and whole",
    "lin-kv": "history is linearizable",
    "pn-counter": "every node has the sum of what was acknowledged",
    "txn-list-append": "transactions are serializable",
    "unique-ids": "no id is given twice",
}
GROUPS = [
    ("broadcast", "lin-kv", "txn-list-append"),
    ("echo", "g-set", "unique-ids"),
    ("g-counter", "kafka", "pn-counter"),
]
TRIED = GROUPS if os.environ.get("PERSEUS_TEST_WHOLE") else GROUPS[:1]

MAIN = """
from perseus.algo import Process, on
from perseus.algo.workloads.echo import Echo, EchoOk

import saying


class Node(Process):
    @on(Echo)
    def echo(self, sender, message):
        from voices.loud import voice

        self.reply(EchoOk(saying.same(voice(message.echo))))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with harness.cluster(tmp_path_factory.mktemp("algo"), 3) as cluster:
        made = Lab(cluster)
        with made.client:
            yield made


def _module(name: str) -> str:
    return "counters" if name.endswith("-counter") else name.replace("-", "_")


def _answered(lab: Lab, run: Run) -> int:
    """How many answers clients have got."""
    lines = fetch(lab.runs, run).lines
    return sum(line["k"] == "receive" for client in run.clients for line in lines[client])


def _go_on(lab: Lab, run: Run) -> None:
    before = _answered(lab, run)
    until(lambda: _answered(lab, run) > before + 5, "clients are answered again")


def _settled(lab: Lab, run: Run) -> Any:
    """What is said of each property, once all are judged."""

    def judged() -> Any:
        code, said = lab.check(run)
        assert code == 0, said
        found = {each["name"]: each["said"] for each in said["properties"]}
        return found if all("not judged" not in one for one in found.values()) else None

    return until(judged, "all properties are judged")


@pytest.mark.parametrize("names", TRIED, ids=" ".join)
def test_solutions_hold_through_a_kill_and_a_partition(lab: Lab, names: tuple[str, ...]) -> None:
    runs = {name: lab.start(f"{SOLUTIONS}.{_module(name)}:Node", 3, name) for name in names}
    for run in runs.values():
        assert run.clients[:3] == ("client1", "client2", "client3")
        _go_on(lab, run)
        lab.algo("kill", run.run, "n1").ok()
        lab.algo("partition", run.run, "n2").ok()
        _go_on(lab, run)
        lab.algo("heal", run.run).ok()
    for name, run in runs.items():
        judged = _settled(lab, run)
        assert judged[PROMISES[name]] == judged["every client is answered"] == "held"
        lab.algo("stop", run.run).ok()
    assert lab.leftovers() == []


def test_every_problem_is_tried() -> None:
    assert sorted(PROMISES) == sorted(CLIENTS) == sorted(name for group in GROUPS for name in group)


def test_a_mistake_that_a_kill_brings_to_light_is_found(lab: Lab) -> None:
    """Ids are counted in memory: after a crash they are given again."""
    run = lab.start(f"{BUGS}:CountsInMemory", 3, "unique-ids")
    _go_on(lab, run)
    assert lab.check(run)[1]["verdict"] == "held"
    lab.algo("kill", run.run, "n1,n2,n3").ok()
    until(lambda: lab.check(run)[0] == 1, "the same id is found twice")
    assert lab.check(run)[1]["violation"]["property"] == "always no id is given twice"
    lab.algo("stop", run.run).ok()


def test_a_mistake_is_found(lab: Lab) -> None:
    """Reads are answered from the copy of the node that is asked: while it is cut off they are
    of long ago."""
    run = lab.start(f"{BUGS}:ReadsItsOwnCopy", 3, "lin-kv")
    _go_on(lab, run)
    lab.algo("partition", run.run, "n3").ok()
    until(lambda: lab.check(run)[0] == 1, "the stale read is found")
    assert lab.check(run)[1]["violation"]["property"] == "at_end history is linearizable"
    lab.algo("stop", run.run).ok()


def test_modules_beside_a_file_go_with_it(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "saying.py").write_text("def same(text):\n    return text\n")
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices/loud.py").write_text("from .soft import voice\n")
    (tmp_path / "voices/soft.py").write_text("def voice(text):\n    return text\n")
    (tmp_path / "unused.py").write_text("this is no Python")
    run = lab.start(f"{tmp_path}/main.py:Node", 2, "echo")
    _go_on(lab, run)
    code, said = lab.check(run)
    assert code == 0, said
    lab.algo("stop", run.run).ok()


def test_what_would_be_missing_on_a_node_is_told_before_the_run(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "saying.py").write_text("")
    program = tmp_path / "hidden.py"
    program.write_text("import importlib\nimportlib.import_module('saying')\n" + MAIN)
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices/loud.py").write_text("voice = len\n")
    program.write_text(program.read_text().replace("import saying\n", ""))
    done = lab.algo("run", f"{program}:Node", "--workload", "echo")
    assert done.code != 0 and "No module named 'saying'" in done.stderr, done.stderr
    assert "imported by an import statement" in done.stderr
    assert lab.algo("run", f"{program}:Node", "--workload", "chess").code != 0
