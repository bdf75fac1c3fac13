"""What a folder holds, and how soon the disk is looked at again."""

import errno
import os
from pathlib import Path

import pytest

from perseus.jobs.disk_guard import (
    GROWTH_MINIMUM_BYTES,
    LOOK_MAXIMUM_S,
    LOOK_MINIMUM_S,
    DiskGuard,
    has_room,
    held,
    pause_s,
)
from perseus.proto.v1 import jobs_pb2
from perseus.runtime.real import RealClock, RealDisk

MIB = 1 << 20


@pytest.mark.parametrize(
    ("left_bytes", "speed", "pause"),
    [
        (1 << 40, 0.0, LOOK_MAXIMUM_S),
        # Nobody writes, but somebody may begin.
        (50 * MIB, 0.0, 50 / 1024),
        (1 * MIB, 0.0, LOOK_MINIMUM_S),
        (400 * MIB, 2 << 30, 400 / 4096),
        (100 * MIB, 2 << 30, 100 / 4096),
        (-5 * MIB, 0.0, LOOK_MINIMUM_S),
    ],
)
def test_looks_are_sooner_the_closer_the_reserve_is(
    left_bytes: float, speed: float, pause: float
) -> None:
    assert pause_s(left_bytes, speed) == pytest.approx(pause)


def test_what_a_folder_holds(tmp_path: Path) -> None:
    for name in ("work/deep/er", "tmp"):
        (tmp_path / name).mkdir(parents=True)
    empty_bytes = held(str(tmp_path)).files_bytes
    (tmp_path / "stdout").write_bytes(bytes(MIB))
    (tmp_path / "work" / "deep" / "er" / "a").write_bytes(bytes(2 * MIB))
    os.link(tmp_path / "work" / "deep" / "er" / "a", tmp_path / "tmp" / "same")
    with open(tmp_path / "tmp" / "sparse", "wb") as sparse:
        sparse.truncate(1 << 30)
    os.symlink("/", tmp_path / "work" / "root")
    found = held(str(tmp_path))
    assert found.outputs_bytes == MIB
    assert 2 * MIB <= found.files_bytes <= 2 * MIB + empty_bytes + (64 << 10)


def test_a_folder_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    assert held(str(tmp_path / "none")).bytes == 0


class Ended:
    """An attempt in a folder of its own whose disk has no room, when it is wanted so."""

    id = "abcdefgh.0.1"
    disk_limit_bytes = 0

    def __init__(self, folder: Path, full: bool) -> None:
        self.folder = str(folder)
        self.full = full
        (folder / "work").mkdir()

    def end_for_disk(self, message: str) -> None:
        """Not asked for here."""


def judged(attempt: Ended, ending: jobs_pb2.Ending) -> jobs_pb2.Ending:
    guard = DiskGuard(attempt.folder, "node-2", 1, RealDisk(), RealClock())
    with pytest.MonkeyPatch.context() as patched:
        if attempt.full:
            patched.setattr(os, "write", full)
        return guard.at_end(attempt, ending)


def full(descriptor: int, content: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("kind", "code"), [(jobs_pb2.ENDING_EXITED, 0), (jobs_pb2.ENDING_EXITED, 1)]
)
def test_what_ends_on_a_full_disk_is_not_taken_at_its_word(
    tmp_path: Path, kind: jobs_pb2.EndingKind, code: int
) -> None:
    attempt = Ended(tmp_path, full=True)
    ending = judged(attempt, jobs_pb2.Ending(kind=kind, exit_code=code))
    # Another node may have room.
    assert ending.kind == jobs_pb2.ENDING_NODE_FAILURE
    assert "the disk of node node-2 is full" in ending.message


def test_who_filled_the_disk_is_told_what_it_holds(tmp_path: Path) -> None:
    attempt = Ended(tmp_path, full=True)
    (tmp_path / "work" / "much").write_bytes(bytes(GROWTH_MINIMUM_BYTES))
    ending = judged(attempt, jobs_pb2.Ending(kind=jobs_pb2.ENDING_EXITED, exit_code=1))
    assert ending.kind == jobs_pb2.ENDING_DISK_LIMIT and ending.exit_code == 153
    assert f"{tmp_path} holds 1 MB" in ending.message and "--disk SIZE" in ending.message
    attempt.disk_limit_bytes = 1000
    ending = judged(attempt, jobs_pb2.Ending(kind=jobs_pb2.ENDING_EXITED, exit_code=1))
    assert "; it asked for 1000 bytes: ask for more with --disk SIZE" in ending.message


def test_an_end_stays_what_it_is_with_room_or_where_perseus_made_it(tmp_path: Path) -> None:
    own = jobs_pb2.Ending(kind=jobs_pb2.ENDING_EXITED, exit_code=1)
    made = jobs_pb2.Ending(kind=jobs_pb2.ENDING_TIME_LIMIT, exit_code=124)
    (tmp_path / "room").mkdir()
    (tmp_path / "full").mkdir()
    assert judged(Ended(tmp_path / "room", full=False), own) == own
    assert os.listdir(tmp_path / "room") == ["work"]
    assert judged(Ended(tmp_path / "full", full=True), made) == made
    assert has_room(str(tmp_path / "none"))
