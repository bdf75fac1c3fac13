"""TLS on the server's side of an asyncio connection, which sends its alerts.

asyncio's own TLS drops the alert of a handshake that fails; but that alert is
all that a stranger gets, and by it a joiner learns what is wrong with his
token. After an alert the connection lingers a moment, for a peer that is still
sending would otherwise lose the alert to a reset.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any, cast

HANDSHAKE_TIMEOUT_S = 10.0
LINGER_S = 1.0
READ_BYTES = 256 << 10

_log = logging.getLogger("perseus.rpc")


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """Protocol of the raw connection and transport of ``inner``, which sees plain bytes.

    ``inner`` is told of a connection once the handshake is done. ``on_settled`` is
    called when the handshake has ended, ``on_lost`` when the connection is closed;
    both once, whatever happens.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        inner: asyncio.Protocol,
        on_settled: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__()
        self._inner = inner
        self._on_settled = on_settled
        self._on_lost = on_lost
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._raw: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        # "handshake", "open", "closing"
        self._state = "handshake"
        self._is_settled = False
        self._is_known = False

    # As the protocol of the raw connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        self._set_timer(HANDSHAKE_TIMEOUT_S)

    def data_received(self, data: bytes) -> None:
        if self._state == "closing":
            return
        self._incoming.write(data)
        try:
            if self._state == "handshake":
                self._tls.do_handshake()
                self._opened()
            self._read()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            _log.debug("TLS ends: %s", error)
            self._linger()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._state = "closing"
        self._set_timer(None)
        self._settle()
        if self._is_known:
            self._inner.connection_lost(error)
        self._on_lost()

    # As the transport of the inner protocol.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._state != "open":
            return
        # The outgoing buffer takes all, so this never wants to wait.
        self._tls.write(data)
        self._flush()

    def pause_reading(self) -> None:
        if self._raw is not None:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if self._raw is not None:
            self._raw.resume_reading()

    def is_closing(self) -> bool:
        return self._state == "closing" or self._raw is None or self._raw.is_closing()

    def close(self) -> None:
        """Ends TLS, and the connection once all is written."""
        if self._state == "open":
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        self._state = "closing"
        if self._raw is not None:
            self._raw.close()

    def abort(self) -> None:
        self._state = "closing"
        if self._raw is not None:
            self._raw.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``ssl_object`` is the TLS connection; all else is the raw transport's."""
        if name == "ssl_object":
            return self._tls
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    def _opened(self) -> None:
        self._set_timer(None)
        self._state = "open"
        self._flush()
        self._settle()
        self._is_known = True
        self._inner.connection_made(self)

    def _read(self) -> None:
        while self._state == "open":
            data = self._tls.read(READ_BYTES)
            if not data:
                # The peer ended TLS: to us it is gone.
                self.close()
                return
            self._inner.data_received(data)

    def _flush(self) -> None:
        if self._raw is not None and self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    def _linger(self) -> None:
        """Sends the alert, then waits a little for the peer to end."""
        self._flush()
        self._state = "closing"
        if self._raw is not None and not self._raw.is_closing():
            self._raw.write_eof()
            self._raw.resume_reading()
            self._set_timer(LINGER_S)

    def _set_timer(self, after_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = None if after_s is None else loop.call_later(after_s, self.abort)

    def _settle(self) -> None:
        if not self._is_settled:
            self._is_settled = True
            self._on_settled()
