"""The end of a task with much output: its program has ended, and its output is on its way.

The chunkserver is stopped meanwhile, so that the output stays on its way.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from harness import Cluster, cluster, until

from perseus.cli import devcluster
from perseus.daemon import lifecycle

OUTPUT_BYTES = 300_000
PROGRAM = ("head", "-c", str(OUTPUT_BYTES), "/dev/zero")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("keeping"), nodes=1) as made:
        yield made


@contextmanager
def chunkserver_stopped(made: Cluster) -> Iterator[None]:
    (node,) = devcluster.status(made.folder)
    pid = lifecycle.running_pid(Path(made.folder, node.name))
    assert pid is not None
    (process,) = [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if child.name().startswith("perseus-chunk")
    ]
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def until_keeping(made: Cluster) -> str:
    """The id of the latest job, once only its output is on its way."""
    until(lambda: made.job("@last")["keeping"], "its program has ended")
    return str(made.job("@last")["job_id"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_leaves_when_only_output_is_on_its_way(
    lab: Cluster, number: signal.Signals
) -> None:
    with chunkserver_stopped(lab):
        running = lab.start("run", "--", *PROGRAM)
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.read(OUTPUT_BYTES) == bytes(OUTPUT_BYTES)
        job = until_keeping(lab)
        assert "keeping" in lab.perseus("ps").ok().text
        assert "its output, 293 kB, is being kept" in lab.perseus("why", job).ok().text
        running.send_signal(number)
        assert b"is cancelled" in running.stderr.read()
        assert running.wait(60) == 128 + number
        assert lab.perseus("wait", job).code == 143


def test_a_kill_ends_what_is_on_its_way_and_says_what_is_kept(lab: Cluster) -> None:
    with chunkserver_stopped(lab):
        lab.perseus("submit", "--", *PROGRAM).ok()
        job = until_keeping(lab)
        assert "1 task cancelled" in lab.perseus("kill", job).ok().stderr
        assert lab.perseus("wait", job).code == 143
        told = lab.perseus("why", job).ok().text
        assert "only the first 4 kB of 293 kB of its stdout are kept" in told
        assert lab.perseus("logs", job).stdout == bytes(4096)
    attempts = lab.folder / "node-1" / "attempts"
    until(lambda: not list(attempts.glob(f"{job}*")), "the spool's room is given back")


def test_who_watches_hears_of_the_output_limit_before_all_is_kept(
    lab: Cluster, tmp_path: Path
) -> None:
    shown = tmp_path / "shown"
    with shown.open("wb") as stdout:
        running = lab.start("run", "--output-limit", "100K", "--", "yes", stdout=stdout)
        assert running.stderr is not None
        with chunkserver_stopped(lab):
            told = running.stderr.readline()
            assert b"passed its output limit; what was written, 100 kB, is being kept" in told
        assert running.wait(60) == 153
    assert shown.read_bytes() == b"y\n" * 51_200
