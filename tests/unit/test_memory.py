"""Memory that a busy time has freed goes back to the kernel."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from perseus.runtime import memory
from perseus.runtime.memory import BUSY_SHARE, WORK_S, Quiet

MIB = 1 << 20


def told(*used_s: float) -> list[bool]:
    """What is told at looks 5 s apart, with that much processor time used."""
    quiet = Quiet(0.0, 0.0)
    return [quiet.look(5.0 * (index + 1), each) for index, each in enumerate(used_s)]


def test_only_the_first_quiet_look_after_work_is_told() -> None:
    assert told(0.0, 4.0, 8.0, 8.0, 8.0, 9.0, 9.0, 9.0) == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_slow_work_on_a_loaded_machine_counts_too() -> None:
    little_s = 0.4 * BUSY_SHARE * 5
    assert little_s == pytest.approx(WORK_S)
    assert told(0.0, 1.1 * little_s, 1.2 * little_s, 2.3 * little_s) == [True, True, False, True]


def test_looks_at_one_and_the_same_time_divide_by_no_zero() -> None:
    quiet = Quiet(0.0, 0.0)
    assert not quiet.look(0.0, 5.0)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_what_is_free_between_what_is_held_goes_back() -> None:
    trim = memory.trimmer()
    if trim is None:
        pytest.skip("this allocator has no malloc_trim")
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.argtypes = (ctypes.c_void_p,)
    # Small enough never to be a mapping of its own; the last one holds the heap's end.
    blocks = [libc.malloc(64 << 10) for _ in range(1024)]
    for block in blocks:
        ctypes.memset(block, 1, 64 << 10)
    for block in blocks[:-1]:
        libc.free(block)
    before = resident_bytes()
    trim()
    assert before - resident_bytes() > 48 * MIB
    libc.free(blocks[-1])


COLLECTED = """
import threading
from perseus.runtime import memory

class Left:
    def __init__(self):
        self.me = self

    def __del__(self):
        names.append(threading.current_thread().name)
        gone.set()

names, gone = [], threading.Event()
memory.COLLECT_S = 0.01
memory.collect_apart()
Left()
kept = [[] for _ in range(100_000)]
assert gone.wait(60)
print(*names)
"""


def test_garbage_is_collected_where_no_lock_is_held() -> None:
    """Though the first thread is the one that makes so much of it."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECTED], capture_output=True, text=True, timeout=90
    )
    assert done.stdout == "collector\n", done.stderr
