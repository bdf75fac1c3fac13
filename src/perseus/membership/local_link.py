"""The link of the agent that lives in the master's own process.

The same messages by the same code on both sides, without sockets: what the agent
sends waits in a bounded queue for the service, and the service's answers are taken
from its generator as the agent reads them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from perseus.errors import UnavailableError
from perseus.membership.stream import MasterLink
from perseus.proto.v1 import agent_pb2
from perseus.rpc.call import Call

# Messages from the agent that the service has not read yet.
QUEUE_MAXIMUM = 64

Connect = Callable[
    [AsyncIterator[agent_pb2.AgentMessage], Call], AsyncIterator[agent_pb2.MasterMessage]
]


def local_dialer(connect: Connect, call: Call) -> Callable[[], Awaitable[MasterLink]]:
    """What AgentLink dials: ``connect`` is ``AgentsService.connect``, ``call`` names the node."""

    async def dial() -> MasterLink:
        return LocalLink(connect, call)

    return dial


class LocalLink:
    """One stream within the process."""

    def __init__(self, connect: Connect, call: Call) -> None:
        self._requests: asyncio.Queue[agent_pb2.AgentMessage | None] = asyncio.Queue(QUEUE_MAXIMUM)
        self._closed = False
        self._responses = connect(self._sent(), call)

    async def send(self, message: agent_pb2.AgentMessage) -> None:
        """Hands a message over; waits while the service is behind."""
        if self._closed:
            raise UnavailableError("the link to the master is closed")
        await self._requests.put(message)

    def __aiter__(self) -> AsyncIterator[agent_pb2.MasterMessage]:
        return self._received()

    async def close(self) -> None:
        """Ends the stream; safe to call twice. Nobody may be reading any more."""
        if self._closed:
            return
        self._closed = True
        closing = getattr(self._responses, "aclose", None)
        if closing is not None:
            await closing()

    async def _sent(self) -> AsyncIterator[agent_pb2.AgentMessage]:
        while (message := await self._requests.get()) is not None:
            yield message

    async def _received(self) -> AsyncIterator[agent_pb2.MasterMessage]:
        try:
            async for message in self._responses:
                yield message
        finally:
            # Whoever sends still must not wait for a service that has ended.
            self._closed = True
