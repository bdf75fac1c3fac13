"""Many bytes at once: straight to the chunkservers, and writers of unknown length.

gRPC is imported here alone, and only when a file is big: control needs the
standard library alone. Without a user certificate everything goes through the
daemon.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from perseus.errors import PerseusError, UnavailableError

if TYPE_CHECKING:
    from perseus.client.files import Files
    from perseus.client.transport import Transport
    from perseus.filestore.client import FilestoreClient

# What a File keeps in memory before it knows that it is big.
SMALL_BYTES = 4 << 20
# Pieces on their way to the daemon, at most 1 MiB each.
QUEUE_PIECES = 4
PIECE_BYTES = 1 << 20


class Bulk:
    """The direct way, opened at first use. Safe for threads as FilestoreClient is."""

    def __init__(self, transport: "Transport") -> None:
        self._client: FilestoreClient = _filestore_client(transport)

    def read(self, path: str, offset: int, length: int, follow: bool) -> Iterator[bytes]:
        """The bytes of a file in pieces; ``length`` 0 means to the end."""
        return self._client.open_read(path=path, offset=offset, length=length, follow=follow)

    def write(self, path: str, pieces: Iterable[bytes], options: dict[str, Any]) -> None:
        """A file from pieces; when they raise, one that was not visible does not appear."""
        with self._client.open_write(path, **options) as writer:
            for piece in pieces:
                if piece:
                    writer.write(piece)
            writer.close()

    def open_write(self, path: str, options: dict[str, Any]) -> Any:
        """A FileWriter: write, flush, close, abandon."""
        return self._client.open_write(path, **options)

    def get(self, path: str, target: str, progress: Callable[[int, int], None] | None) -> int:
        """Copies a file to a local one, which appears whole, its checksum verified; its size."""
        return int(self._client.get_file(path, target, progress=progress).size_bytes)

    def close(self) -> None:
        """Ends the connections to chunkservers."""
        self._client.close()


def _filestore_client(transport: "Transport") -> "FilestoreClient":
    # gRPC would write a line for each handshake that fails; what it means is said once by us.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from google.protobuf import json_format

    from perseus.client.transport import identity_of
    from perseus.filestore.client import FilestoreClient
    from perseus.proto.v1 import filestore_pb2

    methods = filestore_pb2.DESCRIPTOR.services_by_name["Files"].methods_by_name

    def files_call(method: str, request: Any, timeout_s: float) -> Any:
        asked = json_format.MessageToDict(request, preserving_proto_field_name=True)
        answer = transport.call(f"Files/{method}", asked, timeout_s=timeout_s)
        kind = getattr(filestore_pb2, methods[method].output_type.name)
        return json_format.ParseDict(answer, kind(), ignore_unknown_fields=True)

    context = transport.context
    identity = identity_of(context)
    if identity.needs_renewal(time.time()) and transport.renew():
        identity = identity_of(context)
    # Else every chunkserver would be tried before it shows that this clock is off.
    identity.check_time(time.time())
    near = transport.call("Cluster/GetInfo", {}).get("node_name", "") if transport.is_near else ""
    return FilestoreClient(files_call, identity, context.cluster_id, near_node=near)


class Writer:
    """Takes bytes as a program writes them; decides by their number which way they go.

    Up to SMALL_BYTES stay in memory until ``close`` or ``flush``; more go to the chunkservers,
    or to the daemon by a thread with a bounded queue.
    """

    def __init__(self, files: "Files", path: str, kind: str) -> None:
        """``kind`` is w (replace), x (new) or a (append)."""
        self._files = files
        self._path = path
        self._options = {"replace": kind == "w", "append": kind == "a"}
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._big: Any = None

    def write(self, content: bytes) -> int:
        """Takes all of it; waits while too much is on its way."""
        if self._big is not None:
            self._big.write(content)
            return len(content)
        self._pending.append(content)
        self._pending_bytes += len(content)
        if self._pending_bytes > SMALL_BYTES:
            self._grow()
        return len(content)

    def flush(self) -> None:
        """Sends what is pending, which begins the file's writing if nothing has."""
        if self._big is None and self._pending:
            self._grow()
        if self._big is not None:
            self._big.flush()

    def close(self) -> None:
        """The file is whole when it returns."""
        if self._big is not None:
            self._big.close()
        else:
            self._files.write_stream(self._path, iter(self._pending), **self._options)

    def abandon(self) -> None:
        """A new or replaced file does not appear."""
        self._pending.clear()
        if self._big is not None:
            self._big.abandon()

    def _grow(self) -> None:
        if self._files.has_direct_way:
            self._big = self._files.direct_writer(self._path, self._options)
        else:
            self._big = _ThreadWriter(self._files, self._path, self._options)
        pending, self._pending = self._pending, []
        for piece in pending:
            self._big.write(piece)


class _AbandonedError(Exception):
    """Ends an upload so that nothing of it appears."""


class _ThreadWriter:
    """An upload through the daemon, fed from a queue."""

    def __init__(self, files: "Files", path: str, options: dict[str, Any]) -> None:
        self._queue: queue.Queue[bytes | _AbandonedError | None] = queue.Queue(QUEUE_PIECES)
        self._failure: PerseusError | None = None
        self._done = threading.Event()
        self._files, self._path, self._options = files, path, options
        self._thread = threading.Thread(target=self._run, name="perseus-write", daemon=True)
        self._thread.start()

    def write(self, content: bytes) -> None:
        """Queues it in pieces; raises what the upload raised."""
        view = memoryview(content)
        for start in range(0, len(view), PIECE_BYTES):
            self._put(bytes(view[start : start + PIECE_BYTES]))

    def flush(self) -> None:
        """Returns when the daemon's connection has taken all, or raises what the upload raised."""
        with self._queue.all_tasks_done:
            while self._queue.unfinished_tasks and not self._done.is_set():
                self._queue.all_tasks_done.wait(0.1)
        if self._done.is_set():
            self._check()

    def close(self) -> None:
        """Ends the upload well."""
        self._put(None)
        self._thread.join()
        self._check()

    def abandon(self) -> None:
        """Breaks the upload off."""
        if not self._done.is_set():
            self._put(_AbandonedError(), check=False)
        self._thread.join()

    def _put(self, item: "bytes | _AbandonedError | None", check: bool = True) -> None:
        while not self._done.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue
        if check:
            self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _pieces(self) -> Iterator[bytes]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, _AbandonedError):
                raise item
            yield item
            self._queue.task_done()

    def _run(self) -> None:
        try:
            self._files.write_stream(self._path, self._pieces(), **self._options)
        except PerseusError as error:
            self._failure = error
        except _AbandonedError:
            pass
        except OSError as error:
            self._failure = UnavailableError(
                f"writing {self._path} broke off: {error}", hint="write it again; perseus doctor"
            )
        finally:
            self._done.set()
