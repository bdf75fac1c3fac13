"""Whether a process is in a step that does not end, as its task sees it.

A handler that never ends holds up its process, and with it whatever in it would notice: code in
C may let no other thread run. So the process notes when a step begins, in memory that it shares
with its task; and the task asks by a signal where that step is, which ``faulthandler`` answers
in C, into the same memory behind the note.
"""

import faulthandler
import mmap
import os
import re
import signal
import struct
from dataclasses import dataclass
from typing import BinaryIO, cast

ASK = signal.SIGUSR1
# Of what faulthandler says of all threads.
ANSWER_MAXIMUM_BYTES = 1 << 20
_SINCE = struct.Struct("d")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
_STEP = ("driver.py", "_step")
# What of a process's own machinery is between a step and its handler.
_MACHINERY = ("process.py", "durability.py")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step is; all empty when that is not known."""

    handler: str = ""
    # FILE:LINE of the innermost line of the algorithm.
    line: str = ""


class Shared:
    """The memory, of one life of a process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _SINCE.size)

    @staticmethod
    def create() -> "Shared":
        """By the task, for the life that is about to begin."""
        descriptor = os.memfd_create("perseus-step")
        os.ftruncate(descriptor, _SINCE.size)
        return Shared(descriptor)

    def close(self) -> None:
        """The life is over."""
        self._memory.close()
        os.close(self.descriptor)

    # By the process.

    def answer_asked(self) -> None:
        """From here on it may be asked where its step is."""
        file = cast(BinaryIO, self.descriptor)
        faulthandler.register(ASK, file=file, all_threads=True)

    def note(self, since_s: float) -> None:
        """A step begins at this time (of ``time.monotonic``); 0 when it has ended."""
        _SINCE.pack_into(self._memory, 0, since_s)

    # By the task.

    def since_s(self) -> float:
        """When the step began that is being taken; 0 when there is none."""
        return float(_SINCE.unpack_from(self._memory)[0])

    def expect(self) -> None:
        """The next answer, to the signal that is sent after this, replaces the last one."""
        os.ftruncate(self.descriptor, _SINCE.size)
        os.lseek(self.descriptor, _SINCE.size, os.SEEK_SET)

    def answer(self) -> Place:
        """What came to the last signal."""
        content = os.pread(self.descriptor, ANSWER_MAXIMUM_BYTES, _SINCE.size)
        return place_of(content.decode(errors="replace"))


def place_of(said: str) -> Place:
    """From faulthandler's words, the innermost line first."""
    frames: list[tuple[str, str, str]] = []
    for text in said.splitlines():
        found = _FRAME.match(text)
        if found is None:
            # The next thread.
            frames.clear()
            continue
        path, line, function = found.groups()
        if (os.path.basename(path), function) == _STEP:
            return _place(frames)
        frames.append((path, line, function))
    return Place()


def _place(frames: list[tuple[str, str, str]]) -> Place:
    """Of a step's frames. Of what a handler called, the innermost line counts that is in the
    handler's folder or below: not in the library of Python, nor in what else is installed."""
    while frames and os.path.basename(frames[-1][0]) in _MACHINERY:
        frames.pop()
    if not frames:
        return Place()
    folder = os.path.dirname(frames[-1][0])
    path, line, _ = next(each for each in frames if each[0].startswith(folder))
    return Place(frames[-1][2], f"{os.path.basename(path)}:{line}")
