"""Connections of the data plane: mutual TLS, one channel for each address.

Errors cross it as everywhere (``rpc.status``).
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, Protocol

import grpc

from perseus.errors import PerseusError, UnavailableError, from_code
from perseus.identity.files import CERTIFICATE_FILE, KEY_FILE, Identity
from perseus.identity.subject import server_name
from perseus.proto.v1 import chunk_pb2, common_pb2
from perseus.rpc import services, status
from perseus.rpc.grpc_options import CHANNEL_OPTIONS

SERVICE = "perseus.v1.Chunks"
CHANNELS_MAXIMUM = 256
PING_TIMEOUT_S = 15.0

_OVERRIDES: dict[str, int | str] = {
    # A chunkserver that is stopped or cut off is noticed after ten to twenty seconds.
    "grpc.keepalive_time_ms": 5000,
    "grpc.keepalive_timeout_ms": 5000,
    "grpc.keepalive_permit_without_calls": 0,
    # Where it stops in the middle of a write, what was not sent holds up keepalive's ping: then
    # it is the unanswered one that measured the link which tells. That waits behind what was
    # sent, so it has time enough for a slow link; gRPC's own is a minute.
    "grpc.http2.ping_timeout_ms": int(PING_TIMEOUT_S * 1000),
}
# Statuses that gRPC itself gives, without an Error of ours.
_CODES = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "timeout",
    grpc.StatusCode.PERMISSION_DENIED: "refused",
    grpc.StatusCode.UNAUTHENTICATED: "refused",
    grpc.StatusCode.UNIMPLEMENTED: "incompatible",
}


class Frames(Protocol):
    """The response frames of a call of the service Chunks. Iterating raises PerseusError, or
    grpc.RpcError, which ``error_of`` turns into one."""

    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def cancel(self) -> object:
        """Breaks it off; safe from any thread and to call twice."""


class Chunks(Protocol):
    """The service Chunks of one chunkserver."""

    def read(self, request: chunk_pb2.ReadChunkRequest) -> Frames:
        """ReadChunk."""

    def write(self, frames: Iterator[bytes]) -> Frames:
        """WriteChunk."""


class RemoteChunks:
    """That service over gRPC."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def read(self, request: chunk_pb2.ReadChunkRequest, timeout_s: float | None = None) -> Frames:
        """See Chunks."""
        method = self._channel.unary_stream(f"/{SERVICE}/ReadChunk")
        call: Frames = method(request.SerializeToString(), timeout=timeout_s)
        return call

    def write(self, frames: Iterator[bytes]) -> Frames:
        """See Chunks."""
        call: Frames = self._channel.stream_stream(f"/{SERVICE}/WriteChunk")(frames)
        return call


class Channels:
    """Channels to one kind of server ("node" or "master"), kept for reuse. Safe for threads."""

    def __init__(self, identity: Identity, cluster_id: str, to: str = "node") -> None:
        self._identity = identity
        self._server_name = server_name(cluster_id, to)
        self._mutex = threading.Lock()
        self._by_address: dict[str, grpc.Channel] = {}
        self._local_address = ""
        self._local: Chunks | None = None

    def serve_local(self, address: str, chunks: Chunks) -> None:
        """That address is this very process: it is served without a connection."""
        self._local = chunks
        self._local_address = address

    def chunks(self, address: str) -> Chunks:
        """The service Chunks at "host:port"."""
        if self._local is not None and address == self._local_address:
            return self._local
        return RemoteChunks(self.to(address))

    def use_identity(self, identity: Identity) -> None:
        """New connections show this certificate; those that are in use end with their calls."""
        with self._mutex:
            self._identity = identity
            self._by_address.clear()

    def to(self, address: str) -> grpc.Channel:
        """The channel to "host:port"; connecting happens at the first call."""
        with self._mutex:
            channel = self._by_address.get(address)
            if channel is None:
                if len(self._by_address) >= CHANNELS_MAXIMUM:
                    # The oldest; its calls, if there are any, break and are made again.
                    self._by_address.pop(next(iter(self._by_address))).close()
                channel = self._make(address)
                self._by_address[address] = channel
            return channel

    def close(self) -> None:
        """Ends all connections."""
        with self._mutex:
            for channel in self._by_address.values():
                channel.close()
            self._by_address.clear()

    def _make(self, address: str) -> grpc.Channel:
        identity = self._identity
        credentials = grpc.ssl_channel_credentials(
            identity.ca_pem, identity.key_pem, identity.certificate_pem
        )
        options = {**dict(CHANNEL_OPTIONS), **_OVERRIDES}
        options["grpc.ssl_target_name_override"] = self._server_name
        return grpc.secure_channel(address, credentials, list(options.items()))


class MasterFiles:
    """A FilesCall over gRPC to the master's address."""

    def __init__(self, identity: Identity, cluster_id: str, address: str) -> None:
        self.address = address
        self._channels = Channels(identity, cluster_id, "master")

    def __call__(self, method: str, request: Any, timeout_s: float) -> Any:
        """See client_files.FilesCall."""
        kind = services.methods_of("Files")[method]
        call = self._channels.to(self.address).unary_unary(
            kind.path,
            request_serializer=kind.request_class.SerializeToString,
            response_deserializer=kind.response_class.FromString,
        )
        try:
            return call(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise error_of(error, f"master {self.address}") from error

    def use_identity(self, identity: Identity) -> None:
        """New connections show this certificate."""
        self._channels.use_identity(identity)

    def close(self) -> None:
        """Ends the connection."""
        self._channels.close()


class IdentityFolder:
    """An identity on disk that may be renewed meanwhile. Safe for threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp = self._look()
        self.identity = Identity.load(folder)

    def changed(self) -> bool:
        """Whether there is a newer one; then ``identity`` is that."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        try:
            self.identity = Identity.load(self._folder)
        except PerseusError:
            # It is being written just now: key first, then certificate.
            return False
        self._stamp = stamp
        return True

    def _look(self) -> tuple[int, ...]:
        # By name: beside them a file that is just being written may come and go.
        names = (CERTIFICATE_FILE, KEY_FILE)
        return tuple(os.stat(self._folder / name).st_mtime_ns for name in names)


def end(call: Frames) -> None:
    """Breaks a call off, for the thread that iterates, and lets go of what it holds here: one
    that this very process serves has a replica in use."""
    call.cancel()
    close = getattr(call, "close", None)
    if close is not None:
        close()


def error_of(call: Any, where: str) -> PerseusError:
    """The PerseusError behind a failed call (a grpc.RpcError that is also a Call)."""
    for key, value in call.trailing_metadata() or ():
        if key == status.TRAILER:
            return status.from_proto(common_pb2.Error.FromString(value))
    code = call.code()
    meaning = status.handshake_meaning(call.details() or "")
    if meaning:
        # Nothing was sent. It may be this one peer's, so others are still tried.
        return UnavailableError(f"{where}: {meaning}", hint=status.HANDSHAKE_HINT)
    text = f"{where}: {call.details() or code}"
    if code in _CODES:
        return from_code(_CODES[code], text)
    return UnavailableError(text, maybe_done=True)


def abort(context: Any, error: PerseusError) -> NoReturn:
    """Ends a call of a synchronous server with an error."""
    message = status.to_proto(error)
    context.set_trailing_metadata(((status.TRAILER, message.SerializeToString()),))
    context.abort(grpc.StatusCode[status.grpc_status_name(error)], message.message)
    raise AssertionError("abort returned")
