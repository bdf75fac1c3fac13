"""The receiving side of WriteChunk: writes, passes on, acknowledges.

Three threads share a call, so that disk, network and the next in the chain
work at the same time: one takes pairs, passes them on and appends them; one
syncs and collects the acknowledgement of the rest of the chain; gRPC's own
sends the acknowledgements. All between them is bounded, so a slow disk slows
the sender down through gRPC's flow control.

A chunkserver that fails itself says so in its last WriteAck, without an
address: whoever dialled it knows that better.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from perseus.errors import InvalidError, PerseusError, UnavailableError
from perseus.filestore.chunk_write_stream import ChainBrokenError, ChunkStream
from perseus.filestore.chunkfile import ChunkFile
from perseus.filestore.chunkstore import ROOM_CHECK_BYTES, ChunkStore
from perseus.filestore.client_channels import Channels
from perseus.filestore.client_queue import ClosableQueue, ClosedError
from perseus.filestore.grants import check_grant
from perseus.proto.v1 import chunk_pb2
from perseus.rpc import status
from perseus.settings import FRAME_MAXIMUM_BYTES

# Syncs asked for and not yet done, and acknowledgements not yet sent.
SYNCS_MAXIMUM = 64
CHAIN_MAXIMUM = 16
# A share of the disk's reserve stays for logs and seals when writers have used up the rest.
ROOM_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class WriteContext:
    """What every write of a chunkserver uses."""

    store: ChunkStore
    channels: Channels
    # The key that grants are signed with; empty until the agent has told it.
    grant_key: Callable[[], bytes]
    # Now, since 1970, by the master's clock.
    master_time_s: Callable[[], float]


class WriteSession:
    """One WriteChunk call on a chunkserver."""

    def __init__(self, context: WriteContext, opening: chunk_pb2.WriteOpen) -> None:
        self._context = context
        self._opening = opening
        self._syncs: ClosableQueue[int] = ClosableQueue(SYNCS_MAXIMUM)
        self._acks: ClosableQueue[bytes] = ClosableQueue(SYNCS_MAXIMUM)
        self._downstream: ChunkStream | None = None
        self._failure: PerseusError | None = None
        self._checked_room_at = 0
        # Held while a pair is appended; once _stopped is set, none is.
        self._appending = threading.Lock()
        self._stopped = False

    def run(self, frames: Iterator[bytes]) -> Iterator[bytes]:
        """Acknowledgements, as they come; raises what forbids the write from the start."""
        opening = self._opening
        check_opening(opening, self._context.grant_key(), self._context.master_time_s())
        store = self._context.store
        with store.write(opening.chunk, opening.version, opening.offset_bytes) as file:
            self._connect()
            # The receiver ends only when gRPC ends ``frames``, after this has returned; hence
            # it is not joined but kept from appending.
            receiver = threading.Thread(target=self._receive, args=(file, frames), name="write")
            receiver.start()
            syncer = threading.Thread(target=self._sync, args=(file,), name="sync")
            syncer.start()
            try:
                yield from self._answers()
            finally:
                self.stop()
                syncer.join()
                with self._appending:
                    self._stopped = True

    def stop(self) -> None:
        """Ends the threads: the caller has gone, or all is said. ``frames`` ends by itself."""
        self._syncs.close(drop=True)
        self._acks.close(drop=True)
        if self._downstream is not None:
            self._downstream.cancel()

    def _connect(self) -> None:
        opening = self._opening
        if not opening.chain:
            return
        onward = chunk_pb2.WriteOpen()
        onward.CopyFrom(opening)
        del onward.chain[0]
        address = opening.chain[0]
        self._downstream = ChunkStream(self._context.channels.chunks(address), address, onward)

    def _answers(self) -> Iterator[bytes]:
        try:
            while True:
                yield self._acks.get()
        except ClosedError:
            return

    def _receive(self, file: ChunkFile, frames: Iterator[bytes]) -> None:
        """Takes pairs until the sender ends or something fails."""
        try:
            while (header := next(frames, None)) is not None:
                self._take(file, header, next(frames, b""))
        except PerseusError as error:
            self._failure = error
        except (grpc.RpcError, ClosedError, ChainBrokenError):
            # The sender is gone, or _sync meets the same breakage and says so.
            pass
        self._syncs.close()

    def _take(self, file: ChunkFile, raw_header: bytes, payload: bytes) -> None:
        header = chunk_pb2.WriteHeader.FromString(raw_header)
        if len(payload) != header.length_bytes or len(payload) > FRAME_MAXIMUM_BYTES:
            raise InvalidError(f"a frame of {len(payload)} bytes does not match its header")
        if self._downstream is not None:
            self._downstream.put(raw_header, payload)
        if header.offset_bytes >= self._checked_room_at + ROOM_CHECK_BYTES:
            self._checked_room_at = header.offset_bytes
            self._context.store.check_room(ROOM_SHARE)
        with self._appending:
            if self._stopped:
                raise ClosedError
            file.append(header.offset_bytes, (payload,), header.checksum)
        if header.sync:
            self._syncs.put(file.length_bytes)

    def _sync(self, file: ChunkFile) -> None:
        """Syncs, waits for the rest of the chain, acknowledges, in order."""
        done = self._opening.offset_bytes
        try:
            while (wanted := self._next_sync()) is not None:
                file.sync()
                if self._downstream is not None:
                    self._downstream.wait_acked(wanted)
                done = wanted
                self._acks.put(chunk_pb2.WriteAck(length_bytes=done).SerializeToString())
            self._end(done)
        except ChainBrokenError as broken:
            self._say(done, broken.address, broken.error)
        except PerseusError as error:
            self._say(done, "", error)
        except ClosedError:
            pass
        self._acks.close()

    def _next_sync(self) -> int | None:
        try:
            return self._syncs.get()
        except ClosedError:
            return None

    def _end(self, done: int) -> None:
        """The sender has ended, or taking pairs has failed."""
        downstream = self._downstream
        if self._failure is not None:
            raise self._failure
        if downstream is None:
            return
        if downstream.failure is not None:
            raise downstream.failure
        downstream.finish()

    def _say(self, done: int, address: str, error: PerseusError) -> None:
        ack = chunk_pb2.WriteAck(
            length_bytes=done, failed_address=address, error=status.to_proto(error)
        )
        # Once it is closed the caller is gone and has noticed by itself.
        with suppress(ClosedError):
            self._acks.put(ack.SerializeToString())


def check_opening(opening: chunk_pb2.WriteOpen, grant_key: bytes, time_s: float) -> None:
    """InvalidError, RefusedError; UnavailableError while the grant key is not known."""
    if not grant_key:
        raise UnavailableError("this chunkserver has not heard from the master yet")
    if len(opening.chain) > CHAIN_MAXIMUM:
        raise InvalidError(f"a chain has at most {CHAIN_MAXIMUM} members")
    check_grant(grant_key, opening.grant, opening.chunk, opening.version, time_s)


def open_message(frames: Iterator[Any]) -> chunk_pb2.WriteOpen:
    """The first frame of a write. InvalidError."""
    try:
        return chunk_pb2.WriteOpen.FromString(next(frames))
    except (StopIteration, DecodeError) as error:
        raise InvalidError("a write begins with WriteOpen") from error
