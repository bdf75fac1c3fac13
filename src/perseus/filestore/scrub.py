"""The scrubber: reads every sealed replica now and then, so that rot is found while
another replica can still mend it. It reads slowly and leaves the page cache alone."""

import logging
import threading
import time

from perseus.errors import PerseusError
from perseus.filestore.chunkstore import ChunkStore
from perseus.settings import FRAME_MAXIMUM_BYTES

RATE_BYTES_PER_S = 16 << 20

_log = logging.getLogger("perseus.chunkserver")


class Scrubber:
    """A thread that passes over the store every ``interval_s``."""

    def __init__(self, store: ChunkStore, interval_s: float) -> None:
        self._store = store
        self._interval_s = interval_s
        self._ended = threading.Event()

    def start(self) -> None:
        """Begins; the first pass comes after one interval."""
        threading.Thread(target=self._run, name="scrub", daemon=True).start()

    def stop(self) -> None:
        """Ends soon."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            self.scrub()

    def scrub(self, rate_bytes_per_s: float = RATE_BYTES_PER_S) -> int:
        """One pass; returns the bytes that were read. What is rotten the store tells of."""
        total = 0
        for chunk in self._store.chunks():
            try:
                total += self._scrub_chunk(chunk, rate_bytes_per_s)
            except PerseusError:
                # Deleted meanwhile, or rotten and told of.
                continue
        return total

    def _scrub_chunk(self, chunk: int, rate_bytes_per_s: float) -> int:
        position = 0
        with self._store.use(chunk) as file:
            if not file.sealed or self._store.is_corrupt(chunk):
                return 0
            if file.mend_log():
                _log.warning("the log of chunk %016x was damaged and is made anew", chunk)
            file.forget_pages()
            while not self._ended.is_set():
                started_s = time.monotonic()
                content = self._store.read(file, position, FRAME_MAXIMUM_BYTES)
                if not content:
                    break
                position += len(content)
                due_s = len(content) / rate_bytes_per_s - (time.monotonic() - started_s)
                self._ended.wait(max(0.0, due_s))
            file.forget_pages()
        return position
