"""Freezing real children of this process: what is hard to stop stands still too."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from perseus.runtime import spawner_freeze
from perseus.runtime.processes import stat
from perseus.runtime.spawner_freeze import Freezer

LIMIT_S = 30.0
# Says so when its first thread has ended; another goes on.
LEADERLESS = """
import ctypes, os, threading, time
def go_on():
    while b") Z" not in open(f"/proc/self/task/{os.getpid()}/stat", "rb").read():
        time.sleep(0.001)
    print("on", flush=True)
    time.sleep(1000)
threading.Thread(target=go_on).start()
ctypes.CDLL(None).pthread_exit(None)
"""


class _AllOthers:
    """This process' other children are not of a task."""

    def __contains__(self, pid: object) -> bool:
        return True


@contextmanager
def a_task(script: str) -> Iterator[int]:
    """The pid of a Python program that has said a line."""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def await_state(pid: int, wanted: str) -> None:
    end_s = time.monotonic() + LIMIT_S
    while (found := stat(pid)) is None or found.state != wanted:
        assert time.monotonic() < end_s, f"{found} is not in state {wanted}"
        time.sleep(0.005)


def freeze_and_thaw(pid: int) -> None:
    freezer = Freezer()
    freezer.freeze({pid: None}, _AllOthers())
    await_state(pid, "T")
    freezer.thaw([pid])
    await_state(pid, "S")


def test_a_program_whose_first_thread_has_ended() -> None:
    with a_task(LEADERLESS) as pid:
        freeze_and_thaw(pid)
    assert stat(pid) is None


def test_one_that_another_of_the_task_lets_go_on_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def raced(pid: int, number: int) -> None:
        sent.append(number)
        os.kill(pid, number)
        if sent == [signal.SIGSTOP]:
            os.kill(pid, signal.SIGCONT)

    monkeypatch.setattr(spawner_freeze, "_signal", raced)
    with a_task("import time; print('on', flush=True); time.sleep(1000)") as pid:
        freeze_and_thaw(pid)
    assert sent == [signal.SIGSTOP, signal.SIGSTOP, signal.SIGCONT]
