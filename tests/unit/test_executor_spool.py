"""A spool: how large it may be, and how soon it is looked at again."""

import os
from pathlib import Path

import pytest

from perseus.jobs.spool import CHECK_MAXIMUM_S, CHECK_MINIMUM_S, Spool


def spool(tmp_path: Path, limit_bytes: int) -> tuple[Spool, Path]:
    path = tmp_path / "stdout"
    made = Spool(str(path), "stdout", limit_bytes)
    made.open()
    return made, path


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    one = Spool(str(tmp_path / "stdout"), "stdout", 10)
    one.settle()
    assert (one.size_bytes, one.truncated, one.is_inline, one.read_inline()) == (
        0,
        False,
        True,
        b"",
    )


@pytest.mark.parametrize(
    ("written", "kept", "truncated"), [(9, 9, False), (10, 10, False), (11, 10, True)]
)
def test_exactly_the_limit_is_kept(
    tmp_path: Path, written: int, kept: int, truncated: bool
) -> None:
    one, path = spool(tmp_path, 10)
    path.write_bytes(bytes(range(written)))
    one.settle()
    assert one.read_inline() == path.read_bytes() == bytes(range(kept))
    assert (one.size_bytes, one.truncated) == (kept, truncated)


def test_a_quiet_output_is_looked_at_seldom_a_fast_one_often(tmp_path: Path) -> None:
    one, path = spool(tmp_path, 1_000_000)
    path.write_bytes(b"")
    pauses = [one.check(now_s) for now_s in (0.0, 0.1, 0.2, 0.3)]
    assert pauses == sorted(pauses) and pauses[-1] == CHECK_MAXIMUM_S
    os.truncate(path, 100_000)
    assert one.check(0.4) == CHECK_MAXIMUM_S
    os.truncate(path, 600_000)
    # 5 MB/s, 400 kB left: at double the rate it is there in 40 ms.
    assert one.check(0.5) == pytest.approx(0.04)
    os.truncate(path, 990_000)
    assert one.check(0.6) == CHECK_MINIMUM_S


def test_an_output_that_shrank_is_known(tmp_path: Path) -> None:
    one, path = spool(tmp_path, 1000)
    path.write_bytes(bytes(100))
    assert one.measure() and not one.was_cut
    os.truncate(path, 10)
    assert not one.measure() and one.was_cut
    assert one.size_bytes == 10


@pytest.mark.parametrize("closes_folder", [False, True])
def test_an_output_that_was_taken_away_is_known_for_good(
    tmp_path: Path, closes_folder: bool
) -> None:
    folder = tmp_path / "attempt"
    folder.mkdir()
    one, path = spool(folder, 100_000)
    path.write_bytes(b"12345" * 1000)
    aside = tmp_path / "aside"
    (folder if closes_folder else path).rename(aside)
    assert one.check(0.0) <= CHECK_MAXIMUM_S and one.was_taken
    assert one.size_bytes == 5000
    aside.rename(folder if closes_folder else path)
    one.settle()
    assert one.was_taken and one.read_inline() == (b"12345" * 1000)[:4096]
    one.close()


def test_a_reader_gets_no_other_file_than_the_output(tmp_path: Path) -> None:
    one, path = spool(tmp_path, 100)
    one.close()
    descriptor = one.open_for_reading()
    assert descriptor >= 0
    os.close(descriptor)
    path.unlink()
    assert one.open_for_reading() == -1
    # Without a writer, a reader that waits for one would never come back.
    os.mkfifo(path)
    assert one.open_for_reading() == -1
