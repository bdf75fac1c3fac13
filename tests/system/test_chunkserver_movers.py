"""Movers: stdin fed through a FIFO, files placed, outputs shipped while they grow."""

import asyncio
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from chunkserver_harness import Cluster, cluster, until
from crc32c import crc32c

from perseus.errors import InvalidError, NotFoundError, UnavailableError
from perseus.filestore.control import Ship, Shipped

MIB = 1 << 20


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.fixture
def two(shared: Cluster) -> Cluster:
    shared.reset()
    return shared


def content_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def put(cluster_: Cluster, path: str, content: bytes) -> None:
    with cluster_.client.open_write(path) as out:
        out.write(content)


def fifo(folder: Path) -> str:
    path = str(folder / "stdin")
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("size", [0, 5, 5 * MIB + 3])
def test_feed_is_a_programs_stdin(two: Cluster, tmp_path: Path, size: int) -> None:
    content = content_of(size)
    put(two, "/in", content)
    path = fifo(tmp_path)
    control = two.nodes[0].control

    async def run() -> tuple[int, bytes]:
        feed = asyncio.create_task(control.feed("/in", path))
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", f"cat < {path}", stdout=subprocess.PIPE
        )
        output, _ = await process.communicate()
        return await feed, output

    assert two.wait(run()) == (size, content)


def test_feed_follows_a_file_that_is_written_and_ends_with_it(two: Cluster, tmp_path: Path) -> None:
    out = two.client.open_write("/in", visible=True)
    path = fifo(tmp_path)
    reader = subprocess.Popen(["cat", path], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    feed = asyncio.run_coroutine_threadsafe(two.nodes[0].control.feed("/in", path), two._loop)
    for piece in (b"one\n", b"two\n"):
        out.write(piece)
        out.flush()
        assert reader.stdout.readline() == piece
    out.close()
    assert reader.stdout.read() == b""
    assert reader.wait(30) == 0
    assert feed.result(30) == 8


def test_feed_ends_quietly_when_the_reader_has_enough(two: Cluster, tmp_path: Path) -> None:
    put(two, "/in", content_of(20 * MIB))
    path = fifo(tmp_path)
    head = subprocess.Popen(["head", "-c", "10", path], stdout=subprocess.PIPE)
    assert two.wait(two.nodes[0].control.feed("/in", path)) < 20 * MIB
    assert head.communicate()[0] == content_of(20 * MIB)[:10]


def test_feed_and_place_say_what_is_wrong(two: Cluster, tmp_path: Path) -> None:
    control = two.nodes[0].control
    with pytest.raises(NotFoundError):
        two.wait(control.feed("/none", fifo(tmp_path)))
    with pytest.raises(NotFoundError):
        two.wait(control.place("/none", str(tmp_path / "target")))
    put(two, "/in", b"abc")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidError):
        two.wait(control.feed("/in", str(tmp_path / "file")))


def test_a_cancelled_feed_ends_though_nobody_opened_its_fifo(two: Cluster, tmp_path: Path) -> None:
    put(two, "/in", b"abc")
    path = fifo(tmp_path)
    control = two.nodes[0].control

    async def run() -> None:
        feed = asyncio.create_task(control.feed("/in", path))
        await asyncio.sleep(0)
        feed.cancel()
        await asyncio.wait([feed])

    two.wait(run())
    # Answered after the cancellation was taken.
    two.wait(control.reports())
    # The process still serves, and a new feed of the same FIFO works.
    feed = asyncio.run_coroutine_threadsafe(control.feed("/in", path), two._loop)
    assert subprocess.run(["cat", path], stdout=subprocess.PIPE, check=True).stdout == b"abc"
    assert feed.result(30) == 3


def test_place_copies_a_file(two: Cluster, tmp_path: Path) -> None:
    content = content_of(3 * MIB)
    put(two, "/in", content)
    target = tmp_path / "data.bin"
    assert two.wait(two.nodes[0].control.place("/in", str(target))) == 3 * MIB
    assert target.read_bytes() == content


def test_a_ship_that_is_cut_ends_with_what_it_has_brought(two: Cluster, tmp_path: Path) -> None:
    # Larger than any disk takes in the time between the two words.
    size = 4 << 30
    spool = tmp_path / "stdout"
    spool.touch()
    os.truncate(spool, size)
    control = two.nodes[0].control

    async def run() -> Shipped:
        ship = await control.ship("00000000.0.1", False, str(spool))
        finishing = asyncio.create_task(ship.finish(size))
        await asyncio.sleep(0)
        ship.cut()
        return await finishing

    shipped = two.wait(run())
    assert 0 < shipped.size_bytes < size and shipped.size_bytes % MIB == 0


@pytest.mark.parametrize("size", [0, 100, 10 * MIB + 7])
def test_ship_copies_an_output_while_it_grows(two: Cluster, tmp_path: Path, size: int) -> None:
    content = content_of(size)
    spool = tmp_path / "stdout"
    spool.touch()
    control = two.nodes[0].control
    ship: Ship = two.wait(control.ship("00000000.0.1", False, str(spool)))
    with open(spool, "ab") as file:
        for start in range(0, size, 700_001):
            file.write(content[start : start + 700_001])
            file.flush()
    shipped = two.wait(ship.finish(size))
    assert (shipped.size_bytes, shipped.checksum) == (size, crc32c(content))
    assert two.master.attempts["00000000.0.1", False] == shipped.inode
    assert b"".join(two.client.open_read(inode=shipped.inode)) == content
    file_of = two.master.files[shipped.inode]
    assert all(chunk.nodes[0] == "n0" for chunk in file_of.chunks)


def test_an_abandoned_ship_leaves_nothing_open(two: Cluster, tmp_path: Path) -> None:
    spool = tmp_path / "stdout"
    spool.write_bytes(content_of(3 * MIB))
    control = two.nodes[0].control
    ship: Ship = two.wait(control.ship("00000000.0.1", True, str(spool)))
    until(lambda: "AllocateChunk" in two.master.calls, "the ship has begun")
    two.wait(ship.abandon())
    assert two.master.calls[-1] == "Abandon"


def test_a_ship_of_a_file_that_is_shorter_than_said(two: Cluster, tmp_path: Path) -> None:
    spool = tmp_path / "stdout"
    spool.write_bytes(b"abc")
    ship: Ship = two.wait(two.nodes[0].control.ship("00000000.0.1", False, str(spool)))
    with pytest.raises(InvalidError):
        two.wait(ship.finish(4))


def test_a_ship_of_what_was_overwritten_meanwhile_is_refused(two: Cluster, tmp_path: Path) -> None:
    spool = tmp_path / "stdout"
    spool.write_bytes(b"a" * 2 * MIB)
    control = two.nodes[0].control
    ship: Ship = two.wait(control.ship("00000000.0.1", False, str(spool)))
    until(lambda: "AllocateChunk" in two.master.calls, "the first frame was read")
    content = content_of(3 * MIB)
    spool.write_bytes(content)
    with pytest.raises(InvalidError, match="overwritten"):
        two.wait(ship.finish(3 * MIB))
    assert two.master.calls[-1] == "Abandon"
    again: Ship = two.wait(control.ship("00000000.0.1", False, str(spool)))
    shipped = two.wait(again.finish(3 * MIB))
    assert b"".join(two.client.open_read(inode=shipped.inode)) == content


def test_a_ship_of_what_is_no_plain_file_is_refused(two: Cluster, tmp_path: Path) -> None:
    control = two.nodes[0].control
    secret = tmp_path / "secret"
    secret.write_bytes(b"abc")
    link = tmp_path / "link"
    link.symlink_to(secret)
    for path, kind in ((fifo(tmp_path), InvalidError), (str(link), UnavailableError)):
        # A FIFO without a writer would hold who opens it for ever.
        ship: Ship = two.wait(control.ship("00000000.0.1", False, path))
        with pytest.raises(kind):
            two.wait(ship.finish(3))
    assert "Create" not in two.master.calls


def test_when_the_chunkserver_dies_all_are_told_and_the_next_one_serves(
    two: Cluster, tmp_path: Path
) -> None:
    spool = tmp_path / "stdout"
    spool.write_bytes(b"abc")
    node = two.nodes[0]
    ship: Ship = two.wait(node.control.ship("00000000.0.1", False, str(spool)))
    node.kill()
    with pytest.raises(UnavailableError):
        two.wait(ship.finish(3))
    assert ship.failed
    node.start()
    again: Ship = two.wait(node.control.ship("00000000.0.1", False, str(spool)))
    assert two.wait(again.finish(3)).size_bytes == 3
