"""What an agent and its chunkserver say to each other over their socket pair.

Frames: four bytes of length (big endian), then msgpack of one of the structs
below, told apart by their ``type``. Protobuf messages of the cluster's protocol
ride inside as bytes. The chunkserver ends when the socket does.
"""

import struct

import msgspec

from perseus.errors import PerseusError, TooLargeError, from_code

LENGTH = struct.Struct(">I")
# Movers of a node at once, of each kind. The agent waits for its turn; a chunkserver refuses
# what comes beyond all of them.
FEEDS_MAXIMUM = 256
PLACES_MAXIMUM = 32
SHIPS_MAXIMUM = 128
# A report of all replicas is the largest message.
MESSAGE_MAXIMUM_BYTES = 64 << 20


class SetGrantKey(msgspec.Struct, tag=True, frozen=True):
    """The key of chunk grants, from the master's Welcome."""

    key: bytes


class SetMaster(msgspec.Struct, tag=True, frozen=True):
    """Where the movers reach the service Files, "host:port"."""

    address: str


class SetClock(msgspec.Struct, tag=True, frozen=True):
    """How far this machine's clock is ahead of the master's, by which grants expire."""

    ahead_s: float


class Carry(msgspec.Struct, tag=True, frozen=True):
    """A directive (proto Directive: fetch, delete or seal); answered by ChunkEvents."""

    directive: bytes


class GetReports(msgspec.Struct, tag=True, frozen=True):
    """Answered by Reports of the same number."""

    number: int


class Feed(msgspec.Struct, tag=True, frozen=True):
    """Copy a file, as it grows, into a FIFO; answered by Done."""

    number: int
    path: str
    fifo_path: str


class Place(msgspec.Struct, tag=True, frozen=True):
    """Copy a file to a local one; answered by Done."""

    number: int
    path: str
    target_path: str


class Ship(msgspec.Struct, tag=True, frozen=True):
    """Copy a local file that grows into an attempt's output until ShipEnd; answered by Done."""

    number: int
    attempt: str
    stderr: bool
    source_path: str


class ShipEnd(msgspec.Struct, tag=True, frozen=True):
    """The file of a Ship has come to its end, at this size."""

    number: int
    size_bytes: int


class ShipCut(msgspec.Struct, tag=True, frozen=True):
    """After ShipEnd: end the Ship at what it has shipped already, a frame at the least;
    answered by Done, with that size."""

    number: int


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Break off a Feed, Place or Ship, leaving nothing; answered by Done."""

    number: int


class Shutdown(msgspec.Struct, tag=True, frozen=True):
    """End now; what is acknowledged is on disk anyway."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The first word of the chunkserver."""

    chunk_address: str
    # ReplicaReport messages.
    replicas: list[bytes]


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The chunkserver cannot start; its last word."""

    error: "Problem"


class Reports(msgspec.Struct, tag=True, frozen=True):
    """Answers GetReports."""

    number: int
    replicas: list[bytes]


class Events(msgspec.Struct, tag=True, frozen=True):
    """ChunkEvent messages."""

    events: list[bytes]


class Problem(msgspec.Struct, frozen=True):
    """A PerseusError."""

    code: str
    message: str
    hint: str
    maybe_done: bool

    @classmethod
    def of(cls, error: PerseusError) -> "Problem":
        """As a message."""
        return cls(error.code, error.message, error.hint, error.maybe_done)

    def exception(self) -> PerseusError:
        """As an exception."""
        return from_code(self.code, self.message, hint=self.hint, maybe_done=self.maybe_done)


class Done(msgspec.Struct, tag=True, frozen=True):
    """A mover has ended: what it moved, and for a Ship the file it made."""

    number: int
    size_bytes: int = 0
    inode: int = 0
    checksum: int = 0
    error: Problem | None = None


ToChunkserver = (
    SetGrantKey
    | SetMaster
    | SetClock
    | Carry
    | GetReports
    | Feed
    | Place
    | Ship
    | ShipEnd
    | ShipCut
    | Cancel
    | Shutdown
)
ToAgent = Ready | Failed | Reports | Events | Done

_encoder = msgspec.msgpack.Encoder()
to_chunkserver = msgspec.msgpack.Decoder(ToChunkserver)
to_agent = msgspec.msgpack.Decoder(ToAgent)


def encode(message: ToChunkserver | ToAgent) -> bytes:
    """The message as a frame. TooLargeError."""
    body = _encoder.encode(message)
    if len(body) > MESSAGE_MAXIMUM_BYTES:
        raise TooLargeError(f"a control message has at most {MESSAGE_MAXIMUM_BYTES} bytes")
    return LENGTH.pack(len(body)) + body


def frame_size(head: bytes) -> int:
    """The length of the message behind ``head``. TooLargeError."""
    (size,) = LENGTH.unpack(head)
    if size > MESSAGE_MAXIMUM_BYTES:
        raise TooLargeError(f"a control message of {size} bytes")
    return int(size)
