"""``perseus sim --cluster``: the same verdicts as on one machine, by an array job."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import pytest
from algo_harness import Lab
from harness import until
from test_cli_sim import example

from perseus.cli import devcluster
from perseus.client.messages import JobInfo

FEW = ("--nodes", "3", "--seeds", "60")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with harness.cluster(tmp_path_factory.mktemp("sim"), 2) as cluster:
        made = Lab(cluster)
        with made.client:
            yield made


def _jobs(lab: Lab) -> list[JobInfo]:
    return [job for job in lab.client.jobs() if job.name.startswith("sim ")]


def _told(lab: Lab) -> str:
    """How the newest job stands, for whoever reads that a test failed."""
    newest = max(_jobs(lab), key=lambda job: job.submitted_at_s)
    said = [lab.cluster.perseus(*words).text for words in (("nodes",), ("why", newest.job_id))]
    return f"{newest}\n" + "\n".join(said)


def _sim(lab: Lab, *arguments: str) -> tuple[int, Any]:
    done = lab.cluster.perseus("--json", "sim", *arguments)
    said = done.json()
    said.pop("seconds", None)
    return done.code, said


def _is_clean(lab: Lab) -> bool:
    return lab.client.fs.ls("/sim") == []


def test_all_seeds_are_run_and_counted_as_here(lab: Lab, tmp_path: Path) -> None:
    target = f"{example(tmp_path)}:Lock"
    code, said = _sim(lab, target, *FEW, "--first", "7", "--cluster")
    assert (code, said) == _sim(lab, target, *FEW, "--first", "7")
    assert code == 0 and said["seeds"] == 60 and said["violation"] is None
    (job,) = _jobs(lab)
    assert job.state == "finished" and job.count > 1


def test_the_first_seed_that_fails_is_the_same_as_here(lab: Lab, tmp_path: Path) -> None:
    """Its program is two files."""
    path = example(tmp_path)
    text = path.read_text().replace('durable("")', "FIRST").replace(": str = FIRST", " = FIRST")
    path.write_text("from beginning import FIRST\n" + text)
    (tmp_path / "beginning.py").write_text('FIRST = ""\n')
    code, said = _sim(lab, f"{path}:Lock", *FEW, "--cluster")
    assert (code, said) == _sim(lab, f"{path}:Lock", *FEW)
    assert code == 1 and said["violation"]["property"] == "always one holds it"
    assert "--keep" in said["shrunk"]
    until(lambda: all(job.has_ended for job in _jobs(lab)), "the rest is cancelled")
    assert _is_clean(lab)


def test_an_interrupt_cancels_the_job(lab: Lab, tmp_path: Path) -> None:
    known = {job.job_id for job in _jobs(lab)}
    target = f"{example(tmp_path)}:Lock"
    started = lab.cluster.start("sim", target, "--seeds", "1000000", "--cluster")

    def mine() -> Any:
        return next((job for job in _jobs(lab) if job.job_id not in known), None)

    until(lambda: (job := mine()) and job.state == "running", "it runs")
    started.send_signal(signal.SIGINT)
    assert started.wait(harness.LIMIT_S) == 130
    until(lambda: mine().has_ended, "it ends")
    assert mine().state == "cancelled", _told(lab)
    assert _is_clean(lab)


def _answer(lab: Lab, started: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Its exit code and output; when it does not end, how all stands."""
    try:
        out, err = started.communicate(timeout=harness.LIMIT_S)
    except subprocess.TimeoutExpired:
        started.send_signal(signal.SIGABRT)
        _, err = started.communicate(timeout=harness.LIMIT_S)
        raise AssertionError(f"{err.decode()}\n{_told(lab)}") from None
    return started.returncode, out, err


def _by_address(lab: Lab, name: str, path: Path) -> str:
    """A context that reaches the cluster by the address of this node alone."""
    context = json.loads(lab.cluster.context.read_text())
    (address,) = (n.address for n in devcluster.status(lab.cluster.folder) if n.name == name)
    path.write_text(json.dumps({**context, "address": address, "socket": ""}))
    path.chmod(0o600)
    return str(path)


def _seen(lab: Lab, known: set[str]) -> JobInfo | None:
    """The job that is not among ``known``, once a part of it has ended."""
    new = [job for job in _jobs(lab) if job.job_id not in known]
    assert not any(job.has_ended for job in new), _told(lab)
    return new[0] if new and new[0].task_counts.get("finished") else None


def test_it_goes_on_through_another_node_when_the_followed_one_is_lost(
    lab: Lab, tmp_path: Path
) -> None:
    known = {job.job_id for job in _jobs(lab)}
    words = (f"{example(tmp_path)}:Lock", "--nodes", "3", "--seeds", "2000")
    context = _by_address(lab, "node-2", tmp_path / "far.json")
    started = lab.cluster.start("--context", context, "--json", "sim", *words, "--cluster")
    try:
        until(lambda: _seen(lab, known), "it runs")
        devcluster.kill(lab.cluster.folder, "node-2")
        code, out, err = _answer(lab, started)
    finally:
        started.kill()
        devcluster.up(2, lab.cluster.folder)
    assert (code, json.loads(out)["seeds"]) == (0, 2000), err
    assert b"; looking for job" in err
    assert _is_clean(lab)


def test_it_goes_on_when_the_master_was_away(lab: Lab, tmp_path: Path) -> None:
    known = {job.job_id for job in _jobs(lab)}
    words = (f"{example(tmp_path)}:Lock", "--nodes", "3", "--seeds", "2000")
    started = lab.cluster.start("--json", "sim", *words, "--cluster")
    try:
        until(lambda: _seen(lab, known), "it runs")
        devcluster.restart(lab.cluster.folder, "node-1")
        devcluster.up(2, lab.cluster.folder)
        code, out, err = _answer(lab, started)
    finally:
        started.kill()
    assert (code, json.loads(out)["seeds"]) == (0, 2000), err
    assert _is_clean(lab)


def test_what_a_node_cannot_run_is_told(lab: Lab, tmp_path: Path) -> None:
    """It is there only where it was typed."""
    path = example(tmp_path)
    text = path.read_text()
    path.write_text(f"import os\nassert 'PERSEUS_TASK_INDEX' not in os.environ, 'not here'\n{text}")
    done = lab.cluster.perseus("sim", f"{path}:Lock", *FEW, "--cluster")
    assert done.code == 125 and "60 of 60 seeds were not run" in done.stderr, done.stderr
    assert "not here" in done.stderr and "perseus logs --stderr" in done.stderr
    for words in (["--seed", "3"], ["--explore"]):
        done = lab.cluster.perseus("sim", f"{path}:Lock", *words, "--cluster")
        assert done.code == 2 and "--cluster is for many seeds" in done.stderr
