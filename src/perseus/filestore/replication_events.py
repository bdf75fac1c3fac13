"""What the namespace tells the replication and hears from it; what nodes report.

The first five go between the two machines within one transaction, so none of
their steps raises.
"""

from dataclasses import dataclass

from perseus.proto.v1 import agent_pb2
from perseus.runtime.machine import Event


@dataclass(frozen=True, slots=True)
class ChunkAllocated(Event):
    """A chain from Replication.plan is in use from now on."""

    chunk: int
    inode: int
    # How many replicas are wanted, also when the chain is shorter.
    replicas: int
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChunkSealed(Event):
    """The writer's word: the chunk ends at length_bytes, which is acknowledged."""

    chunk: int
    length_bytes: int
    # Ids or names of nodes that failed the writer.
    failed_nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LinkBroken(Event):
    """A writer's bytes did not come through to these nodes, whether it had any before or not."""

    # Id of the node that could not reach them; empty for the writer itself.
    source: str
    targets: tuple[str, ...]
    # For people.
    words: str


@dataclass(frozen=True, slots=True)
class ChunksDropped(Event):
    """No file holds these chunks any more; their replicas are garbage."""

    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RecoverChunk(Event):
    """The writer of an open chunk is gone: find what all live replicas have and seal it."""

    chunk: int
    inode: int


@dataclass(frozen=True, slots=True)
class ChunkRecovered(Event):
    """The answer to RecoverChunk: the chunk is sealed at this length (0: nothing was kept)."""

    chunk: int
    inode: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class ChunkEvents(Event):
    """What a node tells of its replicas; void when its session is an older one."""

    node_id: str
    session: int
    events: tuple[agent_pb2.ChunkEvent, ...]


@dataclass(frozen=True, slots=True)
class CheckReplica(Event):
    """A client could not read a replica. The node is asked what it has."""

    chunk: int
    # Id or name.
    node: str
    message: str
