"""Which processes the spawner started, so that a restarting agent finds left-overs.

The spawner kills its tasks when the agent dies. If the spawner itself is killed
with SIGKILL nobody does, so it writes each task's pid and start time to a file;
``sweep`` kills exactly those that still live. A pid with another start time is
another process and is left alone. What a task left in sessions of its own is
known by the variable ``PERSEUS_ATTEMPT_FOLDER`` in its environment.

Lines: ``BOOT_ID``, then ``PID EARLIEST LATEST``: between which clock ticks since boot
the process began. Asking the kernel for the tick itself, just after the start, took
a seventh of the spawner's time. Nothing is synced: after a crash of the machine no
process is left.
"""

import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from perseus.runtime.processes import stat

MARK = "PERSEUS_ATTEMPT_FOLDER"
_MARK_PREFIX = f"{MARK}=".encode()
JOURNAL_NAME = "journal"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# The file is written anew with the live tasks alone when it has grown by this many lines.
_LINES_MAXIMUM = 4096
# One pass over /proc may miss what is forked meanwhile; passes end when one finds nothing.
_PASSES_MAXIMUM = 20


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


class Span(NamedTuple):
    """When a process began: from clock tick to clock tick since boot, both included."""

    earliest: int
    latest: int


def ticks() -> int:
    """Now, in clock ticks since boot, as the kernel counts the starts of processes."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_S)


class Journal:
    """The spawner's end: notes starts, many in one write."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pending: list[str] = []
        self._lines = 0
        self._boot_id = _boot_id()
        self._descriptor = self._create({})

    def _create(self, live: Mapping[int, Span]) -> int:
        lines = [self._boot_id]
        lines += [f"{pid} {span.earliest} {span.latest}" for pid, span in live.items()]
        temporary = f"{self._path}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        descriptor = os.open(temporary, flags, 0o600)
        os.write(descriptor, ("\n".join(lines) + "\n").encode())
        os.rename(temporary, self._path)
        self._lines = 0
        return descriptor

    def note(self, pid: int, span: Span) -> None:
        """Remembers a process just started, until ``write``."""
        self._pending.append(f"{pid} {span.earliest} {span.latest}\n")

    def write(self, live: Mapping[int, Span]) -> None:
        """Writes what was noted; ``live`` bounds the file."""
        if not self._pending:
            return
        os.write(self._descriptor, "".join(self._pending).encode())
        self._lines += len(self._pending)
        self._pending.clear()
        if self._lines > _LINES_MAXIMUM:
            os.close(self._descriptor)
            self._descriptor = self._create(live)


def sweep(attempts_folder: str) -> list[int]:
    """Kills what a dead spawner of this folder left behind; returns the pids killed.

    Call it before a new spawner is forked: it takes over the journal.
    """
    journal = os.path.join(attempts_folder, JOURNAL_NAME)
    entries = _read(journal)
    mark = f"{MARK}={os.path.join(attempts_folder, '')}".encode()
    # Tasks that live. Their pids name their sessions too, also after they are killed: the
    # kernel gives no pid away that is still some process's session.
    live = {pid for pid, span in entries.items() if _began_within(pid, span)}
    # Spared, or killed already and perhaps not gone yet.
    done = set(_ancestors())
    killed: list[int] = []
    for _ in range(_PASSES_MAXIMUM):
        found = [pid for pid in _processes() if pid not in done]
        hit = [pid for pid in found if _kill_left_over(pid, entries, live, mark)]
        if not hit:
            break
        killed += hit
        done.update(hit)
    with suppress(FileNotFoundError):
        os.unlink(journal)
    return killed


def _began_within(pid: int, span: Span) -> bool:
    found = stat(pid)
    return found is not None and span.earliest <= found.start_ticks <= span.latest


def _read(journal: str) -> dict[int, Span]:
    try:
        with open(journal) as file:
            boot, *lines = file.read().splitlines() or [""]
    except FileNotFoundError:
        return {}
    if boot != _boot_id():
        return {}
    entries: dict[int, Span] = {}
    for line in lines:
        # The last line may be torn; what is not three numbers is not an entry.
        with suppress(ValueError):
            pid, earliest, latest = map(int, line.split())
            entries[pid] = Span(earliest, latest)
    return entries


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _kill_left_over(pid: int, entries: Mapping[int, Span], live: set[int], mark: bytes) -> bool:
    """Kills ``pid`` if it is ours, through a descriptor that names it for good."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        found = stat(pid)
        if found is None:
            return False
        span = entries.get(pid)
        is_task = span is not None and span.earliest <= found.start_ticks <= span.latest
        if not (is_task or found.session in live or _is_marked(pid, mark)):
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def marks_of(pid: int) -> set[bytes]:
    """The entries ``PERSEUS_ATTEMPT_FOLDER=...`` of a process' environment; mostly none or one."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return set()
    return {entry for entry in entries if entry.startswith(_MARK_PREFIX)}


def _is_marked(pid: int, mark: bytes) -> bool:
    return any(entry.startswith(mark) for entry in marks_of(pid))


def _ancestors() -> Iterable[int]:
    """This process and those it descends from: a daemon started from a task spares itself."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        found = stat(pid)
        if found is None:
            return
        pid = found.parent
