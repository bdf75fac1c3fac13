"""Gives freed memory back to the kernel when this process has worked and rests.

The C allocator keeps what a burst of transfers has freed: the pieces of a MiB lie
scattered over an arena for each thread, and a few small ones that live on hold
whole arenas. Giving back at once would cost page faults with every piece, so
nothing is done while there is work; the first quiet look after enough of it trims.

An allocator without ``malloc_trim`` (musl) is left alone.
"""

import ctypes
import gc
import threading
import time
from collections.abc import Callable

# Between two looks; a quiet one costs some microseconds.
LOOK_S = 5.0
# Of the time between two looks, the part of one core from which on the process is busy.
BUSY_SHARE = 0.1
# The processor time from which on work is worth a trim, which takes some milliseconds: an
# idle process reaches it about once a minute.
WORK_S = 0.2
# Between two looks of the collector's thread, after how many new objects it collects, and how
# often it collects the old ones too.
COLLECT_S = 0.5
COLLECT_OBJECTS = 2000
WHOLE_ROUNDS = 10


class Quiet:
    """Tells when a process that has worked rests, by the processor time that was used."""

    def __init__(self, now_s: float, used_s: float) -> None:
        """``now_s`` is monotonic; ``used_s`` is all processor time used so far."""
        self._now_s = now_s
        self._used_s = used_s
        # Used when it was last told; the start itself was work.
        self._told_s = used_s - WORK_S

    def look(self, now_s: float, used_s: float) -> bool:
        """True at the first look that finds it quiet after work."""
        share = (used_s - self._used_s) / max(now_s - self._now_s, 1e-9)
        self._now_s, self._used_s = now_s, used_s
        if share >= BUSY_SHARE or used_s - self._told_s < WORK_S:
            return False
        self._told_s = used_s
        return True


def start_trimming() -> threading.Thread | None:
    """Trims after each busy time, in a daemon thread; None where the allocator cannot.

    Not before a fork: the child would have no such thread.
    """
    trim = trimmer()
    if trim is None:
        return None
    thread = threading.Thread(target=_watch, args=(trim,), name="memory", daemon=True)
    thread.start()
    return thread


def collect_apart() -> threading.Thread:
    """From now on cyclic garbage is collected by a daemon thread of its own, that holds no lock.

    Python's collector runs in the midst of whatever allocates. Where threads hold locks, a
    finalizer that wants one of them (of a generator that was left in a ``with``, say) would
    wait there for its own thread. Not before a fork: the child would have no such thread.
    """
    gc.disable()
    thread = threading.Thread(target=_collect, name="collector", daemon=True)
    thread.start()
    return thread


def _collect() -> None:
    rounds = 0
    while True:
        time.sleep(COLLECT_S)
        # Counted on while it is disabled.
        if gc.get_count()[0] > COLLECT_OBJECTS:
            rounds += 1
            gc.collect(2 if rounds % WHOLE_ROUNDS == 0 else 1)


def trimmer() -> Callable[[], None] | None:
    """What gives back all that is free, without the interpreter's lock; None if nothing does."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return None
    trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
    return lambda: trim(0)


def _watch(trim: Callable[[], None]) -> None:
    quiet = Quiet(time.monotonic(), time.process_time())
    while True:
        time.sleep(LOOK_S)
        if quiet.look(time.monotonic(), time.process_time()):
            trim()
