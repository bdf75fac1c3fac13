"""What the agent and its spawner say to each other, and how it crosses the socket.

A frame is a length (4 bytes, little-endian) and a msgpack list of messages, so
many messages cost one system call. A descriptor rides beside the frame whose
message announces it (``Forked``); descriptors arrive in the order of those
messages. Neither side ever blocks on the other: what the socket does not take
is kept and sent when it does.
"""

import array
import socket
import struct
from collections import deque
from typing import Generic, TypeVar

import msgspec

_HEADER = struct.Struct("<I")
# An argument list may be 1 MiB, an environment as much again; this is many of them.
FRAME_MAXIMUM_BYTES = 64 << 20
_READ_BYTES = 256 << 10
_DESCRIPTORS_MAXIMUM = 16


class _Message(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Root of the messages: arrays that begin with the class name."""


class Start(_Message, frozen=True):
    """Start a program; answered by Started or Failed with the same number."""

    number: int
    argv: list[str]
    environment: dict[str, str]
    working_directory: str
    stdin_path: str
    stdout_path: str
    stderr_path: str
    # A task that is to end before; 0, and one that is not there: none.
    after: int = 0


class Free(_Message, frozen=True):
    """Refuse what is to start after this task, if that has not ended."""

    pid: int


class Signal(_Message, frozen=True):
    """Signal the process group of a task; quiet when it has ended."""

    pid: int
    signal: int


class KillAll(_Message, frozen=True):
    """SIGKILL to every task's group."""


class Guard(_Message, frozen=True):
    """Freeze all tasks when CLOCK_BOOTTIME passes ``until_s``, unless told anew; 0: never."""

    until_s: float


class Freeze(_Message, frozen=True):
    """Stop all tasks where they are, and start none, until Thaw."""


class Thaw(_Message, frozen=True):
    """These tasks go on; others that are frozen stay so. Tasks start again."""

    pids: list[int]


class Fork(_Message, frozen=True):
    """Fork the named Python child; answered by Forked or Failed."""

    number: int
    name: str


class Started(_Message, frozen=True):
    """The program runs."""

    number: int
    pid: int


class Failed(_Message, frozen=True):
    """It does not; ``code`` is a word of perseus.errors."""

    number: int
    code: str
    message: str
    hint: str


class Forked(_Message, frozen=True):
    """The child runs; a socket to it comes along."""

    number: int
    pid: int


class Ended(_Message, frozen=True):
    """A task or child ended; its process group is killed. Negative codes are signals."""

    pid: int
    code: int
    cpu_s: float
    memory_peak_bytes: int
    left_nothing: bool


ToSpawner = Start | Free | Signal | KillAll | Guard | Freeze | Thaw | Fork
FromSpawner = Started | Failed | Forked | Ended

Incoming = TypeVar("Incoming")


class Wire(Generic[Incoming]):
    """Both directions of one end. The socket is made non-blocking."""

    def __init__(self, connection: socket.socket, incoming: type[list[Incoming]]) -> None:
        connection.setblocking(False)
        self.connection = connection
        # Descriptors received and not yet taken.
        self.descriptors: deque[int] = deque()
        self._decoder = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._received = bytearray()
        # Frames to be sent, each with the descriptors that ride along.
        self._waiting: deque[tuple[memoryview, list[socket.socket]]] = deque()

    def queue(self, messages: list[_Message], descriptors: list[socket.socket]) -> None:
        """Adds one frame; takes over ``descriptors`` and closes them once sent.

        Raises ValueError when the messages are too large together, or are not Unicode.
        """
        body = self._encoder.encode(messages)
        if len(body) > FRAME_MAXIMUM_BYTES:
            raise ValueError(f"{len(body)} bytes, a frame holds {FRAME_MAXIMUM_BYTES}")
        frame = _HEADER.pack(len(body)) + body
        self._waiting.append((memoryview(frame), descriptors))

    def flush(self) -> bool:
        """Sends what the socket takes; True when nothing is left. Raises OSError."""
        while self._waiting:
            frame, descriptors = self._waiting[0]
            try:
                sent = self._send(frame, descriptors)
            except (BlockingIOError, InterruptedError):
                return False
            for descriptor in descriptors:
                descriptor.close()
            if sent == len(frame):
                self._waiting.popleft()
            else:
                self._waiting[0] = (frame[sent:], [])
        return True

    def _send(self, frame: memoryview, descriptors: list[socket.socket]) -> int:
        if not descriptors:
            return self.connection.send(frame)
        numbers = array.array("i", [each.fileno() for each in descriptors])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)]
        return self.connection.sendmsg([frame], rights)

    def receive(self) -> list[Incoming]:
        """All messages that have come so far; raises EOFError when the peer is gone."""
        messages: list[Incoming] = []
        try:
            more = True
            while more:
                more = self._receive_some()
                messages += self._decode()
        except (BlockingIOError, InterruptedError):
            pass
        except (EOFError, ConnectionError):
            if not messages:
                raise EOFError("the peer is gone") from None
        return messages

    def _receive_some(self) -> bool:
        """One read; False when the socket had less than was asked for (poll tells the rest)."""
        size = _DESCRIPTORS_MAXIMUM * array.array("i").itemsize
        data, ancillary, _, _ = self.connection.recvmsg(
            _READ_BYTES, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                self.descriptors.extend(numbers)
        if not data:
            raise EOFError("the peer is gone")
        self._received += data
        return len(data) == _READ_BYTES

    def _decode(self) -> list[Incoming]:
        messages: list[Incoming] = []
        start = 0
        while len(self._received) - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._received, start)
            if length > FRAME_MAXIMUM_BYTES:
                raise EOFError(f"a frame of {length} bytes is no frame of ours")
            end = start + _HEADER.size + length
            if len(self._received) < end:
                break
            messages += self._decoder.decode(self._received[start + _HEADER.size : end])
            start = end
        del self._received[:start]
        return messages
