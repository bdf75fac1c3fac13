"""The process proper, a child of its task: ``python -m perseus.hosting.process``.

It may be killed at any moment. What it says goes through its task, which has the network
and the faults; what is durable to it lies in a folder of the node's; what it did goes to
stdout. It ends when its task is gone.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from perseus.algo.codec import Codec
from perseus.algo.driver import Driver, Step
from perseus.algo.process import Envelope, Id, Process
from perseus.algo.values import Values
from perseus.errors import CorruptError, FullError, InvalidError, PerseusError
from perseus.hosting import frames
from perseus.hosting.journal import DiskJournal
from perseus.hosting.run import (
    EXIT_DAMAGED,
    EXIT_FULL,
    EXIT_RAISED,
    REASON,
    REASON_MAXIMUM_CHARACTERS,
    RECORD,
    Run,
    root,
)
from perseus.hosting.stepping import Shared
from perseus.hosting.trace import Tracer, tell
from perseus.proto.v1 import algo_pb2


class Hosted:
    """One process and those beside it."""

    def __init__(self, run: Run, process: Id, folder: Path) -> None:
        self._run = run
        self._layout = run.layout()
        self._codec = Codec.of(self._layout)
        self._journal = DiskJournal(folder, self._codec)
        self._tracer = Tracer(self._codec)
        self._place = run.place(process, self._journal.restarts)
        self._writer: asyncio.StreamWriter
        self._letters: list[algo_pb2.Letter] = []

    async def serve(self, descriptor: int, step: Shared) -> None:
        """Until the task is gone."""
        step.answer_asked()
        reader, self._writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
        values = Values(self._codec)
        driver = Driver(
            self._journal, self._transmit, self._failed, values, self._settled, step.note
        )
        group = self._layout.groups[self._place.group]
        driver.start(group.kind, self._place, dict(group.options))
        while letters := await frames.read(reader):
            for letter in letters:
                self._take(driver, letter)

    def _take(self, driver: Driver, letter: algo_pb2.Letter) -> None:
        if not any(process.id == letter.to for process in driver.processes):
            return
        message = self._codec.decode(letter.content)
        mark = (letter.life, letter.mark)
        self._tracer.heard(letter.sender, *mark, letter.clock)
        driver.deliver(letter.to, letter.sender, message, letter.number, letter.answers, mark)

    def _settled(self, steps: Sequence[Step]) -> None:
        for step in steps:
            for to, *_ in step.sends:
                if root(to) not in self._run.nodes:
                    raise InvalidError(f"{step.process.id} sends to {to!r}, which is nobody")
        self._tracer.write(steps)

    def _transmit(self, sender: Id, envelope: Envelope, mark: int) -> None:
        letter = algo_pb2.Letter(
            to=envelope.to,
            sender=sender,
            life=self._place.restarts,
            mark=mark,
            clock=self._tracer.clocks[mark],
            number=envelope.number,
            answers=envelope.answers,
            content=self._tracer.contents[mark],
        )
        if not self._letters:
            asyncio.get_running_loop().call_soon(self._flush)
        self._letters.append(letter)

    def _flush(self) -> None:
        letters, self._letters = self._letters, []
        frames.write(self._writer, letters)

    def _failed(self, process: Process, error: BaseException) -> None:
        """A handler raised, or the disk: the process is over, as in any crash."""
        try:
            tell("raised", process.id, f"{type(error).__name__}: {error}")
            _leave_reason(error)
            if not isinstance(error, PerseusError):
                sys.excepthook(type(error), error, error.__traceback__)
            sys.stderr.write(f"{process.id}: {type(error).__name__}: {error}\n")
            sys.stderr.flush()
        finally:
            # Also where there is no room for these words: it must not stay as if it went on.
            os._exit(exit_code(error))


def exit_code(error: BaseException) -> int:
    """By which its task knows why a process ended."""
    if isinstance(error, FullError):
        return EXIT_FULL
    return EXIT_DAMAGED if isinstance(error, CorruptError) else EXIT_RAISED


def _leave_reason(error: BaseException) -> None:
    """For ``algo ps`` and ``watch``, in one line."""
    said = error.message if isinstance(error, PerseusError) else str(error)
    line = " ".join(f"{type(error).__name__}: {said}".split())
    with contextlib.suppress(OSError):
        Path(REASON).write_text(line[:REASON_MAXIMUM_CHARACTERS], errors="backslashreplace")


def main() -> None:
    """``process.py ID FOLDER DESCRIPTOR STEP``, in the task's working folder; the descriptors are
    of the way to the task, and of what both know of the step that is taken."""
    process, folder, descriptor, step = sys.argv[1:]
    try:
        run = Run.decode(Path(RECORD).read_bytes())
        hosted = Hosted(run, root(process), Path(folder))
        asyncio.run(hosted.serve(int(descriptor), Shared(int(step))))
    except PerseusError as error:
        _leave_reason(error)
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{process}: {error}\n")
            sys.stderr.flush()
        os._exit(exit_code(error))


if __name__ == "__main__":
    main()
