"""The scrubber: reads every sealed replica now and then, so that rot is found while
another replica can still mend it. It reads slowly and leaves the page cache alone.

A pass goes through the replicas in the order of their ids and begins soon after the
start. How far it has come is kept in the folder of replicas, so that a machine which is
switched off every night still comes to the end. That file is replaced by a rename alone:
what a crash may take of it costs a part of the pass and nothing else.
"""

import logging
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from perseus.errors import PerseusError
from perseus.filestore.chunkstore import ChunkStore
from perseus.runtime.real import RealRandom
from perseus.settings import FRAME_MAXIMUM_BYTES

RATE_BYTES_PER_S = 16 << 20
# Reading begins so long after the start, by chance: machines that are switched on together
# shall not all read at once, and one that was switched on for a moment has better to do.
FIRST_LEAST_S = 60.0
FIRST_MOST_S = 300.0
# The place is kept this often, between two replicas.
KEEP_S = 2.0
PLACE_FILE = "scrubbed"
_PLACE_WORD = "perseus-scrubbed-1"

_log = logging.getLogger("perseus.chunkserver")


@dataclass(frozen=True, slots=True)
class Place:
    """How far the scrubber has come."""

    # The least id that the pass under way has yet to read; 0 when none is under way.
    next_chunk: int = 0
    # When the last whole pass ended, in seconds since 1970; 0 when there was none.
    ended_at_s: float = 0.0

    def encode(self) -> str:
        """One line of text."""
        return f"{_PLACE_WORD} {self.next_chunk:016x} {self.ended_at_s:.0f}\n"

    @classmethod
    def decode(cls, text: str) -> "Place":
        """What ``encode`` has made; the beginning when it is anything else."""
        try:
            word, next_chunk, ended_at_s = text.split()
            if word == _PLACE_WORD and text.endswith("\n"):
                return cls(int(next_chunk, 16), float(ended_at_s))
        except ValueError:
            pass
        return cls()

    def wait_s(self, now_s: float, interval_s: float, soon_s: float) -> float:
        """How long to wait at the start: ``soon_s``, or until ``interval_s`` after the last pass.

        ``now_s`` is since 1970; a clock that has jumped makes it one interval at most.
        """
        soon_s = min(soon_s, interval_s)
        if self.next_chunk or not self.ended_at_s:
            return soon_s
        return min(interval_s, max(soon_s, self.ended_at_s + interval_s - now_s))


class Scrubber:
    """A thread that passes over the store, and rests for ``interval_s`` between two passes."""

    def __init__(self, store: ChunkStore, interval_s: float) -> None:
        self._store = store
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._place = Place()
        self._kept_at_s = 0.0

    def start(self) -> None:
        """Begins, in a thread, where the chunkserver before this one stopped."""
        threading.Thread(target=self._run, name="scrub", daemon=True).start()

    def stop(self) -> None:
        """Ends soon."""
        self._ended.set()

    def _run(self) -> None:
        with suppress(OSError, UnicodeDecodeError):
            self._place = Place.decode(self._file.read_text())
        soon_s = RealRandom().uniform(FIRST_LEAST_S, FIRST_MOST_S)
        wait_s = self._place.wait_s(time.time(), self._interval_s, soon_s)
        while not self._ended.wait(wait_s):
            self.scrub()
            wait_s = self._interval_s

    @property
    def _file(self) -> Path:
        return self._store.folder / PLACE_FILE

    def scrub(self, rate_bytes_per_s: float = RATE_BYTES_PER_S) -> int:
        """The rest of the pass under way, or a new one; returns the bytes that were read.

        What is rotten the store tells of.
        """
        total = 0
        self._kept_at_s = time.monotonic()
        for chunk in sorted(self._store.chunks()):
            if chunk < self._place.next_chunk:
                continue
            # One may be deleted meanwhile, or rotten and told of.
            with suppress(PerseusError):
                total += self._scrub_chunk(chunk, rate_bytes_per_s)
            if self._ended.is_set():
                return total
            self._place = Place(chunk + 1, self._place.ended_at_s)
            if time.monotonic() - self._kept_at_s >= KEEP_S:
                self._keep()
        self._place = Place(0, time.time())
        self._keep()
        return total

    def _keep(self) -> None:
        """On a disk that refuses it, the next chunkserver reads some replicas again."""
        self._kept_at_s = time.monotonic()
        fresh = self._file.with_name(f"{PLACE_FILE}.new")
        with suppress(OSError):
            fresh.write_text(self._place.encode())
            os.replace(fresh, self._file)

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
