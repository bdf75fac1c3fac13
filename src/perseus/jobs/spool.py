"""One output of an attempt: a file that the task appends to by itself, and its way
into the filestore.

The task's descriptor is the spool file, so no byte passes through the agent.
While the task runs the agent looks at the file's size now and then: often when
it grows fast towards its limit, seldom when it does not. What is larger than a
message may carry is shipped by the chunkserver, behind the running task.
"""

import asyncio
import os
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from perseus.errors import PerseusError, UnavailableError
from perseus.settings import INLINE_MAXIMUM_BYTES

# A spool of this size is shipped while the task still runs.
SHIP_EARLY_BYTES = 64 << 10
# Bounds of the time between two looks at a spool.
CHECK_MINIMUM_S = 0.02
CHECK_MAXIMUM_S = 0.1
# Pauses between the tries to ship; so there are one more tries than pauses.
SHIP_PAUSES_S = (0.2, 1.0, 3.0)

Result = TypeVar("Result")


class Ship(Protocol):
    """A spool on its way into the filestore."""

    async def finish(self, size_bytes: int) -> tuple[int, int]:
        """Ships up to exactly ``size_bytes``; (inode, CRC32C) once all replicas have it."""

    async def abandon(self) -> None:
        """Gives up; what was shipped becomes garbage."""


class Movers(Protocol):
    """What the chunkserver does for attempts; bulk bytes pass through it, not the agent."""

    async def feed(self, path: str, fifo_path: str) -> None:
        """Writes a file of the filestore into a FIFO, to its end, also while it grows.

        Returns when all is written and closed, or nobody reads any more.
        """

    async def place(self, path: str, target_path: str) -> None:
        """Copies a file of the filestore to a path on this node."""

    async def ship(self, attempt: str, stderr: bool, source_path: str) -> Ship:
        """Begins to ship a growing file as the output of an attempt."""


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
        # The task has ended: the size is final.
        self.is_final = False
        self._measured_bytes = 0
        self._measured_s = 0.0
        self._interval_s = CHECK_MINIMUM_S

    def measure(self) -> bool:
        """Looks at the file; True when it has grown."""
        try:
            measured_bytes = os.stat(self.path).st_size
        except FileNotFoundError:
            measured_bytes = 0
        grown = measured_bytes > self._measured_bytes
        self._measured_bytes = measured_bytes
        self.size_bytes = min(measured_bytes, self.limit_bytes)
        self.truncated = measured_bytes > self.limit_bytes
        return grown

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
        """The task has ended: fixes the size and cuts what is over the limit."""
        self.measure()
        self.is_final = True
        if self.truncated:
            os.truncate(self.path, self.limit_bytes)

    @property
    def is_inline(self) -> bool:
        """Whether it is small enough to ride in the message that tells the end."""
        return self.size_bytes <= INLINE_MAXIMUM_BYTES

    def read_inline(self) -> bytes:
        """The content of a small output."""
        if self.size_bytes == 0:
            return b""
        with open(self.path, "rb", buffering=0) as file:
            return file.read(self.size_bytes) or b""


class Shipment:
    """Brings one spool into the filestore, with a bounded number of tries."""

    def __init__(self, movers: Movers, attempt: str, stderr: bool, path: str) -> None:
        self._movers = movers
        self._attempt = attempt
        self._stderr = stderr
        self._path = path
        self._beginning: asyncio.Task[Ship] | None = None

    def begin(self) -> None:
        """Starts to ship behind the running task; safe to call again."""
        if self._beginning is None:
            ship = self._movers.ship(self._attempt, self._stderr, self._path)
            self._beginning = asyncio.create_task(ship)

    async def finish(self, size_bytes: int) -> tuple[int, int]:
        """Ships the rest; (inode, checksum). Raises the last try's PerseusError."""
        for pause_s in SHIP_PAUSES_S:
            try:
                return await self._try(size_bytes)
            except PerseusError:
                await asyncio.sleep(pause_s)
        return await self._try(size_bytes)

    async def _try(self, size_bytes: int) -> tuple[int, int]:
        self.begin()
        try:
            assert self._beginning is not None
            return await (await self._beginning).finish(size_bytes)
        except (PerseusError, OSError) as error:
            await self.abandon()
            if isinstance(error, PerseusError):
                raise
            raise UnavailableError(f"{self._path}: {error}") from error

    async def abandon(self) -> None:
        """What was shipped becomes garbage; quiet whatever state it is in."""
        beginning, self._beginning = self._beginning, None
        if beginning is None:
            return
        if not beginning.done():
            beginning.cancel()
        with suppress(PerseusError, OSError, asyncio.CancelledError):
            ship = await beginning
            await ship.abandon()


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
