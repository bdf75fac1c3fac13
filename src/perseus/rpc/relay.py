"""Bytes to and fro between two sockets, with backpressure and half-close.

Once either end is over the other has LINGER_S to take what is left and end as
well, so that a peer that says nothing and never closes is not kept.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from perseus.rpc.admission import Admission

BUFFER_BYTES = 256 << 10
LINGER_S = 10.0

# One buffer serves all relays: each read is handed on before the next begins.
_buffer = memoryview(bytearray(BUFFER_BYTES))


class _End(asyncio.BufferedProtocol):
    """One end; what it reads, its peer writes. ``hears`` is told of it, until it is None."""

    def __init__(
        self,
        on_ended: Callable[[], None],
        on_lost: Callable[[], None],
        hears: Callable[[memoryview], None],
    ) -> None:
        self.hears: Callable[[memoryview], None] | None = hears
        self.peer: _End | None = None
        self.transport: asyncio.Transport | None = None
        self._on_ended = on_ended
        self._on_lost = on_lost
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.peer is None or self.peer.transport is None:
            # Nowhere to write yet.
            self.transport.pause_reading()
        else:
            self.peer.transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.hears is not None:
            self.hears(_buffer[:nbytes])
        other = self._other()
        if other is not None and not other.is_closing():
            other.write(bytes(_buffer[:nbytes]))

    def eof_received(self) -> bool:
        self._ended = True
        self._on_ended()
        other = self._other()
        if other is None or other.is_closing():
            return False
        other.write_eof()
        # Open for the other direction, until that ends as well.
        return not (self.peer is not None and self.peer._ended)

    def pause_writing(self) -> None:
        other = self._other()
        if other is not None:
            other.pause_reading()

    def resume_writing(self) -> None:
        other = self._other()
        if other is not None and not other.is_closing():
            other.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        other = self._other()
        if other is not None:
            other.close()
        self._on_ended()
        self._on_lost()

    def _other(self) -> asyncio.Transport | None:
        return self.peer.transport if self.peer is not None else None


async def relay(
    connection: socket.socket, socket_path: str, on_admitted: Callable[[], None]
) -> None:
    """Joins an accepted connection with a Unix socket; returns when both are closed,
    or LINGER_S after the first.

    Takes over ``connection``. ``on_admitted`` is called once when the server behind
    the Unix socket has taken the client's certificate. Raises OSError when nothing
    listens at the path.
    """
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    open_ends = 2
    limit: asyncio.TimerHandle | None = None

    def end() -> None:
        if not done.done():
            done.set_result(None)

    def ended() -> None:
        nonlocal limit
        limit = limit or loop.call_later(LINGER_S, end)

    def lost() -> None:
        nonlocal open_ends
        open_ends -= 1
        if open_ends == 0:
            end()

    admission = Admission()

    def server_spoke(data: memoryview) -> None:
        admission.server_spoke(data)
        if admission.is_admitted:
            inner.hears = outer.hears = None
            on_admitted()

    inner = _End(ended, lost, server_spoke)
    outer = _End(ended, lost, lambda data: admission.client_spoke())
    inner.peer, outer.peer = outer, inner
    try:
        await loop.create_unix_connection(lambda: inner, socket_path)
        await loop.connect_accepted_socket(lambda: outer, connection)
        await done
    finally:
        if limit is not None:
            limit.cancel()
        for either in (inner, outer):
            if either.transport is not None:
                either.transport.abort()
        connection.close()
