"""Chunks that are served within their own process: nothing of a call is left to the collector."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c

from perseus.errors import UnavailableError
from perseus.filestore.chunk_local import LocalChunks
from perseus.filestore.chunk_write import WriteContext
from perseus.filestore.chunk_write_stream import ChainBrokenError, ChunkStream
from perseus.filestore.chunkstore import ChunkStore
from perseus.filestore.client_channels import end
from perseus.filestore.grants import make_grant
from perseus.proto.v1 import chunk_pb2

KEY = b"k" * 32
CHUNK = 7
LIMIT_S = 30.0


class Gone:
    """Channels to a chunkserver that has died; its calls."""

    def chunks(self, address: str) -> "Gone":
        return self

    def write(self, frames: Iterator[bytes]) -> "Gone":
        return self

    def __iter__(self) -> "Gone":
        return self

    def __next__(self) -> bytes:
        raise UnavailableError("it has died")

    def cancel(self) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChunkStore]:
    made = ChunkStore(tmp_path, 0, lambda event: None)
    made.open()
    yield made
    made.close()


def stream(store: ChunkStore, chain: list[str]) -> ChunkStream:
    channels: Any = Gone()
    context = WriteContext(store, channels, lambda: KEY, time.time)
    grant = make_grant(KEY, CHUNK, 1, 1, time.time() + 600)
    opening = chunk_pb2.WriteOpen(chunk=CHUNK, version=1, grant=grant, chain=chain)
    return ChunkStream(LocalChunks(context), "here", opening)


def pair(content: bytes) -> tuple[bytes, bytes]:
    header = chunk_pb2.WriteHeader(length_bytes=len(content), checksum=crc32c(content), sync=True)
    return header.SerializeToString(), content


def test_a_chain_that_broke_holds_its_chunk_no_longer(store: ChunkStore) -> None:
    """Though who wrote through it still has the stream, with the place of the failure."""
    broken = stream(store, ["far"])
    broken.put(*pair(b"abc"))
    with pytest.raises(ChainBrokenError) as failure:
        broken.wait_acked(3)
    assert failure.value.address == "far"
    broken._receiver.join(LIMIT_S)
    assert not broken._receiver.is_alive()
    again = stream(store, [])
    again.put(*pair(b"abcd"))
    again.wait_acked(4)
    again.finish()


def test_a_read_that_is_broken_off_holds_its_chunk_no_longer(store: ChunkStore) -> None:
    written = stream(store, [])
    written.put(*pair(b"abc"))
    written.wait_acked(3)
    written.finish()
    store.seal(CHUNK, 2, 3)
    channels: Any = Gone()
    chunks = LocalChunks(WriteContext(store, channels, lambda: KEY, time.time))
    call = chunks.read(chunk_pb2.ReadChunkRequest(chunk=CHUNK, version=2))
    next(call)
    entry = store._entries[CHUNK]
    assert entry.users == 1
    end(call)
    assert entry.users == 0
