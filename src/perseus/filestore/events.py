"""What the machines above the filestore ask of it within their own transaction."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from perseus.runtime.machine import Event


class CommittedOutput(NamedTuple):
    """One output of an attempt: content inline, or the inode that the attempt wrote."""

    name: str
    size_bytes: int
    inline: bytes
    inode: int


@dataclass(frozen=True, slots=True)
class CommitOutputs(Event):
    """Makes an attempt's outputs visible in ``folder`` (made if missing), replacing what
    stands there. Never raises. An inode that does not belong to ``attempt`` is left out;
    what else the attempt wrote becomes garbage."""

    attempt: str
    folder: str
    owner: str
    outputs: tuple[CommittedOutput, ...]


@dataclass(frozen=True, slots=True)
class DiscardOutputs(Event):
    """Whatever ``attempt`` wrote and that was not committed becomes garbage."""

    attempt: str


@dataclass(frozen=True, slots=True)
class RemoveFolder(Event):
    """Removes a folder and all in it; quiet when there is none."""

    path: str


class Locality(Protocol):
    """What the scheduler asks of the filestore; answered from memory."""

    def exists(self, path: str) -> bool:
        """Whether there is a file of that path."""

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of that path."""

    def bytes_by_node(self, path: str) -> dict[str, int]:
        """Bytes of the file that each node (by id) holds a replica of."""
