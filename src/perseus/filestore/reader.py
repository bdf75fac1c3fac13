"""Reading a file: chunk after chunk, each from the nearest replica that delivers.

A replica that fails in the middle is reported and another goes on where it
stopped; no byte is given twice and every frame's checksum is verified. With
``follow`` the read goes on as the file grows, until its writer closes it.
"""

import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from crc32c import crc32c

from perseus.errors import CorruptError, NotFoundError, PerseusError, UnavailableError
from perseus.filestore.client_channels import Channels, end, error_of
from perseus.filestore.client_files import Files
from perseus.filestore.client_queue import ClosableQueue, ClosedError
from perseus.proto.v1 import chunk_pb2, filestore_pb2
from perseus.settings import FRAME_MAXIMUM_BYTES

# Rounds over all replicas, with nothing read between, before a read fails.
ROUNDS_MAXIMUM = 6
BACKOFF_FIRST_S = 0.05
BACKOFF_MAXIMUM_S = 2.0
# How long one question of a follower waits at a chunkserver, and at the master.
FOLLOW_WAIT_S = 10.0
# The pause of a follower between two questions when there is nothing new.
FOLLOW_PAUSE_S = 0.2
READ_AHEAD_FRAMES = 2


Pieces = Generator[bytes, None, None]


def nearest_first(
    replicas: Sequence[filestore_pb2.ReplicaLocation], near_node: str
) -> list[filestore_pb2.ReplicaLocation]:
    """The replicas: that of the reader's own node (id or name) first, the others by chance."""

    def distance(replica: filestore_pb2.ReplicaLocation) -> tuple[bool, float]:
        return near_node not in (replica.node_id, replica.node_name), random.random()

    return sorted(replicas, key=distance)


@dataclass(slots=True)
class Read:
    """One read of a file; iterate over ``pieces``."""

    files: Files
    channels: Channels
    # The reader's own node, id or name; may be empty.
    near_node: str
    path: str
    # The first layout, which the caller has asked for already.
    layout: filestore_pb2.Layout
    position: int
    # None: to the end of the file.
    end: int | None
    follow: bool
    # Asked between chunks and between waits: whether to end early.
    stop: Callable[[], bool] | None = None
    # Replicas that failed this read, tried last.
    _failed: set[tuple[int, str]] = field(default_factory=set)

    def pieces(self) -> Pieces:
        """The bytes, in pieces of at most 1 MiB."""
        layout, stalls = self.layout, 0
        while True:
            before = self.position
            error = yield from self._read_layout(layout)
            if (self._done(layout) and error is None) or (self.stop and self.stop()):
                return
            stalls = 0 if self.position > before else stalls + 1
            if error is not None and stalls >= ROUNDS_MAXIMUM:
                raise error
            if stalls and (error is not None or layout.chunks):
                longest_s = FOLLOW_PAUSE_S if error is None else BACKOFF_MAXIMUM_S
                time.sleep(min(BACKOFF_FIRST_S * 2**stalls, longest_s))
            wait_s = FOLLOW_WAIT_S if self.follow and error is None else 0.0
            layout = self.files.locate(self.path, layout.info.inode, self.position, wait_s)

    def _done(self, layout: filestore_pb2.Layout) -> bool:
        if self.end is not None and self.position >= self.end:
            return True
        return not (self.follow and layout.info.open)

    def _read_layout(self, layout: filestore_pb2.Layout) -> Iterator[bytes] | Any:
        """Yields what the layout has from ``position`` on; returns an error that stopped it."""
        if layout.inline:
            piece = layout.inline[self.position : self.end]
            self.position += len(piece)
            if piece:
                yield piece
        for chunk in layout.chunks:
            if self.end is not None and self.position >= self.end:
                break
            if chunk.sealed and self.position >= chunk.offset_bytes + chunk.length_bytes:
                continue
            if self.position < chunk.offset_bytes:
                return CorruptError(
                    f"{self.path or 'the file'} has a hole from {self.position} to "
                    f"{chunk.offset_bytes}: the master does not know its chunks"
                )
            error = yield from self._read_chunk(chunk)
            if error is not None:
                return error
        return None

    def _read_chunk(self, chunk: filestore_pb2.LocatedChunk) -> Iterator[bytes] | Any:
        """Tries the replicas in turn; returns the last error if none delivered all."""
        error: PerseusError | None = UnavailableError(
            f"no replica of chunk {chunk.chunk:016x} of {self.path or 'the file'} is reachable",
            hint="see: perseus nodes",
        )
        ordered = nearest_first(chunk.replicas, self.near_node)
        ordered.sort(key=lambda replica: (chunk.chunk, replica.node_id) in self._failed)
        for replica in ordered:
            try:
                for piece in self._read_replica(chunk, replica.address):
                    self.position += len(piece)
                    yield piece
                error = self._missing(chunk, replica)
            except NotFoundError as failure:
                # An open chunk's first bytes may not have come yet.
                error = failure if chunk.sealed else None
            except PerseusError as failure:
                error = failure
            if error is None:
                return None
            key = (chunk.chunk, replica.node_id)
            # A replica that is missing once may not have heard of its seal yet.
            if key in self._failed or not isinstance(error, NotFoundError):
                self._report(chunk, replica, error)
            self._failed.add(key)
        return error

    def _read_replica(self, chunk: filestore_pb2.LocatedChunk, address: str) -> Iterator[bytes]:
        """The frames of one replica, verified."""
        request = chunk_pb2.ReadChunkRequest(
            chunk=chunk.chunk,
            version=chunk.version,
            offset_bytes=self.position - chunk.offset_bytes,
            length_bytes=self._wanted(chunk),
            wait_s=FOLLOW_WAIT_S if self.follow and not chunk.sealed else 0.0,
        )
        call = self.channels.chunks(address).read(request)
        try:
            yield from frames_of(call, request.offset_bytes)
        except grpc.RpcError as error:
            raise error_of(error, f"chunkserver {address}") from error
        finally:
            end(call)

    def _wanted(self, chunk: filestore_pb2.LocatedChunk) -> int:
        """Bytes to ask a replica for; 0: to its end."""
        end = chunk.offset_bytes + chunk.length_bytes if chunk.sealed else None
        ends = [stop for stop in (end, self.end) if stop is not None]
        return min(ends) - self.position if ends else 0

    def _missing(
        self, chunk: filestore_pb2.LocatedChunk, replica: filestore_pb2.ReplicaLocation
    ) -> PerseusError | None:
        """The error of a sealed chunk's replica that ended too early."""
        if not chunk.sealed:
            return None
        end = chunk.offset_bytes + chunk.length_bytes
        if self.position >= (end if self.end is None else min(end, self.end)):
            return None
        return CorruptError(
            f"the replica of chunk {chunk.chunk:016x} on {replica.node_name} is too short"
        )

    def _report(
        self,
        chunk: filestore_pb2.LocatedChunk,
        replica: filestore_pb2.ReplicaLocation,
        error: PerseusError,
    ) -> None:
        request = filestore_pb2.ReportReplicaRequest(
            chunk=chunk.chunk,
            node_id=replica.node_id,
            message=error.message,
            corrupt=isinstance(error, CorruptError),
        )
        # The read matters more; the scrubber finds it too.
        with suppress(PerseusError):
            self.files.once("ReportReplica", request)


def frames_of(messages: Iterator[bytes], offset_bytes: int) -> Iterator[bytes]:
    """The bytes of a ReadChunk stream that begins at ``offset_bytes``; CorruptError."""
    for raw_header in messages:
        header = chunk_pb2.ReadHeader.FromString(raw_header)
        content = next(messages, b"")
        if (
            header.offset_bytes != offset_bytes
            or header.length_bytes != len(content)
            or len(content) > FRAME_MAXIMUM_BYTES
            or crc32c(content) != header.checksum
        ):
            raise CorruptError(f"a frame at {offset_bytes} was damaged on its way")
        offset_bytes += len(content)
        yield content


def read_ahead(pieces: Pieces) -> Pieces:
    """The same pieces, fetched by a thread of their own, a few before they are asked for."""
    queue: ClosableQueue[bytes] = ClosableQueue(READ_AHEAD_FRAMES)
    failure: list[BaseException] = []

    def fetch() -> None:
        try:
            for piece in pieces:
                queue.put(piece)
        except ClosedError:
            pass
        except BaseException as error:
            failure.append(error)
        finally:
            queue.close()
            pieces.close()

    threading.Thread(target=fetch, name="read-ahead", daemon=True).start()
    try:
        while True:
            try:
                piece = queue.get()
            except ClosedError:
                break
            yield piece
    finally:
        queue.close(drop=True)
    if failure:
        raise failure[0]
