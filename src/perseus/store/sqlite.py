"""The store over SQLite: WAL, synchronous=FULL, one writer thread with group commit.

All commits that wait while one transaction runs ride in the next, so throughput
grows with the number of callers while a lone commit costs one fsync. A batch is
folded into few statements of many rows: sqlite3 releases the interpreter's lock
around each statement, and with a busy event loop every one of them may wait to
get it back.

A batch that finds no room on the disk is tried again, in its place, until there
is: first in the room of the ballast, then whenever somebody made some.
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perseus.errors import (
    ConflictError,
    CorruptError,
    FullError,
    InternalError,
    NotFoundError,
    PerseusError,
    UnavailableError,
)
from perseus.runtime.machine import Write
from perseus.shellwords import as_file
from perseus.store import schema, wal
from perseus.store.ballast import FREE_BYTES, Ballast

# Writes that wait for the writer thread; above it `commit` blocks its whole event
# loop, for a step that was taken in memory can be neither refused nor reordered.
QUEUE_MAXIMUM_WRITES = 200_000
# Writes of one transaction, unless a single commit has more.
BATCH_MAXIMUM_WRITES = 20_000
# Rows of one statement; each size is a prepared statement that is kept.
_ROWS = (256, 32, 8, 4, 2, 1)
_BUSY_TIMEOUT_S = 5.0
_WAL_LIMIT_BYTES = 64 << 20
# Between two looks whether a full disk has room again.
ROOM_PAUSE_S = 1.0
# How long the slowest commit is remembered.
SLOWEST_KEPT_S = 60.0

_PUT = {
    rows: "INSERT INTO pairs VALUES "
    + ", ".join(["(?, ?)"] * rows)
    + " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    for rows in _ROWS
}
_DELETE = {rows: f"DELETE FROM pairs WHERE key IN ({', '.join(['?'] * rows)})" for rows in _ROWS}

_log = logging.getLogger("perseus.store")


@dataclass(slots=True)
class _Request:
    writes: Sequence[Write]
    future: asyncio.Future[None]


class SqliteStore:
    """A Store in one SQLite file, for one process at a time."""

    def __init__(
        self,
        path: Path,
        cluster_id: str,
        *,
        create: bool = False,
        migrations: Sequence[schema.Migration] = schema.MIGRATIONS,
    ) -> None:
        """Opens ``path`` for the cluster; with ``create`` it is made where there is none.

        Raises NotFoundError when there is none, ConflictError when another process
        has it open or it belongs to another cluster, IncompatibleError when it is
        newer than this program, CorruptError when it is damaged, InvalidError when
        it is no store at all.
        """
        self._path = path
        self._lock_descriptor = _lock(path)
        self._ballast = Ballast(path.with_name(f"{path.name}.ballast"))
        try:
            self._connection, self._schema_version = self._open(cluster_id, create, migrations)
        except BaseException:
            os.close(self._lock_descriptor)
            raise
        # From a commit without room until the ballast is kept again.
        self._is_short = not self._ballast.keep()
        self._look_again_at_s = 0.0
        # When the commit under way began; None between two.
        self._began_at_s: float | None = None
        # The slowest commit of late: how long it took, and when it ended.
        self._slowest = (0.0, 0.0)
        self._queue: deque[_Request] = deque()
        self._queued_writes = 0
        # Commits whose callers have not been woken yet; see `commit`.
        self._unanswered = 0
        self._failure: PerseusError | None = None
        self._closing = False
        mutex = threading.Lock()
        self._filled = threading.Condition(mutex)
        self._drained = threading.Condition(mutex)
        self._thread = threading.Thread(target=self._write, name="perseus-store", daemon=True)
        self._thread.start()

    def _open(
        self, cluster_id: str, create: bool, migrations: Sequence[schema.Migration]
    ) -> tuple[sqlite3.Connection, int]:
        try:
            return _open(self._path, cluster_id, create, migrations)
        except FullError:
            if not self._ballast.give_up():
                raise
        return _open(self._path, cluster_id, create, migrations)

    @property
    def schema_version(self) -> int:
        """The version of the layout in which the keys lie on disk."""
        return self._schema_version

    def items(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """All durable keys that begin with ``prefix`` and their values, sorted by key."""
        end = _prefix_end(prefix)
        query = "SELECT key, value FROM pairs WHERE key >= ?"
        parameters = [prefix] if end is None else [prefix, end]
        query += " ORDER BY key" if end is None else " AND key < ? ORDER BY key"
        with contextlib.closing(_connect(self._path)) as connection, _translated(self._path):
            return connection.execute(query, parameters).fetchall()

    async def commit(self, writes: Sequence[Write]) -> None:
        """Durable when it returns, after every commit called before; see ``interface``."""
        if self._failure is not None:
            raise self._failure
        # A barrier must not overtake commits that are durable but whose callers
        # still wait for the event loop, or effects would be delivered out of order.
        if not writes and not self._unanswered:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_Request(writes, future))
        self._unanswered += 1
        try:
            await future
        finally:
            self._unanswered -= 1

    def shortage(self) -> FullError | None:
        """Why nothing new should be begun just now; see ``interface``."""
        if not self._is_short:
            return None
        folder = self._path.parent
        return FullError(
            f"the master's disk is full: it takes on nothing new until there is room in {folder}",
            hint=f"free at least {FREE_BYTES >> 20} MiB on the disk of {as_file(folder)}; "
            "the master goes on by itself",
        )

    def commit_latency_s(self) -> float:
        """See ``interface``."""
        now_s = time.monotonic()
        began_at_s = self._began_at_s
        under_way_s = now_s - began_at_s if began_at_s is not None else 0.0
        took_s, ended_at_s = self._slowest
        return max(under_way_s, took_s if now_s - ended_at_s < SLOWEST_KEPT_S else 0.0)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Around a commit, in the writer thread."""
        began_at_s = self._began_at_s = time.monotonic()
        try:
            yield
        finally:
            now_s = time.monotonic()
            took_s, ended_at_s = self._slowest
            if now_s - began_at_s >= took_s or now_s - ended_at_s >= SLOWEST_KEPT_S:
                self._slowest = (now_s - began_at_s, now_s)
            self._began_at_s = None

    def backup(self, path: Path) -> None:
        """Writes a consistent copy to ``path``, replacing it; blocks, so call it in a thread."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            with (
                _translated(path),
                contextlib.closing(_connect(self._path)) as source,
                contextlib.closing(_connect(temporary)) as target,
            ):
                source.backup(target)
                # A copy is not the log of a running store: one plain, closed file.
                target.execute("PRAGMA journal_mode = DELETE")
                schema.mark_closed(target, True)
            _sync(temporary)
            os.rename(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def close(self) -> None:
        """Waits for what was committed, then releases the store. Safe to call twice."""
        with self._filled:
            if self._closing:
                return
            self._closing = True
            self._filled.notify()
        self._thread.join()
        if self._failure is None:
            self._failure = UnavailableError(f"{self._path} is closed")
            # Without room for that, the next start looks the file over.
            with contextlib.suppress(sqlite3.Error):
                schema.mark_closed(self._connection, True)
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        os.close(self._lock_descriptor)

    def _put(self, request: _Request) -> None:
        with self._filled:
            if self._closing:
                raise UnavailableError(f"{self._path} is closed")
            while self._queued_writes >= QUEUE_MAXIMUM_WRITES and self._failure is None:
                self._drained.wait()
            self._queue.append(request)
            self._queued_writes += len(request.writes)
            self._filled.notify()

    def _take(self) -> list[_Request] | None:
        """The next batch, in order. None when the store is closing and all is done; empty
        when it is time to look for room."""
        with self._filled:
            while not self._queue and not self._closing:
                if not self._filled.wait(ROOM_PAUSE_S if self._is_short else None):
                    return []
            if not self._queue:
                return None
            batch: list[_Request] = []
            size = 0
            while self._queue and (not batch or size < BATCH_MAXIMUM_WRITES):
                request = self._queue.popleft()
                size += len(request.writes)
                batch.append(request)
            self._queued_writes -= size
            self._drained.notify()
            return batch

    def _write(self) -> None:
        """The writer thread."""
        while (batch := self._take()) is not None:
            if batch:
                if self._failure is None:
                    with self._timed():
                        self._failure = self._carry(batch)
                _answer(batch, self._failure)
            if self._is_short:
                self._look_for_room()

    def _carry(self, batch: Sequence[_Request]) -> PerseusError | None:
        """Commits the batch, as soon as there is room for it; else what went wrong."""
        while True:
            try:
                with _translated(self._path):
                    _transact(self._connection, batch)
                return None
            except FullError as failure:
                if not self._make_room():
                    return failure
            except PerseusError as failure:
                return failure
            except Exception as failure:
                return InternalError(f"{self._path}: a commit failed: {failure!r}")

    def _make_room(self) -> bool:
        """Gives the ballast up, else waits a while; False when the store is closing."""
        if not self._is_short:
            _log.error("no room for %s: nothing new is taken on", self._path)
        self._is_short = True
        if self._ballast.give_up():
            return True
        with self._filled:
            return not self._filled.wait_for(lambda: self._closing, ROOM_PAUSE_S)

    def _look_for_room(self) -> None:
        now_s = time.monotonic()
        if now_s < self._look_again_at_s:
            return
        self._look_again_at_s = now_s + ROOM_PAUSE_S
        if self._ballast.keep():
            self._is_short = False
            _log.warning("there is room for %s again", self._path)


def _transact(connection: sqlite3.Connection, batch: Sequence[_Request]) -> None:
    """One transaction with all writes of the batch; the last write of a key wins."""
    final = {write.key: write.value for request in batch for write in request.writes}
    statements = _statements(final)
    if len(statements) == 1:
        connection.execute(*statements[0])
    elif statements:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, parameters in statements:
                connection.execute(statement, parameters)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


def _statements(final: dict[bytes, bytes | None]) -> list[tuple[str, list[bytes]]]:
    puts = [(key, value) for key, value in final.items() if value is not None]
    deletes = [key for key, value in final.items() if value is None]
    statements: list[tuple[str, list[bytes]]] = []
    start = 0
    for rows in _split(len(puts)):
        some = puts[start : start + rows]
        statements.append((_PUT[rows], [part for pair in some for part in pair]))
        start += rows
    start = 0
    for rows in _split(len(deletes)):
        statements.append((_DELETE[rows], deletes[start : start + rows]))
        start += rows
    return statements


def _split(count: int) -> Iterator[int]:
    """``count`` as a sum of statement sizes, the largest first."""
    for rows in _ROWS:
        while count >= rows:
            yield rows
            count -= rows


def _answer(batch: Sequence[_Request], failure: PerseusError | None) -> None:
    """Wakes the callers, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for request in batch:
        by_loop.setdefault(request.future.get_loop(), []).append(request.future)
    for loop, futures in by_loop.items():
        # The loop may have been closed while its last commits were written.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, futures, failure)


def _resolve(futures: Sequence[asyncio.Future[None]], failure: PerseusError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)


def _open(
    path: Path, cluster_id: str, create: bool, migrations: Sequence[schema.Migration]
) -> tuple[sqlite3.Connection, int]:
    with _translated(path):
        if create:
            # SQLite gives its log the permissions of the file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            _sync(path.parent)
        elif not path.exists() or path.stat().st_size == 0:
            # An empty store in its place would forget the cluster, and have its nodes
            # delete their chunks, which the backup that comes later needs.
            raise _missing(path)
        _check_log(path)
        connection = _connect(path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
            version = schema.prepare(connection, path, cluster_id, migrations)
            if not schema.was_closed(connection):
                _check(connection, path)
            schema.mark_closed(connection, False)
            return connection, version
        except BaseException:
            connection.close()
            raise


def _check_log(path: Path) -> None:
    """Raises CorruptError when SQLite would silently forget commits; see ``wal``."""
    log, index = (path.with_name(f"{path.name}-{end}") for end in ("wal", "shm"))
    damage = wal.find_damage(log, index)
    if damage is None:
        if log.exists():
            # What a killed process wrote last may be in memory alone, and is built upon now.
            _sync(log)
        return
    raise CorruptError(
        f"{log} is damaged: {damage.what}; acknowledged changes are in what is behind",
        hint=f"keep a copy of {as_file(path)}*, then put the newest backup of {path.name} in the "
        "place of them all; or go on without those changes, knowing that they are lost: "
        f"rm -f {as_file(index)} && truncate -s {damage.sound_bytes} {as_file(log)}",
    )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _damaged(path, found)


def _missing(path: Path) -> NotFoundError:
    state = "is empty" if path.exists() else "is missing"
    return NotFoundError(
        f"the master's state {path} {state}",
        hint=f"put the newest backup of {path.name} there (and no {path.name}-wal beside it), "
        "then start the daemon again; nothing was changed on the nodes",
    )


def _damaged(path: Path, what: object) -> CorruptError:
    return CorruptError(
        f"{path} is damaged: {what}",
        hint=f"keep a copy of {as_file(path)}*, then put the newest backup of {path.name} in the "
        "place of them all",
    )


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are begun by hand; the mutex of SQLite itself guards other threads.
    return sqlite3.connect(
        path,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=32,
    )


def _lock(path: Path) -> int:
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ConflictError(
            f"another daemon has {path} open", hint=f"perseus stop --data {as_file(path.parent)}"
        ) from None
    return descriptor


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turns the errors of SQLite and of the disk into those of Perseus."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(path, error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(path, error) from error
        raise UnavailableError(f"{path}: {error}") from error


def _translate(path: Path, error: sqlite3.Error) -> PerseusError:
    # The low byte is the primary code; the others refine it. No code: misuse of the module.
    exact = getattr(error, "sqlite_errorcode", 0)
    code = exact & 0xFF
    # The second: the log's index, which is a file too, could not grow.
    if code == sqlite3.SQLITE_FULL or exact == sqlite3.SQLITE_IOERR_SHMSIZE:
        return _full(path, error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, error)
    return UnavailableError(
        f"{path} cannot be used: {error}",
        hint=f"look at the disk of {as_file(path.parent)}, then start the daemon again",
        maybe_done=True,
    )


def _full(path: Path, error: Exception) -> FullError:
    return FullError(
        f"no room for {path}: {error}",
        hint=f"free some space on the disk of {as_file(path.parent)}, then start the daemon again",
    )


def _prefix_end(prefix: bytes) -> bytes | None:
    """The first key after all that begin with ``prefix``; None when there is no such key."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
