"""The service Files over its machines: answers, waiting readers, grants, findings."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from perseus.errors import NotFoundError, PerseusError, RefusedError, UnavailableError
from perseus.filestore import namespace_events as files
from perseus.filestore import service as service_module
from perseus.filestore.grants import check_grant
from perseus.filestore.namespace_events import InodeChanged
from perseus.filestore.service import FilesService
from perseus.filestore.service_layout import FileLocality
from perseus.identity import roles
from perseus.proto.v1 import agent_pb2, filestore_pb2
from perseus.rpc.call import Call, Caller
from perseus.rpc.registry import Registry
from perseus.rpc.services import methods_of
from perseus.runtime.machine import Driver, Effect, Write
from perseus.runtime.real import RealClock
from tests.unit.replication_harness import Cluster

KEY = b"k" * 32
Result = TypeVar("Result")


def call(kind: str = "user", node_id: str = "") -> Call:
    """A call of somebody."""
    role = roles.NODE if kind == "node" else roles.USER
    return Call(Caller("someone", role, kind, node_id=node_id), "")


class Master:
    """The service over a driver that commits to the cluster's dictionary."""

    def __init__(self, nodes: int = 2) -> None:
        self.cluster = Cluster(nodes)
        self.driver = Driver(
            self.cluster.machine, self, RealClock(), self._deliver, lambda error: None
        )
        self.service = FilesService(
            self.driver,
            self.cluster.namespace,
            self.cluster.replication,
            self.cluster.membership,
            self.cluster.settings,
            KEY,
        )

    def shortage(self) -> None:
        """There is always room."""

    async def commit(self, writes: Sequence[Write]) -> None:
        """Durable after a turn of the loop."""
        await asyncio.sleep(0)
        for write in writes:
            if write.value is None:
                self.cluster.rows.pop(write.key, None)
            else:
                self.cluster.rows[write.key] = write.value

    def _deliver(self, effect: Effect) -> None:
        if isinstance(effect, InodeChanged):
            self.service.on_inode_changed(effect)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """In a loop of its own, with a limit."""

    async def limited() -> Result:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(limited())


async def put(master: Master, path: str, content: bytes) -> filestore_pb2.FileInfo:
    """A small file, through the service."""
    lease = await master.service.create(
        filestore_pb2.CreateRequest(path=path, parents=True, visible_at_close=True), call()
    )
    return await master.service.close(
        filestore_pb2.CloseRequest(
            inode=lease.inode, epoch=lease.epoch, inline=content, size_bytes=len(content)
        ),
        call(),
    )


async def until_waiting(master: Master) -> None:
    """Until a reader waits."""
    while not master.service._waiters:
        await asyncio.sleep(0)


def test_every_rpc_of_files_is_served() -> None:
    registry = Registry()
    registry.add("Files", Master().service)
    assert {path.rpartition("/")[2] for path in registry.methods} == set(methods_of("Files"))


def test_names_and_sizes() -> None:
    async def work() -> None:
        master = Master()
        service = master.service
        await put(master, "/logs/a", b"12345")
        info = await service.stat(filestore_pb2.StatRequest(path="/logs//a/"), call())
        assert (info.path, info.size_bytes, info.owner) == ("/logs/a", 5, "someone")
        made = await service.make_directory(
            filestore_pb2.MakeDirectoryRequest(path="/logs/b/c", parents=True), call()
        )
        assert made.kind == filestore_pb2.FILE_KIND_DIRECTORY
        page = await service.list(filestore_pb2.ListRequest(path="/logs"), call())
        assert [entry.path for entry in page.entries] == ["/logs/a", "/logs/b"]
        moved = await service.rename(
            filestore_pb2.RenameRequest(source="/logs", target="/old"), call()
        )
        assert moved.path == "/old"
        usage = await service.disk_usage(filestore_pb2.DiskUsageRequest(path="/"), call())
        assert (usage.files, usage.directories, usage.size_bytes) == (1, 3, 5)
        assert usage.free_bytes == 200 << 30
        gone = await service.remove(
            filestore_pb2.RemoveRequest(path="/old", recursive=True), call()
        )
        assert gone.removed == 4
        with pytest.raises(NotFoundError):
            await service.stat(filestore_pb2.StatRequest(path="/old"), call())

    run(work())


def test_a_chunk_comes_with_a_grant_and_addresses() -> None:
    async def work() -> None:
        master = Master()
        lease = await master.service.create(filestore_pb2.CreateRequest(path="/a"), call())
        grant = await master.service.allocate_chunk(
            filestore_pb2.AllocateChunkRequest(inode=lease.inode, epoch=lease.epoch),
            call("node", "n1"),
        )
        assert [replica.address for replica in grant.chain] == ["n1:2", "n0:2"]
        time_s = master.driver.instant().time_s
        checked = check_grant(KEY, grant.grant, grant.chunk, grant.version, time_s)
        assert checked.epoch == lease.epoch

    run(work())


def test_outputs_of_attempts_are_for_nodes() -> None:
    request = filestore_pb2.CreateRequest(attempt="jjjjjjjj.0.1")
    with pytest.raises(RefusedError):
        run(Master().service.create(request, call()))
    assert run(Master().service.create(request, call("node", "n0"))).inode


def test_a_reader_waits_until_the_file_grows_and_until_it_is_closed() -> None:
    async def work() -> None:
        master = Master()
        service = master.service
        lease = await service.create(filestore_pb2.CreateRequest(path="/a"), call())
        request = filestore_pb2.LocateRequest(path="/a", wait_s=20)
        waiting = asyncio.ensure_future(service.locate(request, call()))
        await until_waiting(master)
        granted = await service.allocate_chunk(
            filestore_pb2.AllocateChunkRequest(inode=lease.inode, epoch=lease.epoch), call()
        )
        layout = await waiting
        assert [(c.sealed, len(c.replicas)) for c in layout.chunks] == [(False, 2)]
        seal = filestore_pb2.SealChunkRequest(
            inode=lease.inode, epoch=lease.epoch, chunk=granted.chunk, length_bytes=100
        )
        await service.seal_chunk(seal, call())
        layout = await service.locate(request, call())
        assert [(c.length_bytes, c.sealed) for c in layout.chunks] == [(100, True)]
        request.offset_bytes = 100
        waiting = asyncio.ensure_future(service.locate(request, call()))
        await until_waiting(master)
        close = filestore_pb2.CloseRequest(inode=lease.inode, epoch=lease.epoch, size_bytes=100)
        await service.close(close, call())
        layout = await waiting
        assert (len(layout.chunks), layout.info.open) == (0, False)
        assert not service._waiters and not service._waiting

    run(work())


def test_waiting_ends_with_the_time_and_with_the_file() -> None:
    async def work() -> None:
        master = Master()
        lease = await master.service.create(filestore_pb2.CreateRequest(path="/a"), call())
        request = filestore_pb2.LocateRequest(inode=lease.inode, wait_s=0.01)
        assert (await master.service.locate(request, call())).info.open
        request.wait_s = 20
        waiting = asyncio.ensure_future(master.service.locate(request, call()))
        await until_waiting(master)
        await master.service.remove(filestore_pb2.RemoveRequest(path="/a"), call())
        with pytest.raises(NotFoundError):
            await waiting
        assert not master.service._waiters

    run(work())


def test_waiting_readers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(service_module, "WAITERS_MAXIMUM", 2)
        master = Master()
        lease = await master.service.create(filestore_pb2.CreateRequest(path="/a"), call())
        request = filestore_pb2.LocateRequest(inode=lease.inode, wait_s=20)
        waiting = [asyncio.ensure_future(master.service.locate(request, call())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError):
            await master.service.locate(request, call())
        for future in waiting:
            future.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not master.service._waiters and not master.service._waiting

    run(work())


def test_the_content_of_a_small_file_comes_with_its_layout() -> None:
    async def work() -> None:
        master = Master()
        await put(master, "/a", b"12345")
        layout = await master.service.locate(filestore_pb2.LocateRequest(path="/a"), call())
        assert layout.inline == b"12345" and not layout.chunks
        with pytest.raises(PerseusError) as caught:
            await master.service.locate(filestore_pb2.LocateRequest(path="/"), call())
        assert caught.value.code == "invalid"

    run(work())


def test_chunk_events_reach_the_replication_and_doctor_names_the_file() -> None:
    async def work() -> None:
        master = Master()
        cluster = master.cluster
        cluster.put("/data/big", (1000,), replicas=1)
        cluster.deliver()
        (chunk,) = cluster.chunks_of("/data/big")
        (holder,) = cluster.copies(chunk)
        assert master.service.findings() == []
        event = agent_pb2.ChunkEvent(corrupt=agent_pb2.CorruptReplica(chunk=chunk, version=1))
        session = cluster.nodes[holder].session
        await master.service.on_chunk_events(holder, session, [event])
        told = master.service.findings()
        assert [finding.severity for finding in told] == ["error", "warning"]
        assert {finding.subject for finding in told} == {"/data/big"}
        assert f"name-{holder}" in told[0].message
        assert told[0].command.startswith("perseus fs cat /data/big > ")

    run(work())


def test_doctor_says_which_node_would_bring_a_chunk_back() -> None:
    master = Master()
    cluster = master.cluster
    cluster.put("/a", replicas=1)
    cluster.deliver()
    (holder,) = cluster.copies(cluster.chunks_of("/a")[0])
    cluster.lose(holder)
    cluster.advance(cluster.settings.replication_delay_s + 1)
    finding = master.service.findings()[0]
    assert (finding.severity, finding.subject) == ("error", "/a")
    assert finding.command.startswith(f"perseus start  # on name-{holder}")


def test_doctor_says_what_a_file_waits_for_whose_writer_is_gone() -> None:
    master = Master()
    cluster = master.cluster
    lease = cluster.open("/a", replicas=1)
    allocation = cluster.allocate(lease)
    cluster.write(allocation, 100)
    cluster.lose(allocation.nodes[0])
    cluster.advance(cluster.settings.write_lease_s)
    (finding,) = master.service.findings()
    assert (finding.severity, finding.subject) == ("error", "/a")
    assert finding.command == f"perseus start  # on name-{allocation.nodes[0]}"
    cluster.connect(cluster.nodes[allocation.nodes[0]])
    cluster.advance(1)
    assert master.service.findings() == []


def test_the_scheduler_learns_where_bytes_are() -> None:
    cluster = Cluster(3)
    cluster.put("/a", (1000, 500))
    locality = FileLocality(cluster.namespace, cluster.replication)
    assert locality.exists("/a") and not locality.exists("/b") and not locality.exists("/")
    sums = locality.bytes_by_node("/a")
    assert sum(sums.values()) == 3000 and set(sums) <= set(cluster.nodes)
    assert locality.bytes_by_node("/b") == {}
    cluster.do(files.Remove("/a", recursive=False))
    assert locality.bytes_by_node("/a") == {}
