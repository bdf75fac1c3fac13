"""Chunkservers as real processes over mutual TLS: the life of bytes, and what may befall them."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from chunkserver_harness import Cluster, cluster, until
from crc32c import crc32c

from perseus.errors import (
    CorruptError,
    FullError,
    LeaseLostError,
    NotFoundError,
    RefusedError,
)
from perseus.filestore.chunk_write_stream import ACK_BASE_S
from perseus.filestore.client import FilestoreClient
from perseus.filestore.grants import make_grant
from perseus.proto.v1 import agent_pb2, chunk_pb2, filestore_pb2

MIB = 1 << 20


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.fixture
def two(shared: Cluster) -> Cluster:
    shared.reset()
    return shared


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, 3) as made:
        yield made


def content_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def write(cluster_: Cluster, path: str, content: bytes) -> filestore_pb2.FileInfo:
    with cluster_.client.open_write(path) as out:
        out.write(content)
        return out.close()


def flip(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def read(client: FilestoreClient, path: str, offset: int = 0, length: int = 0) -> bytes:
    return b"".join(client.open_read(path, offset=offset, length=length))


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, MIB, MIB + 1, 65 * MIB + 12_345])
def test_what_is_written_is_read(two: Cluster, size: int) -> None:
    content = content_of(size)
    info = write(two, "/file", content)
    assert (info.size_bytes, info.checksum) == (size, crc32c(content))
    assert read(two.client, "/file") == content
    for start, length in ((1, 100), (max(0, size - 5), 0), (64 * MIB - 3, 7), (size + 5, 9)):
        expected = content[start : start + length] if length else content[start:]
        assert read(two.client, "/file", start, length) == expected
    chunks = two.master.files[info.inode].chunks
    assert len(chunks) == (0 if size <= 4096 else -(-size // (64 * MIB)))
    for chunk in chunks:
        assert crc32c(content[chunk.offset : chunk.offset + chunk.length]) == chunk.checksum
        for node in two.nodes:
            assert node.reports()[chunk.number].length_bytes == chunk.length


def test_small_writes_of_every_kind_of_buffer(two: Cluster) -> None:
    whole = b""
    with two.client.open_write("/file") as out:
        for number in range(300):
            piece = content_of(number * 37, number)
            whole += piece
            out.write((piece, bytearray(piece), memoryview(piece))[number % 3])
            if number % 50 == 49:
                out.flush()
    assert read(two.client, "/file") == whole


def test_appending_goes_on_where_the_file_ended(two: Cluster) -> None:
    whole = b""
    for number, size in enumerate([10, 3000, 3000, MIB, 5]):
        piece = content_of(size, number)
        whole += piece
        with two.client.open_write("/log", append=True) as out:
            out.write(piece)
        assert read(two.client, "/log") == whole
    assert len(two.master.files[two.master.paths["/log"]].chunks) == 3


def test_a_file_is_got_whole_and_in_its_place(two: Cluster, tmp_path: Path) -> None:
    target, content = tmp_path / "target", content_of(3 * MIB + 1)
    with two.client.open_write("/f") as out:
        out.write(content)
    progress: list[tuple[int, int]] = []
    two.client.get_file("/f", target, progress=lambda done, total: progress.append((done, total)))
    assert progress[-1] == (3 * MIB + 1, 3 * MIB + 1)
    assert target.read_bytes() == content
    target.chmod(0o750)
    (tmp_path / "link").symlink_to(target)
    two.client.get_file("/f", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert target.stat().st_mode & 0o777 == 0o750
    with pytest.raises(NotFoundError):
        two.client.get_file("/none", target)
    assert sorted(p.name for p in tmp_path.iterdir() if ".part" in p.name) == []


def test_flushed_bytes_are_on_all_replicas_and_can_be_followed(two: Cluster) -> None:
    out = two.client.open_write("/log", visible=True)
    seen: list[bytes] = []

    def follow() -> None:
        seen.extend(two.client.open_read("/log", follow=True))

    reader = threading.Thread(target=follow)
    reader.start()
    whole = b""
    for number in range(5):
        piece = content_of(1000 + number, number)
        out.write(piece)
        out.flush()
        whole += piece
        for node in two.nodes:
            assert [r.length_bytes for r in node.reports().values()] == [len(whole)]
        until(lambda: b"".join(seen) == whole, "the follower sees what is flushed")  # noqa: B023
    out.write(b"end")
    out.close()
    reader.join(30)
    assert not reader.is_alive()
    assert b"".join(seen) == whole + b"end"


@pytest.mark.parametrize("victim", [0, 1])
def test_a_replica_killed_in_the_middle_of_a_write(three: Cluster, victim: int) -> None:
    content = content_of(40 * MIB)
    with three.client.open_write("/file") as out:
        out.write(content[: 10 * MIB + 5])
        out.flush()
        out.write(content[10 * MIB + 5 : 20 * MIB])
        three.nodes[victim].kill()
        out.write(content[20 * MIB :])
    assert read(three.client, "/file") == content
    failed = [list(seal.failed_nodes) for seal in three.master.seals if seal.failed_nodes]
    assert failed == [[f"n{victim}"]]
    first = three.master.files[three.master.paths["/file"]].chunks[0]
    # What was flushed had been acknowledged: it is kept, and it is on the survivor.
    assert first.length >= 10 * MIB + 5
    three.nodes[victim].start()
    assert three.nodes[victim].reports()[first.number].length_bytes >= 10 * MIB + 5


def test_a_replica_that_hangs_is_left_behind(three: Cluster) -> None:
    content = content_of(3 * MIB)
    with three.client.open_write("/file") as out:
        out.write(content[:MIB])
        out.flush()
        three.nodes[1].signal(signal.SIGSTOP)
        out.write(content[MIB:])
    three.nodes[1].signal(signal.SIGCONT)
    assert read(three.client, "/file") == content
    assert [list(s.failed_nodes) for s in three.master.seals if s.failed_nodes] == [["n1"]]


def test_a_replica_that_hangs_with_a_full_pipe_is_left_behind_in_time(three: Cluster) -> None:
    content = content_of(63 * MIB)
    stopped_s = 0.0
    with three.client.open_write("/file") as out:
        for place in range(0, len(content), MIB):
            if place == 48 * MIB:
                three.nodes[1].signal(signal.SIGSTOP)
                stopped_s = time.monotonic()
            out.write(content[place : place + MIB])
    took_s = time.monotonic() - stopped_s
    three.nodes[1].signal(signal.SIGCONT)
    assert read(three.client, "/file") == content
    assert [list(s.failed_nodes) for s in three.master.seals if s.failed_nodes] == [["n1"]]
    assert took_s < 0.75 * ACK_BASE_S, "noticed by the connection, not for want of an answer"


def test_all_chunkservers_killed_and_started_again(two: Cluster) -> None:
    content = content_of(12 * MIB)
    out = two.client.open_write("/file")
    out.write(content)
    out.flush()
    (chunk,) = two.master.files[out.inode].chunks
    out.write(content_of(5 * MIB, 1))
    for node in two.nodes:
        node.kill()
    for node in two.nodes:
        node.start()
        assert node.reports()[chunk.number].length_bytes >= 12 * MIB
    out.close()
    assert read(two.client, "/file") == content + content_of(5 * MIB, 1)


def test_a_flipped_bit_is_found_and_the_other_replica_serves(two: Cluster) -> None:
    content = content_of(5 * MIB)
    info = write(two, "/file", content)
    (chunk,) = two.master.files[info.inode].chunks
    path = two.nodes[0].data_file(chunk.number)
    flip(path, 3 * MIB + 17)
    near = two.make_client("viewer", near="n0")
    assert read(near, "/file") == content
    near.close()
    found = two.nodes[0].wait_event("corrupt").corrupt
    assert (found.chunk, found.offset_bytes) == (chunk.number, 3 * MIB)
    assert [(r.node_id, r.corrupt) for r in two.master.reports] == [("n0", True)]
    assert two.nodes[0].reports()[chunk.number].corrupt
    # The master heals it: has it made anew from the other, in the place of the rotten one.
    fetch = agent_pb2.FetchChunk(
        chunk=chunk.number, version=1, length_bytes=chunk.length, sources=[two.master.nodes["n1"]]
    )
    seal = agent_pb2.SealReplica(chunk=chunk.number, version=1, length_bytes=chunk.length)
    for node in two.nodes:
        # The end of the write.
        assert not node.wait_event("present").present.sealed
    two.wait(two.nodes[1].control.directive(agent_pb2.Directive(seal=seal)))
    assert two.nodes[1].wait_event("present").present.sealed
    two.wait(two.nodes[0].control.directive(agent_pb2.Directive(fetch=fetch)))
    assert two.nodes[0].wait_event("present").present.length_bytes == chunk.length
    assert path.read_bytes() == content


def test_replicas_with_different_bad_blocks_are_read_and_made_whole(two: Cluster) -> None:
    content = content_of(3 * MIB)
    info = write(two, "/file", content)
    (chunk,) = two.master.files[info.inode].chunks
    first, second = two.nodes
    for node, offset in ((first, MIB + 70_000), (second, MIB + 200_000), (first, 3 * MIB - 1)):
        flip(node.data_file(chunk.number), offset)
    assert read(two.client, "/file") == content
    assert first.wait_event("corrupt").corrupt.offset_bytes == MIB + 65_536
    assert second.wait_event("corrupt").corrupt.offset_bytes == MIB + 3 * 65_536
    first.wait_event("present")
    fetch = agent_pb2.FetchChunk(chunk=chunk.number, version=1, length_bytes=chunk.length)
    fetch.sources[:] = [two.master.nodes["n1"], two.master.nodes["n0"]]
    two.wait(first.control.directive(agent_pb2.Directive(fetch=fetch)))
    assert first.wait_event("present").present.sealed
    assert first.data_file(chunk.number).read_bytes() == content
    assert not first.reports()[chunk.number].corrupt


def test_all_before_the_damage_can_be_read(two: Cluster) -> None:
    content = content_of(2 * MIB)
    info = write(two, "/file", content)
    (chunk,) = two.master.files[info.inode].chunks
    for node in two.nodes:
        flip(node.data_file(chunk.number), MIB + 70_000)
    got = b""
    with pytest.raises(CorruptError) as caught:
        for piece in two.client.open_read("/file"):
            got += piece
    assert got == content[: MIB + 65_536]
    assert "made anew" not in caught.value.hint


def test_directives(three: Cluster) -> None:
    content = content_of(2 * MIB + 3)
    info = write(three, "/file", content)
    (chunk,) = three.master.files[info.inode].chunks
    first, second, third = three.nodes
    for node in (first, second):
        # The end of the write.
        assert not node.wait_event("present").present.sealed

    def direct(node: int, **what: object) -> None:
        directive = agent_pb2.Directive(**what)  # type: ignore[arg-type]
        three.wait(three.nodes[node].control.directive(directive))

    size = len(content)
    direct(0, seal=agent_pb2.SealReplica(chunk=chunk.number, probe=True))
    assert first.wait_event("present").present.length_bytes == size
    direct(0, seal=agent_pb2.SealReplica(chunk=chunk.number, version=2, length_bytes=size + 1))
    assert "cannot be sealed" in first.wait_event("failure").failure.message
    direct(0, seal=agent_pb2.SealReplica(chunk=chunk.number, version=2, length_bytes=size - 3))
    assert first.wait_event("present").present.sealed
    sources = [three.master.nodes["n1"], "127.0.0.1:1", three.master.nodes["n0"]]
    fetch = agent_pb2.FetchChunk(
        chunk=chunk.number, version=2, length_bytes=size - 3, sources=sources
    )
    direct(2, fetch=fetch)
    report = third.wait_event("present").present
    assert (report.version, report.length_bytes, report.sealed) == (2, size - 3, True)
    assert third.data_file(chunk.number).read_bytes() == content[:-3]
    direct(2, delete=agent_pb2.DeleteChunk(chunk=chunk.number, below_version=2))
    assert third.wait_event("present").present.version == 2
    direct(2, delete=agent_pb2.DeleteChunk(chunk=chunk.number, below_version=3))
    assert third.wait_event("deleted").deleted == chunk.number
    assert third.reports() == {}
    fetch.sources[:] = ["127.0.0.1:1"]
    direct(2, fetch=fetch)
    assert third.wait_event("failure").failure.chunk == chunk.number
    direct(2, fetch=agent_pb2.FetchChunk(chunk=99, version=1, sources=sources))
    assert third.wait_event("present").present.length_bytes == 0


def test_directives_for_one_chunk_keep_their_order(three: Cluster) -> None:
    """A copy takes longer than the order behind it to delete what it makes."""
    info = write(three, "/file", content_of(4 * MIB))
    (chunk,) = three.master.files[info.inode].chunks
    for node in three.nodes[:2]:
        direct = node.control.directive
        seal = agent_pb2.SealReplica(chunk=chunk.number, version=1, length_bytes=4 * MIB)
        three.wait(direct(agent_pb2.Directive(seal=seal)))
        assert not node.wait_event("present").present.sealed
        assert node.wait_event("present").present.sealed
    third = three.nodes[2]
    fetch = agent_pb2.FetchChunk(
        chunk=chunk.number,
        version=1,
        length_bytes=4 * MIB,
        sources=[three.master.nodes["n0"]],
    )
    delete = agent_pb2.DeleteChunk(chunk=chunk.number, below_version=2)
    for _ in range(3):
        three.wait(third.control.directive(agent_pb2.Directive(fetch=fetch)))
        three.wait(third.control.directive(agent_pb2.Directive(delete=delete)))
    for _ in range(3):
        assert third.wait_event("present").present.sealed
        assert third.wait_event("deleted").deleted == chunk.number
    assert third.reports() == {}


def test_who_may_not_write_or_read(two: Cluster) -> None:
    info = write(two, "/file", content_of(MIB))
    viewer = two.make_client("viewer")
    assert len(read(viewer, "/file")) == MIB
    with pytest.raises(RefusedError) as refused, viewer.open_write("/other") as out:
        out.write(content_of(MIB))
        out.flush()
    assert "may not call /perseus.v1.Chunks/WriteChunk" in refused.value.message
    assert "perseus token create --role" in refused.value.hint
    viewer.close()
    assert info.size_bytes == MIB
    with pytest.raises(grpc.RpcError) as stranger:
        channel = grpc.insecure_channel(two.master.nodes["n0"])
        next(channel.unary_stream("/perseus.v1.Chunks/ReadChunk")(b""))
    assert stranger.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("what", ["forged", "expired", "other chunk"])
def test_a_write_needs_a_grant(two: Cluster, what: str) -> None:
    key = bytes(32) if what == "forged" else two.master.grant_key
    granted = 8 if what == "other chunk" else 7
    expires_at_s = 1.0 if what == "expired" else 1e12
    opening = chunk_pb2.WriteOpen(
        chunk=7, version=1, grant=make_grant(key, granted, 1, 1, expires_at_s)
    )
    channel = two.client._channels.to(two.master.nodes["n0"])
    call = channel.stream_stream("/perseus.v1.Chunks/WriteChunk")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([opening.SerializeToString()])))
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert two.nodes[0].reports() == {}


@pytest.mark.parametrize("method", ["ReadChunk", "WriteChunk"])
def test_bytes_that_are_no_message_are_invalid(two: Cluster, method: str) -> None:
    channel = two.client._channels.to(two.master.nodes["n0"])
    call = channel.stream_stream(f"/perseus.v1.Chunks/{method}")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b"\xff\xff\xff"])))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_lost_lease_surfaces_at_the_next_write(two: Cluster) -> None:
    out = two.client.open_write("/log", append=True)
    out.write(b"mine")
    out.flush()
    two.master.files[out.inode].epoch += 1
    out._renew_at_s = 0.0
    until(lambda: out._lost is not None, "the renewal finds the lease lost")
    with pytest.raises(LeaseLostError):
        out.write(b"more")
    out.abandon()


def test_a_writer_whose_lease_ran_out_unnoticed_promises_nothing(two: Cluster) -> None:
    out = two.client.open_write("/log", append=True)
    out.write(b"mine")
    out.flush()
    # As if the process had been stopped: the lease is over, and no renewal has told it.
    out._held_until_s = 0.0
    out.write(b"more")
    out.flush()
    assert two.master.calls.count("RenewWriteLease") == 1
    out._held_until_s = 0.0
    two.master.files[out.inode].epoch += 1
    out.write(b"lost")
    with pytest.raises(LeaseLostError):
        out.flush()
    out.abandon()


def test_a_writer_that_was_fenced_off_adds_nothing_after_a_restart(two: Cluster) -> None:
    out = two.client.open_write("/log", append=True)
    out.write(b"mine")
    out.flush()
    (chunk,) = two.master.files[out.inode].chunks
    out._used_at_s -= 1000
    until(lambda: out._chunk is not None and not out._chunk.connected, "the connection rests")
    # The master measures the chunk for a writer that it takes for lost.
    probe = agent_pb2.SealReplica(chunk=chunk.number, version=2, probe=True)
    for node in two.nodes:
        node.events.clear()
        two.wait(node.control.directive(agent_pb2.Directive(seal=probe)))
        told = node.wait_event("present").present
        assert (told.fenced, told.length_bytes) == (True, 4)
    two.master.files[out.inode].epoch += 1
    for node in two.nodes:
        node.kill()
        node.start()
    out.write(b"more")
    with pytest.raises(LeaseLostError):
        out.flush()
    for node in two.nodes:
        assert node.reports()[chunk.number].length_bytes == 4
    out.abandon()


def test_an_idle_writer_lets_its_connection_go_and_goes_on(two: Cluster) -> None:
    out = two.client.open_write("/log")
    out.write(b"a" * 5000)
    out.flush()
    out._used_at_s -= 1000
    until(lambda: out._chunk is not None and not out._chunk.connected, "the connection rests")
    out.write(b"b")
    out.close()
    assert read(two.client, "/log") == b"a" * 5000 + b"b"
    assert len(two.master.files[out.inode].chunks) == 1


def test_a_master_away_for_a_while_is_waited_for(two: Cluster) -> None:
    content = content_of(3 * MIB)
    with two.client.open_write("/file") as out:
        out.write(content)
        two.master.away = {"SealChunk", "Close"}
        threading.Timer(0.5, two.master.away.clear).start()
    assert read(two.client, "/file") == content
    assert two.master.calls.count("SealChunk") > 1


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    with cluster(tmp_path, 1, reserve_bytes=1 << 62) as made:
        with pytest.raises(FullError) as caught, made.client.open_write("/file") as out:
            out.write(bytes(5000))
            out.flush()
        assert "MiB left" in str(caught.value)


def test_a_chunkserver_ends_with_its_agent(three: Cluster) -> None:
    node = three.nodes[1]
    assert node.process is not None
    writer = node.control._writer
    assert writer is not None
    three._loop.call_soon_threadsafe(writer.close)
    assert node.process.wait(30) == 0
