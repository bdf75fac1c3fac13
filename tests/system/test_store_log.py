"""Rot in SQLite's log is told from the torn end that a crash leaves."""

import os
import random
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from perseus.errors import CorruptError
from perseus.store.sqlite import SqliteStore

FRAME_BYTES = 24 + 4096
COMMITS = 40
# A process that commits one at a time and ends without closing the store.
KILLED = textwrap.dedent(
    f"""
    import asyncio, os, pathlib, sys
    from perseus.runtime.machine import Write
    from perseus.store.sqlite import SqliteStore

    async def fill():
        store = SqliteStore(pathlib.Path(sys.argv[1]), "cluster", create=True)
        for number in range({COMMITS}):
            await store.commit([Write(b"%d/%d" % (number, n), bytes(900)) for n in range(9)])
        os._exit(0)

    asyncio.run(fill())
    """
)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store whose process was killed."""
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", KILLED, str(folder / "state.db")]
    subprocess.run(command, check=True, timeout=60, env=environment)
    return folder


@pytest.fixture
def copy(left: Path, tmp_path: Path) -> Path:
    """``state.db`` of a copy of it."""
    shutil.copytree(left, tmp_path / "copy")
    return tmp_path / "copy" / "state.db"


def log_of(path: Path) -> Path:
    return path.with_name("state.db-wal")


def change(path: Path, act: Callable[[bytearray], None]) -> None:
    content = bytearray(path.read_bytes())
    act(content)
    path.write_bytes(content)


def power_cut(path: Path) -> None:
    """The index of the log is in memory, and lost with it."""
    path.with_name("state.db-shm").unlink()


def commits_in(path: Path) -> int:
    store = SqliteStore(path, "cluster")
    try:
        keys = [key for key, _ in store.items()]
    finally:
        store.close()
    assert len(keys) % 9 == 0
    return len(keys) // 9


def commit_frames(path: Path) -> list[int]:
    """Where in the log the frames that end a transaction begin."""
    content = log_of(path).read_bytes()
    starts = range(32, len(content) - FRAME_BYTES + 1, FRAME_BYTES)
    return [start for start in starts if content[start + 4 : start + 8] != bytes(4)]


def test_a_kill_loses_nothing(copy: Path) -> None:
    assert commits_in(copy) == COMMITS


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_is_found(copy: Path, seed: int) -> None:
    """Anywhere before the last transaction, also after the machine itself went down."""
    chance = random.Random(seed)
    if seed % 2:
        power_cut(copy)
    last = commit_frames(copy)[-2] + FRAME_BYTES
    # Half of them in the small headers, where a bit means something else.
    at = chance.randrange(32, last)
    if seed % 4 > 1:
        at = 32 + (at - 32) // FRAME_BYTES * FRAME_BYTES + chance.randrange(24)

    def flip(content: bytearray) -> None:
        content[at] ^= 1 << chance.randrange(8)

    change(log_of(copy), flip)
    before = {path.name: path.read_bytes() for path in copy.parent.iterdir()}
    with pytest.raises(CorruptError, match=r"state\.db-wal is damaged: .*frame"):
        SqliteStore(copy, "cluster")
    assert {path.name: path.read_bytes() for path in copy.parent.iterdir()} == before


@pytest.mark.parametrize("at", [0, 5, 9, 17, 25])
def test_a_flipped_bit_in_the_header_is_found(copy: Path, at: int) -> None:
    power_cut(copy)

    def flip(content: bytearray) -> None:
        content[at] ^= 4

    change(log_of(copy), flip)
    with pytest.raises(CorruptError, match="its header"):
        SqliteStore(copy, "cluster")


def test_a_log_that_lost_its_end_is_found_while_the_machine_is_up(copy: Path) -> None:
    """Also the last commit, which was acknowledged; and one goes on only by what the hint says."""
    os.truncate(log_of(copy), log_of(copy).stat().st_size - 100)
    with pytest.raises(CorruptError, match="committed frames can be read") as raised:
        SqliteStore(copy, "cluster")
    command = raised.value.hint.rpartition("lost: ")[2]
    subprocess.run(["sh", "-c", command], check=True)
    assert commits_in(copy) == COMMITS - 1


def test_a_log_that_is_gone_is_found_while_the_machine_is_up(copy: Path) -> None:
    log_of(copy).unlink()
    with pytest.raises(CorruptError, match="frames are gone"):
        SqliteStore(copy, "cluster")


@pytest.mark.parametrize("lost", [1, 100, FRAME_BYTES + 50])
def test_a_torn_end_after_a_power_cut_is_normal(copy: Path, lost: int) -> None:
    """It is the last transaction's alone."""
    power_cut(copy)
    frames = commit_frames(copy)
    assert frames[-1] - frames[-2] > 2 * FRAME_BYTES
    end = frames[-1] + FRAME_BYTES
    os.truncate(log_of(copy), end - lost)
    assert commits_in(copy) == COMMITS - 1


def test_a_transaction_whose_frames_reached_the_disk_in_another_order_is_normal(copy: Path) -> None:
    power_cut(copy)
    first = commit_frames(copy)[-2] + FRAME_BYTES

    def lose(content: bytearray) -> None:
        content[first : first + FRAME_BYTES] = bytes(FRAME_BYTES)

    change(log_of(copy), lose)
    assert commits_in(copy) == COMMITS - 1


def test_what_a_torn_transaction_left_behind_later_commits_is_normal(copy: Path) -> None:
    """Frames of the same salts that continue nothing: no sign of rot."""
    power_cut(copy)
    frames = commit_frames(copy)
    torn = log_of(copy).read_bytes()[frames[-4] + FRAME_BYTES :]
    os.truncate(log_of(copy), frames[-4] + FRAME_BYTES)
    with open(log_of(copy), "ab") as log:
        # Of what was behind only every second frame is there.
        for start in range(FRAME_BYTES, len(torn), 2 * FRAME_BYTES):
            log.write(torn[start : start + FRAME_BYTES])
    assert commits_in(copy) == COMMITS - 3
