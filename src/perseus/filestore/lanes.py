"""Work side by side on a few threads, that on one chunk in the order in which it came.

Each chunk with work has a lane, which one thread goes through: an order to delete a
replica and a later one to fetch it anew must not overtake each other.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Work = Callable[[], None]

_log = logging.getLogger("perseus.chunkserver")


class Lanes:
    """Carries work out on threads of its own. How much may wait is for the callers to bound."""

    def __init__(self, threads: int, name: str) -> None:
        """``threads`` work at once; ``name`` begins theirs."""
        self._pool = ThreadPoolExecutor(threads, name)
        self._mutex = threading.Lock()
        # Of each chunk that is being worked on, what is to follow.
        self._waiting: dict[int, deque[Work]] = {}

    def submit(self, chunk: int, work: Work) -> None:
        """Does ``work`` after all that was submitted for ``chunk`` before. Never blocks."""
        with self._mutex:
            waiting = self._waiting.get(chunk)
            if waiting is not None:
                waiting.append(work)
                return
            self._waiting[chunk] = deque()
        self._pool.submit(self._run, chunk, work)

    def _run(self, chunk: int, work: Work) -> None:
        following: Work | None = work
        while following is not None:
            try:
                following()
            except Exception:
                _log.exception("work on chunk %016x failed by a defect", chunk)
            following = self._next(chunk)

    def _next(self, chunk: int) -> Work | None:
        """What follows in the lane; it is closed when there is nothing."""
        with self._mutex:
            waiting = self._waiting[chunk]
            if waiting:
                return waiting.popleft()
            del self._waiting[chunk]
            return None
