"""Where processes answer is known of all, also when nobody can be asked."""

import asyncio
import threading
from typing import Any

import pytest

from perseus.errors import UnavailableError
from perseus.hosting import addresses
from perseus.hosting.addresses import Addresses
from perseus.hosting.run import Run

RUN = Run("r", "", "", {"n": ("n1", "n2", "n3")}, dict.fromkeys(("n1", "n2", "n3"), "a"), (), 0.0)


class Store:
    """A cluster whose filestore has addresses, or is out of reach."""

    def __init__(self) -> None:
        self.fs = self
        self.there = {f"/algo/r/at/n{n}": f"host:{n}" for n in (1, 2, 3)}
        self.gate = threading.Event()
        self.gate.set()
        self.is_away = False
        self.asked = 0

    def read_bytes(self, path: str) -> bytes:
        self.asked += 1
        self.gate.wait(60)
        if self.is_away or path not in self.there:
            raise UnavailableError("the master is away")
        return self.there[path].encode()


def _with(store: Any, work: Any) -> None:
    async def main() -> None:
        made = Addresses(RUN, store)
        try:
            async with asyncio.timeout(60):
                await work(made)
        finally:
            store.gate.set()
            made.close()

    asyncio.run(main())


def test_all_are_known_before_the_first_word_and_when_the_master_is_away() -> None:
    store = Store()

    async def work(made: Addresses) -> None:
        await made.gather()
        store.is_away = True
        assert [await made.find(f"n{n}") for n in (1, 2, 3)] == ["host:1", "host:2", "host:3"]

    _with(store, work)


def test_one_that_moved_is_found_and_one_never_known_is_not() -> None:
    store = Store()
    del store.there["/algo/r/at/n3"]

    async def work(made: Addresses) -> None:
        assert await made.find("n2") == "host:2"
        store.there["/algo/r/at/n2"] = "host:9"
        assert await made.find("n2") == "host:9"
        assert await made.find("n3") == ""

    _with(store, work)


def test_an_answer_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "FIND_S", 0.01)
    store = Store()

    async def work(made: Addresses) -> None:
        await made.gather()
        asked = store.asked
        store.gate.clear()
        assert [await made.find("n1") for _ in range(20)] == ["host:1"] * 20
        assert store.asked == asked + 1, "one lookup is under way at a time"

    _with(store, work)
