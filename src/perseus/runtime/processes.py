"""What the kernel tells of a process: one reading of ``/proc/PID/stat``."""

import os
from contextlib import suppress
from typing import NamedTuple

# A stat line is below 400 bytes, whatever the program's name.
_STAT_MAXIMUM_BYTES = 1024
_FIELDS = 20


class Stat(NamedTuple):
    """A process that is there. With its start a pid names it for good: a reused one differs."""

    # One letter, as ps(1) has it: T is stopped.
    state: str
    parent: int
    session: int
    # When it began, in clock ticks since boot.
    start_ticks: int


def stat(pid: int) -> Stat | None:
    """What is told of ``pid``; None when it is gone or a zombie."""
    with suppress(OSError):
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(descriptor, _STAT_MAXIMUM_BYTES).rpartition(b")")[2].split()
        finally:
            os.close(descriptor)
        if len(fields) >= _FIELDS and fields[0] not in (b"Z", b"X"):
            return Stat(fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))
    return None
