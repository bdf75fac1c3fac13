"""The chunk that a writer is filling: its grant, its stream, what is sent and acknowledged."""

from collections import deque
from dataclasses import dataclass

from crc32c import crc32c

from perseus.errors import ConflictError, RefusedError
from perseus.filestore.chunk_write_stream import ChainBrokenError, ChunkStream
from perseus.filestore.client_channels import Channels
from perseus.proto.v1 import chunk_pb2, filestore_pb2
from perseus.settings import CHUNK_MAXIMUM_BYTES

# A sync is asked for after this many bytes, if not sooner by flush.
SYNC_BYTES = 8 << 20


@dataclass(slots=True)
class Frame:
    """Bytes that are not yet acknowledged."""

    content: bytes
    checksum: int
    # Where it ends in the chunk it was last sent to.
    end_bytes: int = 0


class OpenChunk:
    """One chunk being written. Calls raise ChainBrokenError when the chain breaks."""

    def __init__(self, channels: Channels, grant: filestore_pb2.ChunkGrant) -> None:
        self._channels = channels
        self.grant = grant
        self.length_bytes = 0
        self._checksum = 0
        self._synced_bytes = 0
        self._acked_bytes = 0
        # Lengths at which a sync was asked for, with the checksum of all before.
        self._marks: deque[tuple[int, int]] = deque([(0, 0)])
        self._stream: ChunkStream | None = None

    @property
    def acked_bytes(self) -> int:
        """On disk at all replicas."""
        if self._stream is not None:
            self._acked_bytes = self._stream.acked_bytes
        return self._acked_bytes

    @property
    def connected(self) -> bool:
        """Whether a stream is open."""
        return self._stream is not None

    def fits(self, frame: Frame) -> bool:
        """Whether there is room for it."""
        return self.length_bytes + len(frame.content) <= CHUNK_MAXIMUM_BYTES

    def put(self, frame: Frame, *, sync: bool) -> None:
        """Sends a frame; ``sync`` asks for the acknowledgement of all up to it."""
        size = len(frame.content)
        frame.end_bytes = self.length_bytes + size
        sync = sync or frame.end_bytes - self._synced_bytes >= SYNC_BYTES
        header = chunk_pb2.WriteHeader(
            offset_bytes=self.length_bytes, length_bytes=size, checksum=frame.checksum, sync=sync
        )
        self._open().put(header.SerializeToString(), frame.content)
        self.length_bytes = frame.end_bytes
        self._checksum = crc32c(frame.content, self._checksum)
        if sync:
            self._synced_bytes = self.length_bytes
            self._marks.append((self.length_bytes, self._checksum))

    def sync(self) -> None:
        """Asks for the acknowledgement of all that was sent."""
        if self._synced_bytes < self.length_bytes:
            self.put(Frame(b"", 0), sync=True)

    def wait(self, length_bytes: int) -> None:
        """Until all below ``length_bytes`` is acknowledged."""
        if self.acked_bytes < length_bytes:
            self._open().wait_acked(length_bytes)

    def rest(self) -> None:
        """Lets the connection go while nothing is written; it is made again when needed."""
        if self._stream is not None and self.acked_bytes == self.length_bytes:
            self._stream.finish()
            self._stream = None

    def finish(self) -> None:
        """Ends the stream after all is acknowledged."""
        self.rest()

    def cancel(self) -> None:
        """Breaks the stream off."""
        self._acked_bytes = self.acked_bytes
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    def seal_checksum(self) -> int:
        """CRC32C of the bytes below acked_bytes."""
        acked = self.acked_bytes
        return next(checksum for length, checksum in self._marks if length == acked)

    def failed_nodes(self, broken: ChainBrokenError) -> list[str]:
        """The nodes to blame for a breakage: none when it was the grant or the lease."""
        if isinstance(broken.error, RefusedError | ConflictError):
            return []
        chain = self.grant.chain
        named = [replica.node_id for replica in chain if replica.address == broken.address]
        return named or [chain[0].node_id]

    def broken_link(self, failed: str) -> tuple[filestore_pb2.ReplicaLocation | None, str]:
        """Who could not bring bytes to the node ``failed``, and its name. None: the writer."""
        chain = self.grant.chain
        place = [replica.node_id for replica in chain].index(failed)
        return chain[place - 1] if place else None, chain[place].node_name

    def _open(self) -> ChunkStream:
        if self._stream is None:
            chain = [replica.address for replica in self.grant.chain]
            opening = chunk_pb2.WriteOpen(
                chunk=self.grant.chunk,
                version=self.grant.version,
                grant=self.grant.grant,
                chain=chain[1:],
                offset_bytes=self.length_bytes,
            )
            self._stream = ChunkStream(self._channels.chunks(chain[0]), chain[0], opening)
        return self._stream
