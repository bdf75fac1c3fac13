"""Writing a file: buffering, chunks, acknowledgements, and going on when a replica fails.

What ``flush`` has returned is on disk at all replicas. Bytes are sent in frames
of 1 MiB and kept until they are acknowledged, at most WINDOW_BYTES of them, so
a slow cluster slows the writer. When the chain breaks, the chunk is sealed at
what was acknowledged, naming the nodes that failed, and the rest goes into a
new chunk that avoids them.

The master fences writers by their epoch, at every seal and at the close. A
writer whose lease is lost learns it at its next call (LeaseLostError); what it
may still send meanwhile ends in a chunk that is sealed before it. So ``flush``
returns only while the lease holds by this machine's own clock, or once the master has
renewed it: a writer that was stopped past its lease promises nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from crc32c import crc32c

from perseus.errors import (
    FullError,
    InvalidError,
    LeaseLostError,
    PerseusError,
    RefusedError,
    UnavailableError,
)
from perseus.filestore.chunk_write_stream import ChainBrokenError
from perseus.filestore.client_channels import Channels
from perseus.filestore.client_files import Files
from perseus.filestore.client_renewal import Tender
from perseus.filestore.writer_chunk import Frame, OpenChunk
from perseus.proto.v1 import filestore_pb2
from perseus.runtime.real import RealClock
from perseus.settings import FRAME_MAXIMUM_BYTES, INLINE_MAXIMUM_BYTES

# Bytes sent and not acknowledged.
WINDOW_BYTES = 32 << 20
# Chains that may break in a row, with nothing acknowledged between, before the writer gives up.
BREAKS_MAXIMUM = 8
# The same for what will hardly get better: full disks, and a caller who may not write.
CLEAR_MAXIMUM = 2
BACKOFF_FIRST_S = 0.05
BACKOFF_MAXIMUM_S = 2.0
# How long to insist on nodes other than those that failed.
AVOID_PATIENCE_S = 2.0
# A writer that writes nothing for so long lets its connection go.
IDLE_S = 5.0
RENEW_SHARE = 1 / 3

_log = logging.getLogger("perseus.filestore")

Buffer = bytes | bytearray | memoryview


class FileWriter:
    """An open file. One thread writes; close or abandon it, or use it as a context manager."""

    def __init__(
        self,
        files: Files,
        channels: Channels,
        tender: Tender,
        lease: filestore_pb2.WriteLease,
        *,
        name: str,
        asked_at_s: float,
        near_node: str = "",
    ) -> None:
        """``asked_at_s`` is when the lease was asked for, by the clock of ``RealClock``."""
        self.inode: int = lease.inode
        self._files = files
        self._channels = channels
        self._tender = tender
        self._epoch = lease.epoch
        self._lease_s = lease.lease_s
        self._clock = RealClock()
        # The master counts from later, so it has not ended the lease before that.
        self._held_until_s = asked_at_s + lease.lease_s
        self._name = name
        self._near_node = near_node
        # Held while a call runs; the tender only tries.
        self._busy = threading.Lock()
        self._pieces: list[bytes] = [lease.inline] if lease.inline else []
        self._pieces_bytes = len(lease.inline)
        self._size_bytes: int = max(lease.size_bytes, len(lease.inline))
        # Nothing of it lies in chunks, so it may stay inline, and its checksum is known.
        self._inline = self._size_bytes == len(lease.inline)
        self._has_checksum = self._inline
        self._checksum = crc32c(lease.inline)
        # Not acknowledged, the first _sent of them sent to _chunk.
        self._frames: list[Frame] = []
        self._frames_bytes = 0
        self._sent = 0
        self._chunk: OpenChunk | None = None
        self._breaks = 0
        self._avoid: set[str] = set()
        self._lost: PerseusError | None = None
        self._ended = False
        now_s = time.monotonic()
        self._used_at_s = now_s
        self._renew_at_s = now_s + self._lease_s * RENEW_SHARE
        tender.add(self)

    def __enter__(self) -> "FileWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.abandon()
        elif not self._ended:
            self.close()

    @property
    def size_bytes(self) -> int:
        """Of the file, with all that was written so far."""
        return self._size_bytes

    @property
    def checksum(self) -> int:
        """CRC32C of the file so far; of what was written alone when it was appended to."""
        return self._checksum

    def write(self, data: Buffer) -> int:
        """Takes all of ``data``; waits while too much is not acknowledged. Returns its size.

        LeaseLostError, FullError, UnavailableError: the file has what was acknowledged.
        """
        with self._busy:
            self._check()
            self._checksum = crc32c(data, self._checksum)
            self._size_bytes += len(data)
            if isinstance(data, bytes) and len(data) <= FRAME_MAXIMUM_BYTES - self._pieces_bytes:
                # No copy; whole frames stay as they are.
                self._take(data)
                return len(data)
            view = memoryview(data)
            position = 0
            while position < len(view):
                room = FRAME_MAXIMUM_BYTES - self._pieces_bytes
                self._take(bytes(view[position : position + room]))
                position += room
            return len(data)

    def flush(self) -> None:
        """All that was written is on disk at all replicas when it returns."""
        with self._busy:
            self._check()
            self._flush()
            if self._clock.now_s() >= self._held_until_s:
                # What was acknowledged may lie behind where its chunk was sealed, or in none.
                self._hold(self._files.again)

    def close(self) -> filestore_pb2.FileInfo:
        """The file is whole. Up to 4 KiB that never needed a chunk lie in its inode."""
        with self._busy:
            self._check()
            small = self._inline and self._size_bytes <= INLINE_MAXIMUM_BYTES
            content = b""
            if small:
                content = b"".join(self._pieces)
            else:
                self._flush()
                self._finish_chunk()
            request = filestore_pb2.CloseRequest(
                inode=self.inode,
                epoch=self._epoch,
                inline=content,
                size_bytes=self._size_bytes,
                checksum=self._checksum if self._has_checksum else 0,
                has_checksum=self._has_checksum,
            )
            info: filestore_pb2.FileInfo = self._files.again("Close", request)
            self._end()
            return info

    def abandon(self) -> None:
        """Gives up: see the RPC Abandon. Quiet; the master ends the lease anyway."""
        with self._busy:
            if self._ended:
                return
            self._end()
            request = filestore_pb2.AbandonRequest(inode=self.inode, epoch=self._epoch)
            # If it fails, the lease runs out by itself, with the same effect.
            with suppress(PerseusError):
                self._files.once("Abandon", request)

    def tend(self, now_s: float) -> None:
        """Renews the lease and lets an idle connection go; called by the tender."""
        if now_s >= self._renew_at_s and self._lost is None:
            self._renew(now_s)
        if now_s - self._used_at_s > IDLE_S and self._busy.acquire(blocking=False):
            try:
                if self._chunk is not None and not self._frames and self._chunk.connected:
                    self._chunk.rest()
            finally:
                self._busy.release()

    def _renew(self, now_s: float) -> None:
        try:
            self._renew_at_s = now_s + self._hold(self._files.once) * RENEW_SHARE
        except UnavailableError:
            # Whether the lease is over is the master's to say, when it is back.
            self._renew_at_s = now_s + 1.0
        except PerseusError as error:
            if not self._ended:
                self._lost = error

    def _hold(self, call: Callable[[str, filestore_pb2.RenewWriteLeaseRequest], Any]) -> float:
        """Renews the lease; how long it lasts. LeaseLostError, UnavailableError."""
        asked_at_s = self._clock.now_s()
        request = filestore_pb2.RenewWriteLeaseRequest(inode=self.inode, epoch=self._epoch)
        lease_s: float = call("RenewWriteLease", request).lease_s
        self._held_until_s = asked_at_s + lease_s
        return lease_s

    def _check(self) -> None:
        if self._ended:
            raise InvalidError(f"{self._name} is closed already")
        if self._lost is not None:
            raise LeaseLostError(
                f"another writer has {self._name}, or it is gone: {self._lost.message}",
                hint="what was flushed is kept; open the file again to go on",
            )
        self._used_at_s = time.monotonic()

    def _end(self) -> None:
        self._ended = True
        self._tender.remove(self)
        self._frames.clear()
        self._pieces.clear()
        if self._chunk is not None:
            self._chunk.cancel()
            self._chunk = None

    def _take(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._pieces_bytes += len(piece)
        if self._pieces_bytes == FRAME_MAXIMUM_BYTES:
            self._make_frame()
            self._run(WINDOW_BYTES)

    def _make_frame(self) -> None:
        pieces = self._pieces
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self._pieces_bytes = 0
        self._inline = False
        self._frames.append(Frame(content, crc32c(content)))
        self._frames_bytes += len(content)

    def _flush(self) -> None:
        if self._pieces_bytes:
            self._make_frame()
        self._run(0)

    def _run(self, unacked_maximum_bytes: int) -> None:
        """Sends all frames and waits until at most that much is not acknowledged."""
        while self._frames:
            try:
                self._send(sync=unacked_maximum_bytes == 0)
                self._wait(unacked_maximum_bytes)
                return
            except ChainBrokenError as broken:
                self._recover(broken)

    def _send(self, *, sync: bool) -> None:
        while self._sent < len(self._frames):
            frame = self._frames[self._sent]
            if self._chunk is not None and not self._chunk.fits(frame):
                self._finish_chunk()
                continue
            chunk = self._chunk = self._chunk or self._allocate()
            chunk.put(frame, sync=sync and self._sent + 1 == len(self._frames))
            self._sent += 1
        if sync and self._chunk is not None:
            self._chunk.sync()

    def _wait(self, unacked_maximum_bytes: int) -> None:
        self._drop_acked()
        while self._frames_bytes > unacked_maximum_bytes:
            assert self._chunk is not None
            self._chunk.wait(self._frames[0].end_bytes)
            self._drop_acked()

    def _drop_acked(self) -> None:
        acked = self._chunk.acked_bytes if self._chunk is not None else 0
        count = 0
        while count < self._sent and self._frames[count].end_bytes <= acked:
            self._frames_bytes -= len(self._frames[count].content)
            count += 1
        if count:
            del self._frames[:count]
            self._sent -= count
            self._breaks = 0

    def _allocate(self) -> OpenChunk:
        request = filestore_pb2.AllocateChunkRequest(
            inode=self.inode,
            epoch=self._epoch,
            near_node=self._near_node,
            avoid_nodes=sorted(self._avoid),
        )
        patience_s = AVOID_PATIENCE_S if self._avoid else None
        try:
            grant = self._files.again("AllocateChunk", request, patience_s=patience_s)
        except (UnavailableError, FullError):
            if not self._avoid:
                raise
            # Nobody else is left: a node that failed may have recovered.
            self._avoid.clear()
            del request.avoid_nodes[:]
            grant = self._files.again("AllocateChunk", request)
        if not grant.chain:
            raise UnavailableError(
                f"no node takes bytes of {self._name}", hint="see: perseus nodes"
            )
        return OpenChunk(self._channels, grant)

    def _finish_chunk(self) -> None:
        """All of the chunk is sent: waits for it and seals it."""
        chunk = self._chunk
        if chunk is None:
            return
        chunk.sync()
        chunk.wait(chunk.length_bytes)
        self._drop_acked()
        chunk.finish()
        self._seal(chunk)

    def _seal(
        self,
        chunk: OpenChunk,
        failed_nodes: Sequence[str] = (),
        told: filestore_pb2.SealChunkRequest | None = None,
    ) -> None:
        request = filestore_pb2.SealChunkRequest(
            inode=self.inode,
            epoch=self._epoch,
            chunk=chunk.grant.chunk,
            length_bytes=chunk.acked_bytes,
            failed_nodes=failed_nodes,
            checksum=chunk.seal_checksum(),
        )
        if told is not None:
            request.MergeFrom(told)
        self._files.again("SealChunk", request)
        self._chunk = None
        self._sent = 0

    def _recover(self, broken: ChainBrokenError) -> None:
        """Seals what was acknowledged; the frames that were not are sent again."""
        self._breaks += 1
        chunk = self._chunk
        assert chunk is not None
        chunk.cancel()
        self._drop_acked()
        failed = chunk.failed_nodes(broken)
        self._avoid.update(failed)
        if isinstance(broken.error, FullError | RefusedError) and self._breaks > CLEAR_MAXIMUM:
            raise type(broken.error)(
                f"{self._name}: {broken.error.message}", hint=broken.error.hint
            )
        if self._breaks > BREAKS_MAXIMUM:
            raise UnavailableError(
                f"{self._name} cannot be written: {BREAKS_MAXIMUM} chains of chunkservers broke "
                f"in a row, the last at {broken}",
                hint=broken.error.hint or "see: perseus doctor",
            )
        self._seal(chunk, failed, self._told(chunk, failed, broken.error))
        if self._breaks > 1:
            time.sleep(min(BACKOFF_FIRST_S * 2**self._breaks, BACKOFF_MAXIMUM_S))

    def _told(
        self, chunk: OpenChunk, failed: list[str], error: PerseusError
    ) -> filestore_pb2.SealChunkRequest:
        """Tells of the link that broke, and that the writer goes on; the same for the master."""
        if not failed:
            return filestore_pb2.SealChunkRequest()
        source, target = chunk.broken_link(failed[0])
        _log.warning(
            "the link %s -> %s failed while %s was written (%s); going on through others",
            "from here" if source is None else source.node_name,
            target,
            self._name,
            error.message,
        )
        return filestore_pb2.SealChunkRequest(
            failed_by="" if source is None else source.node_id, failure=error.message
        )
