"""The agent's handle on its chunkserver, over real socket pairs whose other end is the test."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

from perseus.daemon.agent import known_replicas
from perseus.filestore import control_messages as messages
from perseus.filestore.control import ChunkserverControl
from perseus.proto.v1 import agent_pb2

LIMIT_S = 30.0
READY = messages.Ready("127.0.0.1:1", [])


class Peer:
    """The chunkserver's end of a socket pair."""

    def __init__(self, control: ChunkserverControl) -> None:
        ours, self._theirs = socket.socketpair()
        control.attach(ours)

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_unix_connection(sock=self._theirs)
        self.send(READY)

    def send(self, message: messages.ToAgent) -> None:
        self.writer.write(messages.encode(message))

    async def receive(self) -> messages.ToChunkserver:
        size = messages.frame_size(await self.reader.readexactly(messages.LENGTH.size))
        body = await self.reader.readexactly(size)
        message: messages.ToChunkserver = messages.to_chunkserver.decode(body)
        return message

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await work

    asyncio.run(limited())


def test_the_end_of_an_old_chunkserver_is_not_that_of_the_new_one() -> None:
    async def main() -> None:
        control = ChunkserverControl(lambda events: None)
        old = Peer(control)
        await old.connect()
        await control.ready()
        new = Peer(control)
        await new.connect()
        assert await old.reader.read() == b""
        await control.ready()
        asked = asyncio.ensure_future(control.reports())
        request = await new.receive()
        assert isinstance(request, messages.GetReports)
        new.send(messages.Reports(request.number, []))
        assert await asked == [] and control.is_up
        await old.close()
        await new.close()
        await control.close()

    run(main())


def test_replicas_are_known_only_while_the_chunkserver_tells_them() -> None:
    async def main() -> None:
        control = ChunkserverControl(lambda events: None)
        assert await known_replicas(control) is None
        peer = Peer(control)
        await peer.connect()
        await control.ready()
        for replicas in ([], [agent_pb2.ReplicaReport(chunk=7, version=1)]):
            asked = asyncio.ensure_future(known_replicas(control))
            request = await peer.receive()
            assert isinstance(request, messages.GetReports)
            peer.send(messages.Reports(request.number, [r.SerializeToString() for r in replicas]))
            assert await asked == replicas
        # It dies while it is asked.
        asked = asyncio.ensure_future(known_replicas(control))
        await peer.receive()
        await peer.close()
        assert await asked is None and not control.is_up
        assert await known_replicas(control) is None
        await control.close()

    run(main())
