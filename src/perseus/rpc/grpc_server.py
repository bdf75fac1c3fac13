"""The registry over gRPC: a secure ``grpc.aio`` server on a private Unix socket.

The front relays the still encrypted connections of gRPC clients here, so a
caller's certificate is checked end to end by this server.
"""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from perseus.errors import InvalidError, PerseusError, RefusedError
from perseus.identity.files import Identity
from perseus.rpc import status
from perseus.rpc.call import Call
from perseus.rpc.callers import CertificateReader
from perseus.rpc.grpc_options import SERVER_OPTIONS
from perseus.rpc.registry import Method, Registry

CALLS_MAXIMUM = 8192

_Handler = Callable[[Any, Any], Awaitable[Any]]
# What gRPC hands over to what a handler gets.
_Accept = Callable[[Any], Any]


class GrpcServer(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves a registry; ``start`` and ``stop`` it once."""

    def __init__(self, registry: Registry, identity: Identity, socket_path: str) -> None:
        self._registry = registry
        self._identity = identity
        self._socket_path = socket_path
        self._reader = CertificateReader(identity.cluster_id)
        self._handlers: dict[str, Any] = {}
        self._server: Any = None
        # Set when new connections are to be told of another certificate.
        self._renewed = False

    async def start(self) -> None:
        """Listens; raises OSError when it cannot."""
        self._handlers = {
            path: self._handler(path, method) for path, method in self._registry.methods.items()
        }
        self._server = grpc.aio.server(
            handlers=[self], options=SERVER_OPTIONS, maximum_concurrent_rpcs=CALLS_MAXIMUM
        )
        credentials = grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._changed_configuration, require_client_authentication=True
        )
        self._server.add_secure_port(f"unix:{self._socket_path}", credentials)
        await self._server.start()
        os.chmod(self._socket_path, 0o600)

    async def stop(self, grace_s: float) -> None:
        """Ends calls after ``grace_s`` and stops listening."""
        if self._server is not None:
            await self._server.stop(grace_s)

    def use_identity(self, identity: Identity) -> None:
        """New connections see this certificate."""
        self._identity = identity
        self._renewed = True

    def _configuration(self) -> Any:
        identity = self._identity
        return grpc.ssl_server_certificate_configuration(
            [(identity.key_pem, identity.certificate_pem)], identity.ca_pem
        )

    def _changed_configuration(self) -> Any:
        """Asked by gRPC at each handshake, from a thread of its own; None means as before."""
        renewed, self._renewed = self._renewed, False
        return self._configuration() if renewed else None

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call, asked for by gRPC."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, path: str, method: Method) -> Any:
        """A handler of the kind that the RPC's streaming calls for."""
        kind = method.type
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[kind.client_streaming, kind.server_streaming]
        accept = _accept_stream if kind.client_streaming else _accept
        many = (
            self._many(path, method, accept)
            if kind.server_streaming
            else self._one(path, method, accept)
        )
        return make(
            many,
            request_deserializer=_deserializer(kind.request_class),
            response_serializer=kind.response_class.SerializeToString,
        )

    def _one(self, path: str, method: Method, accept: _Accept) -> _Handler:
        async def handle(request: Any, context: Any) -> Any:
            try:
                call = self._admit(path, method, context)
                return await self._registry.respond(method, accept(request), call)
            except PerseusError as error:
                await _abort(context, error)

        return handle

    def _many(self, path: str, method: Method, accept: _Accept) -> _Handler:
        # Written with context.write and not as a generator, so that the handler's
        # generator is closed at once when the call is cancelled.
        async def handle(request: Any, context: Any) -> None:
            try:
                call = self._admit(path, method, context)
                stream: Any = self._registry.respond_stream(method, accept(request), call)
                async with aclosing(stream) as responses:
                    async for response in responses:
                        await context.write(response)
            except PerseusError as error:
                await _abort(context, error)

        return handle

    def _admit(self, path: str, method: Method, context: Any) -> Call:
        certificates = context.auth_context().get("x509_pem_cert")
        if not certificates:
            raise RefusedError("the caller has no certificate")
        caller = self._reader.caller(bytes(certificates[0]), "grpc")
        metadata = {
            key: value for key, value in context.invocation_metadata() if isinstance(value, str)
        }
        remaining_s = context.time_remaining()
        deadline_s = None if remaining_s is None else time.monotonic() + remaining_s
        return self._registry.admit(method, path, caller, metadata, deadline_s)


class _Malformed:
    """Stands for bytes that are no message: what a deserializer raises gRPC would answer
    in its own words."""


def _deserializer(kind: Any) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return kind.FromString(data)
        except DecodeError:
            return _Malformed()

    return read


def _accept(request: Any) -> Any:
    if isinstance(request, _Malformed):
        raise InvalidError("the request is not a message of this RPC (protobuf)")
    return request


async def _accept_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _accept(request)


async def _abort(context: Any, error: PerseusError) -> None:
    message = status.to_proto(error)
    await context.abort(
        grpc.StatusCode[status.grpc_status_name(error)],
        message.message,
        trailing_metadata=((status.TRAILER, message.SerializeToString()),),
    )
