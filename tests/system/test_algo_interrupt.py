"""``^C`` at a terminal while ``perseus algo run`` begins a run, and once more while it ends it."""

import os
import pty
import select
import signal
import sys
import time
from collections.abc import Iterator

import harness
import pytest
from algo_harness import Lab
from harness import LIMIT_S, until

KV = "perseus.algo.library.kv:Kv"
INTERRUPT = b"\x03"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with harness.cluster(tmp_path_factory.mktemp("algo"), 2) as cluster:
        made = Lab(cluster)
        with made.client:
            yield made


class Terminal:
    """A command at a terminal of its own, as a person has it."""

    def __init__(self, lab: Lab, *arguments: str) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            command = [sys.executable, "-m", "perseus", "algo", *arguments]
            os.execve(command[0], command, {**lab.cluster.environment, "NO_COLOR": "1"})
        self.said = ""

    def await_(self, words: str) -> None:
        """Returns when it has said these, or ended; fails after the limit."""
        deadline_s = time.monotonic() + LIMIT_S
        while words not in self.said and self._read(deadline_s):
            pass
        assert words in self.said, self.said

    def _read(self, deadline_s: float) -> bool:
        left_s = max(0.0, deadline_s - time.monotonic())
        assert select.select([self._terminal], [], [], left_s)[0], self.said
        try:
            piece = os.read(self._terminal, 65536)
        except OSError:
            # Its end is closed on the other side.
            return False
        self.said += piece.decode()
        return bool(piece)

    def interrupt(self) -> None:
        os.write(self._terminal, INTERRUPT)

    def end(self) -> int:
        """Its exit code when it has ended."""
        deadline_s = time.monotonic() + LIMIT_S
        try:
            while self._read(deadline_s):
                pass
        except AssertionError:
            os.kill(self._pid, signal.SIGKILL)
            raise
        finally:
            os.close(self._terminal)
            _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)


def _jobs(lab: Lab, run: str) -> list[str]:
    """What goes on of a run."""
    names = (job.name for job in lab.client.jobs(active=True, limit=1000))
    return [name for name in names if name.startswith(f"algo {run} ")]


def _begun(lab: Lab) -> tuple[Terminal, str]:
    """A command that has submitted a process or more of the run whose id it has told."""
    terminal = Terminal(lab, "run", KV, "--nodes", "30")
    terminal.await_("begins on")
    run = terminal.said.partition("run ")[2].split()[0]
    until(lambda: _jobs(lab, run), "it begins")
    return terminal, run


def test_an_interrupt_ends_what_has_begun(lab: Lab) -> None:
    terminal, run = _begun(lab)
    terminal.interrupt()
    assert terminal.end() == 130
    assert f"run {run} is ended again" in terminal.said
    assert _jobs(lab, run) == [] and lab.leftovers() == []
    assert run not in lab.algo("ps").ok().text


def test_a_second_one_leaves_it_to_be_stopped_by_its_id(lab: Lab) -> None:
    terminal, run = _begun(lab)
    terminal.interrupt()
    terminal.await_("^C leaves what is there of it")
    terminal.interrupt()
    assert terminal.end() == 130
    assert f"perseus algo stop {run}" in terminal.said
    assert run in lab.algo("ps").ok().text
    lab.algo("stop", run).ok()
    assert _jobs(lab, run) == [] and lab.leftovers() == []
