"""Chunks and who holds them: the replication's state, and one step's bookkeeping.

``chunk/`` + id (8 bytes) holds a version byte and msgpack of a ChunkRecord;
``chunk/next`` the id of the next chunk, ``chunk/gaps`` the ranges below it that were
never used. So a replica of an unknown chunk is garbage for sure when its id was used;
else it was made under a later state than this one. Each run of the master goes on at
an id by the clock, so that an old copy of the state that goes on uses no id again.
What is not durable, nodes say again with each new session.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import msgspec

from perseus.errors import IncompatibleError
from perseus.membership.events import Direct
from perseus.proto.v1 import agent_pb2
from perseus.runtime.machine import Effect, Event, Step, Write

PREFIX = b"chunk/"
NEXT = PREFIX + b"next"
GAPS = PREFIX + b"gaps"
SCHEMA = 1
# Gaps that are remembered; the ids of older ones count as used.
GAPS_MAXIMUM = 1000
# Length of a chunk that is being written.
OPEN = -1
FIRST_VERSION = 1
NOTES_MAXIMUM = 256
_HEAD = bytes([SCHEMA])


class LoadView(Protocol):
    """How busy a node is."""

    @property
    def disk_free_bytes(self) -> int: ...
    @property
    def disk_gone(self) -> bool: ...
    @property
    def memory_available_bytes(self) -> int: ...


class CapacityView(Protocol):
    """The size of a node."""

    @property
    def disk_bytes(self) -> int: ...


class NodeView(Protocol):
    """What the replication reads of a node; membership's NodeInfo has it."""

    @property
    def node_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def alive(self) -> bool: ...
    @property
    def connected(self) -> bool: ...
    @property
    def draining(self) -> bool: ...
    @property
    def chunk_address(self) -> str: ...
    @property
    def unreachable(self) -> str: ...
    @property
    def distrusts(self) -> tuple[str, ...]: ...
    @property
    def load(self) -> LoadView: ...
    @property
    def capacity(self) -> CapacityView: ...


class Nodes(Protocol):
    """The nodes as they are now; changed before NodeUp and NodeDown are told."""

    def nodes(self) -> Iterable[NodeView]:
        """All nodes of the cluster."""

    def find(self, node: str) -> NodeView | None:
        """The node of that id or name, or None."""


class ChunkRecord(msgspec.Struct, array_like=True, frozen=True):
    """A Chunk as it lies in the store."""

    inode: int
    version: int
    length_bytes: int
    replicas: int
    nodes: tuple[str, ...]


class Chunk:
    """One chunk."""

    __slots__ = ("id", "inode", "length_bytes", "nodes", "replicas", "version")

    def __init__(self, chunk: int, record: ChunkRecord) -> None:
        self.id = chunk
        # The file that it belongs to.
        self.inode = record.inode
        # Replicas below it are garbage. Grows once at most, at the seal.
        self.version = record.version
        # OPEN until it is sealed.
        self.length_bytes = record.length_bytes
        # How many there should be.
        self.replicas = record.replicas
        # Ids of the nodes that hold it, in the order of the chain; also of lost ones.
        self.nodes = record.nodes

    @property
    def is_open(self) -> bool:
        """Whether it is being written or recovered."""
        return self.length_bytes == OPEN

    def record(self) -> ChunkRecord:
        """What is kept."""
        return ChunkRecord(self.inode, self.version, self.length_bytes, self.replicas, self.nodes)


class Note(NamedTuple):
    """Something about a chunk that people should be told of."""

    severity: str
    chunk: int
    inode: int
    message: str
    time_s: float


class State:
    """All chunks, by id and by node."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.chunks: dict[int, Chunk] = {}
        self.on_node: dict[str, set[int]] = {}
        self.next_id = 1
        # Ranges of ids (from, to) below it that were never used, in their order.
        self.gaps: list[tuple[int, int]] = []
        # Open chunks in whose chain a node is.
        self.open_on: dict[str, int] = {}
        # Holders of sealed chunks that have not yet said that theirs is sealed, too.
        self.unconfirmed: dict[int, set[str]] = {}
        # Holders whose replica does not match its checksums.
        self.corrupt: set[tuple[int, str]] = set()
        # Nodes that said their disk is full, and until when they are believed (monotonic).
        self.full_until_s: dict[str, float] = {}
        # Nodes that a writer could not reach, and until when others are preferred (monotonic).
        self.suspect_until_s: dict[str, float] = {}
        self.notes: deque[Note] = deque(maxlen=NOTES_MAXIMUM)
        # One tuple for each set of nodes, however many chunks.
        self._sets: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._dirty: dict[int, Chunk] = {}
        self._writes: list[Write] = []
        self._effects: list[Effect | Event] = []

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """From the durable keys."""
        decoder = msgspec.msgpack.Decoder(ChunkRecord)
        for key, value in items:
            if value[0] != SCHEMA:
                raise IncompatibleError(
                    f"{key!r} in the master's state has schema {value[0]}; "
                    f"this program knows {SCHEMA}",
                    hint="upgrade Perseus on the master",
                )
            body = memoryview(value)[1:]
            if key == NEXT:
                self.next_id = msgspec.msgpack.decode(body, type=int)
                continue
            if key == GAPS:
                self.gaps = msgspec.msgpack.decode(body, type=list[tuple[int, int]])
                continue
            chunk_id = int.from_bytes(key[len(PREFIX) :], "big")
            self._insert(Chunk(chunk_id, decoder.decode(body)))

    def finish(self) -> Step:
        """The step of all that was touched since the last one."""
        for chunk in self._dirty.values():
            value = _HEAD + msgspec.msgpack.encode(chunk.record())
            self._writes.append(Write(_key(chunk.id), value))
        step = Step(self._writes, self._effects)
        self._dirty, self._writes, self._effects = {}, [], []
        return step

    def emit(self, effect: Effect | Event) -> None:
        """Adds an effect to the step."""
        self._effects.append(effect)

    def direct(self, node_id: str, directive: agent_pb2.Directive) -> None:
        """Sends a directive once the step is durable."""
        self._effects.append(Direct(node_id, directive))

    def note(self, severity: str, chunk: Chunk, message: str, time_s: float) -> None:
        """Remembers a finding; the oldest makes way."""
        self.notes.append(Note(severity, chunk.id, chunk.inode, message, time_s))

    def allocate(self, chunk_id: int, record: ChunkRecord) -> Chunk:
        """A new chunk under an id from ``next_id`` on."""
        self.next_id = max(self.next_id, chunk_id + 1)
        self._writes.append(_next_write(self.next_id))
        chunk = Chunk(chunk_id, record)
        self._insert(chunk)
        self._dirty[chunk_id] = chunk
        return chunk

    def begin_run(self, first_id: int, forget_gaps: bool) -> None:
        """Goes on at that id, if it is not used yet; with ``forget_gaps`` whatever replica
        is not known by then is garbage."""
        if forget_gaps:
            self.gaps = []
        elif first_id > self.next_id:
            self.gaps = [*self.gaps, (self.next_id, first_id)][-GAPS_MAXIMUM:]
        self.next_id = max(self.next_id, first_id)
        gaps = msgspec.msgpack.encode(self.gaps)
        self._writes += [_next_write(self.next_id), Write(GAPS, _HEAD + gaps)]

    def was_used(self, chunk_id: int) -> bool:
        """Whether this state, or one before it, has made a chunk of that id."""
        if chunk_id >= self.next_id:
            return False
        place = bisect_right(self.gaps, chunk_id, key=_gap_begin) - 1
        return place < 0 or chunk_id >= self.gaps[place][1]

    def set_nodes(self, chunk: Chunk, nodes: tuple[str, ...]) -> None:
        """Changes who holds it."""
        for node_id in chunk.nodes:
            if node_id not in nodes:
                self._forget(chunk, node_id)
        for node_id in nodes:
            self.on_node.setdefault(node_id, set()).add(chunk.id)
        chunk.nodes = self._sets.setdefault(nodes, nodes)
        self._dirty[chunk.id] = chunk

    def seal(self, chunk: Chunk, length_bytes: int, version: int, nodes: tuple[str, ...]) -> None:
        """Ends an open chunk; its holders have yet to confirm."""
        self._count_open(chunk, -1)
        chunk.length_bytes, chunk.version = length_bytes, version
        self.set_nodes(chunk, nodes)
        self.unconfirmed[chunk.id] = set(nodes)

    def erase(self, chunk: Chunk) -> None:
        """Forgets a chunk."""
        for node_id in chunk.nodes:
            self._forget(chunk, node_id)
        del self.chunks[chunk.id]
        self.unconfirmed.pop(chunk.id, None)
        self._dirty.pop(chunk.id, None)
        self._writes.append(Write(_key(chunk.id), None))

    def confirm(self, chunk: Chunk, node_id: str) -> None:
        """The node's replica is sealed as the chunk is."""
        waiting = self.unconfirmed.get(chunk.id)
        if waiting is not None:
            waiting.discard(node_id)
            if not waiting:
                del self.unconfirmed[chunk.id]

    def doubt(self, chunk: Chunk, node_id: str) -> None:
        """The node's replica is yet to be sealed."""
        self.unconfirmed.setdefault(chunk.id, set()).add(node_id)

    def is_alive(self, node_id: str) -> bool:
        """Whether the node is counted on."""
        node = self.nodes.find(node_id)
        return node is not None and node.alive

    def name(self, node_id: str) -> str:
        """The node's name for people; its id when it is gone."""
        node = self.nodes.find(node_id)
        return node.name if node is not None else node_id

    def good(self, chunk: Chunk) -> list[str]:
        """Live holders whose replica is not known to be corrupt."""
        return [
            node_id
            for node_id in chunk.nodes
            if (chunk.id, node_id) not in self.corrupt and self.is_alive(node_id)
        ]

    def damaged(self, chunk: Chunk) -> list[str]:
        """Live holders whose replica is known to be corrupt; most of its blocks may be good."""
        return [
            node_id
            for node_id in chunk.nodes
            if (chunk.id, node_id) in self.corrupt and self.is_alive(node_id)
        ]

    def confirmed(self, chunk: Chunk) -> list[str]:
        """Live holders from which a sealed chunk can be copied."""
        waiting = self.unconfirmed.get(chunk.id, ())
        return [node_id for node_id in self.good(chunk) if node_id not in waiting]

    def _insert(self, chunk: Chunk) -> None:
        chunk.nodes = self._sets.setdefault(chunk.nodes, chunk.nodes)
        self.chunks[chunk.id] = chunk
        for node_id in chunk.nodes:
            self.on_node.setdefault(node_id, set()).add(chunk.id)
        if chunk.is_open:
            self._count_open(chunk, 1)

    def _count_open(self, chunk: Chunk, by: int) -> None:
        for node_id in chunk.nodes:
            self.open_on[node_id] = self.open_on.get(node_id, 0) + by

    def _forget(self, chunk: Chunk, node_id: str) -> None:
        held = self.on_node.get(node_id)
        if held is not None:
            held.discard(chunk.id)
            if not held:
                del self.on_node[node_id]
        if chunk.is_open:
            self.open_on[node_id] -= 1
        self.corrupt.discard((chunk.id, node_id))
        self.confirm(chunk, node_id)


def _gap_begin(gap: tuple[int, int]) -> int:
    return gap[0]


def _next_write(next_id: int) -> Write:
    return Write(NEXT, _HEAD + msgspec.msgpack.encode(next_id))


def _key(chunk: int) -> bytes:
    return PREFIX + chunk.to_bytes(8, "big")


def delete_directive(chunk: int, below_version: int) -> agent_pb2.Directive:
    """Delete the replica if its version is below that."""
    return agent_pb2.Directive(
        delete=agent_pb2.DeleteChunk(chunk=chunk, below_version=below_version)
    )


def seal_directive(chunk: Chunk) -> agent_pb2.Directive:
    """Seal the replica as the chunk is sealed."""
    return agent_pb2.Directive(
        seal=agent_pb2.SealReplica(
            chunk=chunk.id, version=chunk.version, length_bytes=chunk.length_bytes
        )
    )


def probe_directive(chunk: int, version: int) -> agent_pb2.Directive:
    """Tell the replica's length; a version above the replica's also ends its writing."""
    return agent_pb2.Directive(seal=agent_pb2.SealReplica(chunk=chunk, version=version, probe=True))


def presence_directive(chunk: int) -> agent_pb2.Directive:
    """Deletes nothing, for no version is below 0; the answer says whether a replica is there."""
    return delete_directive(chunk, 0)
