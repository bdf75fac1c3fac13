"""Starting and stopping: whose process it is, and in whose words a failure is told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perseus.daemon import config, lifecycle
from perseus.daemon.__main__ import Ready
from perseus.daemon.config import Paths
from perseus.errors import ConflictError, UnavailableError

LIMIT_S = 60.0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    Paths(tmp_path).make()
    return tmp_path


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def note(data: Path, pid: int, started: str | None = None) -> None:
    started = started or lifecycle.process_start(pid) or "0"
    Paths(data).pid.write_text(f"{pid} {started}\n")


def test_a_daemon_is_its_pid_and_its_start(data: Path) -> None:
    assert lifecycle.running_pid(data) is None
    note(data, os.getpid())
    assert lifecycle.running_pid(data) == os.getpid()
    note(data, os.getpid(), "1")
    assert lifecycle.running_pid(data) is None
    for text in ("", "x y", str(os.getpid())):
        Paths(data).pid.write_text(text)
        assert lifecycle.running_pid(data) is None


def test_a_start_removes_the_sockets_of_data_folders_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    root = tmp_path / "tmp"
    root.mkdir()
    monkeypatch.setattr(config, "SHORT_ROOT", root)
    gone, kept, runs = (Paths(tmp_path / (name * 100)) for name in "abc")
    for paths in (gone, kept, runs):
        paths.make()
        assert paths.run.parent == root
    note(runs.data, sleeper.pid)
    # What says of no folder, or of another, whose it is stays.
    others = [root / f"perseus-{os.getuid()}-{name}" for name in ("x", "y")]
    for other in others:
        other.mkdir()
    (others[1] / config.OWNER).write_text(str(gone.data))
    for paths in (gone, runs):
        shutil.rmtree(paths.data)
    lifecycle.sweep_runs()
    assert set(root.iterdir()) == {kept.run, runs.run, *others}


def test_stop_where_none_runs(data: Path) -> None:
    assert lifecycle.stop(data) is False


def test_stop_ends_also_one_that_was_paused(data: Path, sleeper: subprocess.Popen[bytes]) -> None:
    note(data, sleeper.pid)
    os.kill(sleeper.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED)
    started_s = time.monotonic()
    assert lifecycle.stop(data, timeout_s=LIMIT_S) is True
    # By SIGTERM, not by SIGKILL after the time limit.
    assert sleeper.wait(LIMIT_S) == -signal.SIGTERM
    assert time.monotonic() - started_s < LIMIT_S


def test_start_waits_for_the_one_that_is_starting(
    data: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    note(data, sleeper.pid)
    with pytest.raises(UnavailableError, match="did not become ready"):
        lifecycle._await_door(data, sleeper.pid, 0.05)
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(UnavailableError, match="ended while it was starting"):
        lifecycle._await_door(data, sleeper.pid, LIMIT_S)


def answer_of(data: Path, program: str, timeout_s: float = LIMIT_S) -> bytes | None:
    """What a process that runs ``program`` writes to the pipe of whoever starts it."""
    reader, writer = os.pipe()
    command = [sys.executable, "-c", program, str(writer)]
    process = subprocess.Popen(command, pass_fds=[writer])
    os.close(writer)
    try:
        return lifecycle._await_answer(reader, timeout_s)
    finally:
        os.close(reader)
        process.kill()
        process.wait()


def test_a_daemon_that_fails_tells_in_its_own_words(data: Path) -> None:
    reader, writer = os.pipe()
    Ready(writer).fail(ConflictError("the port is taken", hint="choose another"))
    answer = lifecycle._await_answer(reader, LIMIT_S)
    os.close(reader)
    error = lifecycle._failure(data, Paths(data).log, answer, LIMIT_S)
    assert isinstance(error, ConflictError)
    assert (error.message, error.hint) == ("the port is taken", "choose another")


def test_a_daemon_that_dies_is_told_by_its_last_lines(data: Path) -> None:
    log = Paths(data).log
    log.write_text("one\ntwo\nKilled\n")
    answer = answer_of(data, "pass")
    error = lifecycle._failure(data, log, answer, LIMIT_S)
    assert isinstance(error, UnavailableError) and "two | Killed" in error.message
    assert str(log) in error.hint


def test_a_daemon_that_hangs_is_waited_for_no_longer_than_said(data: Path) -> None:
    answer = answer_of(data, "import time; time.sleep(1000)", timeout_s=0.1)
    assert answer is None
    error = lifecycle._failure(data, Paths(data).log, answer, 0.1)
    assert "did not become ready" in error.message


def test_ready_is_told_once(data: Path) -> None:
    reader, writer = os.pipe()
    ready = Ready(writer)
    ready.tell()
    ready.fail(ConflictError("too late"))
    assert lifecycle._await_answer(reader, LIMIT_S) == b"ready\n"
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_the_log_is_its_owners_alone(data: Path) -> None:
    with open(Paths(data).log, "ab", opener=lifecycle._private):
        assert Paths(data).log.stat().st_mode & 0o777 == 0o600


def test_what_is_not_json_is_no_failure_of_its_own(data: Path) -> None:
    Paths(data).log.write_text("")
    error = lifecycle._failure(data, Paths(data).log, json.dumps({}).encode(), LIMIT_S)
    assert isinstance(error, UnavailableError)
