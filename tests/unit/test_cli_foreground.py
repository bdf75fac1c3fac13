"""A job in the foreground whose stdin fails: when that is a failure, and when only its end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from perseus.cli import foreground as foreground_module
from perseus.cli.foreground import Foreground
from perseus.client.context import Context
from perseus.errors import LeaseLostError, PerseusError, UnavailableError

REMOVED = LeaseLostError("the file being written (inode 7) was removed")
BROKEN = UnavailableError("stdin cannot be read: Input/output error")
BEGUN: dict[str, Any] = {"job_id": "abcdefgh"}
WELL: dict[str, Any] = {"ending": {"kind": "ENDING_EXITED", "exit_code": 3}}


@contextmanager
def signals_caught(foreground: Foreground) -> Iterator[None]:
    """As a command has them, and afterwards as this process had them."""
    numbers = (*foreground_module.FORWARDED, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    timer = signal.getitimer(signal.ITIMER_REAL)
    foreground.catch_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


class Job:
    """A job that ends by itself, or when it is killed."""

    def __init__(self, reached: int = 1) -> None:
        self.killed = threading.Event()
        self.reached = reached
        self.foreground = Foreground(self.signal, quiet=True)

    def signal(self, job_id: str, number: int) -> int:
        assert (job_id, number) == ("abcdefgh", 9)
        self.killed.set()
        return self.reached


def test_a_stdin_removed_with_the_end_of_the_job_is_no_failure() -> None:
    job = Job()
    failing = threading.Thread(target=job.foreground.fail, args=(REMOVED,))

    def events() -> Iterator[dict[str, Any]]:
        yield BEGUN
        # The feed hears of it before we do.
        failing.start()
        yield WELL

    assert job.foreground.show(events()) == 3
    failing.join()
    assert not job.killed.is_set()


def test_a_stdin_removed_before_its_job_is_known_here_ends_nothing_that_has_ended() -> None:
    job = Job(reached=0)
    job.foreground.fail(REMOVED)
    assert job.foreground.show([BEGUN, WELL]) == 3


@pytest.mark.parametrize("error", [REMOVED, BROKEN])
def test_a_stdin_that_fails_while_the_job_runs_ends_it(
    error: PerseusError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreground_module, "ENDING_TIMEOUT_S", 0.05)
    job = Job()

    def events() -> Iterator[dict[str, Any]]:
        yield BEGUN
        threading.Thread(target=job.foreground.fail, args=(error,)).start()
        assert job.killed.wait(60)
        yield {"ending": {"kind": "ENDING_SIGNALED", "exit_code": 137}}

    with pytest.raises(type(error), match=r"stdin|removed"):
        job.foreground.show(events())


def test_any_other_failure_counts_whatever_the_job_did() -> None:
    job = Job(reached=0)
    job.foreground.fail(BROKEN)
    with pytest.raises(UnavailableError, match="Input/output"):
        job.foreground.show([BEGUN, WELL])


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_who_only_watches_leaves_the_job_alone(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    sent: list[int] = []

    def send(_: str, number: int) -> int:
        sent.append(number)
        return 1

    foreground = Foreground(send, cancels=False)

    def events() -> Iterator[dict[str, Any]]:
        yield BEGUN
        os.kill(os.getpid(), number)
        yield WELL

    with signals_caught(foreground):
        assert foreground.run(events(), Context("none")) == 128 + number
    assert sent == []
    assert "job abcdefgh goes on" in capfd.readouterr().err


def test_events_are_shown_whole_and_signals_still_go_to_the_job() -> None:
    sent: list[int] = []
    shown: list[dict[str, Any]] = []

    def send(_: str, number: int) -> int:
        sent.append(number)
        return 1

    foreground = Foreground(send, quiet=True, show_event=shown.append)

    def events() -> Iterator[dict[str, Any]]:
        # Before the job has an id the signal is kept for it.
        os.kill(os.getpid(), signal.SIGINT)
        yield BEGUN
        yield {"stdout": "aGk="}
        yield WELL

    with signals_caught(foreground):
        assert foreground.run(events(), Context("none")) == 3
        # All is over: who presses ^C now does not change what the job came to.
        os.kill(os.getpid(), signal.SIGINT)
    assert sent == [signal.SIGINT]
    assert shown == [BEGUN, {"stdout": "aGk="}, WELL]
    assert foreground.shown_bytes[1] == 2


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_keeps_back_what_goes_on_and_not_what_went_wrong(
    quiet: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    foreground = Foreground(lambda job_id, number: 1, quiet=quiet)
    tried = "attempt 1 was lost; it is tried again"
    gone = "the rest of its stdout is missing"
    limit = "ended by its time limit of 1 s\n  to give it longer: ..."
    ending = {"kind": "ENDING_TIME_LIMIT", "exit_code": 124, "message": limit}
    events = [BEGUN, {"message": tried, "node": "node-2"}, {"message": gone, "missing": True}]
    assert foreground.show([*events, {"ending": ending}]) == 124
    said = [gone, f"node-2: {limit}"] if quiet else [tried, gone, f"node-2: {limit}"]
    assert capfd.readouterr().err == "".join(f"perseus: {sentence}\n" for sentence in said)


def test_who_leaves_at_any_moment_has_the_code_and_no_traceback() -> None:
    program = (
        "from perseus.cli import fast, foreground\n"
        "def leave(words): raise foreground.Interrupted(130)\n"
        "fast.main = leave\n"
        "fast.start(['run', 'true'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, b"")


def test_a_signal_that_comes_just_before_a_read_blocks_is_not_left_there() -> None:
    # The moment is too short to be hit. But for Python a signal that another thread took is
    # the same: its handler waits until the main thread comes back from what it is in.
    program = (
        "import os, signal, threading\n"
        "from perseus.cli.foreground import Foreground\n"
        "def send(job_id, number):\n"
        "    os.write(1, f'signal {number} for {job_id}\\n'.encode())\n"
        "    os.write(write, b'.')\n"
        "    return 1\n"
        "read, write = os.pipe()\n"
        "foreground = Foreground(send)\n"
        "foreground.job_id = 'abcdefgh'\n"
        "foreground.catch_signals()\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "os.write(1, b'ready\\n')\n"
        "os.read(read, 1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (output, process.returncode) == (b"signal 2 for abcdefgh\n", 0)


FLOODED = {"job_id": "abcdefgh", "ended_at_s": 5.0, "exit_code": 130}


@pytest.mark.parametrize("state", ["TASK_STATE_CANCELLED", "TASK_STATE_FAILED"])
def test_a_flood_is_left_soon_after_an_interrupt_has_ended_its_job(
    state: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 1)
    monkeypatch.setattr(foreground_module, "REST_SHOWN_S", 0.2)
    monkeypatch.setattr(foreground_module, "SIGNAL_LOOK_S", 0.05)
    looked: list[str] = []

    def look_up(job_id: str) -> dict[str, Any]:
        looked.append(job_id)
        # It takes the job a moment to end.
        return {**FLOODED, "state": state} if len(looked) > 2 else {"state": "TASK_STATE_RUNNING"}

    foreground = Foreground(lambda job_id, number: 1, quiet=True, look_up=look_up)

    def events() -> Iterator[dict[str, Any]]:
        yield BEGUN
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            yield {"stdout": "eQo="}

    with signals_caught(foreground):
        assert foreground.run(events(), Context("none")) == 130
    said = capfd.readouterr().err
    assert said == (
        "perseus: job abcdefgh has ended; the rest of its output: perseus logs abcdefgh\n"
    )


def test_all_output_of_a_job_that_ends_well_after_an_interrupt_is_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 1)
    monkeypatch.setattr(foreground_module, "REST_SHOWN_S", 0.0)
    monkeypatch.setattr(foreground_module, "SIGNAL_LOOK_S", 0.01)
    looked: list[str] = []

    def look_up(job_id: str) -> dict[str, Any]:
        looked.append(job_id)
        return {**FLOODED, "exit_code": 0, "state": "TASK_STATE_FINISHED"}

    foreground = Foreground(lambda job_id, number: 1, look_up=look_up)

    def events() -> Iterator[dict[str, Any]]:
        yield BEGUN
        os.kill(os.getpid(), signal.SIGINT)
        while len(looked) < 5:
            yield {"stdout": "eQo="}
        yield WELL

    with signals_caught(foreground):
        assert foreground.run(events(), Context("none")) == 3
    assert "the rest of its output" not in capfd.readouterr().err


def test_a_file_gets_all_output_of_an_interrupted_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreground_module, "REST_SHOWN_S", 0.0)
    monkeypatch.setattr(foreground_module, "SIGNAL_LOOK_S", 0.01)

    def look_up(job_id: str) -> dict[str, Any]:
        raise AssertionError("nobody waits at a terminal")

    foreground = Foreground(lambda job_id, number: 1, look_up=look_up)
    looked = threading.Event()

    def events() -> Iterator[dict[str, Any]]:
        yield BEGUN
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10):
            looked.wait(0.01)
            yield {}
        yield WELL

    with signals_caught(foreground):
        assert foreground.run(events(), Context("none")) == 3
