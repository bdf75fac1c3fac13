"""What the kernel tells of a process: one reading of ``/proc/PID/stat``."""

import os
from contextlib import suppress
from typing import NamedTuple

# A stat line is below 400 bytes, whatever the program's name.
_STAT_MAXIMUM_BYTES = 1024
_FIELDS = 20
_THREADS = 17
# States of what has ended: it waits to be reaped, or is about to be gone.
_ENDED = (b"Z", b"X")


class Stat(NamedTuple):
    """A process that is there. With its start a pid names it for good: a reused one differs."""

    # One letter, as ps(1) has it: T is stopped.
    state: str
    parent: int
    session: int
    # When it began, in clock ticks since boot.
    start_ticks: int


def stat(pid: int) -> Stat | None:
    """What is told of ``pid``; None when it is gone or a zombie.

    A program whose first thread has ended while others go on is none: its state is theirs."""
    fields = _fields(f"/proc/{pid}/stat")
    if fields is None:
        return None
    state = fields[0]
    if state in _ENDED and fields[_THREADS] != b"1":
        state = _state_of_threads(pid)
    if state in _ENDED:
        return None
    return Stat(state.decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def _fields(path: str) -> list[bytes] | None:
    """What follows the program's name in a stat file; None when there is no such file now."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(descriptor, _STAT_MAXIMUM_BYTES).rpartition(b")")[2].split()
        finally:
            os.close(descriptor)
        if len(fields) >= _FIELDS:
            return fields
    return None


def _state_of_threads(pid: int) -> bytes:
    """The state of a thread of ``pid`` that has not ended; that of a zombie when all have."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            fields = _fields(f"/proc/{pid}/task/{thread}/stat")
            if fields is not None and fields[0] not in _ENDED:
                return fields[0]
    return b"Z"
