"""What happens to the namespace, and what it answers.

One event for each mutating RPC of the service Files; ``owner`` is who asks, as
the certificate says. Paths come as they were typed and are checked by the step.
"""

from dataclasses import dataclass
from typing import NamedTuple

from perseus.runtime.machine import Effect, Event


@dataclass(frozen=True, slots=True)
class MakeDirectory(Event):
    """Replies filestore_pb2.FileInfo. With ``parents`` an existing folder is fine."""

    path: str
    parents: bool
    owner: str

    @property
    def needs_room(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Rename(Event):
    """Replies FileInfo of the target."""

    source: str
    target: str
    replace: bool

    @property
    def needs_room(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Remove(Event):
    """Replies how many files and folders are gone."""

    path: str
    recursive: bool


@dataclass(frozen=True, slots=True)
class Create(Event):
    """Replies WriteLease."""

    path: str
    owner: str
    replace: bool = False
    visible_at_close: bool = False
    # 0 means the folder's.
    replicas: int = 0
    parents: bool = False
    # "JOB.TASK.ATTEMPT": an output, without a path until CommitOutputs.
    attempt: str = ""
    stderr: bool = False

    @property
    def needs_room(self) -> bool:
        # The output of an attempt belongs to work that was begun.
        return not self.attempt


@dataclass(frozen=True, slots=True)
class Append(Event):
    """Replies WriteLease."""

    path: str
    owner: str
    create: bool = False
    parents: bool = False

    @property
    def needs_room(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class AllocateChunk(Event):
    """Replies Allocation. Asked again before the seal, it replies the same one."""

    inode: int
    epoch: int
    # A node's id or name.
    near_node: str = ""
    avoid_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SealChunk(Event):
    """Replies None."""

    inode: int
    epoch: int
    chunk: int
    length_bytes: int
    failed_nodes: tuple[str, ...] = ()
    # The node that could not reach them, empty for the writer itself; and what it saw.
    failed_by: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class RenewWriteLease(Event):
    """Replies the seconds of the lease."""

    inode: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Close(Event):
    """Replies FileInfo."""

    inode: int
    epoch: int
    inline: bytes
    size_bytes: int
    checksum: int | None = None


@dataclass(frozen=True, slots=True)
class Abandon(Event):
    """Replies None."""

    inode: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Barrier(Event):
    """Changes nothing; its reply comes when all before it is durable, so that nothing is
    told that a crash could take back."""


@dataclass(frozen=True, slots=True)
class InodeChanged(Effect):
    """Those who wait for a change of this inode may look again."""

    inode: int


class Allocation(NamedTuple):
    """A chunk to write: its id, its version, where it begins, and the chain of node ids."""

    chunk: int
    version: int
    offset_bytes: int
    nodes: tuple[str, ...]
