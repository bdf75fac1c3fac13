"""The agent's handle on its chunkserver process (asyncio, control only).

``attach`` takes the agent's end of a socket pair; when the chunkserver dies, all
that wait get UnavailableError, and after it was forked again ``attach`` takes
the new socket. The grant key and the master's address are remembered and told
again. All methods belong to the event loop's thread.

Feeds and places beyond the most at once wait here for their turn, in order, for as
long as it takes: that a node is busy is no failure of what it was asked for. How many
ships there are is bounded by whoever begins them.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from perseus.errors import PerseusError, UnavailableError
from perseus.filestore import control_messages as messages
from perseus.proto.v1 import agent_pb2

# By how much a clock must move for the chunkserver to be told: grants last minutes.
CLOCK_STEP_S = 1.0

Answer = TypeVar("Answer")

_log = logging.getLogger("perseus.chunkserver")


@dataclass(frozen=True, slots=True)
class Shipped:
    """What a ship has made: the file, its size and the CRC32C of its content."""

    inode: int
    checksum: int
    size_bytes: int


class ChunkserverControl:
    """Commands for the chunkserver, and what it tells."""

    def __init__(self, on_chunk_events: Callable[[list[agent_pb2.ChunkEvent]], None]) -> None:
        """``on_chunk_events`` is called in the event loop."""
        self._on_chunk_events = on_chunk_events
        self._grant_key = b""
        self._master = ""
        # How far this clock is ahead of the master's, as the chunkserver was told.
        self._clock_ahead_s = 0.0
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[messages.Done | messages.Reports]] = {}
        self._feeds = asyncio.Semaphore(messages.FEEDS_MAXIMUM)
        self._places = asyncio.Semaphore(messages.PLACES_MAXIMUM)
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._failure: PerseusError | None = None
        self._chunk_address = ""

    @property
    def chunk_address(self) -> str:
        """Where the chunkserver listens, "host:port"; empty until it is ready."""
        return self._chunk_address

    @property
    def is_up(self) -> bool:
        """Whether the chunkserver is there and ready."""
        return self._ready.is_set() and self._failure is None

    def start(self, control: socket.socket) -> None:
        """Takes the agent's end of the first socket pair."""
        self.attach(control)

    def attach(self, control: socket.socket) -> None:
        """Takes the agent's end of a new socket pair, after the chunkserver was forked (again)."""
        if self._task is not None:
            # Else its end would be taken for the end of the new one.
            self._task.cancel()
        self._drop(UnavailableError("the chunkserver was started anew"))
        self._failure = None
        self._ready.clear()
        self._task = asyncio.get_running_loop().create_task(self._receive(control))

    async def close(self) -> None:
        """Ends the chunkserver."""
        self._send(messages.Shutdown())
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._drop(UnavailableError("the chunkserver was ended"))

    async def ready(self) -> str:
        """Waits until it listens; its address. UnavailableError (or why) when it cannot start."""
        await self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self._chunk_address

    async def reports(self) -> list[agent_pb2.ReplicaReport]:
        """All replicas, as of now. UnavailableError."""
        number = self._next_number()
        answer = await self._ask(number, messages.GetReports(number))
        assert isinstance(answer, messages.Reports)
        return [agent_pb2.ReplicaReport.FromString(item) for item in answer.replicas]

    async def directive(self, directive: agent_pb2.Directive) -> None:
        """Hands on FetchChunk, DeleteChunk or SealReplica; the answer is a ChunkEvent."""
        await self.ready()
        self._send(messages.Carry(directive.SerializeToString()))

    async def set_grant_key(self, key: bytes) -> None:
        """The key of chunk grants, from the master's Welcome; kept over a restart."""
        self._grant_key = key
        self._send(messages.SetGrantKey(key))

    async def set_master(self, address: str) -> None:
        """Where the movers reach the master, "host:port"; kept over a restart."""
        self._master = address
        self._send(messages.SetMaster(address))

    def set_clock(self, ahead_s: float) -> None:
        """How far this machine's clock is ahead of the master's; kept over a restart."""
        if abs(ahead_s - self._clock_ahead_s) >= CLOCK_STEP_S:
            self._clock_ahead_s = ahead_s
            self._send(messages.SetClock(ahead_s))

    async def feed(self, path: str, fifo_path: str) -> int:
        """Reads a file, following it until its writer closes, into a FIFO; returns the bytes
        moved. Ends quietly when the FIFO's reader goes. Cancel it to break off."""
        feed = messages.Feed(self._next_number(), path, fifo_path)
        return (await self._move(self._feeds, feed)).size_bytes

    async def place(self, path: str, target_path: str) -> int:
        """Copies a file to a local one, which appears whole; returns its size."""
        place = messages.Place(self._next_number(), path, target_path)
        return (await self._move(self._places, place)).size_bytes

    async def ship(self, attempt: str, stderr: bool, source_path: str) -> "Ship":
        """Begins to copy a local file, which may still grow, into an output of ``attempt``."""
        await self.ready()
        number = self._next_number()
        future = self._expect(number)
        self._send(messages.Ship(number, attempt, stderr, source_path))
        return Ship(self, number, future)

    async def _move(
        self, room: asyncio.Semaphore, message: messages.Feed | messages.Place
    ) -> messages.Done:
        await room.acquire()
        try:
            await self.ready()
        except BaseException:
            room.release()
            raise
        future = self._expect(message.number)
        # A mover that is broken off keeps its room until it has ended.
        future.add_done_callback(lambda _: room.release())
        self._send(message)
        try:
            return _done(await asyncio.shield(future))
        except asyncio.CancelledError:
            self._send(messages.Cancel(message.number))
            raise

    async def _ask(
        self, number: int, message: messages.ToChunkserver
    ) -> messages.Done | messages.Reports:
        await self.ready()
        future = self._expect(number)
        self._send(message)
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _expect(self, number: int) -> "asyncio.Future[messages.Done | messages.Reports]":
        future: asyncio.Future[messages.Done | messages.Reports]
        future = asyncio.get_running_loop().create_future()
        # A ship that is abandoned never asks for its result.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._waiting[number] = future
        return future

    def _send(self, message: messages.ToChunkserver) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(messages.encode(message))

    async def _receive(self, control: socket.socket) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=control)
        if self._grant_key:
            self._send(messages.SetGrantKey(self._grant_key))
        if self._master:
            self._send(messages.SetMaster(self._master))
        if self._clock_ahead_s:
            self._send(messages.SetClock(self._clock_ahead_s))
        try:
            while True:
                size = messages.frame_size(await reader.readexactly(messages.LENGTH.size))
                self._take(messages.to_agent.decode(await reader.readexactly(size)))
        except (asyncio.IncompleteReadError, OSError):
            self._drop(UnavailableError("the chunkserver has ended", maybe_done=True))

    def _take(self, message: messages.ToAgent) -> None:
        if isinstance(message, messages.Ready):
            self._chunk_address = message.chunk_address
            self._ready.set()
        elif isinstance(message, messages.Failed):
            self._drop(message.error.exception())
        elif isinstance(message, messages.Events):
            self._on_chunk_events([agent_pb2.ChunkEvent.FromString(e) for e in message.events])
        else:
            future = self._waiting.pop(message.number, None)
            if future is not None and not future.done():
                future.set_result(message)

    def _drop(self, error: PerseusError) -> None:
        """The chunkserver is gone: whoever waits is told why."""
        if self._failure is None:
            self._failure = error
        self._ready.set()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)

    def end_ship(self, number: int, size_bytes: int) -> None:
        """For Ship."""
        self._send(messages.ShipEnd(number, size_bytes))

    def cut_ship(self, number: int) -> None:
        """For Ship."""
        self._send(messages.ShipCut(number))

    def cancel(self, number: int) -> None:
        """For Ship."""
        self._send(messages.Cancel(number))


class Ship:
    """A local file on its way into the filestore; finish or abandon it."""

    def __init__(
        self,
        control: ChunkserverControl,
        number: int,
        future: "asyncio.Future[messages.Done | messages.Reports]",
    ) -> None:
        self._control = control
        self._number = number
        self._future = future

    @property
    def failed(self) -> bool:
        """Whether it has ended already, which before ``finish`` means that it failed."""
        return self._future.done()

    async def finish(self, size_bytes: int) -> Shipped:
        """The file is whole at that size: returns when all of it is on disk at all replicas.

        Raises what stopped it; then it may be begun again with ``ship``.
        """
        self._control.end_ship(self._number, size_bytes)
        done = _done(await asyncio.shield(self._future))
        return Shipped(done.inode, done.checksum, done.size_bytes)

    def cut(self) -> None:
        """Makes ``finish`` return soon, with what is shipped already."""
        self._control.cut_ship(self._number)

    async def abandon(self) -> None:
        """Leaves nothing; returns when the mover has ended. Quiet."""
        self._control.cancel(self._number)
        await asyncio.wait([self._future])


def _done(answer: messages.Done | messages.Reports) -> messages.Done:
    assert isinstance(answer, messages.Done)
    if answer.error is not None:
        raise answer.error.exception()
    return answer
