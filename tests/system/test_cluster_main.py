"""The main job, end to end, on a three-node cluster of real daemons."""

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from harness import Cluster, cluster, until


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("three")) as made:
        yield made


def test_output_and_error_are_apart_and_the_exit_code_passes(three: Cluster) -> None:
    done = three.perseus("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.code, done.stdout, done.stderr) == (7, b"out\n", "err\n")


def test_sort_of_a_stream_from_stdin(three: Cluster, tmp_path: Path) -> None:
    generator = random.Random(1)
    lines = [f"{generator.randrange(100_000):06d}\n".encode() for _ in range(300_000)]
    big = tmp_path / "big.txt"
    big.write_bytes(b"".join(lines))
    with open(big, "rb") as source:
        done = subprocess.run(
            ["python3", "-m", "perseus", "run", "--", "sort", "-u"],
            stdin=source,
            capture_output=True,
            env={**three.environment, "LC_ALL": "C"},
            timeout=90,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"".join(sorted(set(lines)))


def test_binary_output_of_every_byte(three: Cluster) -> None:
    data = bytes(range(256)) * 5000
    done = three.perseus("run", "--", "cat", stdin=data).ok()
    assert done.stdout == data


def test_streamed_stdin_is_removed_but_kept_for_a_retry(three: Cluster) -> None:
    data = b"line\n" * 100_000
    assert three.perseus("run", "--", "head", "-n", "1", stdin=data).ok().stdout == b"line\n"
    assert three.perseus("fs", "ls", "/.perseus/stdin").ok().stdout == b""
    flag = three.folder / "flag"
    script = f"cat; test -e {flag}"
    assert three.perseus("run", "--", "sh", "-c", script, stdin=data).code == 1
    flag.touch()
    job = three.perseus("--json", "ps").ok().json()[0]["job_id"]
    three.perseus("retry", job).ok()
    assert three.perseus("wait", job).code == 0
    assert three.perseus("logs", job).ok().stdout == data
    assert three.perseus("fs", "ls", "/.perseus/stdin").ok().stdout == b""


def test_output_is_kept_once_with_two_replicas(three: Cluster) -> None:
    job = three.perseus("submit", "--", "seq", "200000").ok().text.strip()
    three.perseus("wait", job).ok()
    kept = three.perseus("fs", "cat", f"/jobs/{job}/0/stdout").ok().stdout
    assert kept == b"".join(b"%d\n" % n for n in range(1, 200001))
    assert three.perseus("logs", job).ok().stdout == kept
    about = three.perseus("--json", "fs", "stat", f"/jobs/{job}/0/stdout").ok().json()
    assert about["live_replicas"] == 2


def test_input_from_the_filestore(three: Cluster, tmp_path: Path) -> None:
    local = tmp_path / "a.txt"
    local.write_text("one two\nthree\n")
    three.perseus("fs", "mkdir", "/logs").ok()
    three.perseus("fs", "put", str(local), "/logs/a.txt").ok()
    done = three.perseus("run", "--stdin", "/logs/a.txt", "--", "wc", "-l").ok()
    assert done.text.strip() == "2"
    done = three.perseus("run", "--file", "in.txt=/logs/a.txt", "--", "cat", "in.txt").ok()
    assert done.text == "one two\nthree\n"


def test_the_output_of_a_task_that_runs_is_told_as_such(three: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    waiting = f"echo early; until [ -e {go} ]; do sleep 0.05; done; echo late"
    job = three.perseus("submit", "--", "sh", "-c", waiting).ok().text.strip()
    until(lambda: three.job(job)["state"] == "TASK_STATE_RUNNING", "the task runs")
    stdout = f"/jobs/{job}/0/stdout"
    inputs = (("--stdin", stdout), ("--file", f"in={stdout}"))
    runs = [("run", *given, "--", "cat") for given in inputs]
    looks = [("fs", command, stdout) for command in ("cat", "get", "stat", "tail")]
    for arguments in (*runs, *looks):
        told = three.perseus(*arguments)
        assert told.code == 125 and f"task 0 of job {job} is still running on node-" in told.stderr
        hint = f"perseus wait {job}" if arguments in runs else f"perseus logs -f {job}"
        assert hint in told.stderr and "fs put" not in told.stderr
    go.touch()
    three.perseus("wait", job).ok()
    for arguments in (runs[0], looks[0]):
        assert three.perseus(*arguments).ok().text == "early\nlate\n"


def test_signals_are_forwarded(three: Cluster) -> None:
    script = "trap 'echo got; exit 9' INT; echo ready; while :; do sleep 0.1; done"
    running = three.start("run", "--", "sh", "-c", script)
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    running.send_signal(signal.SIGINT)
    assert running.stdout.read() == b"got\n"
    assert running.wait(60) == 9


def test_a_job_that_waits_says_why_and_goes_at_the_first_interrupt(three: Cluster) -> None:
    running = three.start("run", "--cpu", "999", "--", "true")
    assert running.stderr is not None
    assert b"It needs 999 cores; the largest node has" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    assert b"is cancelled" in running.stderr.read()
    assert running.wait(60) == 130
    three.perseus("wait", "@last")
    assert "perseus ps --" not in three.perseus("logs", "zzzzzzzz").stderr


def test_output_is_live_also_for_one_who_comes_late(three: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo first; while [ ! -e {gate} ]; do sleep 0.05; done; echo second"
    job = three.perseus("submit", "--", "sh", "-c", script).ok().text.strip()
    late = three.start("logs", "-f", job)
    assert late.stdout is not None
    assert late.stdout.readline() == b"first\n"
    gate.touch()
    assert late.stdout.read() == b"second\n"
    assert late.wait(60) == 0


def test_a_client_that_is_killed_cancels_its_run(three: Cluster) -> None:
    running = three.start("run", "--", "sh", "-c", "echo here; exec sleep 600")
    assert running.stdout is not None
    assert running.stdout.readline() == b"here\n"
    running.kill()
    running.wait()
    job = three.perseus("--json", "ps").ok().json()[0]["job_id"]
    until(lambda: three.job(job)["state"] == "TASK_STATE_CANCELLED", "the job is cancelled")


def test_a_thousand_tasks_of_one_job(three: Cluster) -> None:
    job = three.perseus("submit", "--count", "1000", "--", "true").ok().text.strip()
    assert three.perseus("wait", job).code == 0
    assert three.job(job)["task_counts"] == {"4": 1000}


def gone(pid: str) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def test_kill_reaches_the_whole_process_group(three: Cluster, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! > {pids}; echo $$ >> {pids}; echo up; wait"
    job = three.perseus("submit", "--", "sh", "-c", script).ok().text.strip()
    follower = three.start("logs", "-f", job)
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"up\n"
    three.perseus("kill", job).ok()
    assert three.perseus("wait", job).code == 128 + signal.SIGTERM
    follower.wait(60)
    for pid in pids.read_text().split():
        until(partial(gone, pid), f"process {pid} is gone")
