"""The bytes of files through the master: for JSON speakers, and for Jobs.Follow.

Content that lies inline is answered from memory. Other bytes go through the
data side's synchronous client, each stream in a thread of its own while it
works, at most STREAMS_MAXIMUM at once; the client's calls of the service Files
come back into the master's event loop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from crc32c import crc32c

from perseus.errors import InvalidError, PerseusError, UnavailableError
from perseus.filestore import paths
from perseus.filestore.client import FilestoreClient
from perseus.filestore.client_channels import Channels
from perseus.filestore.namespace import Namespace
from perseus.filestore.namespace_tree import File
from perseus.filestore.writer import FileWriter
from perseus.identity import roles
from perseus.identity.files import Identity
from perseus.proto.v1 import filestore_pb2
from perseus.rpc.call import Call, Caller
from perseus.rpc.services import methods_of
from perseus.settings import INLINE_MAXIMUM_BYTES
from perseus.shellwords import as_word

# Streams that move bytes at the same time; each may hold a thread.
STREAMS_MAXIMUM = 32

Result = TypeVar("Result")


class FilesHandlers(Protocol):
    """The service Files, whose methods have the names of its RPCs in snake case."""

    async def create(
        self, request: filestore_pb2.CreateRequest, call: Call
    ) -> filestore_pb2.WriteLease: ...
    async def close(
        self, request: filestore_pb2.CloseRequest, call: Call
    ) -> filestore_pb2.FileInfo: ...


class Gateway:
    """Reads and writes files in the master's process; ``FilesService.pipe`` is one."""

    def __init__(
        self,
        service: FilesHandlers,
        namespace: Namespace,
        identity: Identity,
        cluster_id: str,
        near_node: str = "",
    ) -> None:
        """``near_node`` is the master's own node: reads prefer its chunkserver, and so does
        what is written by those who call the master itself."""
        self._service = service
        self._namespace = namespace
        self._identity = identity
        self._cluster_id = cluster_id
        self._near_node = near_node
        self._names = {name: kind.python_name for name, kind in methods_of("Files").items()}
        # Made with the first stream: they cost threads and memory.
        self._channels: Channels | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._streams = 0

    def use_identity(self, identity: Identity) -> None:
        """New connections show this certificate."""
        self._identity = identity
        if self._channels is not None:
            self._channels.use_identity(identity)

    def close(self) -> None:
        """Ends all streams' connections."""
        if self._channels is not None:
            self._channels.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def read(
        self, request: filestore_pb2.ReadRequest, call: Call
    ) -> AsyncIterator[filestore_pb2.ReadPiece]:
        """Files.Read."""
        position = request.offset_bytes
        pieces = self.read_file(
            request.path, request.offset_bytes, request.length_bytes, request.follow
        )
        async for data in pieces:
            yield filestore_pb2.ReadPiece(data=data, offset_bytes=position)
            position += len(data)

    async def read_file(
        self, inode_or_path: int | str, offset: int = 0, length: int = 0, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """The bytes of a file from ``offset`` on, ``length`` of them (0: to the end), in
        pieces of at most 1 MiB. ``follow`` goes on until its writer closes it.

        Raises NotFoundError, InvalidError, UnavailableError or CorruptError.
        """
        file = self._find(inode_or_path)
        if file.writer is None and not file.parts:
            end = offset + length if length else None
            if piece := file.inline[offset:end]:
                yield piece
            return
        async with self._stream() as threads:
            client = self._client(_INTERNAL)
            pieces: Iterator[bytes] = await _in_thread(
                threads,
                lambda: client.open_read(
                    inode=file.id, offset=offset, length=length, follow=follow
                ),
            )
            try:
                while (piece := await _in_thread(threads, lambda: next(pieces, b""))) != b"":
                    yield piece
            finally:
                # After a cancellation a thread may still be at work in it.
                threads.submit(_close_when_free, pieces)

    def _find(self, inode_or_path: int | str) -> File:
        if isinstance(inode_or_path, int):
            return self._namespace.file_by_id(inode_or_path)
        inode = self._namespace.inode_at(inode_or_path)
        if not isinstance(inode, File):
            path = paths.normalise(inode_or_path)
            raise InvalidError(f"{path} is a folder", hint=f"perseus fs ls {as_word(path)}")
        return inode

    async def write(
        self, requests: AsyncIterator[filestore_pb2.WritePiece], call: Call
    ) -> filestore_pb2.FileInfo:
        """Files.Write."""
        first = await anext(aiter(requests), None)
        if first is None or not first.path:
            raise InvalidError(
                "the first message of Write names no path", hint='begin with {"path": "/NAME"}'
            )
        content = first.data
        if not first.append and not first.visible:
            async for piece in requests:
                content += piece.data
                if len(content) > INLINE_MAXIMUM_BYTES:
                    break
            else:
                return await self._write_inline(first, content, call)
        return await self._write_chunks(first, content, requests, call)

    async def _write_inline(
        self, first: filestore_pb2.WritePiece, content: bytes, call: Call
    ) -> filestore_pb2.FileInfo:
        request = filestore_pb2.CreateRequest(
            path=first.path,
            replace=first.replace,
            visible_at_close=True,
            replicas=first.replicas,
            parents=first.parents,
        )
        lease = await self._service.create(request, call)
        ending = filestore_pb2.CloseRequest(
            inode=lease.inode,
            epoch=lease.epoch,
            inline=content,
            size_bytes=len(content),
            checksum=crc32c(content),
            has_checksum=True,
        )
        return await self._service.close(ending, call)

    async def _write_chunks(
        self,
        first: filestore_pb2.WritePiece,
        content: bytes,
        requests: AsyncIterator[filestore_pb2.WritePiece],
        call: Call,
    ) -> filestore_pb2.FileInfo:
        async with self._stream() as threads:
            client = self._client(call)
            writer = await _in_thread(threads, lambda: _open_writer(client, first))
            whole = False
            try:
                await _in_thread(threads, lambda: writer.write(content))
                async for piece in requests:
                    await _in_thread(threads, partial(writer.write, piece.data))
                info = await _in_thread(threads, writer.close)
                whole = True
                return info
            finally:
                if not whole:
                    threads.submit(writer.abandon)

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[ThreadPoolExecutor]:
        """A place among the streams; raises UnavailableError when all are taken."""
        if self._streams >= STREAMS_MAXIMUM:
            raise UnavailableError(
                f"{STREAMS_MAXIMUM} streams go through the master now, the most it serves",
                hint="try again, or read and write with perseus fs, which goes to the nodes",
            )
        if self._threads is None:
            self._threads = ThreadPoolExecutor(STREAMS_MAXIMUM, thread_name_prefix="gateway")
        self._streams += 1
        try:
            yield self._threads
        finally:
            self._streams -= 1

    def _client(self, call: Call) -> FilestoreClient:
        if self._channels is None:
            self._channels = Channels(self._identity, self._cluster_id)
        return FilestoreClient(
            self._caller(asyncio.get_running_loop(), call),
            self._identity,
            self._cluster_id,
            near_node=call.caller.via_node_id or self._near_node,
            channels=self._channels,
        )

    def _caller(self, loop: asyncio.AbstractEventLoop, call: Call) -> Any:
        """Calls of Files from a thread, carried out in the event loop for ``call``'s caller."""

        def files_call(method: str, request: Any, timeout_s: float) -> Any:
            handler = getattr(self._service, self._names[method])
            future = asyncio.run_coroutine_threadsafe(handler(request, call), loop)
            try:
                return future.result(timeout_s)
            except FutureTimeoutError:
                future.cancel()
                raise UnavailableError(
                    f"the master took more than {timeout_s:.0f} s for {method}",
                    maybe_done=True,
                    hint="see whether its disk is slow: perseus doctor",
                ) from None

        return files_call


# Reads on behalf of those whom another RPC has let in already.
_INTERNAL = Call(Caller("master", roles.VIEWER, "local"), "/perseus.v1.Files/Read")


def _open_writer(client: FilestoreClient, first: filestore_pb2.WritePiece) -> FileWriter:
    return client.open_write(
        first.path,
        replace=first.replace,
        append=first.append,
        parents=first.parents,
        replicas=first.replicas,
        visible=first.visible,
    )


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def _close_when_free(pieces: Any) -> None:
    """Ends a generator; one that is still being advanced ends by itself, unreferenced."""
    with suppress(ValueError, PerseusError):
        pieces.close()
