"""Real local clusters for system tests: daemons, sockets, certificates and disks.

A cluster's daemons watch the test process (``PERSEUS_EXIT_WITH_PID``) and end
with it, so nothing is left behind even when pytest is killed.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perseus.cli import devcluster

ROOT = Path(__file__).resolve().parent.parent.parent
# Generous: a limit is for what hangs, not for what is slow.
LIMIT_S = 90.0
FAST_LEASE = {"lease_s": "3", "heartbeat_s": "0.3", "replication_delay_s": "0.5"}


@dataclass
class Result:
    """How a command ended."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()

    def json(self) -> Any:
        return json.loads(self.stdout)

    def ok(self) -> "Result":
        assert self.code == 0, f"exit {self.code}\n{self.stderr}\n{self.stdout[-2000:]!r}"
        return self


def environment(home: Path, context: Path | None = None) -> dict[str, str]:
    """An environment of its own for each cluster: nothing of the person's leaks in."""
    home.mkdir(parents=True, exist_ok=True)
    values = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        # What hangs tells where it is when it is ended by SIGABRT.
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPATH": str(ROOT / "src"),
        "PERSEUS_EXIT_WITH_PID": str(os.getpid()),
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
    }
    if context is not None:
        values["PERSEUS_CONTEXT"] = str(context)
    return values


class Cluster:
    """A local cluster and the commands a person types at it."""

    def __init__(self, folder: Path, nodes: int = 3, settings: dict[str, str] | None = None):
        self.folder = folder / "c"
        self.home = folder / "home"
        os.environ["PERSEUS_EXIT_WITH_PID"] = str(os.getpid())
        self.context = devcluster.up(nodes, self.folder, settings or FAST_LEASE)
        self.environment = environment(self.home, self.context)

    def perseus(
        self,
        *arguments: str,
        stdin: bytes = b"",
        timeout_s: float = LIMIT_S,
        extra: dict[str, str] | None = None,
    ) -> Result:
        """Runs the command line to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "perseus", *arguments],
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            env={**self.environment, **(extra or {})},
        )
        return Result(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def shell(self, line: str, cwd: Path) -> Result:
        """A line as a person types it, with ``perseus`` on the path."""
        folder = Path(sys.executable).parent
        values = {**self.environment, "PATH": f"{folder}:{self.environment['PATH']}"}
        done = subprocess.run(
            ["sh", "-c", line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            env=values,
            cwd=cwd,
        )
        return Result(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def start(self, *arguments: str, **popen: Any) -> subprocess.Popen[bytes]:
        """Starts the command line and leaves it running."""
        given: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "perseus", *arguments],
            env=self.environment,
            **{**given, **popen},
        )

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as the cluster tells it."""
        found = self.perseus("--json", "ps", job_id).ok().json()
        assert isinstance(found, dict)
        return found

    def node_of(self, job_id: str) -> str:
        """The name of the node that runs (or ran) the job's first task."""
        until(lambda: self.job(job_id)["tasks"][0].get("node"), f"{job_id} has a node")
        return str(self.job(job_id)["tasks"][0]["node"])

    def close(self) -> None:
        for node in devcluster.status(self.folder):
            if node.state == "paused":
                devcluster.resume(self.folder, node.name)
        devcluster.down(self.folder)


@contextmanager
def cluster(
    folder: Path, nodes: int = 3, settings: dict[str, str] | None = None
) -> Iterator[Cluster]:
    """A cluster for the length of a block."""
    made = Cluster(folder, nodes, settings)
    try:
        yield made
    finally:
        made.close()


def until(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """Asks until the condition holds; the value it gave. For what has no event to wait for."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in {limit_s:.0f} s: {what}"
        time.sleep(0.05)
    return value


def preloaded(source_name: str, folder: Path) -> Path:
    """A library that is put before a program's own by LD_PRELOAD, made from a file in C here."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc) is installed: apt-get install gcc")
    source = Path(__file__).with_name(source_name)
    library = folder / f"{source.stem}.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library
