"""The front: the agent's TLS port and its Unix socket.

On the TLS port the ClientHello is looked at without being taken. A client that
offers ``h2`` and not ``http/1.1`` speaks gRPC: its connection is relayed, still
encrypted, to the gRPC server on a private Unix socket. Any other gets the JSON
door, after TLS with a certificate of the cluster. The holder of a live join
token proves it in the server name and gets the JSON door without a
certificate, where his role opens ``GET /ca``, Join and Login alone; of a token
that is over he is told by which TLS alert he gets. Everybody else gets at most
a TLS alert.

On the Unix socket the JSON door knows its caller by peer credentials.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import cast

import h11

from perseus.errors import ConflictError, InvalidError, PerseusError, UnavailableError
from perseus.identity import roles
from perseus.identity.files import Identity
from perseus.identity.token_text import EXPIRED, LIVE, REVOKED, USED, TokenProof
from perseus.rpc import client_hello
from perseus.rpc.addresses import join_address, split_address
from perseus.rpc.call import Caller
from perseus.rpc.callers import CertificateReader, local_caller
from perseus.rpc.client_hello import ClientHello, Incomplete, NotTlsError
from perseus.rpc.grpc_options import HANDSHAKE_TIMEOUT_S
from perseus.rpc.grpc_server import GrpcServer
from perseus.rpc.http_connection import HttpConnection
from perseus.rpc.json_door import JsonDoor
from perseus.rpc.registry import Registry
from perseus.rpc.relay import LINGER_S, relay
from perseus.rpc.strangers import Bounds, Stranger, Strangers, bounds_for
from perseus.rpc.tls_transport import TlsTransport
from perseus.runtime import descriptors

BACKLOG = 512
HELLO_TIMEOUT_S = 10.0
# Whoever is relayed for longer is no stranger: gRPC ends a handshake in its time,
# and the relay what is ended in its own.
RELAYED_STRANGER_S = HANDSHAKE_TIMEOUT_S + LINGER_S + 1.0
# So many local connections beyond their bound are still told that they are too many.
LOCAL_TOLD = 16
# Of Linux.
SOCKET_PATH_MAXIMUM_BYTES = 107
# A pause after the kernel has no more descriptors for us.
ACCEPT_PAUSE_S = 0.5

_ALERTS = {
    USED: ssl.ALERT_DESCRIPTION_ACCESS_DENIED,
    REVOKED: ssl.ALERT_DESCRIPTION_CERTIFICATE_REVOKED,
    EXPIRED: ssl.ALERT_DESCRIPTION_CERTIFICATE_EXPIRED,
}
_HTTP = "http/1.1"

_log = logging.getLogger("perseus.rpc")


class Front:
    """All doors of one daemon; ``start`` and ``stop`` it once."""

    def __init__(
        self,
        registry: Registry,
        identity: Identity,
        *,
        listen: str,
        socket_path: str,
        grpc_socket_path: str,
        local_role: Callable[[int], int],
        check_token: Callable[[str], TokenProof | None] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        """``listen`` is "HOST:PORT", port 0 lets the kernel choose (see ``address``).
        ``local_role`` gives the role of a local uid (``callers.socket_roles``).
        ``check_token`` says which token a server name proves (``Tokens.judge_server_name``).
        ``bounds`` follow from this process' limit of descriptors where they are not given."""
        self._registry = registry
        self._listen = listen
        self._socket_path = socket_path
        self._grpc_socket_path = grpc_socket_path
        self._local_role = local_role
        self._check_token = check_token or (lambda server_name: None)
        self._door = JsonDoor(registry, identity.ca_pem, identity.cluster_id)
        self._reader = CertificateReader(identity.cluster_id)
        self._grpc = GrpcServer(registry, identity, grpc_socket_path)
        self._connections: set[HttpConnection] = set()
        self._arrivals: set[asyncio.Task[None]] = set()
        self._bounds = bounds or bounds_for(descriptors.limit())
        self._strangers = Strangers(self._bounds.strangers, self._bounds.strangers_of_one)
        self._local_count = 0
        self._stopped = False
        self._listener: socket.socket | None = None
        self._local: asyncio.AbstractServer | None = None
        self.use_identity(identity)

    @property
    def address(self) -> str:
        """Where the TLS port listens, "HOST:PORT" with the real port."""
        if self._listener is None:
            raise UnavailableError("the front does not listen yet")
        host, port = self._listener.getsockname()[:2]
        return join_address(host, port)

    def use_identity(self, identity: Identity) -> None:
        """New connections see this certificate (after it was saved to its folder)."""
        self._members = identity.server_ssl_context()
        self._members.set_alpn_protocols([_HTTP])
        self._joiners = identity.bootstrap_ssl_context()
        self._joiners.set_alpn_protocols([_HTTP])
        self._identity = identity
        self._grpc.use_identity(identity)

    async def start(self) -> None:
        """Opens all doors; raises ConflictError (port in use), UnavailableError, InvalidError."""
        for path in (self._grpc_socket_path, self._socket_path):
            _check_socket_path(path)
        self._listener = _listening_socket(self._listen)
        for path in (self._grpc_socket_path, self._socket_path):
            # The daemon holds its folder's lock, so a socket found here is of a dead one.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        await self._grpc.start()
        loop = asyncio.get_running_loop()
        self._local = await loop.create_unix_server(
            self._local_connection,
            self._socket_path,
            backlog=min(BACKLOG, self._bounds.local),
        )
        os.chmod(self._socket_path, 0o666)
        loop.add_reader(self._listener, self._accept)

    async def stop(self, grace_s: float = 1.0) -> None:
        """Closes all doors; gRPC calls that run get ``grace_s`` to end. Safe to call twice."""
        if self._stopped:
            return
        self._stopped = True
        self._stop_accepting()
        if self._local is not None:
            self._local.close()
        await self._grpc.stop(grace_s)
        await asyncio.gather(*(connection.closed() for connection in list(self._connections)))
        for task in list(self._arrivals):
            task.cancel()
        await asyncio.gather(*self._arrivals, return_exceptions=True)
        for path in (self._grpc_socket_path, self._socket_path):
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _stop_accepting(self) -> None:
        if self._listener is not None and self._listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()

    # The TLS port.

    def _accept(self) -> None:
        """Takes one connection; the loop calls again while there are more."""
        listener = self._listener
        assert listener is not None
        try:
            connection, (host, *_) = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self._pause_accepting(error)
            return
        connection.setblocking(False)
        if len(self._arrivals) >= self._bounds.connections and not self._strangers.drop_one():
            connection.close()
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.get_running_loop().create_task(self._receive(connection, host))
        self._arrivals.add(task)
        task.add_done_callback(self._arrivals.discard)

    def _pause_accepting(self, error: OSError) -> None:
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            raise error
        _log.error("cannot take connections for now: %s", error)
        loop = asyncio.get_running_loop()
        listener = self._listener
        assert listener is not None
        loop.remove_reader(listener)
        loop.call_later(ACCEPT_PAUSE_S, self._resume_accepting)

    def _resume_accepting(self) -> None:
        if self._listener is not None and self._listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def _receive(self, connection: socket.socket, host: str) -> None:
        """Chooses the door of one connection and stays with it until it is closed."""
        task = asyncio.current_task()
        assert task is not None
        stranger = self._strangers.add(host, task.cancel)
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = await _peek_hello(connection)
            if b"h2" in hello.protocols and _HTTP.encode() not in hello.protocols:
                await self._relay(connection, stranger)
            else:
                await self._receive_http(connection, hello, stranger)
        except (NotTlsError, TimeoutError, OSError, EOFError) as error:
            _log.debug("a connection was closed: %s", error)
        finally:
            self._strangers.discard(stranger)
            connection.close()

    async def _relay(self, connection: socket.socket, stranger: Stranger) -> None:
        def admitted() -> None:
            self._strangers.discard(stranger)

        timer = asyncio.get_running_loop().call_later(RELAYED_STRANGER_S, admitted)
        try:
            await relay(connection, self._grpc_socket_path, admitted)
        finally:
            timer.cancel()

    async def _receive_http(
        self, connection: socket.socket, hello: ClientHello, stranger: Stranger
    ) -> None:
        proof = self._check_token(hello.server_name) if hello.server_name else None
        context = self._members if proof is None else self._joiner_context(proof)
        http = self._http_connection(lambda http: self._remote_caller(http, proof))
        closed = asyncio.get_running_loop().create_future()

        def lost() -> None:
            self._connections.discard(http)
            if not closed.done():
                closed.set_result(None)

        def settled() -> None:
            self._strangers.discard(stranger)

        transport = TlsTransport(context, http, settled, lost)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: transport, connection)
            await closed
        finally:
            transport.abort()

    def _joiner_context(self, proof: TokenProof) -> ssl.SSLContext:
        if proof.state == LIVE:
            return self._joiners
        # A context that answers any hello by the alert for the token's state.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        alert = _ALERTS[proof.state]
        context.sni_callback = lambda *_: alert
        return context

    def _remote_caller(self, http: HttpConnection, proof: TokenProof | None) -> Caller:
        transport = http.transport
        assert transport is not None
        peer = transport.get_extra_info("peername") or ("?", 0)
        origin = f"tls {peer[0]}:{peer[1]}"
        if proof is not None:
            return Caller(proof.token_id, roles.TOKEN, "token", origin=origin)
        connection = cast(ssl.SSLObject, transport.get_extra_info("ssl_object"))
        return self._reader.caller(connection.getpeercert(True) or b"", origin)

    # The Unix socket.

    def _local_connection(self) -> asyncio.Protocol:
        if self._local_count >= self._bounds.local + LOCAL_TOLD:
            return _TurnedAway()
        self._local_count += 1
        return self._http_connection(self._socket_caller, self._local_closed)

    def _local_closed(self) -> None:
        self._local_count -= 1

    def _socket_caller(self, http: HttpConnection) -> Caller:
        if self._local_count > self._bounds.local:
            raise UnavailableError("this daemon has too many connections", hint="try again")
        assert http.transport is not None
        connection = http.transport.get_extra_info("socket")
        _, uid, _ = struct.unpack(
            "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        return local_caller(uid, self._local_role)

    # Both.

    def _http_connection(
        self,
        identify: Callable[[HttpConnection], Caller],
        on_closed: Callable[[], None] = lambda: None,
    ) -> HttpConnection:
        async def answer(http: HttpConnection, request: h11.Request) -> None:
            try:
                # At every request: a long connection may outlive its certificate.
                caller = identify(http)
            except PerseusError as error:
                self._door.refuse(http, error)
            else:
                await self._door.answer(http, request, caller)

        def closed(http: HttpConnection) -> None:
            self._connections.discard(http)
            on_closed()

        protocol = HttpConnection(answer, self._door.broken, closed)
        self._connections.add(protocol)
        return protocol


class _TurnedAway(asyncio.Protocol):
    """Closes at once a connection for which there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.abort()


def _check_socket_path(path: str) -> None:
    if len(os.fsencode(path)) > SOCKET_PATH_MAXIMUM_BYTES:
        raise InvalidError(
            f"{path} is too long for a Unix socket (at most {SOCKET_PATH_MAXIMUM_BYTES} bytes)",
            hint="choose a data folder with a shorter path: --data",
        )


def _listening_socket(listen: str) -> socket.socket:
    host, port = split_address(listen)
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        dual = family == socket.AF_INET6 and host == "::"
        listener = socket.create_server(
            address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=dual
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"port {port} on {host} is in use by another program",
                hint=f"see which: ss -ltnp 'sport = :{port}'; or choose another --listen",
            ) from error
        raise UnavailableError(
            f"cannot listen on {listen}: {error.strerror or error}",
            hint="choose an address of this machine: --listen HOST:PORT",
        ) from error
    listener.setblocking(False)
    return listener


async def _peek_hello(connection: socket.socket) -> ClientHello:
    """The ClientHello, left in the socket. Raises NotTlsError, EOFError or OSError.

    The kernel wakes us only when enough bytes are there (SO_RCVLOWAT), so a peer
    that drips bytes costs one wake for each record, not a busy loop.
    """
    seen_bytes = -1
    needed_bytes = 1
    while True:
        await _readable(connection)
        data = connection.recv(client_hello.HELLO_MAXIMUM_BYTES, socket.MSG_PEEK)
        if (len(data) < needed_bytes and len(data) <= seen_bytes) or not data:
            raise EOFError("the peer ended before its ClientHello did")
        seen_bytes = len(data)
        found = client_hello.parse(data)
        if not isinstance(found, Incomplete):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            return found
        needed_bytes = found.needed_bytes
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed_bytes)


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection, wake)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


def token_check(
    judge: Callable[[str, float], TokenProof | None], time_s: Callable[[], float] = time.time
) -> Callable[[str], TokenProof | None]:
    """``Tokens.judge_server_name`` with a clock, as ``Front`` takes it."""
    return lambda server_name: judge(server_name, time_s())
