"""``perseus algo run`` on a real cluster: kill -9 of leaders, partitions, lost nodes, and the
same properties on what was written down."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from algo_harness import Lab
from harness import until

from perseus.cli import devcluster
from perseus.hosting.check import fetch
from perseus.hosting.runs import STOP_TIMEOUT_S

KV = "perseus.algo.library.kv:Kv"
# Answers from the copy that is asked, whoever leads; and asks whom it meets.
STALE = """
from perseus.algo import on
from perseus.algo.library import kv
from perseus.algo.library.raft import Done, Query


class Wanderer(kv.KvClient):
    pause_s = (0.0, 0.01)

    def _invoke(self):
        self.target = self.group("n")[self.random.below(3)]
        super()._invoke()


class Stale(kv.Kv):
    client = Wanderer

    @on(Query)
    def read(self, sender, message):
        self.send(sender, Done(message.sequence, self.answer(message.query)))
"""

RAISES = """
from perseus.algo import Process


class Raises(Process):
    def start(self):
        if self.id == "n1":
            raise ValueError("on purpose")


class SendsTooMuch(Process):
    def start(self):
        if self.id == "n1":
            self.send("n2", bytes(17 << 20))
"""
# By class how n1 ends, over and over.
ENDINGS = {
    "Raises": "ended with exit code 70: ValueError: on purpose",
    "SendsTooMuch": "ended with exit code 70: UnfitError: n1: SendsTooMuch.start cannot send"
    " this bytes: it takes 17825797 bytes, and the most is 16777216 (16 MiB)",
}


# n1 does not end in Python; n2 in C, which lets no other thread run.
ENDLESS = """
import re
from perseus.algo import Process


class Endless(Process):
    def start(self):
        self.after(0.1, self.go_on)

    def go_on(self):
        if self.id == "n1":
            self.helper()
        elif self.id == "n2":
            re.match("(a+)+$", "a" * 64 + "b")  # here

    def helper(self):
        while True:
            pass
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with harness.cluster(tmp_path_factory.mktemp("algo"), 3) as cluster:
        made = Lab(cluster)
        with made.client:
            yield made


def test_a_map_on_raft_stays_linearizable_through_kills_and_partitions(lab: Lab) -> None:
    run = lab.start(KV, 5)
    lab.go_on(run)
    killed = []
    for _ in range(3):
        killed.append(lab.leader(run))
        lab.algo("kill", run.run, killed[-1]).ok()
        lab.go_on(run)
    lab.algo("partition", run.run, lab.leader(run)).ok()
    lab.go_on(run)
    lab.algo("partition", run.run, "n1", "n2", "--one-way").ok()
    states = {each.id: each for each in lab.runs.look(run)}
    assert "n1" in states["n2"].status.deaf_to  # type: ignore[union-attr]
    lab.algo("heal", run.run).ok()
    lab.algo("pause", run.run, lab.leader(run)).ok()
    assert "paused" in lab.algo("ps", run.run).ok().text
    lab.go_on(run)
    lab.algo("heal", run.run).ok()
    lab.algo("slow", run.run, "n1,n2", "--loss", "0.3", "--delay", "50ms").ok()
    lab.go_on(run)
    lab.algo("heal", run.run).ok()
    lab.go_on(run)
    for process in killed:
        starts = [line for line in fetch(lab.runs, run).lines[process] if line["k"] == "start"]
        assert len(starts) > 1 and all(line["d"] for line in starts[1:]), "what it had is there"
    code, said = lab.check(run)
    assert code == 0, said
    assert said["crashes"] >= 3
    judged = {each["name"]: each["said"] for each in said["properties"]}
    assert judged["history is linearizable"] == "held"
    assert judged["what is committed stays"] == "held"
    assert judged["a second leader is elected"] == "reached"
    assert lab.leftovers()
    lab.algo("stop", run.run).ok()
    assert lab.leftovers() == []
    assert lab.check(run)[0] == 0, "traces outlive the run"


def test_clients_are_spared_and_what_is_durable_where_that_is_asked_for(lab: Lab) -> None:
    run = lab.start(KV, 3)
    refused = lab.algo("kill", run.run, "client1")
    assert refused.code != 0 and "faults spare it" in refused.stderr
    assert f"perseus algo stop {run.run} removes it" in lab.algo("stop", run.run, "--keep").stderr
    assert lab.leftovers() != []
    lab.algo("stop", run.run).ok()
    assert lab.leftovers() == []


def test_a_planted_bug_is_caught(lab: Lab, tmp_path: Path) -> None:
    """The algorithm is a file, which goes to the nodes by itself."""
    program = tmp_path / "stale.py"
    program.write_text(STALE)
    run = lab.start(f"{program}:Stale", 3)
    until(lambda: lab.answers(run) > 200, "clients got 200 answers")
    code, said = lab.check(run)
    assert code == 1
    assert said["violation"]["property"] == "at_end history is linearizable"
    lab.algo("stop", run.run).ok()


def test_what_is_durable_outlives_the_node_that_was_lost(lab: Lab) -> None:
    run = lab.start(KV, 3)
    lab.go_on(run)
    lost = next(p for p, node in run.nodes.items() if node == "node-2")
    devcluster.kill(lab.cluster.folder, "node-2")
    lab.go_on(run)
    partly = lab.algo("check", run.run)
    assert partly.code == 3 and "not known" in partly.text, partly
    assert f"{lost}'s trace is not there" in partly.stderr and "its node is back" in partly.stderr
    code, said = lab.check(run)
    assert (code, said["verdict"], said["violation"]) == (3, "not known", None)
    assert {"process": lost, "events": 0, "left_out": 0} in said["checked"]
    devcluster.up(3, lab.cluster.folder)

    def is_back() -> bool:
        lines = fetch(lab.runs, run).lines[lost]
        return any(line["k"] == "start" and line["l"] > 0 and line["d"] for line in lines)

    until(is_back, f"{lost} is back, with what was durable")
    lab.go_on(run)
    code, said = lab.check(run)
    assert (code, said["verdict"], said["missing"]) == (0, "held", []), said
    lives = [line["l"] for line in fetch(lab.runs, run).lines[lost] if line["k"] == "start"]
    assert lives == [*range(lives[-1] + 1)] and lives[-1] > 0, "all of its lives are there"
    lab.algo("stop", run.run).ok()
    assert lab.leftovers() == []


@pytest.mark.parametrize("kind", ENDINGS)
def test_a_handler_that_raises_ends_its_process_alone(lab: Lab, tmp_path: Path, kind: str) -> None:
    program = tmp_path / "raises.py"
    program.write_text(RAISES)
    run = lab.start(f"{program}:{kind}", 2)

    def ending() -> str:
        found = lab.cluster.perseus("--json", "algo", "ps", run.run).ok().json()
        assert (found[1]["state"], found[1]["restarts"]) in (("up", 0), ("down", 0))
        return str(found[0]["ending"])

    assert until(ending, "n1 has ended") == ENDINGS[kind]
    reason = ENDINGS[kind].partition(": ")[2]
    assert reason in lab.algo("ps", run.run).ok().text
    job_id = lab.runs.jobs(run)["n1"]
    assert reason in lab.cluster.perseus("logs", "--stderr", job_id).ok().text
    lab.algo("stop", run.run).ok()


def test_a_handler_that_does_not_end_is_told_with_its_line(lab: Lab, tmp_path: Path) -> None:
    program = tmp_path / "endless.py"
    program.write_text(ENDLESS)
    run = lab.start(f"{program}:Endless", 3)

    def stuck() -> dict[str, str]:
        found = lab.cluster.perseus("--json", "algo", "ps", run.run).ok().json()
        assert found[2]["state"] == "up"
        return {p["process"]: p["stuck_at"] for p in found if p["state"] == "stuck"}

    until(lambda: all(stuck().get(p) for p in ("n1", "n2")), "it is seen that two do not end")
    place = next(n for n, line in enumerate(ENDLESS.splitlines(), 1) if "# here" in line)
    assert stuck()["n2"] == f"endless.py:{place}"
    text = lab.algo("ps", run.run).ok().text
    assert re.search(r"n1 .* stuck in go_on for \d+ s at endless.py:1[78]\n", text), text
    lab.algo("kill", run.run, "n1").ok()
    (n1, *_) = lab.cluster.perseus("--json", "algo", "ps", run.run).ok().json()
    assert (n1["restarts"], n1["ending"]) == (1, "killed by signal 9")
    assert "stuck" in {line["k"] for line in fetch(lab.runs, run).lines["n1"]}
    lab.algo("stop", run.run).ok()


def test_stop_does_not_wait_for_a_node_that_is_away(lab: Lab) -> None:
    run = lab.start(KV, 3)
    lab.go_on(run)
    devcluster.kill(lab.cluster.folder, "node-2")
    states = {"node-2": ""}

    def is_lost() -> bool:
        states.update({node.name: node.state for node in lab.client.nodes()})
        return states["node-2"] == "lost"

    until(is_lost, "node-2 is lost")
    begun_s = time.monotonic()
    assert "node-2 is away" in lab.algo("stop", run.run).ok().stderr
    took_s = time.monotonic() - begun_s
    assert lab.leftovers() != []
    code, said = lab.check(run)
    assert code == 3 and "its task is cancelled, node-2 is lost" in said["missing"][0], said
    devcluster.up(3, lab.cluster.folder)
    until(lambda: lab.leftovers() == [], "what was durable there is gone")
    assert took_s < STOP_TIMEOUT_S
