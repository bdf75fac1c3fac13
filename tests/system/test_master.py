"""The master's role by itself: what it does besides answering."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from perseus.daemon import setup
from perseus.daemon.config import Paths
from perseus.daemon.master import Master
from perseus.filestore.namespace_events import Close, Create
from perseus.identity.files import Identity
from perseus.runtime.real import RealClock, RealRandom
from perseus.settings import Settings


async def nothing(*_: object) -> AsyncIterator[bytes]:
    pieces: tuple[bytes, ...] = ()
    for piece in pieces:
        yield piece


def test_outputs_of_attempts_that_are_over_are_discarded(tmp_path: Path) -> None:
    made = setup.initialise(tmp_path / "d", "127.0.0.1:0", "attic")
    paths = Paths(tmp_path / "d")
    failures: list[BaseException] = []

    async def story() -> None:
        master = Master(made, paths, Settings(), RealClock(), RealRandom())
        await master.start(Identity.load(paths.identity), nothing, failures.append)
        try:
            # As a node does that went on shipping after its attempt was given up.
            create = Create("", "node-2", attempt="job00000.0.1")
            lease = await master._driver.do(create)
            await master._driver.do(Close(lease.inode, lease.epoch, b"late", 4))
            assert master.namespace.uncommitted_attempts() == ["job00000.0.1"]
            await master.discard_leftovers()
            assert master.namespace.uncommitted_attempts() == []
            assert master.namespace.file(lease.inode) is None
        finally:
            await master.stop()

    asyncio.run(story())
    assert not failures
