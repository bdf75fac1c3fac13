"""The agent's handle on its chunkserver, over real socket pairs whose other end is the test."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import pytest

from perseus.daemon.agent import known_replicas
from perseus.errors import UnavailableError
from perseus.filestore import control_messages as messages
from perseus.filestore.control import ChunkserverControl
from perseus.jobs.spool import EARLY_SHIPS_MAXIMUM, FINAL_SHIPS_MAXIMUM
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

    async def number(self) -> int:
        """Of the mover that is to begin next."""
        message = await self.receive()
        assert isinstance(message, messages.Feed | messages.Place)
        return message.number

    async def has_nothing_more(self, control: ChunkserverControl) -> bool:
        """Whether what is asked now is what comes next."""
        asked = asyncio.ensure_future(control.reports())
        request = await self.receive()
        if not isinstance(request, messages.GetReports):
            return False
        self.send(messages.Reports(request.number, []))
        return await asked == []

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await work

    asyncio.run(limited())


def test_how_far_the_clock_is_off_is_told_once_and_again_to_a_new_chunkserver() -> None:
    async def main() -> None:
        control = ChunkserverControl(lambda events: None)
        peer = Peer(control)
        await peer.connect()
        await control.ready()
        for ahead_s in (0.2, 3600.0, 3600.3, 0.1):
            control.set_clock(ahead_s)
        assert await peer.receive() == messages.SetClock(3600.0)
        assert await peer.receive() == messages.SetClock(0.1)
        assert await peer.has_nothing_more(control)
        control.set_clock(-7200.0)
        new = Peer(control)
        await new.connect()
        assert await new.receive() == messages.SetClock(-7200.0)
        await peer.close()
        await new.close()
        await control.close()

    run(main())


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


@pytest.mark.parametrize("kind", ["feed", "place"])
def test_what_is_moved_at_once_is_bounded_and_the_rest_waits(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, f"{kind.upper()}S_MAXIMUM", 2)

    async def main() -> None:
        control = ChunkserverControl(lambda events: None)
        peer = Peer(control)
        await peer.connect()
        await control.ready()
        moves = [asyncio.ensure_future(getattr(control, kind)("/in", f"/{n}")) for n in range(4)]
        begun = [await peer.number() for _ in range(2)]
        assert await peer.has_nothing_more(control)
        # One that is cancelled has its room until the chunkserver says that it has ended.
        moves[0].cancel()
        assert await peer.receive() == messages.Cancel(begun[0])
        assert await peer.has_nothing_more(control)
        peer.send(messages.Done(begun[0]))
        third = await peer.number()
        assert third > begun[1] and await peer.has_nothing_more(control)
        peer.send(messages.Done(third, 5))
        assert await moves[2] == 5
        # A chunkserver that dies takes all with it, and leaves the room to the next one.
        await peer.number()
        await peer.close()
        await asyncio.wait(moves)
        assert all(isinstance(moves[n].exception(), UnavailableError) for n in (1, 3))
        again = Peer(control)
        await again.connect()
        await control.ready()
        moves = [asyncio.ensure_future(getattr(control, kind)("/in", f"/{n}")) for n in range(2)]
        for size_bytes in range(2):
            again.send(messages.Done(await again.number(), size_bytes))
        assert [await move for move in moves] == [0, 1]
        await again.close()
        await control.close()

    run(main())


def test_there_is_room_for_all_ships_that_are_begun() -> None:
    assert EARLY_SHIPS_MAXIMUM + FINAL_SHIPS_MAXIMUM <= messages.SHIPS_MAXIMUM
