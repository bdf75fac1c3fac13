"""What Raft's servers and clients say to each other, and what a log is made of."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from perseus.algo import Id


class Role(Enum):
    """What a server is at the moment."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class Entry:
    """One place of the log. ``kind`` is "command", "nothing" or "servers"."""

    term: int
    kind: str
    command: Any = None
    client: Id = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the log said up to and with ``index``."""

    index: int
    term: int
    state: Any
    servers: tuple[Id, ...]
    # (client, sequence, result) of each client's last command, the longest silent first.
    sessions: tuple[tuple[Id, int, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Vote:
    """Asks for a vote. A pre-vote asks whether one would be given, and changes nothing."""

    term: int
    last_index: int
    last_term: int
    is_pre: bool


@dataclass(frozen=True, slots=True)
class Voted:
    """``term`` is the one voted in, or the higher one of who refuses."""

    term: int
    granted: bool
    is_pre: bool


@dataclass(frozen=True, slots=True)
class Append:
    """Entries after ``prev_index``, or none: a heartbeat of round ``round``."""

    term: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int
    round: int


@dataclass(frozen=True, slots=True)
class Appended:
    """Success: the log agrees up to ``index``. Else: try again from ``index``."""

    term: int
    success: bool
    index: int
    round: int


@dataclass(frozen=True, slots=True)
class Kept:
    """To itself, from a server that is a majority alone: its log is on disk up to ``index``."""

    term: int
    index: int


@dataclass(frozen=True, slots=True)
class Install:
    """A snapshot for a follower that is behind the leader's log."""

    term: int
    snapshot: Snapshot
    round: int


@dataclass(frozen=True, slots=True)
class Propose:
    """A client's command. The same (client, sequence) again has the same effect and result."""

    sequence: int
    command: Any


@dataclass(frozen=True, slots=True)
class Query:
    """A client's query, answered from a state not older than the query."""

    sequence: int
    query: Any


@dataclass(frozen=True, slots=True)
class ChangeServers:
    """Adds or removes one server."""

    sequence: int
    servers: tuple[Id, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """The command was applied, or the query answered."""

    sequence: int
    result: Any


@dataclass(frozen=True, slots=True)
class NotLeader:
    """Nothing was done; ask ``leader``, if it is known."""

    sequence: int
    leader: Id | None
