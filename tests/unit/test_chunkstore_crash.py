"""Replicas that a crash meets before their first sync, and what is synced when."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crc32c import crc32c

from perseus.errors import CorruptError, NotFoundError, PerseusError
from perseus.filestore.chunkfile_log import HEADER_BYTES
from perseus.filestore.chunkstore import ChunkStore
from perseus.proto.v1 import agent_pb2

CONTENT = b"x" * 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "chunks"


def opened(folder: Path) -> ChunkStore:
    events: list[agent_pb2.ChunkEvent] = []
    store = ChunkStore(folder, 0, events.append)
    store.open()
    return store


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of what is synced, in order; the syncs themselves happen."""
    names: list[str] = []

    def noting(real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
            names.append(name.rpartition(".")[2])
            real(descriptor)

        return call

    monkeypatch.setattr(os, "fsync", noting(os.fsync))
    monkeypatch.setattr(os, "fdatasync", noting(os.fdatasync))
    yield names


def test_making_a_replica_waits_for_no_disk_and_its_first_sync_for_all(
    folder: Path, synced: list[str]
) -> None:
    store = opened(folder)
    synced.clear()
    for chunk in (0x101, 0x201):
        with store.write(chunk, 1, 0) as file:
            file.append(0, (CONTENT,), crc32c(CONTENT))
            assert synced == []
            file.sync()
            # Bytes before what vouches for them, names before the acknowledgement.
            new_folder = ["chunks"] if chunk == 0x101 else []
            assert synced == ["data", "log", "01", *new_folder]
            synced.clear()
            file.append(1000, (CONTENT,), crc32c(CONTENT))
            file.sync()
            assert synced == ["data", "log"]
            synced.clear()
        store.seal(chunk, 1, 1500)
        assert synced == ["log"]
        synced.clear()
    store.close()


def test_a_fetched_replica_is_named_on_disk_when_it_is_whole(
    folder: Path, synced: list[str]
) -> None:
    store = opened(folder)
    synced.clear()
    with store.fetch(0x101, 1) as file:
        file.append(0, (CONTENT,), crc32c(CONTENT))
        file.seal(1, 1000)
        assert synced == ["data", "log", "log"]
    assert synced[3:] == ["01", "chunks"]
    store.close()


def test_an_empty_replica_that_is_sealed_or_fenced_has_its_name_on_disk(
    folder: Path, synced: list[str]
) -> None:
    store = opened(folder)
    for chunk, version in ((0x101, 1), (0x201, 2)):
        with store.write(chunk, 1, 0):
            synced.clear()
            if version == 1:
                store.seal(chunk, 1, 0)
            else:
                store.probe(chunk, version)
            assert synced[:2] == ["log", "01"]
    store.close()


@pytest.mark.parametrize("data_bytes", [None, 0, 10, 1000])
@pytest.mark.parametrize("log_bytes", [None, 0, 7, HEADER_BYTES, 10_000])
def test_whatever_a_crash_leaves_before_the_first_sync_is_no_byte_of_the_chunk(
    folder: Path, data_bytes: int | None, log_bytes: int | None
) -> None:
    store = opened(folder)
    with store.write(0x101, 1, 0) as file:
        file.append(0, (CONTENT,), crc32c(CONTENT))
        log = (folder / "01" / f"{0x101:016x}.log").read_bytes()
    store.close()
    for kind, content, size in (("data", CONTENT, data_bytes), ("log", log, log_bytes)):
        if size is not None:
            (folder / "01" / f"{0x101:016x}.{kind}").write_bytes(content[:size])
    store = opened(folder)
    reports = store.reports()
    assert all(report.length_bytes == 0 and not report.sealed for report in reports)
    assert [report.corrupt for report in reports] == [not report.version for report in reports]
    if not reports:
        assert list((folder / "01").iterdir()) == []
    # The writer's next try is refused or begins at the beginning.
    try:
        with store.write(0x101, 1, 0) as file:
            file.append(0, (CONTENT,), crc32c(CONTENT))
            file.sync()
            assert file.read(0, 2000) == CONTENT
    except PerseusError as error:
        assert isinstance(error, CorruptError | NotFoundError)
        assert reports[0].corrupt
    store.close()
