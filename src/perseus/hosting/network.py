"""The network of one process: a gRPC server, and a stream to each process it speaks to.

Both are of its task, so they outlive the process when it is killed. Letters wait in bounded
queues and are dropped beyond, as they are when a stream breaks: the network may lose.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Protocol

import grpc
import grpc.aio

from perseus.algo.process import Id
from perseus.errors import PerseusError, RefusedError
from perseus.hosting.certificate import SERVER_OPTIONS, RunCertificate
from perseus.hosting.run import root
from perseus.proto.v1 import algo_pb2
from perseus.rpc import services, status

QUEUE_MAXIMUM_LETTERS = 10_000
QUEUE_MAXIMUM_BYTES = 16 << 20
BATCH_MAXIMUM_LETTERS = 500
# Between two tries of a peer that cannot be reached, or whose address is not known.
RETRY_S = 0.1
UNKNOWN_S = 0.3

METHODS = services.methods_of("Processes")


class Handlers(Protocol):
    """What the server hands on to."""

    def arrive(self, letters: Iterable[algo_pb2.Letter], sender: Id) -> None:
        """Letters of a process of this run."""

    async def befall(self, request: algo_pb2.BefallRequest) -> algo_pb2.ProcessStatus:
        """A fault."""

    def status(self) -> algo_pb2.ProcessStatus:
        """How the process is."""


class Server(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves Processes to members of the run."""

    def __init__(self, handlers: Handlers, certificate: RunCertificate) -> None:
        self._handlers = handlers
        self._certificate = certificate
        self._is_renewed = False
        self._server: Any = None
        kinds = {"Carry": self._carry, "Befall": self._befall, "Look": self._look}
        make = {
            True: grpc.stream_unary_rpc_method_handler,
            False: grpc.unary_unary_rpc_method_handler,
        }
        self._methods = {
            METHODS[name].path: make[METHODS[name].client_streaming](
                handler,
                request_deserializer=METHODS[name].request_class.FromString,
                response_serializer=METHODS[name].response_class.SerializeToString,
            )
            for name, handler in kinds.items()
        }

    async def start(self, host: str) -> str:
        """Listens on a free port of ``host``, or of all addresses where that is not ours; gives
        the address to be told to others."""
        self._server = grpc.aio.server(handlers=[self], options=SERVER_OPTIONS)
        credentials = grpc.dynamic_ssl_server_credentials(
            self._certificate.server_configuration(),
            self._changed_configuration,
            require_client_authentication=True,
        )
        try:
            port = self._server.add_secure_port(f"{host}:0", credentials)
        except RuntimeError:
            port = self._server.add_secure_port("[::]:0", credentials)
        await self._server.start()
        return f"{host}:{port}"

    async def stop(self) -> None:
        """Ends all calls, and listens no more."""
        if self._server is not None:
            await self._server.stop(None)

    def use(self, certificate: RunCertificate) -> None:
        """New connections see this certificate."""
        self._certificate = certificate
        self._is_renewed = True

    def _changed_configuration(self) -> Any:
        """Asked by gRPC at each handshake, from a thread of its own; None means as before."""
        is_renewed, self._is_renewed = self._is_renewed, False
        return self._certificate.server_configuration() if is_renewed else None

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call, asked for by gRPC."""
        return self._methods.get(handler_call_details.method)

    async def _admit(self, context: Any, is_control: bool) -> Id:
        """The caller's name; ends the call of one who may not make it."""
        try:
            subject = self._certificate.check(context)
            if subject.is_control != is_control:
                raise RefusedError(f"{subject.name} may not make this call")
        except PerseusError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, error.message)
        return subject.name

    async def _carry(self, requests: AsyncIterator[Any], context: Any) -> Any:
        sender = await self._admit(context, is_control=False)
        async for request in requests:
            self._handlers.arrive(request.letters, sender)
        return algo_pb2.CarryResponse()

    async def _befall(self, request: algo_pb2.BefallRequest, context: Any) -> Any:
        await self._admit(context, is_control=True)
        try:
            return await self._handlers.befall(request)
        except PerseusError as error:
            code = getattr(grpc.StatusCode, status.grpc_status_name(error))
            trailer = (status.TRAILER, status.to_proto(error).SerializeToString())
            await context.abort(code, error.message, (trailer,))

    async def _look(self, request: algo_pb2.LookRequest, context: Any) -> Any:
        await self._admit(context, is_control=True)
        return self._handlers.status()


class Peer:
    """The stream to one other process."""

    def __init__(
        self,
        find: Callable[[], Awaitable[str]],
        certificate: Callable[[], RunCertificate],
        dropped: Callable[[int], None],
    ) -> None:
        """``find`` looks up the address, "" when it is not known; ``dropped`` counts losses."""
        self._find = find
        self._certificate = certificate
        self._dropped = dropped
        self._waiting: deque[algo_pb2.Letter] = deque()
        self._waiting_bytes = 0
        self._some = asyncio.Event()
        self._channel: Any = None
        self._made_of: tuple[str, RunCertificate] | None = None
        self._task = asyncio.create_task(self._run())

    def send(self, letter: algo_pb2.Letter) -> None:
        """Soon, or never."""
        is_full = len(self._waiting) >= QUEUE_MAXIMUM_LETTERS
        if is_full or self._waiting_bytes > QUEUE_MAXIMUM_BYTES:
            self._dropped(1)
            return
        self._waiting.append(letter)
        self._waiting_bytes += len(letter.content)
        self._some.set()

    async def close(self) -> None:
        """Ends the stream."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()

    async def _run(self) -> None:
        """Streams until it breaks, then looks the address up anew: it may have moved."""
        while True:
            await self._some.wait()
            address = await self._find()
            if not address:
                await asyncio.sleep(UNKNOWN_S)
                continue
            await self._use(address)
            with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
                await self._stream()
            await asyncio.sleep(RETRY_S)

    async def _use(self, address: str) -> None:
        wanted = (address, self._certificate())
        if self._made_of == wanted:
            return
        if self._channel is not None:
            await self._channel.close()
        self._channel, self._made_of = wanted[1].channel(address), wanted

    async def _stream(self) -> None:
        method = METHODS["Carry"]
        call = self._channel.stream_unary(
            method.path,
            request_serializer=algo_pb2.Letters.SerializeToString,
            response_deserializer=algo_pb2.CarryResponse.FromString,
        )()
        taken: list[algo_pb2.Letter] = []
        try:
            while self._made_of is not None and self._made_of[1] is self._certificate():
                await self._some.wait()
                taken = self._take()
                await call.write(algo_pb2.Letters(letters=taken))
                taken = []
        finally:
            self._dropped(len(taken))
            call.cancel()

    def _take(self) -> list[algo_pb2.Letter]:
        count = min(len(self._waiting), BATCH_MAXIMUM_LETTERS)
        taken = [self._waiting.popleft() for _ in range(count)]
        self._waiting_bytes -= sum(len(letter.content) for letter in taken)
        if not self._waiting:
            self._some.clear()
        return taken


class Network:
    """All of it, for one process."""

    def __init__(
        self,
        find: Callable[[Id], Awaitable[str]],
        certificate: RunCertificate,
        dropped: Callable[[int], None],
    ) -> None:
        self._find = find
        self._certificate = certificate
        self._dropped = dropped
        self._peers: dict[Id, Peer] = {}

    def send(self, letter: algo_pb2.Letter) -> None:
        """To the process that it is for."""
        to = root(letter.to)
        peer = self._peers.get(to)
        if peer is None:

            async def find() -> str:
                return await self._find(to)

            peer = self._peers[to] = Peer(find, lambda: self._certificate, self._dropped)
        peer.send(letter)

    def use(self, certificate: RunCertificate) -> None:
        """Streams are begun anew with this certificate."""
        self._certificate = certificate

    async def close(self) -> None:
        """Ends all streams."""
        for peer in self._peers.values():
            await peer.close()
