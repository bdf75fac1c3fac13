"""Carries out the master's directives for replicas: fetch, delete, seal.

Each is answered by a ChunkEvent, whatever happens. Those for one chunk are to be
given one after the other, in the master's order.
"""

import time
from collections.abc import Callable
from typing import Any

import grpc
from crc32c import crc32c

from perseus.errors import CorruptError, FullError, InvalidError, PerseusError, UnavailableError
from perseus.filestore.chunkfile import ChunkFile
from perseus.filestore.chunkstore import ChunkStore
from perseus.filestore.client_channels import Channels, Frames, RemoteChunks, error_of
from perseus.filestore.reader import frames_of
from perseus.proto.v1 import agent_pb2, chunk_pb2

# A fetched replica is synced this often, so that its end does not take long.
SYNC_BYTES = 16 << 20
# A source that delivers a chunk slower than this is given up for the next.
SOURCE_TIMEOUT_S = 150.0
# The same for a copy as a whole; the master waits a little longer.
FETCH_TIMEOUT_S = 300.0


class Directives:
    """Carries out directives; safe for threads."""

    def __init__(
        self,
        store: ChunkStore,
        channels: Channels,
        on_event: Callable[[agent_pb2.ChunkEvent], None],
    ) -> None:
        self._store = store
        self._channels = channels
        self._on_event = on_event

    def carry_out(self, directive: agent_pb2.Directive) -> None:
        """Does it, and tells how it went."""
        kind = directive.WhichOneof("what")
        subject = getattr(directive, kind) if kind else None
        try:
            if isinstance(subject, agent_pb2.FetchChunk):
                event = self._fetch(subject)
            elif isinstance(subject, agent_pb2.DeleteChunk):
                event = self._delete(subject)
            elif isinstance(subject, agent_pb2.SealReplica):
                event = self._seal(subject)
            else:
                raise InvalidError(f"a chunkserver cannot carry out {kind}")
        except PerseusError as error:
            event = _failure(subject, error)
        except OSError as error:
            event = _failure(subject, UnavailableError(f"the disk failed: {error}"))
        self._on_event(event)

    def _fetch(self, fetch: agent_pb2.FetchChunk) -> agent_pb2.ChunkEvent:
        here = self._store.report(fetch.chunk)
        if here is not None and not self._store.is_corrupt(fetch.chunk) and _is_whole(here, fetch):
            return agent_pb2.ChunkEvent(present=here)
        with self._store.fetch(fetch.chunk, fetch.version) as file:
            self._fill(file, fetch)
            file.seal(fetch.version, fetch.length_bytes)
            report = agent_pb2.ReplicaReport(
                chunk=fetch.chunk,
                version=fetch.version,
                length_bytes=fetch.length_bytes,
                sealed=True,
            )
        return agent_pb2.ChunkEvent(present=report)

    def _fill(self, file: ChunkFile, fetch: agent_pb2.FetchChunk) -> None:
        """Takes the bytes from one source after the other, each going on where the last stopped.

        So what no source has whole is made whole, when each block is good at one of them.
        """
        deadline_s = time.monotonic() + FETCH_TIMEOUT_S
        error: PerseusError = InvalidError("there is no source to fetch from")
        while file.length_bytes < fetch.length_bytes:
            before = file.length_bytes
            for source in fetch.sources:
                try:
                    self._fill_from(file, fetch, source, deadline_s)
                except FullError:
                    raise
                except PerseusError as failure:
                    error = failure
                if file.length_bytes == fetch.length_bytes:
                    break
            if file.length_bytes == before:
                raise error
        file.sync()

    def _fill_from(
        self, file: ChunkFile, fetch: agent_pb2.FetchChunk, source: str, deadline_s: float
    ) -> None:
        """Appends what one source delivers."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise UnavailableError(f"fetching chunk {file.chunk:016x} takes too long")
        request = chunk_pb2.ReadChunkRequest(
            chunk=fetch.chunk,
            version=fetch.version,
            offset_bytes=file.length_bytes,
            length_bytes=fetch.length_bytes - file.length_bytes,
        )
        call = RemoteChunks(self._channels.to(source)).read(request, min(left_s, SOURCE_TIMEOUT_S))
        try:
            _append_frames(file, call)
        except grpc.RpcError as error:
            raise error_of(error, f"chunkserver {source}") from error
        finally:
            call.cancel()
        if file.length_bytes < fetch.length_bytes:
            raise CorruptError(
                f"{source} has {file.length_bytes} bytes of chunk {fetch.chunk:016x}, "
                f"not {fetch.length_bytes}"
            )

    def _delete(self, delete: agent_pb2.DeleteChunk) -> agent_pb2.ChunkEvent:
        if self._store.delete(delete.chunk, delete.below_version):
            return agent_pb2.ChunkEvent(deleted=delete.chunk)
        return agent_pb2.ChunkEvent(present=self._store.report(delete.chunk))

    def _seal(self, seal: agent_pb2.SealReplica) -> agent_pb2.ChunkEvent:
        if seal.probe:
            report = self._store.probe(seal.chunk, seal.version)
        else:
            report = self._store.seal(seal.chunk, seal.version, seal.length_bytes)
        return agent_pb2.ChunkEvent(present=report)


def chunk_of(directive: agent_pb2.Directive) -> int:
    """The chunk that a directive is about; 0 when it is about none."""
    kind = directive.WhichOneof("what")
    return int(getattr(getattr(directive, kind), "chunk", 0)) if kind else 0


def _is_whole(here: agent_pb2.ReplicaReport, fetch: agent_pb2.FetchChunk) -> bool:
    return here.sealed and here.version == fetch.version and here.length_bytes == fetch.length_bytes


def _append_frames(file: ChunkFile, call: Frames) -> None:
    """Appends all frames of a ReadChunk call that begins at the end of ``file``."""
    for frame in frames_of(call, file.length_bytes):
        file.append(file.length_bytes, (frame,), crc32c(frame))
        if file.length_bytes - file.synced_bytes >= SYNC_BYTES:
            file.sync()


def _failure(subject: Any, error: PerseusError) -> agent_pb2.ChunkEvent:
    return agent_pb2.ChunkEvent(
        failure=agent_pb2.ChunkFailure(
            chunk=getattr(subject, "chunk", 0),
            version=getattr(subject, "version", 0),
            message=error.message,
            disk_full=isinstance(error, FullError),
        )
    )
