"""The folder of replicas: index, scan, one writer, deletion, reserve, rot."""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from crc32c import crc32c

from perseus.errors import (
    ConflictError,
    CorruptError,
    FullError,
    IncompatibleError,
    InvalidError,
    NotFoundError,
    PerseusError,
    UnavailableError,
)
from perseus.filestore import chunkfile, chunkstore
from perseus.filestore.chunkfile_log import HEADER_BYTES, RECORD_BYTES
from perseus.filestore.chunkstore import ChunkStore
from perseus.filestore.chunkstore_pages import BULK_BYTES, RECENT_BYTES, RecentPages
from perseus.filestore.scrub import Scrubber
from perseus.proto.v1 import agent_pb2
from perseus.settings import BLOCK_BYTES

LIMIT_S = 30.0


class Stores:
    """Opens the same folder again and again, as restarts do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[agent_pb2.ChunkEvent] = []
        self.store = self._open()

    def found(self, kind: str) -> list[agent_pb2.ChunkEvent]:
        return [event for event in self.events if event.WhichOneof("what") == kind]

    def _open(self, reserve_bytes: int = 0) -> ChunkStore:
        store = ChunkStore(self.folder, reserve_bytes, self.events.append)
        store.open()
        return store

    def again(self, reserve_bytes: int = 0) -> ChunkStore:
        self.store.close()
        self.store = self._open(reserve_bytes)
        return self.store

    def data_file(self, chunk: int) -> Path:
        name = f"{chunk:016x}"
        return self.folder / name[-2:] / f"{name}.data"

    def log_file(self, chunk: int) -> Path:
        return self.data_file(chunk).with_suffix(".log")


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = Stores(tmp_path / "chunks")
    yield made
    made.store.close()


def fill(store: ChunkStore, chunk: int, content: bytes, *, seal: bool = True) -> None:
    with store.write(chunk, 1, 0) as file:
        file.append(0, (content,), crc32c(content))
        file.sync()
    if seal:
        store.seal(chunk, 1, len(content))


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def as_tuples(store: ChunkStore) -> set[tuple[int, int, int, bool]]:
    return {(r.chunk, r.version, r.length_bytes, r.sealed) for r in store.reports()}


def test_a_scan_finds_what_was_there(stores: Stores) -> None:
    for chunk in range(50):
        fill(stores.store, chunk << 8, b"x" * (chunk + 1), seal=chunk % 2 == 0)
    before = as_tuples(stores.store)
    assert len(before) == 50
    assert as_tuples(stores.again()) == before
    with stores.store.use(7 << 8) as file:
        assert file.read(0, 100) == b"x" * 8


def test_one_process_at_a_time(stores: Stores) -> None:
    with pytest.raises(ConflictError):
        ChunkStore(stores.folder, 0, stores.events.append).open()


def test_a_newer_or_foreign_layout_is_refused(stores: Stores) -> None:
    stores.store.close()
    for text, error in (("perseus-chunks 2", IncompatibleError), ("fotos", InvalidError)):
        (stores.folder / "format").write_text(text)
        with pytest.raises(error):
            ChunkStore(stores.folder, 0, stores.events.append).open()
    (stores.folder / "format").write_text("perseus-chunks 1\n")
    stores.store.open()


def test_a_chunk_has_one_writer_and_forgets_what_it_did_not_sync(stores: Stores) -> None:
    store = stores.store
    with store.write(1, 1, 0) as file:
        with pytest.raises(ConflictError), store.write(1, 1, 0):
            pass
        file.append(0, (b"abc",), crc32c(b"abc"))
        file.sync()
        file.append(3, (b"def",), crc32c(b"def"))
    with pytest.raises(ConflictError), store.write(1, 1, 6):
        pass
    with pytest.raises(ConflictError), store.write(1, 2, 3):
        pass
    with store.write(1, 1, 3) as file:
        file.append(3, (b"DEF",), crc32c(b"DEF"))
        file.sync()
    with store.use(1) as file:
        assert file.read(0, 10) == b"abcDEF"
    store.seal(1, 1, 6)
    with pytest.raises(ConflictError), store.write(1, 1, 6):
        pass
    with pytest.raises(NotFoundError), store.write(2, 1, 5):
        pass


def test_a_replica_without_a_byte_goes_with_its_writer(stores: Stores) -> None:
    with stores.store.write(1, 1, 0) as file:
        file.append(0, (b"abc",), crc32c(b"abc"))
    assert stores.store.reports() == []
    assert not stores.data_file(1).exists()
    fill(stores.store, 1, b"abc")


def test_a_probe_of_a_newer_version_ends_the_writing(stores: Stores) -> None:
    store = stores.store
    with store.write(1, 1, 0) as file:
        file.append(0, (b"abc",), crc32c(b"abc"))
        file.sync()
        assert store.probe(1, 1).length_bytes == 3
        file.append(3, (b"d",), crc32c(b"d"))
        # Also what is not synced yet: its acknowledgement may be under way.
        assert store.probe(1, 2).length_bytes == 4
        with pytest.raises(ConflictError):
            file.append(4, (b"e",), crc32c(b"e"))


def test_a_fence_outlives_a_restart_until_the_seal(stores: Stores) -> None:
    fill(stores.store, 1, b"abc", seal=False)
    assert stores.store.probe(1, 2).fenced
    stores.again()
    with pytest.raises(ConflictError), stores.store.write(1, 1, 3) as file:
        file.append(3, (b"d",), crc32c(b"d"))
    assert stores.store.probe(1, 2).length_bytes == 3
    stores.store.seal(1, 2, 3)
    assert as_tuples(stores.again()) == {(1, 2, 3, True)}
    with stores.store.use(1) as file:
        assert not file.mend_log()
        assert file.read(0, 3) == b"abc"


def test_deleting_goes_by_version_and_does_not_disturb_readers(stores: Stores) -> None:
    store = stores.store
    fill(store, 1, b"abc")
    assert not store.delete(1, 1)
    with store.use(1) as file:
        assert store.delete(1, 2)
        assert file.read(0, 3) == b"abc"
        assert store.reports() == []
    assert store.delete(1, 2)
    assert not stores.data_file(1).exists()
    fill(store, 1, b"new")
    assert as_tuples(stores.again()) == {(1, 1, 3, True)}


def test_more_files_than_are_kept_open(stores: Stores) -> None:
    store = stores.store
    count = chunkstore.IDLE_FILES_MAXIMUM + 10
    for chunk in range(count):
        fill(store, chunk, b"%d" % chunk)
    for chunk in range(count):
        with store.use(chunk) as file:
            assert file.read(0, 9) == b"%d" % chunk


def test_the_reserve_refuses_new_chunks(stores: Stores) -> None:
    fill(stores.store, 1, b"abc")
    store = stores.again(reserve_bytes=1 << 62)
    with pytest.raises(FullError) as caught, store.write(2, 1, 0):
        pass
    assert "disk_reserve_bytes" in caught.value.hint
    with store.use(1) as file:
        assert file.read(0, 3) == b"abc"


def test_rot_found_on_read_is_told_once_and_remembered(stores: Stores) -> None:
    store = stores.store
    fill(store, 1, bytes(3 * BLOCK_BYTES))
    flip(stores.data_file(1), BLOCK_BYTES + 9)
    for _ in range(2):
        with pytest.raises(CorruptError), store.use(1) as file:
            store.read(file, 0, 3 * BLOCK_BYTES)
    told = [(e.corrupt.chunk, e.corrupt.offset_bytes) for e in stores.found("corrupt")]
    assert told == [(1, BLOCK_BYTES)]
    store = stores.again()
    assert [(report.chunk, report.corrupt) for report in store.reports()] == [(1, True)]


def test_the_scrubber_finds_rot(stores: Stores) -> None:
    fill(stores.store, 1, bytes(1000))
    fill(stores.store, 2, bytes(1000))
    flip(stores.data_file(2), 999)
    assert Scrubber(stores.store, 1.0).scrub(1e12) == 1000
    assert [e.corrupt.chunk for e in stores.found("corrupt")] == [2]


def cut_data(stores: Stores) -> None:
    os.truncate(stores.data_file(1), BLOCK_BYTES + 5)


def cut_log(stores: Stores) -> None:
    os.truncate(stores.log_file(1), HEADER_BYTES + 6)


def flip_log(stores: Stores) -> None:
    flip(stores.log_file(1), HEADER_BYTES + RECORD_BYTES + 9)


def lose_the_seal(stores: Stores) -> None:
    os.truncate(stores.log_file(1), stores.log_file(1).stat().st_size - 1)


DAMAGES = [cut_data, cut_log, flip_log, lose_the_seal]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("by_scrub", [False, True])
def test_a_file_that_lost_something_while_it_was_closed_is_told_of_and_kept(
    stores: Stores, damage: Callable[[Stores], None], by_scrub: bool
) -> None:
    fill(stores.store, 1, bytes(3 * BLOCK_BYTES))
    store = stores.again()
    damage(stores)
    sizes = [path.stat().st_size for path in (stores.data_file(1), stores.log_file(1))]
    for _ in range(2):
        if by_scrub:
            Scrubber(store, 1.0).scrub(1e12)
        else:
            with contextlib.suppress(CorruptError), store.use(1) as file:
                store.read(file, 0, 3 * BLOCK_BYTES)
    assert [e.corrupt.chunk for e in stores.found("corrupt")] == [1]
    assert [(report.chunk, report.corrupt) for report in store.reports()] == [(1, True)]
    assert [path.stat().st_size for path in (stores.data_file(1), stores.log_file(1))] == sizes
    with pytest.raises(PerseusError), store.write(1, 1, 3 * BLOCK_BYTES) as file:
        file.append(3 * BLOCK_BYTES, (b"x",), crc32c(b"x"))


@pytest.mark.parametrize("size", [0, 10, HEADER_BYTES, HEADER_BYTES + 6])
def test_bytes_whose_log_is_cut_outlive_a_restart_and_a_read(stores: Stores, size: int) -> None:
    fill(stores.store, 1, bytes(1000))
    os.truncate(stores.log_file(1), size)
    store = stores.again()
    assert [(report.chunk, report.corrupt) for report in store.reports()] == [(1, True)]
    with pytest.raises(CorruptError), store.use(1):
        pass
    assert stores.data_file(1).stat().st_size == 1000
    # The list has told of it.
    assert stores.found("corrupt") == []
    assert store.delete(1, 1)
    assert not stores.data_file(1).exists()


def test_a_log_that_vouches_for_less_leaves_the_bytes_alone(stores: Stores) -> None:
    fill(stores.store, 1, bytes(1000))
    os.truncate(stores.log_file(1), HEADER_BYTES + RECORD_BYTES)
    store = stores.again()
    with store.use(1) as file:
        assert file.read(0, 1000) == b""
    assert stores.data_file(1).stat().st_size == 1000


def test_the_scrubber_mends_the_log_of_an_open_file(stores: Stores) -> None:
    fill(stores.store, 1, bytes(1000))
    with stores.store.use(1):
        flip(stores.log_file(1), HEADER_BYTES + RECORD_BYTES + 9)
        assert Scrubber(stores.store, 1.0).scrub(1e12) == 1000
    assert stores.found("corrupt") == []
    assert as_tuples(stores.again()) == {(1, 1, 1000, True)}
    with stores.store.use(1) as file:
        assert file.read(0, 1000) == bytes(1000)


def test_a_fetch_takes_the_place_of_a_rotten_replica_only_when_it_is_whole(stores: Stores) -> None:
    store = stores.store
    fill(store, 1, b"abc")
    flip(stores.data_file(1), 1)
    with pytest.raises(CorruptError), store.use(1) as file:
        store.read(file, 0, 3)
    with pytest.raises(CorruptError), store.fetch(1, 1) as file:
        raise CorruptError("the source is rotten, too")
    assert [report.corrupt for report in store.reports()] == [True]
    with store.use(1) as old, store.fetch(1, 1) as file:
        with pytest.raises(ConflictError), store.fetch(1, 1):
            pass
        file.append(0, (b"abc",), crc32c(b"abc"))
        assert old.corrupt_offset_bytes == 0
        file.seal(1, 3)
    for opened in (store, stores.again()):
        assert [report.corrupt for report in opened.reports()] == [False]
        with opened.use(1) as file:
            assert opened.read(file, 0, 3) == b"abc"
    assert len(list(stores.data_file(1).parent.iterdir())) == 2


def test_placing_a_copy_on_a_slow_disk_holds_up_that_chunk_alone(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores.store
    fill(store, 1, b"old")
    fill(store, 2, b"other")
    begun, free = threading.Event(), threading.Event()
    sync = chunkfile.sync_folder

    def sync_slowly(folder: Path) -> None:
        begun.set()
        assert free.wait(LIMIT_S)
        sync(folder)

    def copy() -> None:
        with store.fetch(1, 2) as file:
            file.append(0, (b"new",), crc32c(b"new"))
            file.seal(2, 3)

    def read(chunk: int) -> bytes:
        with store.use(chunk) as file:
            return store.read(file, 0, 9)

    monkeypatch.setattr(chunkfile, "sync_folder", sync_slowly)
    with ThreadPoolExecutor(3) as pool:
        try:
            copying = pool.submit(copy)
            assert begun.wait(LIMIT_S)
            assert pool.submit(read, 2).result(LIMIT_S) == b"other"
            assert pool.submit(store.report, 2).result(LIMIT_S) is not None
            waiting = pool.submit(read, 1)
        finally:
            free.set()
        copying.result(LIMIT_S)
        assert waiting.result(LIMIT_S) == b"new"
    assert as_tuples(stores.again()) == {(1, 2, 3, True), (2, 1, 5, True)}


def test_what_a_writer_leaves_open_is_told_of(stores: Stores) -> None:
    """The order to delete it may have come before its first byte."""
    assert stores.store.delete(1, 2)
    fill(stores.store, 1, b"abc", seal=False)
    (event,) = stores.found("present")
    assert (event.present.chunk, event.present.length_bytes, event.present.sealed) == (1, 3, False)
    with stores.store.write(2, 1, 0) as file:
        file.append(0, (b"abc",), crc32c(b"abc"))
        file.sync()
        stores.store.delete(2, 2)
    assert len(stores.found("present")) == 1


def test_a_folder_that_is_gone_is_not_called_full(stores: Stores) -> None:
    stores.store.close()
    shutil.rmtree(stores.folder)
    with pytest.raises(UnavailableError) as caught, stores.store.write(1, 1, 0):
        pass
    assert str(stores.folder) in caught.value.message
    stores.store.open()


def test_a_broken_fetch_leaves_nothing_and_halves_are_swept(stores: Stores) -> None:
    store = stores.store
    with pytest.raises(CorruptError), store.fetch(1, 1) as file:
        file.append(0, (b"abc",), crc32c(b"abc"))
        file.sync()
        raise CorruptError("the source is rotten")
    assert not stores.data_file(1).exists()
    with store.fetch(2, 1) as file:
        copies = {path: path.read_bytes() for path in stores.data_file(2).parent.iterdir()}
        assert len(copies) == 2
        file.seal(1, 0)
    store.delete(2, 2)
    for path, content in copies.items():
        path.write_bytes(content)
    (stores.data_file(2).parent / "orphan.data").write_bytes(b"x")
    assert as_tuples(stores.again()) == set()
    assert list(stores.data_file(2).parent.iterdir()) == []


def test_a_file_that_vanished_is_told_of(stores: Stores) -> None:
    fill(stores.store, 1, b"abc")
    store = stores.again()
    stores.data_file(1).unlink()
    with pytest.raises(NotFoundError), store.use(1):
        pass
    assert [e.deleted for e in stores.found("deleted")] == [1]


def test_the_newest_bulk_keeps_its_pages_and_older_bulk_leaves_for_it() -> None:
    recent = RecentPages()
    half = RECENT_BYTES // 2
    assert recent.add(1, BULK_BYTES - 1) == []
    assert recent.add(2, half) == []
    assert recent.add(3, half) == []
    assert recent.add(2, half) == []
    assert recent.add(4, half) == [3]
    assert recent.add(5, RECENT_BYTES) == [2, 4]
