"""The sending side of WriteChunk: one chunk's bytes down a chain of chunkservers.

The writer of a file uses it towards the first of the chain, and each
chunkserver towards the next. Pairs go out in order; acknowledgements come back
for those with sync set. When the chain breaks, ``failure`` says where, and
every call raises ChainBrokenError.
"""

import threading
from collections.abc import Iterator
from functools import partial

import grpc

from perseus.errors import PerseusError, UnavailableError
from perseus.filestore.client_channels import Chunks, error_of
from perseus.filestore.client_queue import ClosableQueue, ClosedError
from perseus.proto.v1 import chunk_pb2
from perseus.rpc import status

# Pairs handed over and not yet taken by gRPC: at most this many MiB.
PAIRS_MAXIMUM = 4
# How long a chain may take for an acknowledgement: a base, and more for each of its members,
# so that the member before the one that hangs is the one to notice. It is for disks: a first
# sync is four of the disk's. A chunkserver that stands still is noticed by its connection.
ACK_BASE_S = 60.0
ACK_PER_MEMBER_S = 5.0
# How long to wait for the other side's end when all is said.
FINISH_S = 2.0


class ChainBrokenError(Exception):
    """The chain cannot go on; what was acknowledged before counts. Stays inside the package."""

    def __init__(self, address: str, error: PerseusError) -> None:
        super().__init__(f"{address}: {error.message}")
        self.address = address
        self.error = error


class ChunkStream:
    """One WriteChunk call. ``put`` and ``wait_acked`` may be called from different threads."""

    def __init__(self, chunks: Chunks, address: str, opening: chunk_pb2.WriteOpen) -> None:
        self.address = address
        self.acked_bytes = opening.offset_bytes
        self._failure: ChainBrokenError | None = None
        self._patience_s = ACK_BASE_S + ACK_PER_MEMBER_S * (1 + len(opening.chain))
        self._changed = threading.Condition()
        self._frames: ClosableQueue[tuple[bytes, bytes]] = ClosableQueue(PAIRS_MAXIMUM)
        self._call = chunks.write(self._requests(opening.SerializeToString()))
        self._receiver = threading.Thread(target=self._receive, name="acks", daemon=True)
        self._receiver.start()

    @property
    def failure(self) -> ChainBrokenError | None:
        """Why the chain broke, once it has."""
        return self._failure

    def put(self, header: bytes, payload: bytes) -> None:
        """Sends a pair, waiting for room. ChainBrokenError."""
        try:
            self._frames.put((header, payload))
        except ClosedError:
            self._receiver.join(self._patience_s)
            raise self._failure or self._lost("the connection ended") from None

    def wait_acked(self, length_bytes: int) -> None:
        """Returns once all bytes below ``length_bytes`` are on disk at the whole chain.

        ChainBrokenError, also when nothing is acknowledged for too long.
        """
        with self._changed:
            while self.acked_bytes < length_bytes:
                if self._failure is not None:
                    raise self._failure
                before = self.acked_bytes
                if not self._changed.wait_for(partial(self._moved, before), self._patience_s):
                    self._failure = self._lost(f"no answer for {self._patience_s:.0f} s")
        if self._failure is not None and self.acked_bytes < length_bytes:
            raise self._failure

    def finish(self) -> None:
        """Ends the request side; all acknowledged bytes stay. Waits a little for the other's
        end, so that it lets go of the chunk in good order."""
        self._frames.close()
        self._receiver.join(FINISH_S)
        self.cancel()

    def cancel(self) -> None:
        """Breaks the call off; safe to call twice."""
        self._frames.close(drop=True)
        self._call.cancel()

    def _moved(self, before: int) -> bool:
        return self.acked_bytes > before or self._failure is not None

    def _requests(self, opening: bytes) -> Iterator[bytes]:
        yield opening
        try:
            while True:
                header, payload = self._frames.get()
                yield header
                yield payload
        except ClosedError:
            return

    def _receive(self) -> None:
        """Takes all answers, also those after a failure: what this very process serves holds
        the chunk until the last one."""
        try:
            for message in self._call:
                self._take(chunk_pb2.WriteAck.FromString(message))
        except grpc.RpcError as error:
            self._fail(ChainBrokenError(self.address, error_of(error, self.address)))
        except PerseusError as error:
            self._fail(ChainBrokenError(self.address, error))
        self._fail(self._lost("the stream ended"))

    def _take(self, ack: chunk_pb2.WriteAck) -> None:
        if ack.HasField("error"):
            error = status.from_proto(ack.error)
            self._fail(ChainBrokenError(ack.failed_address or self.address, error))
            return
        with self._changed:
            self.acked_bytes = max(self.acked_bytes, ack.length_bytes)
            self._changed.notify_all()

    def _fail(self, failure: ChainBrokenError) -> None:
        """The first failure counts."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()
        self._frames.close(drop=True)

    def _lost(self, what: str) -> ChainBrokenError:
        return ChainBrokenError(
            self.address, UnavailableError(f"chunkserver {self.address}: {what}")
        )
