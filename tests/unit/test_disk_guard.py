"""What a folder holds, and how soon the disk is looked at again."""

import os
from pathlib import Path

import pytest

from perseus.jobs.disk_guard import LOOK_MAXIMUM_S, LOOK_MINIMUM_S, held, pause_s

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
