"""The sending side of ReadChunk: checked bytes of a replica, and those to come.

With ``wait_s``, a read of an open replica goes on as bytes are synced and ends
when none have come for that long, or with the seal.
"""

from collections.abc import Callable, Generator

from crc32c import crc32c

from perseus.errors import NotFoundError
from perseus.filestore.chunkfile import ChunkFile, CorruptBlockError
from perseus.filestore.chunkstore import ChunkStore
from perseus.proto.v1 import chunk_pb2
from perseus.settings import CHUNK_MAXIMUM_BYTES, FRAME_MAXIMUM_BYTES

WAIT_MAXIMUM_S = 30.0
# The same while nobody writes.
NO_WRITER_S = 0.5
# How often a waiting read looks whether its caller is still there.
LOOK_S = 0.5


def read_chunk(
    store: ChunkStore, request: chunk_pb2.ReadChunkRequest, is_active: Callable[[], bool]
) -> Generator[bytes, None, None]:
    """Frames: a ReadHeader and bytes by turns. NotFoundError, CorruptError."""
    with store.use(request.chunk) as file:
        if file.version < request.version:
            raise NotFoundError(
                f"chunk {file.chunk:016x} has version {file.version} here, not {request.version}"
            )
        position = request.offset_bytes
        end = position + request.length_bytes if request.length_bytes else CHUNK_MAXIMUM_BYTES
        while position < end and is_active():
            size = min(_frame_size(position), end - position)
            try:
                frame = store.read(file, position, size)
            except CorruptBlockError as error:
                # What comes before it is good: another replica goes on at the block itself.
                if error.offset_bytes <= position:
                    raise
                frame = store.read(file, position, error.offset_bytes - position)
            if frame:
                yield chunk_pb2.ReadHeader(
                    offset_bytes=position, length_bytes=len(frame), checksum=crc32c(frame)
                ).SerializeToString()
                yield frame
                position += len(frame)
            elif file.sealed or not _wait(file, position, request.wait_s, is_active):
                return


def _frame_size(position: int) -> int:
    """Up to the next multiple of a frame, so that all but the first begin with a block."""
    return FRAME_MAXIMUM_BYTES - position % FRAME_MAXIMUM_BYTES


def _wait(file: ChunkFile, position: int, wait_s: float, is_active: Callable[[], bool]) -> bool:
    """Waits for bytes past ``position`` or the seal; False when there are none in time.

    Without a writer it is soon over: the chunk may be sealed already, and then the
    master knows it before this replica does.
    """
    left_s = min(wait_s, WAIT_MAXIMUM_S if file.writing else NO_WRITER_S)
    while left_s > 0 and is_active():
        had_writer = file.writing
        if file.wait_past(position, min(left_s, LOOK_S)):
            return True
        if had_writer and not file.writing:
            return False
        left_s -= LOOK_S
    return False
