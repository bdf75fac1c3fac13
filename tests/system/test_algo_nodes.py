"""A run whose nodes go away and come back: the master's node by SIGKILL, another by SIGSTOP."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import harness
import psutil
import pytest
from algo_harness import Lab
from harness import FAST_LEASE, until

from perseus.algo.process import Id
from perseus.cli import devcluster
from perseus.hosting import trace
from perseus.hosting.check import fetch
from perseus.hosting.run import Run

KV = "perseus.algo.library.kv:Kv"
# While the master is away nodes hold on to their tasks for so long.
PATIENT = {**FAST_LEASE, "lease_s": "60"}


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Lab]:
    yield from _lab(tmp_path, PATIENT)


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Lab]:
    yield from _lab(tmp_path, FAST_LEASE)


def _lab(folder: Path, settings: dict[str, str]) -> Iterator[Lab]:
    with harness.cluster(folder, 3, settings) as cluster:
        made = Lab(cluster)
        with made.client:
            yield made


def _folder(lab: Lab, run: Run, process: Id) -> Path:
    return lab.cluster.folder / run.nodes[process] / "algo" / run.run / process


def _answered(lab: Lab, run: Run) -> int:
    """How much clients have been told, by what is on the disk of their node: nobody else can be
    asked while the master is away."""
    lines = b"".join((_folder(lab, run, each) / "trace").read_bytes() for each in run.clients)
    return lines.count(b'"what":"Done(')


def _lives(lab: Lab, run: Run, process: Id) -> list[int]:
    return [line["l"] for line in fetch(lab.runs, run).lines[process] if line["k"] == "start"]


def _on(run: Run, node: str) -> list[Id]:
    return [process for process, name in run.nodes.items() if name == node]


def _known(lab: Lab, run: Run) -> Any:
    """What a check says that is not for the moment without a trace: just after the master is back,
    an attempt may be unheard of, or still put together what was written before it."""
    code, said = lab.check(run)
    assert code in (0, 3), said
    return said if code == 0 else None


def test_it_goes_on_while_the_master_is_away(patient: Lab) -> None:
    run = patient.start(KV, 5)
    assert _on(run, "node-1") == ["n1", "n4"] and run.nodes["client1"] == "node-3"
    patient.go_on(run)
    devcluster.kill(patient.cluster.folder, "node-1")
    before = _answered(patient, run)
    until(lambda: _answered(patient, run) > before + 20, "clients are answered without the master")
    devcluster.up(3, patient.cluster.folder)
    until(lambda: all(len(_lives(patient, run, p)) > 1 for p in ("n1", "n4")), "n1, n4 are back")
    patient.go_on(run)
    said = until(partial(_known, patient, run), "all traces are there again")
    assert (said["verdict"], said["missing"]) == ("held", []), said
    judged = {each["name"]: each["said"] for each in said["properties"]}
    assert judged["history is linearizable"] == "held"
    for process in run.nodes:
        lives = _lives(patient, run, process)
        assert lives == [*range(len(lives))], "its trace is whole"
        assert (len(lives) > 1) == (process in ("n1", "n4")), "the others went on"
    patient.algo("stop", run.run).ok()


def test_who_watches_goes_on_when_the_master_is_back(patient: Lab) -> None:
    run = patient.start(KV, 3)
    watching = patient.cluster.start("--json", "algo", "watch", run.run, "--all")
    assert watching.stdout is not None and watching.stderr is not None
    try:
        seen = [watching.stdout.readline()]
        devcluster.restart(patient.cluster.folder, "node-1")
        devcluster.up(3, patient.cluster.folder)
        patient.go_on(run)
        patient.algo("stop", run.run).ok()
        # By the buffer that took the first line: ``communicate`` reads past it.
        rest, err = watching.stdout.read(), watching.stderr.read()
        watching.wait(harness.LIMIT_S)
    finally:
        watching.kill()
    assert watching.returncode == 0, err
    (last,) = _on(run, "node-2")
    written = fetch(patient.runs, run).lines[last]
    lines = [trace.decode(line) for line in (seen[0] + rest).splitlines()]
    # Each once, over the break.
    assert [line for line in lines if line["p"] == last] == written


def _stands_still(lab: Lab, node: str) -> bool:
    """Whether all tasks of a node are frozen, for its lease is over."""
    status = next(each for each in devcluster.status(lab.cluster.folder) if each.name == node)
    assert status.pid is not None
    below = psutil.Process(status.pid).children(recursive=True)
    processes = [each for each in below if "perseus.hosting" in " ".join(each.cmdline())]
    return bool(processes) and all(each.status() == "stopped" for each in processes)


def test_all_go_on_when_the_master_was_away_for_longer_than_a_lease(quick: Lab) -> None:
    run = quick.start(KV, 3)
    quick.go_on(run)
    devcluster.kill(quick.cluster.folder, "node-1")
    for node in ("node-2", "node-3"):
        until(partial(_stands_still, quick, node), f"the processes of {node} stand still")
    devcluster.up(3, quick.cluster.folder)
    lost = _on(run, "node-1")
    until(lambda: all(len(_lives(quick, run, each)) > 1 for each in lost), "those are back")
    quick.go_on(run)
    for process in run.nodes:
        lives = _lives(quick, run, process)
        assert lives == [*range(len(lives))], "its trace is whole"
        assert (len(lives) > 1) == (process in lost), "the others went on where they stood"
    code, said = quick.check(run)
    # A client has its history in memory.
    clients = [each for each in run.clients if each in lost]
    assert said["violation"] is None, said
    assert (code, said["verdict"]) == ((3, "not known") if clients else (0, "held")), said
    judged = {each["name"]: each["said"] for each in said["properties"]}
    assert judged["what is committed stays"] == "held"
    quick.algo("stop", run.run).ok()


def test_a_node_that_was_frozen_comes_back_with_what_it_had(quick: Lab) -> None:
    run = quick.start(KV, 3)
    quick.go_on(run)
    (frozen,) = _on(run, "node-2")
    devcluster.pause(quick.cluster.folder, "node-2")
    try:
        assert "unreachable" in quick.algo("ps", run.run).ok().text
        quick.go_on(run)

        def is_lost() -> bool:
            return {node.name: node.state for node in quick.client.nodes()}["node-2"] == "lost"

        until(is_lost, "the master takes it for lost")
        quick.go_on(run)
    finally:
        devcluster.resume(quick.cluster.folder, "node-2")
    until(lambda: len(_lives(quick, run, frozen)) > 1, "it is back")
    quick.go_on(run)
    lines = fetch(quick.runs, run).lines[frozen]
    starts = [line for line in lines if line["k"] == "start"]
    assert [line["l"] for line in starts] == [*range(len(starts))] and starts[-1]["d"]
    assert all(trace.content_of(key) for key, _ in starts[-1]["d"])
    code, said = quick.check(run)
    assert (code, said["verdict"], said["missing"]) == (0, "held", []), said
    quick.algo("stop", run.run).ok()
