"""What a TLS client says first: a pure parser of the ClientHello.

Only what the front needs to choose a door is read: the server name and the
protocols offered (ALPN). RFC 8446 section 4.1.2, RFC 6066, RFC 7301. The hello
may come in several TLS records, and each record in several pieces.
"""

from collections.abc import Iterator
from dataclasses import dataclass

HELLO_MAXIMUM_BYTES = 16 << 10

_HANDSHAKE_RECORD = 22
_CLIENT_HELLO = 1
_RECORD_MAXIMUM_BYTES = 1 << 14
_SERVER_NAME = 0
_ALPN = 16


class NotTlsError(ValueError):
    """These bytes do not begin a TLS connection that Perseus would answer."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client asks for."""

    # In lower case; empty when it names none.
    server_name: str
    # As offered, the preferred one first.
    protocols: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The hello goes on; nothing more can be said below ``needed_bytes`` in all."""

    needed_bytes: int


def parse(data: bytes) -> ClientHello | Incomplete:
    """Reads the hello at the beginning of a connection; raises NotTlsError."""
    handshake = bytearray()
    at = 0
    while True:
        _check_record_start(data, at)
        if len(data) < at + 5:
            return _incomplete(at + 5)
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if not 1 <= length <= _RECORD_MAXIMUM_BYTES:
            raise NotTlsError("a record of impossible length")
        record = data[at + 5 : at + 5 + length]
        handshake += record
        if handshake[:1] and handshake[0] != _CLIENT_HELLO:
            raise NotTlsError("the handshake does not begin with a ClientHello")
        if len(record) < length:
            return _incomplete(at + 5 + length)
        at += 5 + length
        if len(handshake) >= 4:
            size = int.from_bytes(handshake[1:4], "big")
            if size > HELLO_MAXIMUM_BYTES:
                raise NotTlsError("a ClientHello that is too long")
            if len(handshake) >= 4 + size:
                return _parse_body(bytes(handshake[4 : 4 + size]))


def _incomplete(needed_bytes: int) -> Incomplete:
    if needed_bytes > HELLO_MAXIMUM_BYTES:
        raise NotTlsError("a ClientHello that is too long")
    return Incomplete(needed_bytes)


def _check_record_start(data: bytes, at: int) -> None:
    """Refuses at the first wrong byte, so that garbage is not waited for."""
    if data[at : at + 1] not in (b"", bytes([_HANDSHAKE_RECORD])):
        raise NotTlsError("not a handshake record")
    if data[at + 1 : at + 2] not in (b"", b"\x03"):
        raise NotTlsError("not a version of TLS")


class _Reader:
    """Takes fields off the front of bytes; what is missing raises NotTlsError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise NotTlsError("a field goes past its end")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def vector(self, length_bytes: int) -> bytes:
        return self.take(int.from_bytes(self.take(length_bytes), "big"))

    def __bool__(self) -> bool:
        return self._at < len(self._data)


def _parse_body(body: bytes) -> ClientHello:
    reader = _Reader(body)
    reader.take(2 + 32)  # version and random
    for length_bytes in (1, 2, 1):  # session, cipher suites, compression
        reader.vector(length_bytes)
    server_name = ""
    protocols: tuple[bytes, ...] = ()
    for kind, content in _extensions(reader):
        if kind == _SERVER_NAME:
            server_name = _parse_server_name(content)
        elif kind == _ALPN:
            protocols = _parse_protocols(content)
    return ClientHello(server_name, protocols)


def _extensions(reader: _Reader) -> Iterator[tuple[int, bytes]]:
    if not reader:
        return
    extensions = _Reader(reader.vector(2))
    while extensions:
        kind = int.from_bytes(extensions.take(2), "big")
        yield kind, extensions.vector(2)


def _parse_server_name(content: bytes) -> str:
    names = _Reader(_Reader(content).vector(2))
    while names:
        kind = names.take(1)
        name = names.vector(2)
        if kind == b"\x00":
            return name.decode("ascii", "replace").lower()
    return ""


def _parse_protocols(content: bytes) -> tuple[bytes, ...]:
    names = _Reader(_Reader(content).vector(2))
    found = []
    while names:
        found.append(names.vector(1))
    return tuple(found)
