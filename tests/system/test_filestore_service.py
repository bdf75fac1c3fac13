"""The master's half of the filestore over real chunkservers, a real store and real time."""

import os
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from chunkserver_harness import until
from filestore_harness import Cluster, cluster

from perseus.errors import PerseusError
from perseus.identity import roles
from perseus.proto.v1 import filestore_pb2
from perseus.rpc.call import Call, Caller

MIB = 1 << 20
CALL = Call(Caller("someone", roles.USER, "user"), "")


def put(cluster: Cluster, path: str, content: bytes) -> filestore_pb2.FileInfo:
    with cluster.client.open_write(path, parents=True) as writer:
        writer.write(content)
        return writer.close()


def stat(cluster: Cluster, path: str) -> filestore_pb2.FileInfo:
    info = cluster.master("Stat", filestore_pb2.StatRequest(path=path), 10.0)
    assert isinstance(info, filestore_pb2.FileInfo)
    return info


def chunk_of(cluster: Cluster, path: str) -> filestore_pb2.LocatedChunk:
    layout = cluster.master("Locate", filestore_pb2.LocateRequest(path=path), 10.0)
    chunk = layout.chunks[0]
    assert isinstance(chunk, filestore_pb2.LocatedChunk)
    return chunk


def sealed_on(cluster: Cluster, chunk: int) -> set[str]:
    return {
        agent.name
        for agent in cluster.agents
        if agent.control.is_up and (r := agent.reports().get(chunk)) and r.sealed
    }


def read(cluster: Cluster, path: str) -> bytes:
    return b"".join(cluster.client.open_read(path))


def test_a_file_is_written_read_and_removed(tmp_path: Path) -> None:
    content = os.urandom(3 * MIB + 17)
    with cluster(tmp_path) as made:
        info = put(made, "/a/big", content)
        assert (info.size_bytes, info.live_replicas, info.open) == (len(content), 2, False)
        assert read(made, "/a/big") == content
        chunk = chunk_of(made, "/a/big").chunk
        until(lambda: len(sealed_on(made, chunk)) == 2, "both replicas are sealed")
        made.master("Remove", filestore_pb2.RemoveRequest(path="/a", recursive=True), 10.0)
        until(lambda: not any(agent.reports() for agent in made.agents), "replicas are deleted")
        assert made.master.service.findings() == []


def test_a_lost_node_is_made_good_and_an_extra_replica_deleted(tmp_path: Path) -> None:
    content = os.urandom(MIB)
    with cluster(tmp_path, 3) as made:
        put(made, "/a", content)
        chunk = chunk_of(made, "/a").chunk
        until(lambda: len(sealed_on(made, chunk)) == 2, "both replicas are sealed")
        lost = next(agent for agent in made.agents if agent.name in sealed_on(made, chunk))
        made.lose(lost)
        until(lambda: stat(made, "/a").live_replicas == 2, "a second replica is made anew")
        assert read(made, "/a") == content
        lost.start()
        made.wait(lost.join())
        until(lambda: len(sealed_on(made, chunk)) == 2, "the third replica is deleted")
        assert read(made, "/a") == content


def test_a_flipped_bit_is_healed_and_told_of(tmp_path: Path) -> None:
    content = os.urandom(MIB)
    with cluster(tmp_path, 2) as made:
        put(made, "/a", content)
        chunk = chunk_of(made, "/a").chunk
        until(lambda: len(sealed_on(made, chunk)) == 2, "both replicas are sealed")
        near = made.agents[0]
        with open(near.data_file(chunk), "r+b") as file:
            file.seek(MIB // 2)
            byte = file.read(1)[0]
            file.seek(MIB // 2)
            file.write(bytes([byte ^ 1]))
        assert read(made, "/a") == content
        until(lambda: len(notes(made)) >= 2, "the replica is healed")
        assert notes(made) == ["warning", "note"]
        assert near.data_file(chunk).read_bytes() == content


def notes(made: Cluster) -> Sequence[str]:
    return [note.severity for note in made.master.replication.notes]


def test_a_writer_that_dies_leaves_what_was_acknowledged(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        writer = made.client.open_write("/log", visible=True)
        writer.write(b"x" * 100_000)
        writer.flush()
        # From here on nobody renews its lease.
        made.client._tender.remove(writer)
        until(lambda: not stat(made, "/log").open, "the file is closed for its writer")
        assert stat(made, "/log").size_bytes == 100_000
        assert read(made, "/log") == b"x" * 100_000
        with pytest.raises(PerseusError) as caught:
            writer.write(b"y" * MIB)
            writer.close()
        assert caught.value.code == "lease_lost"


def test_a_writer_that_never_sent_a_byte_leaves_nothing_open(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        lease = made.master("Create", filestore_pb2.CreateRequest(path="/log"), 10.0)
        request = filestore_pb2.AllocateChunkRequest(inode=lease.inode, epoch=lease.epoch)
        made.master("AllocateChunk", request, 10.0)
        until(lambda: not stat(made, "/log").open, "the file is closed for its writer")
        assert stat(made, "/log").size_bytes == 0


async def _pieces(*pieces: filestore_pb2.WritePiece) -> AsyncIterator[filestore_pb2.WritePiece]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize("count", [0, 1, 100])
def test_bytes_go_through_the_master(tmp_path: Path, count: int) -> None:
    piece = os.urandom(50_000 if count > 1 else 1000)
    with cluster(tmp_path) as made:
        begin = filestore_pb2.WritePiece(path="/a", data=b"begin")
        messages = [filestore_pb2.WritePiece(data=piece)] * count
        info = made.wait(made.gateway.write(_pieces(begin, *messages), CALL))
        content = b"begin" + piece * count
        assert (info.path, info.size_bytes) == ("/a", len(content))
        assert made.collect(made.gateway.read_file("/a")) == content
        assert made.collect(made.gateway.read_file(info.inode, 3, 100)) == content[3:103]
        more = filestore_pb2.WritePiece(path="/a", append=True, data=b"more")
        made.wait(made.gateway.write(_pieces(more), CALL))
        assert made.collect(made.gateway.read_file("/a", len(content))) == b"more"


def test_a_write_through_the_master_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[filestore_pb2.WritePiece]:
        yield filestore_pb2.WritePiece(path="/a", data=b"x" * 100_000)
        raise ConnectionError("the caller went away")

    with cluster(tmp_path) as made:
        with pytest.raises(ConnectionError):
            made.wait(made.gateway.write(broken(), CALL))
        until(lambda: not any(agent.reports() for agent in made.agents), "replicas are deleted")
        with pytest.raises(PerseusError) as caught:
            stat(made, "/a")
        assert caught.value.code == "not_found"


def test_followers_read_on_until_the_writer_closes(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        writer = made.client.open_write("/log", visible=True)
        seen: list[bytes] = []

        async def follow() -> None:
            async for piece in made.gateway.read_file("/log", follow=True):
                seen.append(piece)

        reader = threading.Thread(target=lambda: made.wait(follow()))
        reader.start()
        for number in range(5):
            writer.write(f"line {number}\n".encode() * 1000)
            writer.flush()
            until(lambda: sum(map(len, seen)) == writer.size_bytes, "the follower has it")
        writer.close()
        reader.join(60)
        assert b"".join(seen) == b"".join(f"line {n}\n".encode() * 1000 for n in range(5))
