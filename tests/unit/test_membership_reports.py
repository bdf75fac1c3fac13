"""Reports wait together, in order, and within a bound."""

import asyncio

import pytest

from perseus.membership import reports
from perseus.membership.reports import Reports
from perseus.proto.v1 import agent_pb2


def _attempt(number: int) -> agent_pb2.AttemptEvent:
    return agent_pb2.AttemptEvent(attempt=str(number))


def test_what_came_meanwhile_is_taken_together_and_in_order() -> None:
    async def act() -> None:
        waiting = Reports()
        await waiting.put([_attempt(1)], [agent_pb2.ChunkEvent()])
        await waiting.put([_attempt(2), _attempt(3)], [])
        attempts, chunks = await waiting.take()
        assert [event.attempt for event in attempts] == ["1", "2", "3"]
        assert len(chunks) == 1 and len(waiting) == 0

    asyncio.run(act())


def test_a_full_queue_stops_its_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "REPORTS_MAXIMUM", 2)

    async def act() -> None:
        waiting = Reports()
        putting = asyncio.ensure_future(waiting.put([_attempt(1), _attempt(2)], []))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not putting.done()
        await waiting.take()
        async with asyncio.timeout(60):
            await putting

    asyncio.run(act())
