"""A writer whose chains break, one after the other."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from perseus.errors import UnavailableError
from perseus.filestore import writer as writers
from perseus.filestore.client_files import Files
from perseus.filestore.writer import FileWriter
from perseus.proto.v1 import filestore_pb2


class Broken:
    """A write to a chunkserver that has died."""

    def __iter__(self) -> "Broken":
        return self

    def __next__(self) -> bytes:
        raise UnavailableError("it has died")

    def cancel(self) -> None:
        pass


CHANNELS: Any = SimpleNamespace(
    chunks=lambda address: SimpleNamespace(write=lambda frames: Broken())
)
NODE = filestore_pb2.ReplicaLocation(node_id="id-1", node_name="node-1", address="far")


def master(method: str, request: Any, timeout_s: float) -> Any:
    if method == "AllocateChunk":
        return filestore_pb2.ChunkGrant(chunk=7, version=1, chain=[NODE])
    return filestore_pb2.SealChunkResponse()


def test_it_waits_longer_and_longer_before_the_next_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(
        writers, "time", SimpleNamespace(monotonic=time.monotonic, sleep=waited.append)
    )
    tender: Any = SimpleNamespace(add=lambda writer: None, remove=lambda writer: None)
    lease = filestore_pb2.WriteLease(inode=1, epoch=1, lease_s=30)
    made = FileWriter(
        Files(master, 0.0), CHANNELS, tender, lease, name="/a", asked_at_s=time.monotonic()
    )
    made.write(b"abc")
    with pytest.raises(UnavailableError, match="8 chains of chunkservers broke in a row"):
        made.flush()
    assert waited == sorted(waited) and len(waited) == writers.BREAKS_MAXIMUM - 1
    assert waited[-1] == writers.BACKOFF_MAXIMUM_S
