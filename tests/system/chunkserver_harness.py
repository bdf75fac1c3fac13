"""Real chunkservers, each a process with a certificate of its own, and a small master side.

``SmallMaster`` answers the service Files for these tests alone: names and chunks
in memory, chains over all nodes that are not avoided.
"""

import asyncio
import itertools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from perseus.errors import (
    AlreadyExistsError,
    ConflictError,
    LeaseLostError,
    NotFoundError,
    PerseusError,
    UnavailableError,
)
from perseus.filestore.client import FilestoreClient
from perseus.filestore.client_channels import abort
from perseus.filestore.control import ChunkserverControl
from perseus.filestore.grants import make_grant
from perseus.identity import roles
from perseus.identity.authority import Authority
from perseus.identity.files import Identity, new_key_and_request
from perseus.identity.subject import Subject
from perseus.proto.v1 import agent_pb2, filestore_pb2
from perseus.rpc import services

LIMIT_S = 60.0
CLUSTER = "test-cluster"
Result = TypeVar("Result")


def make_identity(authority: Authority, folder: Path, subject: Subject) -> Identity:
    key, request = new_key_and_request(subject.name)
    certificate = authority.sign(request, subject, 86400.0, time.time())
    identity = Identity.of(folder, authority.ca_pem, certificate, key)
    identity.save()
    return identity


@dataclass
class Chunk:
    number: int
    version: int
    offset: int
    nodes: list[str]
    length: int = 0
    sealed: bool = False
    checksum: int = 0


@dataclass
class File:
    inode: int
    path: str
    epoch: int = 1
    open: bool = True
    inline: bytes = b""
    chunks: list[Chunk] = field(default_factory=list)
    info: filestore_pb2.CloseRequest | None = None

    @property
    def size(self) -> int:
        return len(self.inline) or sum(chunk.length for chunk in self.chunks)


class SmallMaster:
    """The service Files in memory; ``__call__`` is a FilesCall."""

    def __init__(self) -> None:
        self.grant_key = secrets.token_bytes(32)
        self.nodes: dict[str, str] = {}
        self.files: dict[int, File] = {}
        self.paths: dict[str, int] = {}
        self.attempts: dict[tuple[str, bool], int] = {}
        self.reports: list[filestore_pb2.ReportReplicaRequest] = []
        self.seals: list[filestore_pb2.SealChunkRequest] = []
        self.replicas = 2
        # Calls of these methods fail as if the master were away.
        self.away: set[str] = set()
        self.calls: list[str] = []
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def forget(self) -> None:
        for kept in (self.files, self.paths, self.attempts, self.reports, self.seals, self.calls):
            kept.clear()

    def __call__(self, method: str, request: Any, timeout_s: float) -> Any:
        name = services.methods_of("Files")[method].python_name
        with self._lock:
            self.calls.append(method)
            if method in self.away:
                raise UnavailableError("the master is away")
            answer = getattr(self, name)(request)
            self._changed.notify_all()
            return answer

    def create(self, request: filestore_pb2.CreateRequest) -> filestore_pb2.WriteLease:
        if request.path in self.paths and not request.replace:
            raise AlreadyExistsError(f"{request.path} exists")
        file = File(next(self._numbers), request.path)
        self.files[file.inode] = file
        if request.attempt:
            self.attempts[request.attempt, request.stderr] = file.inode
        elif not request.visible_at_close:
            self.paths[request.path] = file.inode
        return self._lease(file)

    def append(self, request: filestore_pb2.AppendRequest) -> filestore_pb2.WriteLease:
        if request.path not in self.paths:
            return self.create(filestore_pb2.CreateRequest(path=request.path))
        file = self.files[self.paths[request.path]]
        if file.open:
            raise ConflictError("it has a writer")
        file.open = True
        file.epoch += 1
        return self._lease(file)

    def _lease(self, file: File) -> filestore_pb2.WriteLease:
        return filestore_pb2.WriteLease(
            inode=file.inode,
            epoch=file.epoch,
            lease_s=30,
            size_bytes=file.size,
            inline=file.inline,
            replicas=self.replicas,
        )

    def _file(self, inode: int, epoch: int) -> File:
        file = self.files.get(inode)
        if file is None or file.epoch != epoch or not file.open:
            raise LeaseLostError(f"the lease of inode {inode} is over")
        return file

    def allocate_chunk(
        self, request: filestore_pb2.AllocateChunkRequest
    ) -> filestore_pb2.ChunkGrant:
        file = self._file(request.inode, request.epoch)
        nodes = [node for node in self.nodes if node not in request.avoid_nodes]
        nodes.sort(key=lambda node: (node != request.near_node, node))
        if not nodes:
            raise UnavailableError("no node has room")
        number = secrets.randbits(63)
        chunk = Chunk(number, 1, sum(c.length for c in file.chunks), nodes[: self.replicas])
        file.chunks.append(chunk)
        file.inline = b""
        expiry_s = time.time() + 600
        return filestore_pb2.ChunkGrant(
            chunk=number,
            version=1,
            chain=[self._location(node) for node in chunk.nodes],
            grant=make_grant(self.grant_key, number, 1, file.epoch, expiry_s),
            offset_bytes=chunk.offset,
        )

    def seal_chunk(
        self, request: filestore_pb2.SealChunkRequest
    ) -> filestore_pb2.SealChunkResponse:
        file = self._file(request.inode, request.epoch)
        self.seals.append(request)
        for chunk in file.chunks:
            if chunk.number == request.chunk:
                chunk.length = request.length_bytes
                chunk.checksum = request.checksum
                chunk.sealed = True
                chunk.nodes = [n for n in chunk.nodes if n not in request.failed_nodes]
        return filestore_pb2.SealChunkResponse()

    def renew_write_lease(
        self, request: filestore_pb2.RenewWriteLeaseRequest
    ) -> filestore_pb2.RenewWriteLeaseResponse:
        self._file(request.inode, request.epoch)
        return filestore_pb2.RenewWriteLeaseResponse(lease_s=30)

    def close(self, request: filestore_pb2.CloseRequest) -> filestore_pb2.FileInfo:
        file = self._file(request.inode, request.epoch)
        file.inline = request.inline
        file.open = False
        file.info = request
        assert file.size == request.size_bytes
        if file.path:
            self.paths[file.path] = file.inode
        return self._info(file)

    def abandon(self, request: filestore_pb2.AbandonRequest) -> filestore_pb2.AbandonResponse:
        file = self._file(request.inode, request.epoch)
        file.open = False
        return filestore_pb2.AbandonResponse()

    def locate(self, request: filestore_pb2.LocateRequest) -> filestore_pb2.Layout:
        inode = request.inode or self.paths.get(request.path, 0)
        if inode not in self.files:
            raise NotFoundError(f"there is no {request.path}")
        file = self.files[inode]

        def known() -> bool:
            return bool(self._after(file, request.offset_bytes)) or not file.open

        self._changed.wait_for(known, request.wait_s)
        layout = filestore_pb2.Layout(info=self._info(file), inline=file.inline)
        for chunk in self._after(file, request.offset_bytes):
            layout.chunks.add(
                chunk=chunk.number,
                version=chunk.version,
                offset_bytes=chunk.offset,
                length_bytes=chunk.length,
                sealed=chunk.sealed,
                replicas=[self._location(node) for node in chunk.nodes],
            )
        return layout

    def _after(self, file: File, offset: int) -> list[Chunk]:
        return [c for c in file.chunks if not c.sealed or c.offset + c.length > offset]

    def report_replica(
        self, request: filestore_pb2.ReportReplicaRequest
    ) -> filestore_pb2.ReportReplicaResponse:
        self.reports.append(request)
        return filestore_pb2.ReportReplicaResponse()

    def _location(self, node: str) -> filestore_pb2.ReplicaLocation:
        return filestore_pb2.ReplicaLocation(node_id=node, node_name=node, address=self.nodes[node])

    def _info(self, file: File) -> filestore_pb2.FileInfo:
        closed = file.info or filestore_pb2.CloseRequest()
        return filestore_pb2.FileInfo(
            path=file.path,
            inode=file.inode,
            size_bytes=file.size,
            open=file.open,
            checksum=closed.checksum,
            has_checksum=closed.has_checksum,
        )


def serve(master: SmallMaster, identity: Identity) -> tuple[Any, str]:
    """The master over gRPC and mutual TLS, for the movers."""

    def handler(name: str, kind: services.MethodType) -> Any:
        def handle(request: Any, context: Any) -> Any:
            try:
                return master(name, request, 10.0)
            except PerseusError as error:
                abort(context, error)

        return grpc.unary_unary_rpc_method_handler(
            handle, kind.request_class.FromString, kind.response_class.SerializeToString
        )

    server = grpc.server(futures.ThreadPoolExecutor(32))
    kinds = services.methods_of("Files").items()
    handlers = {n: handler(n, k) for n, k in kinds if not k.client_streaming}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("perseus.v1.Files", handlers),)
    )
    pair = (identity.key_pem, identity.certificate_pem)
    credentials = grpc.ssl_server_credentials([pair], identity.ca_pem, True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    return server, f"127.0.0.1:{port}"


class Node:
    """One chunkserver process and the agent's handle on it."""

    def __init__(self, cluster: "Cluster", name: str, folder: Path, reserve_bytes: int) -> None:
        self.cluster = cluster
        self.name = name
        self.folder = folder
        self.events: list[agent_pb2.ChunkEvent] = []
        self._changed = threading.Condition()
        self._port = 0
        self._reserve_bytes = reserve_bytes
        self.scrub_interval_s = 86400.0
        self.process: subprocess.Popen[bytes] | None = None
        subject = Subject("node", name, roles.NODE, name)
        make_identity(cluster.authority, folder / "identity", subject)
        self.control = ChunkserverControl(self._take_events)

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        config = {
            "chunks": str(self.folder / "chunks"),
            "identity": str(self.folder / "identity"),
            "cluster_id": CLUSTER,
            "node_id": self.name,
            "listen": f"127.0.0.1:{self._port}",
            "advertise_host": "127.0.0.1",
            "master_address": self.cluster.master_address,
            "disk_reserve_bytes": self._reserve_bytes,
            "scrub_interval_s": self.scrub_interval_s,
        }
        module = "perseus.filestore.chunkserver"
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), json.dumps(config)],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        theirs.close()
        address = self.cluster.wait(self._attach(ours))
        self._port = int(address.rpartition(":")[2])
        self.cluster.master.nodes[self.name] = address

    async def _attach(self, ours: socket.socket) -> str:
        self.control.attach(ours)
        await self.control.set_grant_key(self.cluster.master.grant_key)
        return await self.control.ready()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(LIMIT_S)

    def stop(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        self.cluster.wait(self.control.close())
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def wait_event(self, kind: str) -> agent_pb2.ChunkEvent:
        def find() -> agent_pb2.ChunkEvent | None:
            return next((e for e in self.events if e.WhichOneof("what") == kind), None)

        with self._changed:
            found = self._changed.wait_for(find, LIMIT_S)
        assert found is not None, f"no event {kind}, only {self.events}"
        self.events.remove(found)
        return found

    def reports(self) -> dict[int, agent_pb2.ReplicaReport]:
        return {r.chunk: r for r in self.cluster.wait(self.control.reports())}

    def data_file(self, chunk: int) -> Path:
        name = f"{chunk:016x}"
        return self.folder / "chunks" / name[-2:] / f"{name}.data"

    def _take_events(self, events: list[agent_pb2.ChunkEvent]) -> None:
        with self._changed:
            self.events += events
            self._changed.notify_all()


class Cluster:
    """Chunkservers, a master side and a client."""

    def __init__(self, folder: Path, count: int, reserve_bytes: int = 0) -> None:
        self.authority = Authority.create(CLUSTER, time.time())
        self.master = SmallMaster()
        subject = Subject("node", "master", roles.NODE, "master", True)
        identity = make_identity(self.authority, folder / "master", subject)
        self._server, self.master_address = serve(self.master, identity)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.folder = folder
        names = [f"n{number}" for number in range(count)]
        self.nodes = [Node(self, name, folder / name, reserve_bytes) for name in names]
        self.client = self.make_client("user")

    def make_client(self, role: str, near: str = "n0") -> FilestoreClient:
        subject = Subject("user", f"a-{role}", roles.parse(role))
        identity = make_identity(self.authority, self.folder / role, subject)
        return FilestoreClient(self.master, identity, CLUSTER, near_node=near)

    def wait(self, work: Awaitable[Result]) -> Result:
        async def run() -> Result:
            return await asyncio.wait_for(work, LIMIT_S)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(LIMIT_S + 5)

    def reset(self) -> None:
        """As new: no files, no replicas, nothing remembered."""
        self.master.forget()
        for node in self.nodes:
            # A write that was broken off may make its replica as late as this.
            until(lambda: self._delete_all(node), "all replicas are deleted")  # noqa: B023
            node.events.clear()

    def _delete_all(self, node: Node) -> bool:
        chunks = node.reports()
        for chunk in chunks:
            delete = agent_pb2.DeleteChunk(chunk=chunk, below_version=1 << 60)
            self.wait(node.control.directive(agent_pb2.Directive(delete=delete)))
        return not chunks

    def stop(self) -> None:
        self.client.close()
        for node in self.nodes:
            node.stop()
        self._server.stop(0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT_S)
        self._loop.close()


@contextmanager
def cluster(folder: Path, count: int = 2, reserve_bytes: int = 0) -> Iterator[Cluster]:
    made = Cluster(folder, count, reserve_bytes)
    try:
        for node in made.nodes:
            node.start()
        yield made
    finally:
        made.stop()


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for something that tells nobody when it happens."""
    limit_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit_s, f"never came true: {what}"
        time.sleep(0.02)
