"""One suite for every implementation of Store; an implementation's tests run all of it.

::

    for check in conformance.CHECKS:
        check(Subject(open_store=..., child_argv=...))

Each check opens stores of its own and raises AssertionError when the store
breaks a promise of ``store.interface``. It ships with the package so that a
store made elsewhere can be held against it.
"""

import asyncio
import os
import random
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perseus.errors import PerseusError
from perseus.runtime.machine import Write
from perseus.store.interface import Store

# How long any wait of the suite may last.
LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Subject:
    """The store under examination."""

    # Opens the store named by a path; the same path gives the same durable state.
    open_store: Callable[[Path], Store]
    # The command of a process that calls `run_child` with the store at the path it is given.
    child_argv: Callable[[Path], Sequence[str]]
    # An empty folder for the stores of one check.
    folder: Path


def check_order_and_prefixes(subject: Subject) -> None:
    """`items` is sorted by bytes, and a prefix means bytes, also at 0xff."""
    keys = [b"a", b"a\x00", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff", b"\x00"]

    async def act(store: Store) -> None:
        await store.commit([Write(key, b"v" + key) for key in keys])
        assert store.items() == [(key, b"v" + key) for key in sorted(keys)]
        for prefix in (b"", b"a", b"a\xff", b"\xff", b"b", b"zz"):
            expected = [(k, b"v" + k) for k in sorted(keys) if k.startswith(prefix)]
            assert store.items(prefix) == expected, prefix

    _with_store(subject, act)


def check_last_write_wins(subject: Subject) -> None:
    """Within a commit and between commits the later write of a key is the one that stays."""

    async def act(store: Store) -> None:
        await store.commit([Write(b"k", b"1"), Write(b"k", None), Write(b"k", b"2")])
        assert store.items() == [(b"k", b"2")]
        await store.commit([Write(b"k", b"3"), Write(b"k", None), Write(b"absent", None)])
        assert store.items() == []
        first = asyncio.ensure_future(store.commit([Write(b"k", b"4")]))
        second = asyncio.ensure_future(store.commit([Write(b"k", b"5")]))
        await asyncio.gather(first, second)
        assert store.items() == [(b"k", b"5")]

    _with_store(subject, act)


def check_model(subject: Subject) -> None:
    """A thousand random commits leave what a dictionary says, also after opening again."""
    chance = random.Random(7)
    model: dict[bytes, bytes] = {}

    async def act(store: Store) -> None:
        commits: list[Awaitable[None]] = []
        for _ in range(1000):
            writes = [_random_write(chance) for _ in range(chance.randrange(0, 12))]
            for write in writes:
                if write.value is None:
                    model.pop(write.key, None)
                else:
                    model[write.key] = write.value
            commits.append(asyncio.ensure_future(store.commit(writes)))
        await asyncio.gather(*commits)
        assert store.items() == sorted(model.items())

    async def look(store: Store) -> None:
        assert store.items() == sorted(model.items())

    _with_store(subject, act)
    _with_store(subject, look)


def check_completion_order(subject: Subject) -> None:
    """Commits return in the order in which they were called, barriers among them."""

    async def act(store: Store) -> None:
        order: list[int] = []

        async def one(number: int, writes: Sequence[Write]) -> None:
            await store.commit(writes)
            order.append(number)

        tasks = [
            asyncio.ensure_future(one(n, [] if n % 3 == 0 else [Write(b"%d" % n, b"")]))
            for n in range(1, 300)
        ]
        await asyncio.gather(*tasks)
        assert order == sorted(order)

    _with_store(subject, act)


def check_barrier(subject: Subject) -> None:
    """When an empty commit returns, what was called before it is durable."""

    async def act(store: Store) -> None:
        await store.commit([])
        writing = asyncio.ensure_future(store.commit([Write(b"k", b"v")]))
        await asyncio.sleep(0)
        await store.commit([])
        assert store.items() == [(b"k", b"v")]
        await writing

    _with_store(subject, act)


def check_cancelled_commit_happens(subject: Subject) -> None:
    """A caller that goes away does not take its commit, or later ones, with it."""

    async def act(store: Store) -> None:
        task = asyncio.ensure_future(store.commit([Write(b"cancelled", b"v")]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.commit([Write(b"later", b"v")])
        assert [key for key, _ in store.items()] == [b"cancelled", b"later"]

    _with_store(subject, act)


def check_large_values(subject: Subject) -> None:
    """A value of 8 MiB and a commit of 30,000 writes go in whole."""
    large = os.urandom(8 << 20)

    async def act(store: Store) -> None:
        await store.commit([Write(b"large", large)])
        await store.commit([Write(b"many/%05d" % n, b"") for n in range(30_000)])
        assert store.items(b"large") == [(b"large", large)]
        assert len(store.items(b"many/")) == 30_000
        await store.commit([Write(b"many/%05d" % n, None) for n in range(30_000)])
        assert store.items(b"many/") == []

    _with_store(subject, act)


def check_close(subject: Subject) -> None:
    """Closing waits for what was called, refuses what comes later, and can be repeated."""

    async def act(store: Store) -> None:
        writing = asyncio.ensure_future(store.commit([Write(b"k", b"v")]))
        await asyncio.sleep(0)
        store.close()
        await writing
        store.close()
        try:
            await store.commit([Write(b"k", b"late")])
        except PerseusError:
            return
        raise AssertionError("a closed store took a commit")

    async def look(store: Store) -> None:
        assert store.items() == [(b"k", b"v")]

    _with_store(subject, act)
    _with_store(subject, look)


def check_backup(subject: Subject) -> None:
    """A backup taken between commits opens as a store with the state of that moment."""
    copy = subject.folder / "copy"

    async def act(store: Store) -> None:
        await store.commit([Write(b"k", b"then")])
        store.backup(copy)
        await store.commit([Write(b"k", b"now")])

    _with_store(subject, act)
    store = subject.open_store(copy)
    try:
        assert store.items() == [(b"k", b"then")]
    finally:
        store.close()


def check_kill(subject: Subject) -> None:
    """A process killed amid commits loses none that was acknowledged and halves none."""
    path = subject.folder / "store"
    with subprocess.Popen(subject.child_argv(path), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            acknowledged = [int(child.stdout.readline()) for _ in range(200)]
        finally:
            child.kill()
        acknowledged += [int(line) for line in child.stdout if line.endswith(b"\n")]

    async def look(store: Store) -> None:
        pairs = dict(store.items())
        for number in acknowledged:
            assert pairs[b"a/%d" % number] == pairs[b"b/%d" % number] == b"%d" % number
        halves = {key[2:] for key in pairs if key.startswith(b"a/")}
        assert halves == {key[2:] for key in pairs if key.startswith(b"b/")}
        numbers = sorted(int(half) for half in halves)
        # Later commits are not there without those before them.
        assert numbers == list(range(len(numbers)))

    _with_store(subject, look)


CHECKS: Sequence[Callable[[Subject], None]] = (
    check_order_and_prefixes,
    check_last_write_wins,
    check_model,
    check_completion_order,
    check_barrier,
    check_cancelled_commit_happens,
    check_large_values,
    check_close,
    check_backup,
    check_kill,
)


async def run_child(store: Store, clients: int = 8) -> None:
    """The child of check_kill: commits pairs of keys for ever, and prints what is acknowledged."""
    total = 0

    async def client() -> None:
        nonlocal total
        while True:
            number = b"%d" % total
            total += 1
            await store.commit([Write(b"a/" + number, number), Write(b"b/" + number, number)])
            os.write(1, number + b"\n")

    await asyncio.gather(*(client() for _ in range(clients)))


def _random_write(chance: random.Random) -> Write:
    key = b"key/%d" % chance.randrange(60)
    return Write(key, None if chance.random() < 0.3 else chance.randbytes(chance.randrange(40)))


def _with_store(subject: Subject, act: Callable[[Store], Awaitable[None]]) -> None:
    async def bounded() -> None:
        store = subject.open_store(subject.folder / "store")
        try:
            await asyncio.wait_for(act(store), LIMIT_S)
        finally:
            store.close()

    asyncio.run(bounded())
