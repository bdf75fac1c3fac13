"""Movers: bulk bytes between the filestore and a node's tasks, in the chunkserver's process.

Each runs in a thread of its own and can be cancelled at any moment:

- Feed: a file of the filestore into a FIFO, the stdin of a task;
- Place: a file of the filestore to a local file;
- Ship: a local file that a task is appending to into an output of its attempt. What was
  read before the task had ended is compared with the file then, for a task may also
  truncate or overwrite its output; it is shipped as it was at the end, or not at all.
"""

import errno
import fcntl
import os
import secrets
import select
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crc32c import crc32c

from perseus.errors import InvalidError, PerseusError, UnavailableError
from perseus.filestore import control_messages as messages
from perseus.filestore.client import FilestoreClient, write_fully
from perseus.settings import FRAME_MAXIMUM_BYTES

MOVERS_MAXIMUM = messages.FEEDS_MAXIMUM + messages.PLACES_MAXIMUM + messages.SHIPS_MAXIMUM
PIPE_BYTES = 1 << 20
# How soon a cancelled mover that waits for its reader notices.
LOOK_S = 0.2
# How often a ship looks whether its file has grown: soon after growth, seldom when idle.
POLL_FIRST_S = 0.01
POLL_MAXIMUM_S = 0.5


class CancelledMoveError(Exception):
    """The agent has cancelled it. Stays inside the package."""


@dataclass(slots=True)
class Job:
    """A mover that runs."""

    cancelled: threading.Event
    # Of a ship: set with the end, or when it is cancelled.
    changed: threading.Condition
    end_bytes: int | None = None
    # A ship is to end at what it has shipped.
    is_cut: bool = False

    def check(self) -> None:
        """CancelledMoveError when it is cancelled."""
        if self.cancelled.is_set():
            raise CancelledMoveError


class Movers:
    """Starts, ends and counts movers. Safe for threads."""

    def __init__(self, client: FilestoreClient, answer: Callable[[messages.Done], None]) -> None:
        self._client = client
        self._answer = answer
        self._mutex = threading.Lock()
        self._jobs: dict[int, Job] = {}

    def start(self, request: messages.Feed | messages.Place | messages.Ship) -> None:
        """Starts a mover; its result goes to the answer, also when it cannot start."""
        job = Job(threading.Event(), threading.Condition())
        with self._mutex:
            full = len(self._jobs) >= MOVERS_MAXIMUM
            if not full:
                self._jobs[request.number] = job
        if full:
            error = UnavailableError(f"this node moves {MOVERS_MAXIMUM} streams already")
            self._answer(messages.Done(request.number, error=messages.Problem.of(error)))
            return
        threading.Thread(target=self._run, args=(request, job), name="mover", daemon=True).start()

    def end_ship(self, end: messages.ShipEnd) -> None:
        """The file of a ship is whole at that size."""
        job = self._jobs.get(end.number)
        if job is not None:
            with job.changed:
                job.end_bytes = end.size_bytes
                job.changed.notify_all()

    def cut_ship(self, number: int) -> None:
        """A ship whose end was told is to end at what it has shipped."""
        job = self._jobs.get(number)
        if job is not None:
            job.is_cut = True

    def cancel(self, number: int) -> None:
        """Ends a mover; quiet when there is none."""
        job = self._jobs.get(number)
        if job is not None:
            with job.changed:
                job.cancelled.set()
                job.changed.notify_all()

    def _run(self, request: messages.Feed | messages.Place | messages.Ship, job: Job) -> None:
        try:
            if isinstance(request, messages.Feed):
                done = self._feed(request, job)
            elif isinstance(request, messages.Place):
                done = self._place(request, job)
            else:
                done = self._ship(request, job)
        except CancelledMoveError:
            problem = messages.Problem.of(UnavailableError("it was cancelled"))
            done = messages.Done(request.number, error=problem)
        except PerseusError as error:
            done = messages.Done(request.number, error=messages.Problem.of(error))
        except OSError as error:
            problem = messages.Problem.of(UnavailableError(f"moving bytes failed: {error}"))
            done = messages.Done(request.number, error=problem)
        with self._mutex:
            del self._jobs[request.number]
        self._answer(done)

    def _feed(self, request: messages.Feed, job: Job) -> messages.Done:
        stop = job.cancelled.is_set
        pieces = self._client.open_read(request.path, follow=True, stop=stop)
        descriptor = _open_fifo(request.fifo_path, job)
        moved = 0
        try:
            for piece in pieces:
                _write_fifo(descriptor, piece, job)
                moved += len(piece)
        except BrokenPipeError:
            # The task has read as much as it wanted.
            pass
        finally:
            os.close(descriptor)
            pieces.close()
        job.check()
        return messages.Done(request.number, moved)

    def _place(self, request: messages.Place, job: Job) -> messages.Done:
        target = Path(request.target_path)
        temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
        pieces = self._client.open_read(request.path)
        moved = 0
        try:
            with open(temporary, "xb", buffering=0) as file:
                for piece in pieces:
                    job.check()
                    write_fully(file.fileno(), piece)
                    moved += len(piece)
            os.rename(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            pieces.close()
        return messages.Done(request.number, moved)

    def _ship(self, request: messages.Ship, job: Job) -> messages.Done:
        with (
            open(request.source_path, "rb", buffering=0, opener=_open_source) as source,
            self._client.open_output(request.attempt, request.stderr) as output,
        ):
            early_bytes = early_checksum = 0
            while True:
                is_early = job.end_bytes is None
                piece = _next_piece(source.fileno(), output.size_bytes, job)
                if piece is None:
                    break
                output.write(piece)
                if is_early:
                    early_bytes, early_checksum = output.size_bytes, output.checksum
            _check_unchanged(source.fileno(), early_bytes, early_checksum, job)
            info = output.close()
            return messages.Done(
                request.number, output.size_bytes, info.inode or output.inode, output.checksum
            )


def _open_source(path: str, flags: int) -> int:
    """Opens a plain file; a FIFO that a task put in its place would hold the thread for ever."""
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidError(f"{path} is not a plain file any more")
    return descriptor


def _open_fifo(path: str, job: Job) -> int:
    """Opens a FIFO for writing once it has a reader; not blocking."""
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        raise InvalidError(f"{path} is not a FIFO")
    while True:
        job.check()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        job.cancelled.wait(LOOK_S / 10)
    # Over the user's limit for pipes the usual size does as well.
    with suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return descriptor


def _write_fifo(descriptor: int, piece: bytes, job: Job) -> None:
    view = memoryview(piece)
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    while view:
        job.check()
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            poll.poll(LOOK_S * 1000)


def _check_unchanged(descriptor: int, size_bytes: int, checksum: int, job: Job) -> None:
    """InvalidError when the first ``size_bytes`` of the file have not that checksum any more."""
    found = position = 0
    while position < size_bytes:
        job.check()
        length_bytes = min(FRAME_MAXIMUM_BYTES, size_bytes - position)
        piece = os.pread(descriptor, length_bytes, position)
        if not piece:
            break
        found = crc32c(piece, found)
        position += len(piece)
    if found != checksum:
        raise InvalidError("the output was overwritten where it was shipped already")


def _next_piece(descriptor: int, position: int, job: Job) -> bytes | None:
    """The next bytes of a file that grows; None at its end. Whole frames, but for the last.
    What is cut ends before the next frame, but for the first one."""
    delay_s = POLL_FIRST_S
    while True:
        job.check()
        if job.is_cut and position > 0:
            return None
        end = job.end_bytes
        available = (os.fstat(descriptor).st_size if end is None else end) - position
        if end is not None and available < 0:
            raise InvalidError(f"{position} bytes are shipped already, {end} are wanted")
        if available >= FRAME_MAXIMUM_BYTES or (end is not None and available > 0):
            piece = os.pread(descriptor, min(available, FRAME_MAXIMUM_BYTES), position)
            if not piece:
                raise InvalidError(f"the output is shorter than the {end} bytes it should have")
            return piece
        if end is not None:
            return None
        with job.changed:
            if job.end_bytes is None and not job.cancelled.is_set():
                job.changed.wait(delay_s)
        delay_s = min(2 * delay_s, POLL_MAXIMUM_S)
