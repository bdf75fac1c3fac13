"""Replicas on disk: what is synced survives any crash, and no wrong byte is ever read."""

import os
import random
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from perseus.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptError,
    IncompatibleError,
    PerseusError,
    TooLargeError,
)
from perseus.filestore import chunkfile, chunkfile_log
from perseus.filestore.chunkfile import ChunkFile, CorruptBlockError
from perseus.settings import BLOCK_BYTES, CHUNK_MAXIMUM_BYTES

CHUNK = 0x1234


def make(folder: Path) -> ChunkFile:
    return ChunkFile.create(folder / f"{CHUNK:016x}", CHUNK, 1)


def reopen(folder: Path) -> ChunkFile:
    return ChunkFile.open(folder / f"{CHUNK:016x}", CHUNK)


def files(folder: Path) -> tuple[Path, Path]:
    base = folder / f"{CHUNK:016x}"
    return chunkfile.data_path(base), chunkfile.log_path(base)


def append(file: ChunkFile, content: bytes) -> None:
    file.append(file.length_bytes, (content,), crc32c(content))


def content_of(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def read_all(file: ChunkFile) -> bytes:
    return file.read(0, CHUNK_MAXIMUM_BYTES)


SIZES = st.one_of(
    st.integers(0, 300),
    st.integers(BLOCK_BYTES - 2, BLOCK_BYTES + 2),
    st.integers(0, 3 * BLOCK_BYTES),
)
STEPS = st.lists(st.one_of(SIZES, st.just("sync"), st.just("rollback")), max_size=12)


@settings(max_examples=120)
@given(steps=STEPS, data=st.data())
def test_a_crash_loses_nothing_synced_and_invents_nothing(
    steps: list[int | str], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = make(folder)
        written = b""
        for number, step in enumerate(steps):
            if step == "sync":
                assert file.sync() == len(written)
            elif step == "rollback":
                file.rollback()
                written = written[: file.length_bytes]
            else:
                assert isinstance(step, int)
                written += (piece := content_of(number, step))
                append(file, piece)
        synced = file.synced_bytes
        safe_log = os.path.getsize(files(folder)[1])
        # The crash comes in the middle of a sync: its record may be there in part.
        if data.draw(st.booleans()):
            file.sync()
        file.close()
        crash(folder, synced, safe_log, data)
        after = reopen(folder)
        assert after.synced_bytes >= synced
        assert read_all(after) == written[: after.synced_bytes]
        append(after, b"more")
        after.sync()
        assert read_all(after)[-4:] == b"more"
        after.close()


def crash(folder: Path, safe_data: int, safe_log: int, data: st.DataObject) -> None:
    """Cuts or flips what was not synced, as a crash may. Data goes to disk before its record."""
    data_file, log_file = files(folder)
    log_size = log_file.stat().st_size
    log_cut = data.draw(st.integers(safe_log, log_size), label="log")
    if log_cut < log_size or log_size == safe_log:
        os.truncate(log_file, log_cut)
        size = data_file.stat().st_size
        os.truncate(data_file, data.draw(st.integers(safe_data, size), label="data"))
        flip(data_file, safe_data, data)
        flip(log_file, safe_log, data)


def flip(path: Path, start: int, data: st.DataObject) -> None:
    size = path.stat().st_size
    if size > start and data.draw(st.booleans()):
        position = data.draw(st.integers(start, size - 1))
        content = bytearray(path.read_bytes())
        content[position] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)


@settings(max_examples=80)
@given(sizes=st.lists(SIZES, min_size=1, max_size=5), data=st.data(), sealed=st.booleans())
def test_rot_anywhere_is_never_read_as_content(
    sizes: list[int], data: st.DataObject, sealed: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = make(folder)
        written = b""
        for number, size in enumerate(sizes):
            written += (piece := content_of(number, size))
            append(file, piece)
            file.sync()
        if sealed:
            file.seal(2, len(written))
        file.close()
        flip(data.draw(st.sampled_from(files(folder))), 0, data)
        try:
            after = reopen(folder)
        except PerseusError:
            return
        try:
            assert read_all(after) == written[: after.synced_bytes]
        except CorruptBlockError as error:
            before = after.read(0, error.offset_bytes)
            assert before == written[: error.offset_bytes]
        finally:
            after.close()


@given(sizes=st.lists(SIZES, max_size=4), cut=st.floats(0, 1))
@settings(max_examples=60)
def test_a_seal_cuts_for_good(sizes: list[int], cut: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = make(folder)
        written = b"".join(content_of(number, size) for number, size in enumerate(sizes))
        append(file, written)
        length = int(cut * len(written))
        file.seal(3, length)
        for opened in (file, reopen(folder)):
            assert (opened.version, opened.sealed, opened.synced_bytes) == (3, True, length)
            assert read_all(opened) == written[:length]
            with pytest.raises(ConflictError):
                append(opened, b"x")
            opened.close()


def test_reads_of_ranges_match(tmp_path: Path) -> None:
    file = make(tmp_path)
    written = content_of(1, 3 * BLOCK_BYTES + 777)
    append(file, written)
    assert file.read(0, 10) == b""
    file.sync()
    chance = random.Random(2)
    for _ in range(200):
        start, size = chance.randrange(len(written) + 10), chance.randrange(2 * BLOCK_BYTES)
        assert file.read(start, size) == written[start : start + size]
    file.close()


def test_appends_must_fit_the_end_the_checksum_and_the_chunk(tmp_path: Path) -> None:
    file = make(tmp_path)
    append(file, b"abc")
    with pytest.raises(ConflictError):
        file.append(2, (b"x",), crc32c(b"x"))
    with pytest.raises(CorruptError):
        file.append(3, (b"x",), crc32c(b"y"))
    with pytest.raises(TooLargeError):
        file.append(3, (bytes(CHUNK_MAXIMUM_BYTES),), 0)
    file.append(3, (b"d", b"ef"), crc32c(b"def"))
    file.sync()
    assert read_all(file) == b"abcdef"
    with pytest.raises(AlreadyExistsError):
        make(tmp_path)
    file.close()


def test_a_seal_needs_the_bytes_and_a_version_that_is_not_older(tmp_path: Path) -> None:
    file = make(tmp_path)
    append(file, b"abc")
    with pytest.raises(ConflictError):
        file.seal(1, 4)
    file.seal(5, 3)
    with pytest.raises(ConflictError):
        file.seal(4, 3)
    file.seal(6, 2)
    assert (file.version, read_all(file)) == (6, b"ab")
    file.close()


def test_data_that_vanished_is_rot_not_a_crash(tmp_path: Path) -> None:
    file = make(tmp_path)
    append(file, content_of(1, 2 * BLOCK_BYTES))
    file.sync()
    file.close()
    os.truncate(files(tmp_path)[0], BLOCK_BYTES + 5)
    after = reopen(tmp_path)
    assert after.corrupt_offset_bytes == BLOCK_BYTES
    assert len(after.read(0, BLOCK_BYTES)) == BLOCK_BYTES
    with pytest.raises(CorruptBlockError) as caught:
        after.read(BLOCK_BYTES, 10)
    assert caught.value.offset_bytes == BLOCK_BYTES
    after.close()


def test_a_rotten_record_in_the_middle_of_the_log_is_told_from_a_torn_end(tmp_path: Path) -> None:
    file = make(tmp_path)
    for _ in range(3):
        append(file, b"abc")
        file.sync()
    file.close()
    log_file = files(tmp_path)[1]
    content = bytearray(log_file.read_bytes())
    record = chunkfile_log.RECORD_BYTES + 4
    content[-2 * record] ^= 1
    log_file.write_bytes(content)
    with pytest.raises(CorruptError):
        reopen(tmp_path)


def test_a_mark_of_rot_survives_a_restart(tmp_path: Path) -> None:
    file = make(tmp_path)
    append(file, b"abc")
    file.sync()
    file.mark_corrupt(0)
    file.close()
    after = reopen(tmp_path)
    assert after.corrupt_offset_bytes == 0
    after.close()


def test_many_small_syncs_keep_the_log_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunkfile, "LOG_COMPACT_BYTES", 8 << 10)
    file = make(tmp_path)
    for number in range(1000):
        append(file, b"%d\n" % number)
        file.sync()
    assert files(tmp_path)[1].stat().st_size <= chunkfile.LOG_COMPACT_BYTES + 100
    written = read_all(file)
    file.close()
    after = reopen(tmp_path)
    assert read_all(after) == written == b"".join(b"%d\n" % n for n in range(1000))
    after.seal(2, after.synced_bytes)
    assert files(tmp_path)[1].stat().st_size <= chunkfile.LOG_SEALED_BYTES
    after.close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    make(tmp_path).close()
    log_file = files(tmp_path)[1]
    content = bytearray(log_file.read_bytes())
    content[8] = chunkfile_log.FORMAT_VERSION + 1
    content[20:24] = crc32c(bytes(content[:20])).to_bytes(4, "little")
    log_file.write_bytes(content)
    with pytest.raises(IncompatibleError):
        reopen(tmp_path)


def test_waiting_ends_with_a_sync_and_with_the_seal(tmp_path: Path) -> None:
    file = make(tmp_path)
    assert not file.wait_past(0, 0.0)
    append(file, b"abc")
    assert not file.wait_past(0, 0.0)
    thread = threading.Thread(target=file.sync)
    thread.start()
    assert file.wait_past(0, 30)
    thread.join()
    thread = threading.Thread(target=file.seal, args=(1, 3))
    thread.start()
    assert file.wait_past(3, 30)
    thread.join()
    file.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
from crc32c import crc32c
from perseus.errors import FullError
from perseus.filestore.chunkfile import ChunkFile
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
file = ChunkFile.create(Path(sys.argv[1]), 7, 1)
piece = b"x" * 100_000
file.append(0, (piece,), crc32c(piece))
file.sync()
try:
    file.append(100_000, (piece,), crc32c(piece))
except FullError:
    assert file.length_bytes == 100_000
    assert file.sync() == 100_000
    file.append(100_000, (b"y",), crc32c(b"y"))
    assert file.sync() == 100_001
    assert file.read(0, 200_000) == piece + b"y"
    sys.exit(23)
"""


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    # A limit on the size of files stands for the disk; it is the process's, hence another one.
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "chunk")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 23
    after = ChunkFile.open(tmp_path / "chunk", 7)
    assert after.synced_bytes == 100_001
    after.close()
