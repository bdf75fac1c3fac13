"""The service Files: requests become events, answers wait until they are durable.

Reads answer from memory, behind a barrier: what they tell can no longer be
taken back by a crash. Bind it with ``Registry.add("Files", service)`` and give
InodeChanged effects to ``on_inode_changed``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

from perseus.errors import (
    InternalError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from perseus.filestore import paths, service_layout
from perseus.filestore.grants import GRANT_S, make_grant
from perseus.filestore.namespace import Namespace
from perseus.filestore.namespace_events import (
    Abandon,
    AllocateChunk,
    Allocation,
    Append,
    Barrier,
    Close,
    Create,
    InodeChanged,
    MakeDirectory,
    Remove,
    Rename,
    RenewWriteLease,
    SealChunk,
)
from perseus.filestore.namespace_tree import File, Inode
from perseus.filestore.replication import Replication
from perseus.filestore.replication_events import CheckReplica, ChunkEvents
from perseus.filestore.replication_state import Nodes
from perseus.proto.v1 import agent_pb2, cluster_pb2, filestore_pb2
from perseus.rpc.call import Call
from perseus.runtime.machine import Driver
from perseus.settings import Settings
from perseus.shellwords import as_word

# Locate calls that wait for a change at the same time.
WAITERS_MAXIMUM = 10_000
LOCATE_WAIT_MAXIMUM_S = 60.0
# Of what a writer tells of a link that failed.
FAILURE_MAXIMUM_LENGTH = 300
# The answer leaves this long before the caller's deadline.
DEADLINE_MARGIN_S = 0.5


# The class has a method of that name.
Findings = list[cluster_pb2.Finding]


class Pipe(Protocol):
    """Reading and writing through the daemon; see ``filestore.gateway``."""

    def read(
        self, request: filestore_pb2.ReadRequest, call: Call
    ) -> AsyncIterator[filestore_pb2.ReadPiece]:
        """The bytes of a file."""

    async def write(
        self, requests: AsyncIterator[filestore_pb2.WritePiece], call: Call
    ) -> filestore_pb2.FileInfo:
        """A new file of these bytes."""


class FilesService:
    """Serves Files on the master."""

    def __init__(
        self,
        driver: Driver,
        namespace: Namespace,
        replication: Replication,
        nodes: Nodes,
        settings: Settings,
        grant_key: bytes,
    ) -> None:
        """``namespace`` and ``replication`` are the machines that ``driver`` steps."""
        self._driver = driver
        self._namespace = namespace
        self._replication = replication
        self._nodes = nodes
        self._settings = settings
        self._grant_key = grant_key
        self._waiters: dict[int, set[asyncio.Future[None]]] = {}
        self._waiting = 0
        # Set by the daemon; without it Read and Write are unavailable.
        self.pipe: Pipe | None = None
        # What others know of a path at which nothing is; set by the daemon.
        self.absence: Callable[[str], NotFoundError | None] = lambda path: None

    # Names.

    async def stat(self, request: filestore_pb2.StatRequest, call: Call) -> filestore_pb2.FileInfo:
        """Files.Stat."""
        with self._telling_absence(request.path):
            info = self._namespace.info(self._namespace.inode_at(request.path))
        await self._driver.do(Barrier())
        return info

    async def list(
        self, request: filestore_pb2.ListRequest, call: Call
    ) -> filestore_pb2.ListResponse:
        """Files.List."""
        with self._telling_absence(request.path):
            page = self._namespace.listing(request.path, request.after, request.limit)
        await self._driver.do(Barrier())
        return page

    async def make_directory(
        self, request: filestore_pb2.MakeDirectoryRequest, call: Call
    ) -> filestore_pb2.FileInfo:
        """Files.MakeDirectory."""
        event = MakeDirectory(request.path, request.parents, call.caller.name)
        return cast(filestore_pb2.FileInfo, await self._driver.do(event))

    async def rename(
        self, request: filestore_pb2.RenameRequest, call: Call
    ) -> filestore_pb2.FileInfo:
        """Files.Rename."""
        event = Rename(request.source, request.target, request.replace)
        return cast(filestore_pb2.FileInfo, await self._driver.do(event))

    async def remove(
        self, request: filestore_pb2.RemoveRequest, call: Call
    ) -> filestore_pb2.RemoveResponse:
        """Files.Remove."""
        removed = await self._driver.do(Remove(request.path, request.recursive))
        return filestore_pb2.RemoveResponse(removed=removed)

    async def disk_usage(
        self, request: filestore_pb2.DiskUsageRequest, call: Call
    ) -> filestore_pb2.DiskUsageResponse:
        """Files.DiskUsage."""
        totals = self._namespace.totals(request.path)
        below = paths.normalise(request.path)
        answer = filestore_pb2.DiskUsageResponse(
            files=totals.files,
            directories=totals.directories,
            size_bytes=totals.size_bytes,
            replica_bytes=totals.replica_bytes,
            chunks=totals.chunks,
            chunks_under_replicated=self._count(self._replication.under_replicated, below),
            chunks_lost=self._count(self._replication.lost, below),
        )
        for node in self._nodes.nodes():
            if node.alive:
                answer.capacity_bytes += node.capacity.disk_bytes
                answer.free_bytes += node.load.disk_free_bytes
        await self._driver.do(Barrier())
        return answer

    def _count(self, chunks: Iterable[int], below: str) -> int:
        if below == paths.ROOT:
            return len(list(chunks))
        places = (self._namespace.path_of(self._replication.inode_of(chunk)) for chunk in chunks)
        return sum(place == below or place.startswith(below + "/") for place in places)

    @contextmanager
    def _telling_absence(self, path: str) -> Iterator[None]:
        """That nothing is at ``path`` is told with what others know of it."""
        try:
            yield
        except NotFoundError:
            absent = self.absence(path)
            if absent is None:
                raise
            raise absent from None

    # Writers.

    async def create(
        self, request: filestore_pb2.CreateRequest, call: Call
    ) -> filestore_pb2.WriteLease:
        """Files.Create."""
        if request.attempt and call.caller.kind != "node":
            raise RefusedError(f"{call.caller} is not a node and cannot write outputs of attempts")
        event = Create(
            path=request.path,
            owner=call.caller.name,
            replace=request.replace,
            visible_at_close=request.visible_at_close,
            replicas=request.replicas,
            parents=request.parents,
            attempt=request.attempt,
            stderr=request.stderr,
        )
        return cast(filestore_pb2.WriteLease, await self._driver.do(event))

    async def append(
        self, request: filestore_pb2.AppendRequest, call: Call
    ) -> filestore_pb2.WriteLease:
        """Files.Append."""
        event = Append(request.path, call.caller.name, request.create, request.parents)
        return cast(filestore_pb2.WriteLease, await self._driver.do(event))

    async def allocate_chunk(
        self, request: filestore_pb2.AllocateChunkRequest, call: Call
    ) -> filestore_pb2.ChunkGrant:
        """Files.AllocateChunk."""
        event = AllocateChunk(
            inode=request.inode,
            epoch=request.epoch,
            near_node=request.near_node or call.caller.node_id or call.caller.via_node_id,
            avoid_nodes=tuple(request.avoid_nodes),
        )
        allocation = cast(Allocation, await self._driver.do(event))
        expires_at_s = self._driver.instant().time_s + GRANT_S
        return filestore_pb2.ChunkGrant(
            chunk=allocation.chunk,
            version=allocation.version,
            chain=service_layout.locations(self._nodes, allocation.nodes),
            grant=make_grant(
                self._grant_key, allocation.chunk, allocation.version, request.epoch, expires_at_s
            ),
            offset_bytes=allocation.offset_bytes,
        )

    async def seal_chunk(
        self, request: filestore_pb2.SealChunkRequest, call: Call
    ) -> filestore_pb2.SealChunkResponse:
        """Files.SealChunk."""
        event = SealChunk(
            inode=request.inode,
            epoch=request.epoch,
            chunk=request.chunk,
            length_bytes=request.length_bytes,
            failed_nodes=tuple(request.failed_nodes),
            failed_by=request.failed_by,
            failure=request.failure[:FAILURE_MAXIMUM_LENGTH],
        )
        await self._driver.do(event)
        return filestore_pb2.SealChunkResponse()

    async def renew_write_lease(
        self, request: filestore_pb2.RenewWriteLeaseRequest, call: Call
    ) -> filestore_pb2.RenewWriteLeaseResponse:
        """Files.RenewWriteLease."""
        lease_s = await self._driver.do(RenewWriteLease(request.inode, request.epoch))
        return filestore_pb2.RenewWriteLeaseResponse(lease_s=lease_s)

    async def close(
        self, request: filestore_pb2.CloseRequest, call: Call
    ) -> filestore_pb2.FileInfo:
        """Files.Close."""
        event = Close(
            inode=request.inode,
            epoch=request.epoch,
            inline=request.inline,
            size_bytes=request.size_bytes,
            checksum=request.checksum if request.has_checksum else None,
        )
        return cast(filestore_pb2.FileInfo, await self._driver.do(event))

    async def abandon(
        self, request: filestore_pb2.AbandonRequest, call: Call
    ) -> filestore_pb2.AbandonResponse:
        """Files.Abandon."""
        await self._driver.do(Abandon(request.inode, request.epoch))
        return filestore_pb2.AbandonResponse()

    # Readers.

    async def locate(
        self, request: filestore_pb2.LocateRequest, call: Call
    ) -> filestore_pb2.Layout:
        """Files.Locate; waits for a change when asked to."""
        file = self._file(request)
        if request.wait_s > 0 and not _has_more(file, request.offset_bytes):
            left_s = call.remaining_s()
            limit_s = min(request.wait_s, LOCATE_WAIT_MAXIMUM_S)
            if left_s is not None:
                limit_s = min(limit_s, left_s - DEADLINE_MARGIN_S)
            await self._wait_for_more(file, request.offset_bytes, limit_s)
            # By its id, for it may have been renamed meanwhile.
            file = self._file(filestore_pb2.LocateRequest(inode=file.id))
        answer = service_layout.layout(
            self._namespace, self._replication, self._nodes, file, request.offset_bytes
        )
        await self._driver.do(Barrier())
        return answer

    def _file(self, request: filestore_pb2.LocateRequest) -> File:
        inode: Inode | None
        if request.inode:
            inode = self._namespace.file_by_id(request.inode)
        else:
            with self._telling_absence(request.path):
                inode = self._namespace.inode_at(request.path)
        if not isinstance(inode, File):
            raise InvalidError(
                f"{paths.normalise(request.path)} is a folder",
                hint=f"perseus fs ls {as_word(paths.normalise(request.path))}",
            )
        return inode

    async def _wait_for_more(self, file: File, offset_bytes: int, limit_s: float) -> None:
        if self._waiting >= WAITERS_MAXIMUM:
            raise UnavailableError(
                f"{WAITERS_MAXIMUM} readers wait for files to grow, the most the master serves"
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                while self._namespace.file(file.id) and not _has_more(file, offset_bytes):
                    await self._change_of(file.id)
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    async def _change_of(self, inode: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(inode, set())
        waiters.add(future)
        try:
            await future
        finally:
            waiters.discard(future)
            if not waiters and self._waiters.get(inode) is waiters:
                del self._waiters[inode]

    def on_inode_changed(self, effect: InodeChanged) -> None:
        """Wakes those who wait for that file; a delivered effect, so it is durable."""
        for future in self._waiters.pop(effect.inode, ()):
            if not future.done():
                future.set_result(None)

    async def report_replica(
        self, request: filestore_pb2.ReportReplicaRequest, call: Call
    ) -> filestore_pb2.ReportReplicaResponse:
        """Files.ReportReplica."""
        await self._driver.do(CheckReplica(request.chunk, request.node_id, request.message))
        return filestore_pb2.ReportReplicaResponse()

    async def read(
        self, request: filestore_pb2.ReadRequest, call: Call
    ) -> AsyncIterator[filestore_pb2.ReadPiece]:
        """Files.Read."""
        with self._telling_absence(request.path):
            async for piece in self._pipe().read(request, call):
                yield piece

    async def write(
        self, requests: AsyncIterator[filestore_pb2.WritePiece], call: Call
    ) -> filestore_pb2.FileInfo:
        """Files.Write."""
        return await self._pipe().write(requests, call)

    def _pipe(self) -> Pipe:
        if self.pipe is None:
            raise InternalError("this master was built without a gateway for bytes")
        return self.pipe

    # For the rest of the daemon.

    async def on_chunk_events(
        self, node_id: str, session: int, events: Sequence[agent_pb2.ChunkEvent]
    ) -> None:
        """What a node's agent tells of its replicas."""
        await self._driver.do(ChunkEvents(node_id, session, tuple(events)))

    def findings(self) -> Findings:
        """What is wrong with files and replicas, for doctor."""
        return service_layout.findings(
            self._namespace, self._replication, self._nodes, self._settings.disk_reserve_bytes
        )


def _has_more(file: File, offset_bytes: int) -> bool:
    """Whether there is something to read past ``offset_bytes``, or never will be."""
    writer = file.writer
    return writer is None or file.size_bytes > offset_bytes or bool(writer.chunk)
