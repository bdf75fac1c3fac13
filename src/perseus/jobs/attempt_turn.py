"""When an attempt that has been prepared may start: behind one process, or when it is told.

An attempt may be lined up behind another of its job that runs (``executor_gate``): the spawner
starts it when that one ends, without a word to the agent and back. Where the other runs for
longer than was thought, it is sent back and takes the first place that is free.
"""

import asyncio

from perseus.runtime.ports import Spawner

# How long an attempt waits for the end of one process alone.
FOLLOW_MAXIMUM_S = 0.05


class Turn:
    """That of one attempt; at first it may start at once."""

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner
        # The process whose end it waits for; 0: none.
        self.after = 0
        # Its turn, once it was sent back.
        self._own: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """It was sent back, and has no place yet."""
        return self._own is not None and not self._own.done()

    async def come(self) -> None:
        """Returns when it may start."""
        if self._own is not None:
            await self._own

    def follow(self, pid: int) -> None:
        """It may start as soon as that process has ended."""
        self.after = pid
        self.take()

    def send_back(self) -> None:
        """It may start when ``take`` says so."""
        self._own = asyncio.get_running_loop().create_future()
        self.leave()

    def take(self) -> None:
        """There is a place for it."""
        if self._own is not None and not self._own.done():
            self._own.set_result(None)

    def give_up(self) -> None:
        """It waits for nothing any more, and will not start."""
        self.take()
        self.leave()

    def leave(self) -> None:
        """It does not wait for a process any more."""
        after, self.after = self.after, 0
        if after:
            self._spawner.free(after)
