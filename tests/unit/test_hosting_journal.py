"""What was committed is there again; what was not may be cut off; rot is told."""

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perseus.algo.codec import Codec
from perseus.algo.durability import GONE
from perseus.algo.library.raft.messages import Entry
from perseus.errors import CorruptError, FullError
from perseus.hosting.journal import DiskJournal

CODEC = Codec([Entry])
ENTRY = Entry(1, "command", 5, "c", 1)


def _open(folder: Path, **options: Any) -> DiskJournal:
    return DiskJournal(folder, CODEC, **options)


def _commit(journal: DiskJournal, *batch: tuple[str, dict[Any, Any]]) -> None:
    asyncio.run(journal.commit(batch))


def test_what_was_committed_is_there_again(tmp_path: Path) -> None:
    first = _open(tmp_path)
    assert (first.restarts, dict(first.load("n1"))) == (0, {})
    _commit(first, ("n1", {("term",): 3, ("log", 0): ENTRY}), ("n1/a", {("x", 1): (1, 2)}))
    _commit(first, ("n1", {("term",): 4, ("log", 0): GONE}))
    first.close()
    again = _open(tmp_path)
    assert again.restarts == 1
    assert dict(again.load("n1")) == {("term",): 4}
    assert dict(again.load("n1/a")) == {("x", 1): (1, 2)}
    again.close()
    assert _open(tmp_path).restarts == 2


def test_many_steps_are_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = _open(tmp_path)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    _commit(journal, *(("n1", {("term",): term}) for term in range(100)))
    assert len(synced) == 1


def test_a_torn_end_is_cut_off_wherever_it_is_torn(tmp_path: Path) -> None:
    journal = _open(tmp_path / "whole")
    _commit(journal, ("n1", {("term",): 1}))
    (path,) = (tmp_path / "whole").iterdir()
    before = path.stat().st_size
    _commit(journal, ("n1", {("term",): 2}))
    data = path.read_bytes()
    for length in range(before, len(data)):
        torn = tmp_path / f"torn{length}"
        torn.mkdir()
        (torn / path.name).write_bytes(data[:length])
        again = _open(torn)
        assert dict(again.load("n1")) == {("term",): 1}, length
        _commit(again, ("n1", {("term",): 7}))
        assert dict(_open(torn).load("n1")) == {("term",): 7}


def test_rot_before_the_end_is_told(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    _commit(journal, ("n1", {("term",): 1}))
    (path,) = tmp_path.iterdir()
    at = path.stat().st_size - 1
    _commit(journal, ("n1", {("term",): 2}))
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match="broken at byte"):
        _open(tmp_path)


def test_it_stays_small(tmp_path: Path) -> None:
    journal = _open(tmp_path, growth_bytes=2000)
    for term in range(1000):
        _commit(journal, ("n1", {("term",): term}))
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size < 4000
    assert dict(_open(tmp_path).load("n1")) == {("term",): 999}


def test_a_log_that_was_not_finished_does_not_count(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    _commit(journal, ("n1", {("term",): 1}))
    (tmp_path / "log.new").write_bytes(b"half")
    assert dict(_open(tmp_path).load("n1")) == {("term",): 1}


FILLS = """
import asyncio, resource, sys
from pathlib import Path
from perseus.algo.codec import Codec
from perseus.errors import FullError
from perseus.hosting.journal import DiskJournal

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
journal = DiskJournal(folder, Codec([]))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
for term in range(1, 1000):
    try:
        asyncio.run(journal.commit([("n1", {("term",): term})]))
    except FullError as error:
        sys.exit(f"{term} {error.message}")
"""


@pytest.mark.parametrize("beyond_bytes", range(24))
def test_a_write_that_has_room_for_a_part_alone_is_not_done(
    tmp_path: Path, beyond_bytes: int
) -> None:
    """The system writes what fits and says so; only the next write is refused."""
    words = [sys.executable, "-c", FILLS, str(tmp_path), str(300 + beyond_bytes)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    term, said = done.stderr.split(" ", 1)
    assert f"{tmp_path} cannot be written: File too large" in said
    assert dict(_open(tmp_path).load("n1")) == {("term",): int(term) - 1}


def test_a_start_that_has_no_room_leaves_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _commit(_open(tmp_path), ("n1", {("term",): 1}))
    before = sorted(path.name for path in tmp_path.iterdir())

    def refused(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refused)
        with pytest.raises(FullError, match="No space left"):
            _open(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert dict(_open(tmp_path).load("n1")) == {("term",): 1}
