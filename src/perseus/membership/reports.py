"""What a node has reported on its stream and the machines have not taken in yet.

It stands between the reading of a stream and the disk, so that heartbeats are heard
while reports wait to be durable; what came meanwhile is taken in together.
"""

import asyncio
from collections.abc import Iterable

from perseus.proto.v1 import agent_pb2

# Reports that wait; above it the stream is not read, and its node's heartbeats are not heard.
REPORTS_MAXIMUM = 100_000


class Reports:
    """A bounded queue of one writer and one reader; each kind keeps its order."""

    def __init__(self) -> None:
        self._attempts: list[agent_pb2.AttemptEvent] = []
        self._chunks: list[agent_pb2.ChunkEvent] = []
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()

    def __len__(self) -> int:
        return len(self._attempts) + len(self._chunks)

    async def put(
        self,
        attempts: Iterable[agent_pb2.AttemptEvent],
        chunks: Iterable[agent_pb2.ChunkEvent],
    ) -> None:
        """Adds them, then waits until there is room for more."""
        self._attempts.extend(attempts)
        self._chunks.extend(chunks)
        if len(self):
            self._filled.set()
        while len(self) >= REPORTS_MAXIMUM:
            self._taken.clear()
            await self._taken.wait()

    async def take(self) -> tuple[list[agent_pb2.AttemptEvent], list[agent_pb2.ChunkEvent]]:
        """All that waits, as soon as there is something."""
        await self._filled.wait()
        self._filled.clear()
        taken = self._attempts, self._chunks
        self._attempts, self._chunks = [], []
        self._taken.set()
        return taken
