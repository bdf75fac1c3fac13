"""Outputs of an ended attempt: whole, or cut where they have got to."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from perseus.errors import PerseusError, UnavailableError
from perseus.filestore.control import Shipped
from perseus.jobs import keeping as keeping_module
from perseus.jobs.attempt_endings import cut_short
from perseus.jobs.keeping import Keeping
from perseus.jobs.spool import Shipment, ShipRoom, Spool
from perseus.proto.v1 import agent_pb2, jobs_pb2

LIMIT_S = 60.0
SIZE = 100_000


class Ship:
    """Brings nothing before it is let go or cut; then so much."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.shipped_bytes: int | None = None
        self.ignores_cut = False
        self.failure: PerseusError | None = None
        self.is_abandoned = False

    async def finish(self, size_bytes: int) -> Shipped:
        await self.goes_on.wait()
        if self.failure is not None:
            raise self.failure
        return Shipped(7, 0, size_bytes if self.shipped_bytes is None else self.shipped_bytes)

    def cut(self) -> None:
        if not self.ignores_cut:
            self.goes_on.set()

    async def abandon(self) -> None:
        self.is_abandoned = True


class Bench:
    """One attempt's outputs: a large stdout, and an empty stderr."""

    def __init__(self, folder: Path) -> None:
        self.begun: list[Ship] = []
        self.next = Ship()
        self.begins = asyncio.Event()
        self.begins.set()
        self.spools = [Spool(str(folder / name), name, 1 << 30) for name in ("stdout", "stderr")]
        for spool in self.spools:
            spool.open()
        (folder / "stdout").write_bytes(bytes(SIZE))
        for spool in self.spools:
            spool.settle()
        room = ShipRoom()
        ships = [Shipment(self, room, "a", bool(i), s.path) for i, s in enumerate(self.spools)]
        self.keeping = Keeping(self.spools, ships)

    async def ship(self, attempt: str, stderr: bool, source_path: str) -> Ship:
        await self.begins.wait()
        self.begun.append(self.next)
        return self.next

    async def feed(self, path: str, fifo_path: str) -> int:
        raise AssertionError("nothing is fed")

    async def place(self, path: str, target_path: str) -> int:
        raise AssertionError("nothing is placed")

    async def until_begun(self) -> "asyncio.Task[list[agent_pb2.Output]]":
        outputs = asyncio.create_task(self.keeping.outputs())
        while not self.begun:
            await asyncio.sleep(0)
        return outputs


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, LIMIT_S))


def test_whole_when_nobody_cuts(tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(tmp_path)
        assert not bench.keeping.is_inline and bench.keeping.size_bytes == SIZE
        outputs = await bench.until_begun()
        bench.next.goes_on.set()
        stdout, stderr = await outputs
        assert (stdout.size_bytes, stdout.inode, stdout.truncated) == (SIZE, 7, False)
        assert stderr == agent_pb2.Output()
        assert not bench.keeping.said_of_cut

    run(story())


def test_a_cut_keeps_what_is_there(tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(tmp_path)
        bench.next.shipped_bytes = 60_000
        outputs = await bench.until_begun()
        bench.keeping.cut()
        stdout, _ = await outputs
        assert (stdout.size_bytes, stdout.inode, stdout.truncated) == (60_000, 7, True)
        assert "58.6 kB of 97.7 kB of its stdout" in bench.keeping.said_of_cut
        # Whoever still reads the spool sees no more than is kept.
        assert (tmp_path / "stdout").stat().st_size == bench.spools[0].size_bytes == 60_000

    run(story())


def test_a_cut_that_comes_too_late_changes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        bench = Bench(tmp_path)
        outputs = await bench.until_begun()
        bench.keeping.cut()
        stdout, _ = await outputs
        assert stdout.size_bytes == SIZE and not stdout.truncated
        assert not bench.keeping.said_of_cut

    run(story())


@pytest.mark.parametrize("why", ["not begun", "hangs", "fails", "brought nothing"])
def test_what_no_ship_brings_is_kept_as_far_as_it_needs_no_place(
    tmp_path: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "hangs":
        monkeypatch.setattr(keeping_module, "CUT_TIMEOUT_S", 0.01)

    async def story() -> None:
        bench = Bench(tmp_path)
        if why == "not begun":
            bench.begins.clear()
            outputs = asyncio.create_task(bench.keeping.outputs())
            await asyncio.sleep(0)
        else:
            outputs = await bench.until_begun()
        bench.next.ignores_cut = why == "hangs"
        bench.next.failure = UnavailableError("no room") if why == "fails" else None
        bench.next.shipped_bytes = 0
        bench.keeping.cut()
        stdout, _ = await outputs
        assert (stdout.inode, stdout.inline, stdout.truncated) == (0, bytes(4096), True)
        assert "the first 4 kB of 97.7 kB" in bench.keeping.said_of_cut
        while bench.begun and not bench.next.is_abandoned and why != "brought nothing":
            await asyncio.sleep(0)

    run(story())


def test_how_what_was_cut_has_ended() -> None:
    stop = agent_pb2.StopAttempt(signal=15)
    well = cut_short(jobs_pb2.Ending(kind=jobs_pb2.ENDING_EXITED), stop, "here")
    assert (well.kind, well.exit_code) == (jobs_pb2.ENDING_CANCELLED, 143)
    assert well.message == "cancelled by SIGTERM; it had ended with exit code 0; cut here"
    failed = cut_short(jobs_pb2.Ending(kind=jobs_pb2.ENDING_EXITED, exit_code=3), stop, "here")
    assert (failed.kind, failed.exit_code) == (jobs_pb2.ENDING_CANCELLED, 3)
    limit = jobs_pb2.Ending(kind=jobs_pb2.ENDING_OUTPUT_LIMIT, exit_code=153, message="limit")
    limit.message += "; the bytes up to there are kept\n  what to type next"
    still = cut_short(limit, stop, "here")
    assert (still.kind, still.exit_code) == (jobs_pb2.ENDING_OUTPUT_LIMIT, 153)
    assert (
        still.message == "limit; cut here\n  what to type next" and limit.message != still.message
    )
