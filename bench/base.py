"""What every measurement shares: how it runs commands, takes medians and reports.

A measurement is a function from ``Bench`` to rows. It is bounded: every command
has a time limit, every size a bound, and ``--quick`` makes all of them smaller.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND_LIMIT_S = 300.0
GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One line of the table. ``value`` is in ``unit``; None says it could not be measured."""

    what: str
    value: float | None
    unit: str
    # The number to reach, in words, as "<= 60" or ">= 0.5 x xargs -P2".
    target: str = ""
    # Whether it was reached; None for a peer or where there is no target.
    reached: bool | None = None
    # How many times the value of this peer of the same run.
    beside: str = ""
    ratio: float | None = None
    note: str = ""


@dataclass
class Bench:
    """Where a run works, and how much of it there is."""

    folder: Path
    quick: bool
    skipped: list[str] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """How often a short command is timed."""
        return 7 if self.quick else 31

    @property
    def bulk_bytes(self) -> int:
        """How long the long file is."""
        return 64 * MIB if self.quick else GIB

    @property
    def tasks(self) -> int:
        """How many tasks the job of many has."""
        return 100 if self.quick else 1000

    def skip(self, what: str, why: str) -> None:
        """Leaves a measurement out, in the open."""
        self.skipped.append(f"{what}: {why}")
        print(f"  left out: {what}: {why}", file=sys.stderr)


def perseus_command() -> str:
    """The command as installed beside this Python."""
    return str(Path(sys.executable).parent / "perseus")


def environment(folder: Path, context: Path | None = None) -> dict[str, str]:
    """The environment of a person who has only what lies in ``folder``; daemons end with us."""
    values = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PERSEUS_", "XDG_", "PYTHON"))
    }
    values |= {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}
    values |= {"XDG_CONFIG_HOME": str(folder / "config"), "PERSEUS_EXIT_WITH_PID": str(os.getpid())}
    if context is not None:
        values["PERSEUS_CONTEXT"] = str(context)
    return values


def run(
    command: Sequence[str],
    environment: dict[str, str] | None = None,
    *,
    stdin: Path | None = None,
    stdout: Path | None = None,
) -> float:
    """Runs a command to its end; seconds it took. Its failure ends the measurement."""
    source = stdin.open("rb") if stdin else subprocess.DEVNULL
    sink = stdout.open("wb") if stdout else subprocess.DEVNULL
    try:
        start = time.perf_counter()
        done = subprocess.run(
            command,
            env=environment,
            stdin=source,
            stdout=sink,
            stderr=subprocess.PIPE,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        took_s = time.perf_counter() - start
    finally:
        for stream in (source, sink):
            if not isinstance(stream, int):
                stream.close()
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        raise RuntimeError(f"{' '.join(command)[:100]} ended with {done.returncode}: {said}")
    return took_s


def medians(timers: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each timer's seconds, taken by turns so that all share the noise."""
    taken: dict[str, list[float]] = {name: [] for name in timers}
    for timer in timers.values():
        timer()
    for _ in range(rounds):
        for name, timer in timers.items():
            taken[name].append(timer())
    return {name: statistics.median(values) for name, values in taken.items()}


@contextmanager
def local_cluster(bench: Bench, nodes: int) -> Iterator[dict[str, str]]:
    """A cluster of real daemons; the environment in which commands reach it."""
    folder = bench.folder / f"c{nodes}"
    own = environment(bench.folder)
    command = perseus_command()
    run([command, "dev", "up", "--nodes", str(nodes), "--dir", str(folder)], own)
    try:
        yield environment(bench.folder, folder / "context.json")
    finally:
        run([command, "dev", "down", "--dir", str(folder), "--remove"], own)


def sample_file(path: Path, size_bytes: int) -> Path:
    """A file of bytes that do not compress, made without reading much from the kernel."""
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for number in range(0, size_bytes, MIB):
            piece = number.to_bytes(8, "big") + block[8:]
            file.write(piece[: size_bytes - number])
    return path
