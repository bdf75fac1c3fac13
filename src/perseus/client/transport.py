"""Calls to the cluster as JSON over HTTP, on connections that are kept for the next call.

The daemon's Unix socket is used where the context names one that is there, the
master's TLS address otherwise. Safe for threads: each call under way has a
connection of its own; at most IDLE_MAXIMUM wait for the next. ``close`` may come
from any thread, and wakes those that wait for an answer. Standard library alone;
``ssl`` only for TLS.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from perseus.client import giving_up
from perseus.client.context import Context
from perseus.errors import InvalidError, PerseusError, RefusedError, UnavailableError
from perseus.rpc.http_client import Connection, UnixConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from perseus.identity.files import Identity

IDLE_MAXIMUM = 8
CONNECT_TIMEOUT_S = 10.0

Message = dict[str, Any]


class Transport:
    """The way to one cluster."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._idle: list[Connection] = []
        # Connections with a call that waits for answers alone.
        self._waiting: set[Connection] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._tls: Any = None

    def call(self, method: str, request: Message, timeout_s: float | None = None) -> Message:
        """A unary call of "Service/Method"; raises PerseusError."""
        with self._awaited() as connection, giving_up.waiting(connection.abort):
            return connection.call(_dotted(method), request, timeout_s)

    def stream(self, method: str, request: Message, raw: bool = False) -> "Stream":
        """A call with many answers, made when the first is asked for. With ``raw`` long byte
        strings may come as bytes instead of base64."""
        return Stream(
            self._awaited,
            lambda connection: connection.stream(_dotted(method), request, raw=raw),
        )

    def upload(self, method: str, requests: Iterable[Message]) -> Message:
        """A call with many requests and one answer. When ``requests`` raises, the
        call is broken off, which the daemon takes for giving up."""
        with self._connection() as connection:
            return connection.upload(_dotted(method), requests)

    def close(self) -> None:
        """Takes no more calls, and ends those that wait for an answer with UnavailableError.
        An upload goes on to its end: a detached task may be reading it."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            waiting = list(self._waiting)
        for connection in idle:
            connection.close()
        for connection in waiting:
            connection.abort()

    @contextlib.contextmanager
    def _awaited(self) -> Generator[Connection, None, None]:
        """A connection whose call ends when this is closed."""
        with self._connection() as connection:
            with self._lock:
                self._waiting.add(connection)
            try:
                # Closed since: ``close`` has not seen it.
                self._check_open()
                yield connection
            finally:
                with self._lock:
                    self._waiting.discard(connection)

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("this Cluster was closed", hint="perseus.connect()")

    @contextlib.contextmanager
    def _connection(self) -> Generator[Connection, None, None]:
        """A connection for one call, kept for the next when the call left it whole."""
        self._check_open()
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect()
        try:
            yield connection
        except PerseusError:
            self._keep(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        with self._lock:
            has_room = not self._closed and len(self._idle) < IDLE_MAXIMUM
            if has_room and not connection.is_aborted:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> Connection:
        context = self.context
        if self.is_near:
            return UnixConnection(context.socket)
        if not context.address:
            raise UnavailableError(
                f"the context {context.name!r} names no address and no socket",
                hint="perseus context ls",
            )
        if not context.has_certificate:
            raise RefusedError(
                f"the context {context.name!r} has no certificate for {context.address}",
                hint=f"perseus login {context.address} --token T",
            )
        return self._connect_tls()

    @property
    def is_near(self) -> bool:
        """Whether calls go by the socket of a daemon on this machine."""
        socket = self.context.socket
        return bool(socket) and (os.access(socket, os.W_OK) or not self._can_tls)

    @property
    def _can_tls(self) -> bool:
        return bool(self.context.address and self.context.has_certificate)

    def renew(self) -> bool:
        """Renews the context's certificate if that is due, also where calls go by the socket
        and none is shown; whether it did. That it cannot be done is no error."""
        before = self.context.certificate_pem
        if self._can_tls:
            with contextlib.suppress(PerseusError, OSError):
                self._connect_tls().close()
        return self.context.certificate_pem != before

    def _connect_tls(self) -> Connection:
        from perseus.client.renewal import renew_if_due
        from perseus.identity.subject import server_name
        from perseus.rpc.tls_client import TlsConnection

        context = self.context
        name = server_name(context.cluster_id, "node")

        def connect() -> Connection:
            return TlsConnection(context.address, self._tls, name, CONNECT_TIMEOUT_S)

        if self._tls is None:
            self._tls = _ssl_context(context)
            if renew_if_due(context, connect):
                self._tls = _ssl_context(context)
        return connect()


class Stream:
    """Answers of one call as they come; iterate once, ``close`` to leave early, also from
    another thread than the one that waits for the next answer."""

    def __init__(
        self,
        connect: Callable[[], contextlib.AbstractContextManager[Connection]],
        begin: Callable[[Connection], Iterator[Message]],
    ) -> None:
        self._connect = connect
        self._begin = begin
        self._connection: Connection | None = None
        self._closed = False
        # Held while an answer is waited for: a generator cannot be closed then.
        self._reading = threading.Lock()
        self._answers = self._read()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        with self._reading, giving_up.waiting(self.close):
            return next(self._answers)

    def close(self) -> None:
        """Ends the call, and the connection with it when it is not over. Who waits for an
        answer gets UnavailableError."""
        self._closed = True
        if self._reading.acquire(blocking=False):
            try:
                self._answers.close()
            finally:
                self._reading.release()
        elif (connection := self._connection) is not None:
            connection.abort()

    def _read(self) -> Generator[Message, None, None]:
        with self._connect() as connection:
            self._connection = connection
            try:
                if self._closed:
                    raise UnavailableError(
                        "the call was given up before it was made", hint="perseus.connect()"
                    )
                yield from self._begin(connection)
            finally:
                self._connection = None


def _ssl_context(context: Context) -> Any:
    """For TLS with the context's certificate, which ``ssl`` takes from files alone."""
    import tempfile
    from pathlib import Path

    from perseus.identity.files import CERTIFICATE_FILE, KEY_FILE

    with tempfile.TemporaryDirectory(prefix="perseus-") as name:
        folder = Path(name)
        for file, content in (
            (CERTIFICATE_FILE, context.certificate_pem),
            (KEY_FILE, context.key_pem),
        ):
            descriptor = os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as opened:
                opened.write(content)
        return _identity(context, folder).client_ssl_context()


def identity_of(context: Context) -> Any:
    """The context's certificate and key as a ``perseus.identity.files.Identity``."""
    from pathlib import Path

    if not context.has_certificate:
        raise InvalidError(
            f"the context {context.name!r} has no certificate",
            hint=f"perseus login {context.address or 'HOST:PORT'} --token T",
        )
    return _identity(context, Path(context.path or ".").parent)


def _identity(context: Context, folder: "Path") -> "Identity":
    from perseus.identity.files import Identity

    parts = (context.ca_pem, context.certificate_pem, context.key_pem)
    origin = (
        f"context {context.name}, {context.path}" if context.path else f"context {context.name}"
    )
    try:
        return Identity.of(folder, *(part.encode() for part in parts), origin=origin)
    except InvalidError as error:
        if error.hint:
            raise
        raise InvalidError(
            f"what stands for a certificate in {origin} is none: {error.message}",
            hint=f"perseus login {context.address or 'HOST:PORT'} --token T",
        ) from None


def _dotted(method: str) -> str:
    return method.replace("/", ".")
