"""The chunkserver: the process of a node through which all bulk bytes go.

``main`` is called in a process forked for it, before gRPC has started threads
there, or in one of its own; it returns when the agent's end of the control
socket closes. It serves the service Chunks over mutual TLS on its own port,
carries out the master's directives, and runs the movers and the scrubber.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import msgspec
from google.protobuf.message import DecodeError

from perseus.errors import InternalError, InvalidError, PerseusError, RefusedError, UnavailableError
from perseus.filestore import control_messages as messages
from perseus.filestore.chunk_local import LocalChunks
from perseus.filestore.chunk_read import read_chunk
from perseus.filestore.chunk_write import WriteContext, WriteSession, open_message
from perseus.filestore.chunkserver_link import Link
from perseus.filestore.chunkstore import ChunkStore
from perseus.filestore.client import FilestoreClient
from perseus.filestore.client_channels import (
    SERVICE,
    Channels,
    IdentityFolder,
    MasterFiles,
    abort,
)
from perseus.filestore.fetch import Directives, chunk_of
from perseus.filestore.lanes import Lanes
from perseus.filestore.movers import Movers
from perseus.filestore.scrub import Scrubber
from perseus.proto.v1 import agent_pb2, chunk_pb2
from perseus.rpc import services
from perseus.rpc.callers import CertificateReader
from perseus.rpc.grpc_options import SERVER_OPTIONS
from perseus.rpc.registry import check_role
from perseus.rpc.stranger_guard import StrangerGuard
from perseus.runtime import memory

# Streams served at once; more are told to come again.
STREAMS_MAXIMUM = 128
# Directives carried out at once; those for one chunk follow one another.
DIRECTIVE_THREADS = 4
STOP_GRACE_S = 0.5
# How often to look for a renewed certificate: at least so often within its life.
IDENTITY_LOOK_S = 30.0
IDENTITY_LOOKS_PER_LIFETIME = 30
IDENTITY_LOOK_MINIMUM_S = 0.1

_log = logging.getLogger("perseus.chunkserver")


@dataclass(frozen=True, slots=True)
class ChunkserverConfig:
    """What a chunkserver needs to know."""

    # The folder of replicas, and that of ca.pem, node.pem and node.key.
    chunks: Path
    identity: Path
    cluster_id: str
    node_id: str
    # "host:port" to listen on; port 0 lets the kernel choose.
    listen: str
    # The host by which others reach it.
    advertise_host: str
    # Where the movers reach the service Files, "host:port".
    master_address: str
    disk_reserve_bytes: int
    scrub_interval_s: float


class Chunkserver:
    """All parts of one chunkserver, put together."""

    def __init__(self, config: ChunkserverConfig, link: Link) -> None:
        self._config = config
        self._link = link
        self._grant_key = b""
        # How far this machine's clock is ahead of the master's.
        self._clock_ahead_s = 0.0
        self._identity = IdentityFolder(config.identity)
        self._reader = CertificateReader(config.cluster_id)
        self._methods = services.methods_of("Chunks")
        self._channels = Channels(self._identity.identity, config.cluster_id)
        self._store = ChunkStore(config.chunks, config.disk_reserve_bytes, link.send_event)
        self._writing = WriteContext(
            self._store,
            self._channels,
            lambda: self._grant_key,
            lambda: time.time() - self._clock_ahead_s,
        )
        self._directives = Directives(self._store, self._channels, link.send_event)
        self._lanes = Lanes(DIRECTIVE_THREADS, "directive")
        self._scrubber = Scrubber(self._store, config.scrub_interval_s)
        self._files = MasterFiles(self._identity.identity, config.cluster_id, config.master_address)
        self._server: Any = None
        self._guard: StrangerGuard | None = None
        self._movers: Movers | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        """Opens the store, listens and tells the agent. PerseusError when it cannot."""
        self._store.open()
        self._server = grpc.server(
            ThreadPoolExecutor(STREAMS_MAXIMUM, "stream"),
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=STREAMS_MAXIMUM,
        )
        self._server.add_generic_rpc_handlers((self._handlers(),))
        address = self._listen()
        self._channels.serve_local(address, LocalChunks(self._writing))
        client = FilestoreClient(
            self._files,
            self._identity.identity,
            self._config.cluster_id,
            near_node=self._config.node_id,
            channels=self._channels,
        )
        self._movers = Movers(client, self._link.send)
        self._server.start()
        self._guard = StrangerGuard(int(address.rpartition(":")[2]))
        self._guard.start()
        self._scrubber.start()
        threading.Thread(target=self._watch_identity, name="identity", daemon=True).start()
        self._link.send(messages.Ready(address, self._reports()))

    def run(self) -> None:
        """Does what the agent says, until it says shutdown or goes away."""
        while (message := self._link.receive()) is not None:
            if isinstance(message, messages.Shutdown):
                return
            self._take(message)

    def stop(self) -> None:
        """Ends serving; calls have a moment to finish."""
        self._ended.set()
        self._scrubber.stop()
        if self._guard is not None:
            self._guard.stop()
        self._server.stop(STOP_GRACE_S).wait(2 * STOP_GRACE_S)

    def _take(self, message: messages.ToChunkserver) -> None:
        movers = self._movers
        assert movers is not None
        if isinstance(message, messages.SetGrantKey):
            self._grant_key = message.key
        elif isinstance(message, messages.SetClock):
            self._clock_ahead_s = message.ahead_s
        elif isinstance(message, messages.SetMaster):
            self._files.address = message.address
        elif isinstance(message, messages.Carry):
            directive = agent_pb2.Directive.FromString(message.directive)
            work = partial(self._directives.carry_out, directive)
            self._lanes.submit(chunk_of(directive), work)
        elif isinstance(message, messages.GetReports):
            self._link.send(messages.Reports(message.number, self._reports()))
        elif isinstance(message, messages.ShipEnd):
            movers.end_ship(message)
        elif isinstance(message, messages.ShipCut):
            movers.cut_ship(message.number)
        elif isinstance(message, messages.Cancel):
            movers.cancel(message.number)
        elif isinstance(message, messages.Feed | messages.Place | messages.Ship):
            movers.start(message)

    def _reports(self) -> list[bytes]:
        return [report.SerializeToString() for report in self._store.reports()]

    def _listen(self) -> str:
        credentials = grpc.dynamic_ssl_server_credentials(
            self._certificates(), self._certificates, require_client_authentication=True
        )
        try:
            port = self._server.add_secure_port(self._config.listen, credentials)
        except RuntimeError:
            port = 0
        if not port:
            wanted = self._config.listen.rpartition(":")[2]
            raise UnavailableError(
                f"the chunkserver cannot listen on {self._config.listen}: the port is in use",
                hint=f"see what holds it: ss -ltnp 'sport = :{wanted}'; "
                "end that, then: perseus start",
            )
        return f"{self._config.advertise_host}:{port}"

    def _certificates(self) -> Any:
        identity = self._identity.identity
        return grpc.ssl_server_certificate_configuration(
            [(identity.key_pem, identity.certificate_pem)], identity.ca_pem
        )

    def _watch_identity(self) -> None:
        """Takes a renewed certificate when there is one."""
        while not self._ended.wait(self._look_s()):
            if self._identity.changed():
                self._channels.use_identity(self._identity.identity)
                self._files.use_identity(self._identity.identity)

    def _look_s(self) -> float:
        lifetime_s = self._identity.identity.certificate.lifetime_s
        look_s = min(IDENTITY_LOOK_S, lifetime_s / IDENTITY_LOOKS_PER_LIFETIME)
        return max(IDENTITY_LOOK_MINIMUM_S, look_s)

    def _handlers(self) -> Any:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "WriteChunk": grpc.stream_stream_rpc_method_handler(self._write_chunk),
                "ReadChunk": grpc.unary_stream_rpc_method_handler(self._read_chunk),
            },
        )

    def _write_chunk(self, frames: Iterator[bytes], context: Any) -> Iterator[bytes]:
        def serve() -> Iterator[bytes]:
            session = WriteSession(self._writing, open_message(frames))
            if not context.add_callback(session.stop):
                return iter(())
            return session.run(frames)

        return self._serve("WriteChunk", context, serve)

    def _read_chunk(self, message: bytes, context: Any) -> Iterator[bytes]:
        def serve() -> Iterator[bytes]:
            request = _read_request(message)
            return read_chunk(self._store, request, context.is_active)

        return self._serve("ReadChunk", context, serve)

    def _serve(
        self, method: str, context: Any, serve: Callable[[], Iterator[bytes]]
    ) -> Iterator[bytes]:
        """Checks the caller's role, runs the handler, turns exceptions into errors."""
        try:
            self._admit(method, context)
            yield from serve()
        except PerseusError as error:
            abort(context, error)
        except OSError as error:
            _log.exception("the disk failed")
            abort(context, UnavailableError(f"the disk of this chunkserver failed: {error}"))
        except Exception:
            _log.exception("%s failed by a defect", method)
            abort(context, InternalError(f"{method} failed by a defect of Perseus"))

    def _admit(self, method: str, context: Any) -> None:
        certificates = context.auth_context().get("x509_pem_cert")
        if not certificates:
            raise RefusedError(
                "the caller has no certificate", hint="perseus login HOST:PORT --token T"
            )
        caller = self._reader.caller(bytes(certificates[0]), context.peer())
        kind = self._methods[method]
        check_role(caller, kind.path, kind.required_role, kind.node_may_call)
        if self._guard is not None:
            self._guard.admitted(context.peer())


def _read_request(message: bytes) -> chunk_pb2.ReadChunkRequest:
    try:
        return chunk_pb2.ReadChunkRequest.FromString(message)
    except DecodeError:
        raise InvalidError("this is not a ReadChunkRequest of Perseus") from None


def main(config: ChunkserverConfig, control_socket: socket.socket) -> int:
    """Runs a chunkserver until the control socket closes; returns the exit code.

    Meant for a forked process, whose signals and descriptors its parent has put in order.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.current_thread().name = "control"
    link = Link(control_socket)
    try:
        server = Chunkserver(config, link)
        server.start()
    except PerseusError as error:
        _log.error("the chunkserver cannot start: %s", error)
        link.send(messages.Failed(messages.Problem.of(error)))
        return 1
    memory.start_trimming()
    memory.collect_apart()
    server.run()
    server.stop()
    return 0


def _main(arguments: list[str]) -> int:
    """``python -m perseus.filestore.chunkserver FD CONFIG``: a process of its own, with the
    control socket as a descriptor and the configuration as JSON."""
    config = msgspec.json.decode(
        arguments[1], type=ChunkserverConfig, dec_hook=lambda kind, text: kind(text)
    )
    with socket.socket(fileno=int(arguments[0])) as control:
        return main(config, control)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(_main(sys.argv[1:]))
