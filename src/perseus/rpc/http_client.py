"""A client of the JSON door, by the standard library alone and as little of it as can be.

::

    with UnixConnection("/…/run/perseusd.sock") as connection:
        connection.call("Jobs.Submit", {"spec": {"argv": ["true"]}})   -> a dict
        for event in connection.stream("Jobs.Follow", {...}): ...      many answers
        connection.upload("Files.Write", pieces)                       many requests
        call = connection.start("Agents.Connect")                      both, by hand

Messages are dicts in proto3 JSON: names in snake_case, bytes as base64
(``stream`` can have long ones as they are), 64-bit
integers as strings in answers. A connection serves one call at a time and is
kept for the next; it is opened when first used. Errors are PerseusErrors: those
that the daemon sends, and UnavailableError where there is no daemon.

``UnixConnection`` loads no ``socket``, ``ssl``, ``json`` or ``asyncio``: the
command line's fast path stands on it.
"""

from __future__ import annotations

import _socket
import _thread
from abc import ABC, abstractmethod

from perseus import versions
from perseus.errors import (
    InternalError,
    InvalidError,
    PerseusError,
    RefusedError,
    UnavailableError,
    from_code,
)
from perseus.rpc import light_json

# ``typing`` would import ``re``.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Self

    Message = dict[str, Any]
else:
    Message = dict

RECEIVE_BYTES = 256 << 10
HEAD_MAXIMUM_BYTES = 64 << 10
CONNECT_TIMEOUT_S = 10.0
# How much later than the daemon we give up.
TIMEOUT_MARGIN_S = 5.0


class Connection(ABC):
    """What both kinds of connection have in common."""

    def __init__(self, where: str, host: str) -> None:
        """``where`` names the daemon in messages, ``host`` goes into the head."""
        self._where = where
        self._host = host
        self._socket: Any = None
        self._buffer = bytearray()
        self._busy: JsonCall | None = None
        self._lock = _thread.allocate_lock()
        # Whether another thread gave this connection up; it is then of no more use.
        self.is_aborted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, request: Message, timeout_s: float | None = None) -> Message:
        """One request ("Jobs.Submit"), one answer."""
        return self._only(self._begin(method, request, timeout_s))

    def stream(
        self, method: str, request: Message, timeout_s: float | None = None, raw: bool = False
    ) -> Iterator[Message]:
        """One request, many answers. Closing the iterator early closes the connection.

        With ``raw`` long byte strings may come as bytes instead of base64.
        """
        call = self._begin(method, request, timeout_s, raw)
        try:
            yield from call
        finally:
            call.close()

    def upload(
        self, method: str, requests: Iterable[Message], timeout_s: float | None = None
    ) -> Message:
        """Many requests, one answer."""
        call = self.start(method, timeout_s)
        try:
            for request in requests:
                call.send(request)
            call.finish()
            return self._only(call)
        finally:
            call.close()

    def start(self, method: str, timeout_s: float | None = None) -> JsonCall:
        """A call whose requests are sent one by one; the answers are read off it."""
        return self._begin(method, None, timeout_s)

    def get(self, path: str) -> bytes:
        """The content of a page, such as "/healthz"."""
        self._ready()
        call = self._busy = JsonCall(self, f"GET {path}")
        self._send(f"GET {path} HTTP/1.1\r\nhost: {self._host}\r\n\r\n".encode())
        return call.content()

    def close(self) -> None:
        """Ends the connection and the call on it; the daemon then ends the call as well."""
        busy, self._busy = self._busy, None
        if busy is not None:
            busy.ended = True
        with self._lock:
            closing, self._socket = self._socket, None
            if closing is not None:
                closing.close()
        self._buffer.clear()

    def abort(self) -> None:
        """Ends the connection from any thread: one that waits on it gets UnavailableError."""
        self.is_aborted = True
        # Closing would not wake who waits. The lock keeps the descriptor from being
        # closed and given to somebody else meanwhile; ``shutdown`` of a TLS socket
        # would take its state from under the reader.
        with self._lock:
            if self._socket is not None:
                try:
                    _socket.socket.shutdown(self._socket, _socket.SHUT_RDWR)
                except OSError:
                    return  # The peer was faster.

    def fileno(self) -> int:
        """For ``select``; answers that were received already do not show there."""
        return int(self._socket.fileno())

    def _begin(
        self, method: str, request: Message | None, timeout_s: float | None, raw: bool = False
    ) -> JsonCall:
        path = _path(method)
        self._ready()
        if timeout_s is not None:
            self._socket.settimeout(timeout_s + TIMEOUT_MARGIN_S)
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\n"
        head += f"{versions.OFFER}: {versions.offer()}\r\n"
        if timeout_s is not None:
            head += f"perseus-timeout-s: {timeout_s:f}\r\n"
        if raw:
            head += "perseus-raw: 1\r\n"
        body = b""
        if request is None:
            head += "transfer-encoding: chunked\r\n\r\n"
        else:
            body = light_json.dumps(request).encode()
            head += f"content-length: {len(body)}\r\n\r\n"
        call = self._busy = JsonCall(self, path)
        call.finished = request is not None
        call.transmit(head.encode() + body)
        return call

    def _only(self, call: JsonCall) -> Message:
        answer = call.receive()
        if answer is None or call.receive() is not None:
            self.close()
            raise InternalError(f"{self._where} gave not one answer to {call.what}")
        return answer

    def _ready(self) -> None:
        """Makes sure of an open connection that is free."""
        if self._busy is not None:
            raise InvalidError("this connection is in use by another call; open a second one")
        if self._socket is not None and not self._is_alive():
            self.close()
        if self._socket is None:
            self._socket = self._open()
        if self.is_aborted:
            self.close()
            raise self._given_up()
        self._socket.settimeout(None)

    def _is_alive(self) -> bool:
        """Whether an idle connection was not closed by the daemon meanwhile."""
        # The last call's time limit would make this wait, whatever the flags say.
        self._socket.settimeout(0.0)
        try:
            self._socket.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @abstractmethod
    def _open(self) -> Any:
        """A connected socket; raises UnavailableError or RefusedError."""

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _receive(self) -> None:
        """Adds to the buffer what comes; raises UnavailableError when nothing will."""
        if self._socket is None:
            raise UnavailableError(
                f"the connection to {self._where} was closed", hint="try again; perseus doctor"
            )
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except TimeoutError:
            self.close()
            raise UnavailableError(
                f"{self._where} does not answer", hint="perseus doctor", maybe_done=True
            ) from None
        except OSError as error:
            self.close()
            raise self._given_up() if self.is_aborted else self._broken(error) from error
        if not data:
            self.close()
            raise self._given_up() if self.is_aborted else self._broken(None)
        self._buffer += data

    def _given_up(self) -> PerseusError:
        return UnavailableError(
            f"the call to {self._where} was given up: its connection was closed here",
            hint="see what became of it: perseus ps",
            maybe_done=True,
        )

    def _broken(self, error: OSError | None) -> PerseusError:
        reason = f": {error}" if error is not None else ""
        return UnavailableError(
            f"{self._where} went away in the middle of a call{reason}",
            hint="see what became of it: perseus ps; perseus doctor",
            maybe_done=True,
        )

    def _take_head(self) -> bytes:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD_MAXIMUM_BYTES:
                self.close()
                raise InternalError(f"{self._where} does not speak HTTP")
            self._receive()
        return self._take(end + 4)

    def _take_line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._receive()
        return self._take(end + 2)[:-2]

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._receive()
        return _cut(self._buffer, count)

    def _finished(self, keep: bool) -> None:
        self._busy = None
        if not keep:
            self.close()


class JsonCall:
    """A call under way. Iterating gives its answers until the last."""

    def __init__(self, connection: Connection, what: str) -> None:
        self.what = what
        self.finished = False
        self.ended = False
        self._connection = connection
        self._status = 0
        self._pieces: Iterator[bytes] | None = None
        self._is_lines = False
        self._is_raw = False
        self._keep = True
        self._line = bytearray()
        self._lines: list[bytes] = []

    def send(self, request: Message) -> None:
        """Sends one of many requests; raises the daemon's error when it wants no more."""
        line = light_json.dumps(request).encode()
        self.transmit(b"%x\r\n%b\n\r\n" % (len(line) + 1, line))

    def finish(self) -> None:
        """Says that no more requests come."""
        if not self.finished:
            self.finished = True
            self.transmit(b"0\r\n\r\n")

    def receive(self) -> Message | None:
        """The next answer; None after the last. Raises what the daemon raised."""
        while True:
            if self._lines:
                return self._decode(self._lines.pop(0))
            if self.ended:
                return None
            pieces = self._answer()
            if self._is_raw and (message := self._receive_raw(pieces)) is not None:
                return message
            self._read()

    def _receive_raw(self, pieces: Iterator[bytes]) -> Message | None:
        """A line and the bytes that follow it; None at the end of the answer."""
        line = self._line
        while (end := line.find(b"\n")) < 0:
            if (piece := next(pieces, None)) is None:
                return None
            line += piece
        message = self._decode(_cut(line, end + 1))
        for name, size in message.pop("raw_bytes", {}).items():
            while len(line) < size:
                if (piece := next(pieces, None)) is None:
                    raise self._connection._broken(None)
                line += piece
            message[name] = _cut(line, size)
        return message

    def __iter__(self) -> Iterator[Message]:
        while (message := self.receive()) is not None:
            yield message

    def close(self) -> None:
        """Ends the call; one that is not over takes its connection with it."""
        if not self.ended:
            self._connection.close()

    def content(self) -> bytes:
        """The whole answer as bytes."""
        pieces = b"".join(self._answer())
        self._end()
        if self._status >= 400:
            self._decode(pieces)
        return pieces

    def transmit(self, data: bytes) -> None:
        """Sends raw bytes of the request."""
        connection = self._connection
        if self.ended:
            raise UnavailableError(f"{self.what} is over")
        try:
            connection._send(data)
        except OSError as error:
            # The daemon may have said why before it closed.
            self.finished = False
            try:
                while self.receive() is not None:
                    pass
            except UnavailableError:
                pass
            connection.close()
            raise connection._broken(error) from error

    def _read(self) -> None:
        """Reads on until there is a line, or the end."""
        pieces = self._answer()
        for piece in pieces:
            if not self._is_lines:
                self._line += piece
                continue
            searched = len(self._line)
            self._line += piece
            if self._line.find(b"\n", searched) >= 0:
                *lines, self._line = self._line.split(b"\n")
                self._lines = [bytes(line) for line in lines if line.strip()]
                if self._lines:
                    return
        if self._line.strip():
            self._lines.append(bytes(self._line))
        self._line = bytearray()
        self._end()

    def _end(self) -> None:
        self.ended = True
        self._connection._finished(self._keep and (self.finished or self.what.startswith("GET")))

    def _answer(self) -> Iterator[bytes]:
        """The answer's body, in pieces; reads the head first."""
        if self._pieces is None:
            headers = self._read_head()
            self._keep = headers.get("connection", "").lower() != "close"
            kind = headers.get("content-type", "")
            self._is_lines = kind.startswith("application/x-ndjson")
            self._is_raw = kind.endswith("raw=1")
            if headers.get("transfer-encoding", "").lower() == "chunked":
                self._pieces = self._chunks()
            else:
                self._pieces = self._counted(int(headers.get("content-length", "0")))
        return self._pieces

    def _read_head(self) -> dict[str, str]:
        while True:
            first, *lines = self._connection._take_head().decode("latin-1").split("\r\n")
            parts = first.split(" ", 2)
            if not first.startswith("HTTP/1.") or not parts[1].isdigit():
                self._connection.close()
                raise InternalError(f"{self._connection._where} does not speak HTTP")
            self._status = int(parts[1])
            if self._status >= 200:
                break
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    def _chunks(self) -> Iterator[bytes]:
        connection = self._connection
        while True:
            size = int(connection._take_line().partition(b";")[0], 16)
            if size == 0:
                while connection._take_line():
                    pass
                return
            yield connection._take(size)
            connection._take(2)

    def _counted(self, left_bytes: int) -> Iterator[bytes]:
        while left_bytes > 0:
            piece = self._connection._take(min(left_bytes, RECEIVE_BYTES))
            left_bytes -= len(piece)
            yield piece

    def _decode(self, line: bytes) -> Message:
        try:
            message = light_json.loads(line.decode())
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self.close()
            raise InternalError(
                f"{self._connection._where} answered {self.what} with HTTP status "
                f"{self._status} and no JSON"
            )
        error = message.get("error")
        if isinstance(error, dict) and (self._status >= 400 or len(message) == 1):
            if not self.ended and not self._lines:
                self._drain()
            raise from_code(
                error.get("code", "internal"),
                error.get("message", ""),
                hint=error.get("hint", ""),
                maybe_done=bool(error.get("maybe_done")),
            )
        return message

    def _drain(self) -> None:
        """Reads the end of the answer behind an error, so that the connection can stay."""
        try:
            while not self.ended:
                self._read()
        except PerseusError:
            self._connection.close()


class UnixConnection(Connection):
    """To the daemon of this machine, over its Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the daemon at {path}", "perseus")
        self._path = path

    def _open(self) -> Any:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            if isinstance(error, PermissionError):
                raise RefusedError(
                    f"this user may not reach the daemon's socket {self._path}",
                    hint="log in with a token: perseus login HOST:PORT --token T",
                ) from None
            raise UnavailableError(
                f"no daemon answers at {self._path} ({error.strerror})",
                hint="is it running?  perseus doctor",
            ) from None
        return connection


def _cut(buffer: bytearray, count: int) -> bytes:
    """Takes that many bytes off the front."""
    with memoryview(buffer) as view:
        taken = bytes(view[:count])
    del buffer[:count]
    return taken


def _path(method: str) -> str:
    """ "Jobs.Submit" as "/perseus.v1.Jobs/Submit"; a path stays as it is."""
    if method.startswith("/"):
        return method
    service, _, name = method.rpartition(".")
    prefix = "" if "." in service else "perseus.v1."
    return f"/{prefix}{service}/{name}"
