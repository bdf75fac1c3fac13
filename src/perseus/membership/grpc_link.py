"""The link over gRPC: one bidirectional call on a channel that the caller gives.

The only module of membership that imports grpc. A refusal counts as the master's
word only when the master itself said it; what the handshake or gRPC makes up is
UnavailableError, for it may pass.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from perseus.errors import IncompatibleError, PerseusError, RefusedError, UnavailableError
from perseus.membership.stream import MasterLink
from perseus.proto.v1 import agent_pb2
from perseus.rpc.status import TRAILER
from perseus.rpc.stubs import AioStub, from_grpc

PATH = "/perseus.v1.Agents/Connect"


def grpc_dialer(channel: Callable[[], Any], address: str) -> Callable[[], Awaitable[MasterLink]]:
    """What AgentLink dials. ``channel`` is asked for the present ``grpc.aio`` channel to the
    master at each dialling, so that it can change with the certificate; ``address`` is for
    messages. The channel stays the caller's to close."""

    async def dial() -> MasterLink:
        return GrpcLink(AioStub(channel(), "Agents", address).open("Connect"), address)

    return dial


class GrpcLink:
    """One call of Agents.Connect."""

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address

    async def send(self, message: agent_pb2.AgentMessage) -> None:
        """Hands a message over; raises UnavailableError or what the master ended the call with."""
        try:
            await self._call.write(message)
        except (grpc.RpcError, asyncio.InvalidStateError):
            raise await self._failure() from None

    def __aiter__(self) -> AsyncIterator[agent_pb2.MasterMessage]:
        return self._received()

    async def close(self) -> None:
        """Ends the call; safe to call twice."""
        self._call.cancel()

    async def _received(self) -> AsyncIterator[agent_pb2.MasterMessage]:
        while True:
            try:
                message = await self._call.read()
            except (grpc.RpcError, asyncio.InvalidStateError):
                raise await self._failure() from None
            if message is grpc.aio.EOF:
                return
            yield message

    async def _failure(self) -> PerseusError:
        """Why the call ended."""
        code = await self._call.code()
        trailers = await self._call.trailing_metadata()
        error = grpc.aio.AioRpcError(code, None, trailers, await self._call.details())
        if code is grpc.StatusCode.OK:
            return UnavailableError(f"the master at {self._address} ended the stream")
        failure = from_grpc(error, PATH, self._address)
        is_its_word = any(key == TRAILER for key, _ in trailers or ())
        if not is_its_word and isinstance(failure, RefusedError | IncompatibleError):
            return UnavailableError(failure.message, hint=failure.hint)
        return failure
