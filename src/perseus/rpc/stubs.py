"""Calling any service by its descriptors, over a gRPC channel; errors come as PerseusError.

::

    jobs = AioStub(channel, "Jobs", "10.0.0.7:7700")
    response = await jobs.call("Submit", request, timeout_s=5.0)
    async for event in jobs.stream("Follow", request): ...
    response = await jobs.call("Write", pieces)             # client streaming: an async iterable
    async for message in jobs.stream("Connect", messages): ...

``Stub`` is the same for threads.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from perseus.errors import (
    DeadlineError,
    IncompatibleError,
    InternalError,
    InvalidError,
    PerseusError,
    RefusedError,
    TooLargeError,
    UnavailableError,
)
from perseus.proto.v1 import common_pb2
from perseus.rpc import services, status

_Metadata = Mapping[str, str]


class _StubBase:
    """The callables of a service on one channel, made when first used."""

    def __init__(self, channel: Any, service_name: str, address: str = "") -> None:
        """``address`` is for messages: where the channel leads."""
        self._channel = channel
        self._address = address
        self._methods = services.methods_of(service_name)
        self._callables: dict[str, Any] = {}

    def _start(
        self, name: str, request: Any, timeout_s: float | None, metadata: _Metadata | None
    ) -> Any:
        made = self._callables.get(name)
        if made is None:
            made = self._callables[name] = self._make(name)
        pairs = tuple(metadata.items()) if metadata else None
        return made(request, timeout=timeout_s, metadata=pairs)

    def _make(self, name: str) -> Any:
        kind = self._methods[name]
        client, server = (
            "stream" if streaming else "unary"
            for streaming in (kind.client_streaming, kind.server_streaming)
        )
        return getattr(self._channel, f"{client}_{server}")(
            kind.path,
            request_serializer=kind.request_class.SerializeToString,
            response_deserializer=kind.response_class.FromString,
        )

    def _error(self, name: str, error: Any) -> PerseusError:
        return from_grpc(error, self._methods[name].path, self._address)


class AioStub(_StubBase):
    """A service over a ``grpc.aio`` channel."""

    async def call(
        self,
        name: str,
        request: Any,
        *,
        timeout_s: float | None = None,
        metadata: _Metadata | None = None,
    ) -> Any:
        """One response. ``request`` is a message, or an async iterable where the RPC streams."""
        try:
            return await self._start(name, request, timeout_s, metadata)
        except grpc.RpcError as error:
            raise self._error(name, error) from None

    async def stream(
        self,
        name: str,
        request: Any,
        *,
        timeout_s: float | None = None,
        metadata: _Metadata | None = None,
    ) -> AsyncIterator[Any]:
        """Many responses; closing the iterator cancels the call."""
        call = self._start(name, request, timeout_s, metadata)
        try:
            async for response in call:
                yield response
        except grpc.RpcError as error:
            raise self._error(name, error) from None
        finally:
            call.cancel()

    def open(self, name: str, *, metadata: _Metadata | None = None) -> Any:
        """The bare ``grpc.aio`` call of a bidirectional RPC, with read and write; errors
        from it are to be given to ``from_grpc``."""
        made = self._callables.get(name)
        if made is None:
            made = self._callables[name] = self._make(name)
        return made(metadata=tuple(metadata.items()) if metadata else None)


class Stub(_StubBase):
    """A service over a ``grpc`` channel, for threads."""

    def call(
        self,
        name: str,
        request: Any,
        *,
        timeout_s: float | None = None,
        metadata: _Metadata | None = None,
    ) -> Any:
        """One response. ``request`` is a message, or an iterator where the RPC streams."""
        try:
            return self._start(name, request, timeout_s, metadata)
        except grpc.RpcError as error:
            raise self._error(name, error) from None

    def stream(
        self,
        name: str,
        request: Any,
        *,
        timeout_s: float | None = None,
        metadata: _Metadata | None = None,
    ) -> Iterator[Any]:
        """Many responses; closing the iterator cancels the call."""
        call = self._start(name, request, timeout_s, metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._error(name, error) from None
        finally:
            call.cancel()


def from_grpc(error: Any, path: str, address: str) -> PerseusError:
    """The PerseusError of a failed gRPC call, from its trailer or its status."""
    for key, value in error.trailing_metadata() or ():
        if key == status.TRAILER:
            try:
                return status.from_proto(common_pb2.Error.FromString(value))
            except DecodeError:
                break
    code = error.code()
    details = error.details() or ""
    where = f"{path} at {address}" if address else path
    if code is grpc.StatusCode.UNAVAILABLE:
        return _unavailable(details, address)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(
            f"{where} did not answer in time", hint="try again; perseus nodes", maybe_done=True
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return IncompatibleError(
            f"{where} is not known there", hint="the two may be of different versions"
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "Concurrent RPC limit" in details:
        return UnavailableError(f"{where}: the daemon has too many calls", hint="try again")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return TooLargeError(f"{where}: {details}")
    if code is grpc.StatusCode.CANCELLED:
        return UnavailableError(f"{where} was cancelled", maybe_done=True)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidError(f"{where}: {details}")
    if code in _BROKEN_CODES and any(word in details for word in _BROKEN_WORDS):
        return UnavailableError(
            f"{where}: the connection broke", hint="try again; perseus nodes", maybe_done=True
        )
    return InternalError(f"{where} failed: {code.name} {details}", maybe_done=True)


# How gRPC's core tells of a call whose connection broke under it, besides UNAVAILABLE: a write
# that found its call over already, a stream that the peer reset, one that went with its
# transport. A defect behind a handler has a trailer of ours, so it is not taken for this.
_BROKEN_CODES = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
_BROKEN_WORDS = ("Internal error from Core", "RST_STREAM", "Stream removed")


def _unavailable(details: str, address: str) -> PerseusError:
    where = address or "the peer"
    meaning = status.handshake_meaning(details)
    if meaning:
        return RefusedError(f"{where}: {meaning}", hint=status.HANDSHAKE_HINT)
    # Before a connection stands nothing was sent; afterwards it may have arrived.
    is_unsent = "failed to connect" in details or "connections to all backends" in details
    return UnavailableError(
        f"{where} cannot be reached: {_cause(details)}",
        hint="if Perseus does not run on that machine, there: perseus start",
        maybe_done=not is_unsent,
    )


# What gRPC's core says of a connection, and what it means; its own words speak of its parts.
_CAUSES = (
    ("Connection refused", "nothing listens there"),
    ("No route to host", "there is no route to it"),
    ("Network is unreachable", "there is no route to it"),
    ("timed out", "no answer in time"),
    ("Timeout occurred", "no answer in time"),
    ("timeout", "no answer in time"),
    ("DNS", "its name is not known"),
    ("Connection reset", "the connection broke"),
    ("Socket closed", "the connection broke"),
    ("Broken pipe", "the connection broke"),
    ("GOAWAY", "it is shutting down"),
)


def _cause(details: str) -> str:
    for word, meaning in _CAUSES:
        if word in details:
            return meaning
    return "there is no connection"
