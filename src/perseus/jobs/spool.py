"""One output of an attempt: a file that the task appends to by itself, and its way
into the filestore.

The task's descriptor is the spool file, so no byte passes through the agent.
While the task runs the agent looks at the file's size now and then: often when
it grows fast towards its limit, seldom when it does not. What is larger than a
message may carry is shipped by the chunkserver, behind the running task.

The agent holds the file open from before the task starts until its output is
kept, so that a task that takes its output away (rm, mv, another file under the
name) is known, and what it wrote is measured all the same.
"""

import asyncio
import os
import stat
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from perseus.errors import PerseusError, UnavailableError
from perseus.filestore.control import Shipped
from perseus.settings import INLINE_MAXIMUM_BYTES

# A spool of this size is shipped while the task still runs.
SHIP_EARLY_BYTES = 64 << 10
# Bounds of the time between two looks at a spool.
CHECK_MINIMUM_S = 0.02
CHECK_MAXIMUM_S = 0.1
# Pauses between the tries to ship; so there are one more tries than pauses.
SHIP_PAUSES_S = (0.2, 1.0, 3.0)

# The most outputs shipped at once behind running tasks, and after their end; in all
# control_messages.SHIPS_MAXIMUM.
EARLY_SHIPS_MAXIMUM = 64
FINAL_SHIPS_MAXIMUM = 64

Result = TypeVar("Result")


class Ship(Protocol):
    """A spool on its way into the filestore."""

    async def finish(self, size_bytes: int) -> Shipped:
        """Ships up to ``size_bytes``; returns once all replicas have it on disk."""

    def cut(self) -> None:
        """``finish`` is to return soon, with what is shipped already."""

    async def abandon(self) -> None:
        """Gives up; what was shipped becomes garbage. Quiet."""


class Movers(Protocol):
    """What the chunkserver does for attempts (``filestore.control.ChunkserverControl``);
    bulk bytes pass through it, not the agent. All raise PerseusError."""

    async def feed(self, path: str, fifo_path: str) -> int:
        """Writes a file of the filestore into a FIFO, to its end, also while it grows.

        Returns when all is written and closed, or nobody reads any more.
        """

    async def place(self, path: str, target_path: str) -> int:
        """Copies a file of the filestore to a path on this node."""

    async def ship(self, attempt: str, stderr: bool, source_path: str) -> Ship:
        """Begins to ship a growing file as the output of an attempt."""


class ShipRoom:
    """How many ships of this node are under way at once, of both kinds.

    Those behind running tasks may last long, so they never take the room of those
    whose task has ended.
    """

    def __init__(self) -> None:
        self.early = EARLY_SHIPS_MAXIMUM
        self.final = asyncio.Semaphore(FINAL_SHIPS_MAXIMUM)
        self._heard = asyncio.Event()
        self._is_leased = False

    def note_master(self) -> None:
        """The master has renewed the node's lease just now."""
        self._is_leased = True
        self._heard.set()

    async def master(self) -> None:
        """Returns when the master renews the lease next, and at once where there was none."""
        if self._is_leased:
            self._heard.clear()
            await self._heard.wait()


class Spool:
    """The file of one output."""

    def __init__(self, path: str, name: str, limit_bytes: int) -> None:
        self.path = path
        # "stdout" or "stderr", for messages.
        self.name = name
        self.limit_bytes = limit_bytes
        # As last measured; never more than may be kept or shown.
        self.size_bytes = 0
        # More was written than the limit allows.
        self.truncated = False
        # It shrank: the task has cut it (``> /dev/stdout`` does); what was shipped is void.
        self.was_cut = False
        # The task has removed, moved or replaced the file; for good, also if it puts it back.
        self.was_taken = False
        # The task has ended: the size is final.
        self.is_final = False
        self._measured_bytes = 0
        self._measured_s = 0.0
        self._interval_s = CHECK_MINIMUM_S
        self._descriptor = -1
        # Device, inode and kind of the file, once it was opened.
        self._identity: tuple[int, int, int] | None = None

    def open(self) -> None:
        """Makes the file and holds it; before the task starts. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        self._identity = _identity(os.fstat(self._descriptor))

    def close(self) -> None:
        """Lets the file go; what was measured stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def open_for_reading(self) -> int:
        """A descriptor of the caller's own; -1 when the file is not there, or is another."""
        if self._descriptor >= 0:
            return os.dup(self._descriptor)
        # Not blocking: the task may have put a FIFO there.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags)
        except OSError:
            return -1
        if _identity(os.fstat(descriptor)) != self._identity:
            os.close(descriptor)
            return -1
        return descriptor

    def measure(self) -> bool:
        """Looks at the file; True when it has grown. Never raises."""
        measured_bytes = 0
        if self._descriptor >= 0:
            measured_bytes = self._look()
        grown = measured_bytes > self._measured_bytes
        self.was_cut |= measured_bytes < self._measured_bytes
        self._measured_bytes = measured_bytes
        self.size_bytes = min(measured_bytes, self.limit_bytes)
        self.truncated = measured_bytes > self.limit_bytes
        return grown

    def _look(self) -> int:
        """The size of the file, whatever its name is now."""
        try:
            size_bytes = os.fstat(self._descriptor).st_size
            self.was_taken |= _identity(os.lstat(self.path)) != self._identity
        except OSError:
            # Also when its folder was closed to us: then nobody can ship it.
            self.was_taken = True
            with suppress(OSError):
                return os.fstat(self._descriptor).st_size
            return self._measured_bytes
        return size_bytes

    def check(self, now_s: float) -> float:
        """Measures; the seconds until the next look, shorter the sooner the limit may come."""
        before_bytes, elapsed_s = self._measured_bytes, now_s - self._measured_s
        self.measure()
        self._measured_s = now_s
        self._interval_s = min(self._interval_s * 2, CHECK_MAXIMUM_S)
        grown_bytes = self._measured_bytes - before_bytes
        if grown_bytes > 0:
            # At double the rate seen it would reach the limit no sooner than this.
            left_bytes = max(0, self.limit_bytes - self._measured_bytes)
            due_s = left_bytes / grown_bytes * elapsed_s / 2
            self._interval_s = min(self._interval_s, max(due_s, CHECK_MINIMUM_S))
        return self._interval_s

    def settle(self) -> None:
        """The task has ended: fixes the size and cuts what is over the limit. What was taken
        away cannot be shipped: of it no more stays than needs no place of its own."""
        self.measure()
        self.is_final = True
        if self.was_taken:
            self.cut(INLINE_MAXIMUM_BYTES)
        elif self.truncated:
            os.ftruncate(self._descriptor, self.limit_bytes)

    def cut(self, size_bytes: int) -> None:
        """Keeps no more than ``size_bytes`` of a settled output, for there is no room."""
        if self.size_bytes > size_bytes:
            self.size_bytes, self.truncated = size_bytes, True
            os.ftruncate(self._descriptor, size_bytes)

    @property
    def is_inline(self) -> bool:
        """Whether it is small enough to ride in the message that tells the end."""
        return self.size_bytes <= INLINE_MAXIMUM_BYTES

    def read_inline(self) -> bytes:
        """The content of a small output."""
        if self.size_bytes == 0:
            return b""
        return os.pread(self._descriptor, self.size_bytes, 0)


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    # The kind too: once the file is let go, its inode may be given to a FIFO.
    return status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode)


class Shipment:
    """Brings one spool into the filestore, with a bounded number of tries, none of which
    begins while the master is not there to place it."""

    def __init__(
        self, movers: Movers, room: ShipRoom, attempt: str, stderr: bool, path: str
    ) -> None:
        self._movers = movers
        self._room = room
        self._attempt = attempt
        self._stderr = stderr
        self._path = path
        self._ship: asyncio.Task[Ship] | None = None
        self._is_early = False
        self._is_cut = False

    def begin_early(self) -> None:
        """Starts to ship behind the running task, if there is room; safe to call again."""
        if self._ship is None and self._room.early > 0:
            self._room.early -= 1
            self._is_early = True
            self._begin()

    def _begin(self) -> asyncio.Task[Ship]:
        if self._ship is None:
            ship = self._movers.ship(self._attempt, self._stderr, self._path)
            self._ship = in_background(ship)
        return self._ship

    async def finish(self, spool: Spool) -> Shipped:
        """Ships the rest of a settled spool. Raises the last try's PerseusError."""
        if spool.was_cut:
            # It has shipped bytes that the task took back.
            await self.abandon()
        if self._is_early:
            # What it shipped beyond a limit makes it fail; then it is shipped anew.
            with suppress(PerseusError):
                return await self._try(spool.size_bytes)
        async with self._room.final:
            for pause_s in SHIP_PAUSES_S:
                try:
                    return await self._try(spool.size_bytes)
                except PerseusError:
                    if self._is_cut:
                        raise
                    await asyncio.sleep(pause_s)
                    await self._room.master()
            return await self._try(spool.size_bytes)

    def cut(self) -> bool:
        """Ends it at what is shipped already, which ``finish`` then returns, or raises what
        stopped it. False when nothing is under way: then ``finish`` is to be cancelled."""
        self._is_cut = True
        ship = self._ship
        if ship is None or not ship.done() or ship.cancelled() or ship.exception() is not None:
            return False
        ship.result().cut()
        return True

    async def _try(self, size_bytes: int) -> Shipped:
        if self._is_cut and self._ship is None:
            raise UnavailableError(f"{self._path} was cut short before it was shipped")
        try:
            shipped = await (await self._begin()).finish(size_bytes)
        except PerseusError:
            await self.abandon()
            raise
        self._leave_early()
        if shipped.size_bytes != size_bytes and not self._is_cut:
            self._ship = None
            raise UnavailableError(
                f"{shipped.size_bytes} bytes of {self._path} were shipped instead of {size_bytes}"
            )
        return shipped

    async def abandon(self) -> None:
        """What was shipped becomes garbage; quiet whatever state it is in."""
        self._leave_early()
        beginning, self._ship = self._ship, None
        if beginning is None:
            return
        if not beginning.done():
            # Nothing was begun yet; it may wait for a chunkserver that does not come.
            beginning.cancel()
        with suppress(PerseusError, asyncio.CancelledError):
            await (await beginning).abandon()

    def _leave_early(self) -> None:
        if self._is_early:
            self._is_early = False
            self._room.early += 1


def in_background(work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    """A task that is kept alive until it ends, and whose failure is not an orphan."""
    task = asyncio.create_task(work)
    _background.add(task)
    task.add_done_callback(_done)
    return task


_background: set[asyncio.Task[Any]] = set()


def _done(task: asyncio.Task[Any]) -> None:
    _background.discard(task)
    if not task.cancelled():
        task.exception()
