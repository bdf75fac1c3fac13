"""Which replicas keep their place in the kernel's page cache.

What was written last is what the next task reads, so it stays; what a node has
taken beyond that goes out as new bulk comes in. Otherwise every large file would
push the programs of the machine's users out of its memory, and each of its bytes
would cost a page that was not in use before, which is dear where memory is scarce
or lent by a host.
"""

import threading
from collections import OrderedDict

# Replicas smaller than this are left to the kernel.
BULK_BYTES = 4 << 20
RECENT_BYTES = 256 << 20


class RecentPages:
    """The bulky replicas written last, by chunk, at most RECENT_BYTES of them. Safe for threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._sizes: OrderedDict[int, int] = OrderedDict()
        self._total_bytes = 0

    def add(self, chunk: int, size_bytes: int) -> list[int]:
        """``chunk`` was just written; returns the chunks whose pages should go for it."""
        if size_bytes < BULK_BYTES:
            return []
        leaving = []
        with self._mutex:
            self._total_bytes += size_bytes - self._sizes.pop(chunk, 0)
            self._sizes[chunk] = size_bytes
            while self._total_bytes > RECENT_BYTES:
                oldest, freed_bytes = self._sizes.popitem(last=False)
                self._total_bytes -= freed_bytes
                leaving.append(oldest)
        return leaving
