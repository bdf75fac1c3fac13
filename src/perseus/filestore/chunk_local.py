"""The service Chunks within its own process: what the movers read and write on their own node.

The same checks of grants, versions and checksums, the same frames and errors as
over gRPC, but no wire: each byte is spared two encryptions and four copies.
"""

import threading
from collections.abc import Callable, Generator, Iterator

from perseus.errors import PerseusError, UnavailableError
from perseus.filestore.chunk_read import read_chunk
from perseus.filestore.chunk_write import WriteContext, WriteSession, open_message
from perseus.proto.v1 import chunk_pb2


class LocalChunks:
    """Serves the callers of this process; see ``client_channels.Channels.serve_local``."""

    def __init__(self, writing: WriteContext) -> None:
        self._writing = writing

    def read(self, request: chunk_pb2.ReadChunkRequest) -> "LocalRead":
        """ReadChunk."""
        active = threading.Event()
        active.set()
        frames = read_chunk(self._writing.store, request, active.is_set)
        return LocalRead(frames, active.clear)

    def write(self, frames: Iterator[bytes]) -> "LocalWrite":
        """WriteChunk."""
        return LocalWrite(self._writing, frames)


class LocalRead:
    """Response frames of a read; one thread iterates and closes, any may cancel."""

    def __init__(self, frames: Generator[bytes, None, None], cancel: Callable[[], None]) -> None:
        self._frames = frames
        self.cancel = cancel

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._frames)
        except OSError as error:
            raise _disk_failed(error) from error

    def close(self) -> None:
        """Lets the replica go. Left to the collector, that might happen in the middle of
        anything, also where the store's mutex is held."""
        self._frames.close()


class LocalWrite:
    """Acknowledgements of a write; one thread iterates, any may cancel."""

    def __init__(self, writing: WriteContext, frames: Iterator[bytes]) -> None:
        self._session = WriteSession(writing, open_message(frames))
        self._answers = self._session.run(frames)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._answers)
        except OSError as error:
            raise _disk_failed(error) from error

    def cancel(self) -> None:
        """Ends it; what was acknowledged stays."""
        self._session.stop()


def _disk_failed(error: OSError) -> PerseusError:
    return UnavailableError(f"the disk of this chunkserver failed: {error}")
