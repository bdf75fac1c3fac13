"""The layout of ``state.db``, how it came to be, and how older files are brought to it.

Each migration takes a file from version N-1 to N inside one transaction; the
table ``schema`` holds one row for each that was applied. A migration never
changes once it was released.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from perseus.errors import ConflictError, IncompatibleError, InvalidError

Migration = Callable[[sqlite3.Connection], None]

# "PeRS" in the header of the file, so that other SQLite files are told apart.
APPLICATION_ID = 0x50655253


def _version_1(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
    # Not WITHOUT ROWID: there a search reads the whole value of each key it compares
    # with, which makes every write slow that has a large value for a neighbour.
    connection.execute(
        "CREATE TABLE pairs (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL) STRICT"
    )


MIGRATIONS: Sequence[Migration] = (_version_1,)


def prepare(
    connection: sqlite3.Connection, path: Path, cluster_id: str, migrations: Sequence[Migration]
) -> int:
    """Makes or migrates the layout and binds it to the cluster; returns its version.

    Raises IncompatibleError for a newer file, ConflictError for another cluster's,
    InvalidError for a file that is not a store.
    """
    version = _version(connection, path)
    if version > len(migrations):
        raise IncompatibleError(
            f"{path} was written by a newer Perseus (state version {version}; "
            f"this program knows up to {len(migrations)})",
            hint="upgrade Perseus on this machine",
        )
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number, migration in enumerate(migrations[version:], version + 1):
            migration(connection)
            connection.execute("INSERT INTO schema VALUES (?, unixepoch())", (number,))
        _bind(connection, path, cluster_id)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return len(migrations)


def was_closed(connection: sqlite3.Connection) -> bool:
    """Whether the store's last user closed it in order."""
    row = connection.execute("SELECT value FROM about WHERE name = 'closed'").fetchone()
    return row is None or row[0] == "yes"


def mark_closed(connection: sqlite3.Connection, closed: bool) -> None:
    """Records whether the store is closed in order; a file left open is checked when opened."""
    connection.execute(
        "INSERT OR REPLACE INTO about VALUES ('closed', ?)", ("yes" if closed else "no",)
    )


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the file; a new one is made a store of version 0."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application == APPLICATION_ID:
        found = connection.execute("SELECT max(version) FROM schema").fetchone()[0]
        return int(found or 0)
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise InvalidError(
            f"{path} is an SQLite file, but not the state of a Perseus master",
            hint="choose another data folder with --data",
        )
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(
        "CREATE TABLE schema (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT"
    )
    connection.execute("COMMIT")
    return 0


def _bind(connection: sqlite3.Connection, path: Path, cluster_id: str) -> None:
    connection.execute("INSERT OR IGNORE INTO about VALUES ('cluster_id', ?)", (cluster_id,))
    row = connection.execute("SELECT value FROM about WHERE name = 'cluster_id'").fetchone()
    if row[0] != cluster_id:
        raise ConflictError(
            f"{path} is the state of cluster {row[0]}, not of {cluster_id}",
            hint="choose another data folder with --data, or put the right state.db back",
        )
