"""The SQLite store on a real disk, with real processes that are killed."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from perseus.errors import (
    ConflictError,
    CorruptError,
    FullError,
    IncompatibleError,
    InvalidError,
    NotFoundError,
)
from perseus.runtime.machine import Write
from perseus.store import conformance, schema, sqlite
from perseus.store.ballast import BALLAST_BYTES
from perseus.store.conformance import Subject
from perseus.store.interface import Store
from perseus.store.sqlite import SqliteStore

CHILD = textwrap.dedent(
    """
    import asyncio, pathlib, sys
    from perseus.store.conformance import run_child
    from perseus.store.sqlite import SqliteStore
    asyncio.run(run_child(SqliteStore(pathlib.Path(sys.argv[1]), "cluster", create=True)))
    """
)


def _open(path: Path) -> Store:
    return SqliteStore(path, "cluster", create=True)


def _subject(folder: Path) -> Subject:
    return Subject(_open, lambda path: [sys.executable, "-c", CHILD, str(path)], folder)


@pytest.fixture(autouse=True)
def _child_finds_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check: Callable[[Subject], None], tmp_path: Path) -> None:
    check(_subject(tmp_path))


def test_commits_that_wait_share_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy master would pay a sync of the disk for each of them."""
    batches: list[int] = []
    has_begun, may_end = threading.Event(), threading.Event()
    transact = sqlite._transact

    def held(connection: sqlite3.Connection, batch: Sequence[Any]) -> None:
        batches.append(len(batch))
        has_begun.set()
        assert may_end.wait(conformance.LIMIT_S)
        transact(connection, batch)

    async def commit_many() -> None:
        first = asyncio.create_task(store.commit([Write(b"first", b"v")]))
        assert await asyncio.to_thread(has_begun.wait, conformance.LIMIT_S)
        keys = [b"%d" % number for number in range(64)]
        rest = [asyncio.create_task(store.commit([Write(key, b"v")])) for key in keys]
        # All of them run as far as to their place in the queue.
        await asyncio.sleep(0)
        may_end.set()
        await asyncio.gather(first, *rest)

    monkeypatch.setattr(sqlite, "_transact", held)
    store = _open(tmp_path / "state.db")
    asyncio.run(commit_many())
    assert batches == [1, 64]
    assert len(store.items()) == 65
    store.close()


def _commit(store: Store, *writes: Write) -> None:
    asyncio.run(store.commit(writes))


def test_an_older_file_is_migrated_and_keeps_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path, "cluster", create=True)
    assert store.schema_version == 1
    _commit(store, Write(b"k", b"v"))
    store.close()

    def version_2(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE pairs SET value = CAST(value || x'21' AS BLOB)")

    newer = [*schema.MIGRATIONS, version_2]
    for _ in range(2):  # The second opening finds nothing left to do.
        store = SqliteStore(path, "cluster", migrations=newer)
        assert store.schema_version == 2
        assert store.items() == [(b"k", b"v!")]
        store.close()
    with pytest.raises(IncompatibleError, match=r"state version 2.*up to 1"):
        SqliteStore(path, "cluster", create=True)


def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path, "cluster", create=True)
    _commit(store, Write(b"k", b"v"))
    store.close()

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM pairs")
        raise InvalidError("it cannot be")

    with pytest.raises(InvalidError):
        SqliteStore(path, "cluster", migrations=[*schema.MIGRATIONS, broken])
    store = SqliteStore(path, "cluster", create=True)
    assert store.items() == [(b"k", b"v")]
    store.close()


def test_the_state_of_another_cluster_is_refused(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "state.db", "one", create=True).close()
    with pytest.raises(ConflictError, match="cluster one, not of two"):
        SqliteStore(tmp_path / "state.db", "two")


def test_two_daemons_cannot_open_one_store(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", "cluster", create=True)
    with pytest.raises(ConflictError, match="another daemon"):
        SqliteStore(tmp_path / "state.db", "cluster", create=True)
    store.close()
    SqliteStore(tmp_path / "state.db", "cluster", create=True).close()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is a text and no database at all\n" * 100)
    with pytest.raises(CorruptError):
        SqliteStore(tmp_path / "text", "cluster", create=True)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(InvalidError, match="not the state of a Perseus master"):
        SqliteStore(tmp_path / "other.db", "cluster", create=True)


def test_a_store_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    SqliteStore(path, "cluster", create=True).close()
    backup = path.read_bytes()
    path.unlink()
    with pytest.raises(NotFoundError, match=r"state\.db is missing"):
        SqliteStore(path, "cluster")
    assert not path.exists()
    path.touch()
    with pytest.raises(NotFoundError, match=r"state\.db is empty"):
        SqliteStore(path, "cluster")
    assert path.read_bytes() == b""
    path.write_bytes(backup)
    SqliteStore(path, "cluster").close()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", "cluster", create=True)
    _commit(store, Write(b"k", b"v"))
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    store.close()


def _limit_pages(store: SqliteStore, more: int) -> None:
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + more}")


def test_a_commit_without_room_waits_for_it_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "ROOM_PAUSE_S", 0.02)
    store = SqliteStore(tmp_path / "state.db", "cluster", create=True)
    ballast = tmp_path / "state.db.ballast"
    assert store.shortage() is None and ballast.stat().st_blocks * 512 >= BALLAST_BYTES
    _limit_pages(store, 4)

    async def act() -> None:
        big = asyncio.ensure_future(store.commit([Write(b"k", b"1"), Write(b"b", bytes(1 << 20))]))
        small = asyncio.ensure_future(store.commit([Write(b"k", b"2")]))
        async with asyncio.timeout(60):
            while store.shortage() is None or ballast.exists():
                await asyncio.sleep(0.01)
            assert "takes on nothing new" in str(store.shortage())
            assert not big.done() and not small.done()
            _limit_pages(store, 1000)
            await asyncio.gather(big, small)
            while store.shortage() is not None:
                await asyncio.sleep(0.01)
        assert ballast.exists()

    asyncio.run(act())
    assert store.items(b"k") == [(b"k", b"2")]
    store.close()


def test_a_store_that_waits_for_room_can_be_closed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", "cluster", create=True)
    _commit(store, Write(b"before", b"v"))
    _limit_pages(store, 4)

    async def act() -> tuple[BaseException | None, ...]:
        big = asyncio.ensure_future(
            store.commit([Write(b"half", b""), Write(b"b", bytes(1 << 20))])
        )
        await asyncio.sleep(0)
        await asyncio.to_thread(store.close)
        return await asyncio.gather(big, return_exceptions=True)

    (outcome,) = asyncio.run(act())
    assert isinstance(outcome, FullError), outcome
    again = SqliteStore(tmp_path / "state.db", "cluster")
    assert again.items() == [(b"before", b"v")]
    again.close()


FULL_CHILD = """
import asyncio, contextlib, pathlib, subprocess, sys
from perseus.runtime.machine import Write
from perseus.store import sqlite

sqlite.ROOM_PAUSE_S = 0.05
folder = pathlib.Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], check=True)
print("mounted", flush=True)
filler = folder / "filler"

def fill():
    with open(filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass

async def story():
    store = sqlite.SqliteStore(folder / "state.db", "cluster", create=True)
    count = 0

    async def commit():
        nonlocal count
        await store.commit([Write(b"%06d" % count, bytes(40_000))])
        count += 1

    await commit()
    assert store.shortage() is None
    fill()
    while store.shortage() is None:
        await commit()
    for _ in range(50):
        await commit()          # In the room of the ballast.
    fill()                      # Somebody else takes the rest of it.
    waiting = asyncio.ensure_future(commit())
    await asyncio.wait([waiting], timeout=0.3)
    assert not waiting.done() and count > 50
    filler.unlink()
    await waiting
    while store.shortage() is not None:
        await asyncio.sleep(0.01)
    await commit()
    store.close()
    return count

count = asyncio.run(asyncio.wait_for(story(), 50))
# One that starts on a full disk has the ballast to start in.
fill()
store = sqlite.SqliteStore(folder / "state.db", "cluster")
assert len(store.items()) == count, (count, len(store.items()))
store.close()
print("kept", flush=True)
"""


@pytest.mark.needs("unshare", "mount")
def test_a_disk_that_is_really_full_loses_nothing_acknowledged(tmp_path: Path) -> None:
    # In a mount namespace of its own, which takes its small disk along when it ends.
    command = ["unshare", "--mount", "--map-root-user"]
    command += [sys.executable, "-c", FULL_CHILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "mounted" not in done.stdout:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()[-200:]}")
    assert done.stdout == "mounted\nkept\n", done.stderr


def test_more_than_the_queue_holds_waits_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "QUEUE_MAXIMUM_WRITES", 10)
    store = SqliteStore(tmp_path / "state.db", "cluster", create=True)

    async def act() -> None:
        await asyncio.gather(*(store.commit([Write(b"k", b"%d" % n)]) for n in range(500)))

    asyncio.run(act())
    assert store.items() == [(b"k", b"499")]
    store.close()


def test_damage_is_found_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    # A process that opens the store, fills it, and ends without closing it.
    script = textwrap.dedent(
        """
        import asyncio, os, pathlib, sys
        from perseus.runtime.machine import Write
        from perseus.store.sqlite import SqliteStore
        store = SqliteStore(pathlib.Path(sys.argv[1]), "cluster", create=True)
        asyncio.run(store.commit([Write(b"%06d" % n, bytes(300)) for n in range(5000)]))
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os._exit(1)
        """
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    pages = path.stat().st_size // 4096
    with open(path, "r+b") as file:
        file.seek((pages // 2) * 4096)
        file.write(os.urandom(4096))
    with pytest.raises(CorruptError, match="damaged"):
        SqliteStore(path, "cluster", create=True)


def test_a_store_tells_how_long_its_commits_take(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore(path, "cluster", create=True)
    assert store.commit_latency_s() < 1.0
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def act() -> None:
        held = asyncio.ensure_future(store.commit([Write(b"k", b"1")]))
        async with asyncio.timeout(60):
            while store.commit_latency_s() < 1.2:
                await asyncio.sleep(0.01)
        assert not held.done()
        other.execute("ROLLBACK")
        await held

    asyncio.run(act())
    assert store.commit_latency_s() >= 1.2
    other.close()
    store.close()
