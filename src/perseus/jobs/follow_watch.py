"""Waiting for changes of jobs: woken after the commit, never by polling."""

import asyncio
from types import TracebackType

from perseus.errors import UnavailableError

WATCHES_MAXIMUM = 20_000


class Watch:
    """One who waits for changes of one job. Changes before ``changed`` is called count."""

    def __init__(self, watches: "Watches", job_id: str) -> None:
        self._watches = watches
        self._job_id = job_id
        self._event = asyncio.Event()

    def wake(self) -> None:
        """The job changed."""
        self._event.set()

    async def changed(self, timeout_s: float | None = None) -> bool:
        """Returns True at the next change, or False when the time is over."""
        if not self._event.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._event.wait()
            except TimeoutError:
                return False
        self._event.clear()
        return True

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watches.drop(self._job_id, self)


class Watches:
    """All who wait, by job; bounded."""

    def __init__(self) -> None:
        self._by_job: dict[str, set[Watch]] = {}
        self._count = 0

    def watch(self, job_id: str) -> Watch:
        """A watch, to be used in ``with``; raises UnavailableError when there are too many."""
        if self._count >= WATCHES_MAXIMUM:
            raise UnavailableError(
                f"{WATCHES_MAXIMUM} callers wait for jobs already",
                hint="try again, or ask now and then: perseus ps",
            )
        watch = Watch(self, job_id)
        self._by_job.setdefault(job_id, set()).add(watch)
        self._count += 1
        return watch

    def drop(self, job_id: str, watch: Watch) -> None:
        """The watch is over."""
        watches = self._by_job.get(job_id, set())
        if watch in watches:
            watches.remove(watch)
            self._count -= 1
        if not watches:
            self._by_job.pop(job_id, None)

    def wake(self, job_id: str) -> None:
        """The job changed."""
        for watch in self._by_job.get(job_id, ()):
            watch.wake()
