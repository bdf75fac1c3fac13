"""The replication: a pure machine over chunks and the nodes that hold them.

It promises: two replicas of a chunk never share a node; a sealed chunk comes to
as many live replicas as are wanted, and nodes allow, and to no more; a replica
is deleted only when it is garbage, stale or corrupt and the chunk has good ones
enough without it; a chunk whose writer is gone is sealed at no less than what
was acknowledged; a replica of an unknown chunk is deleted only if its chunk was
surely dropped.

It assumes: ``nodes`` changes before NodeUp and NodeDown are told; the namespace
steps in the same transaction; a Tick about five times a second. Directives are
lost with a node's stream; its next session says what it holds, which mends that.
A session that cannot say it, for its chunkserver is down, changes nothing at first:
only after ``replication_delay_s`` is the node taken to have no replica.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from perseus.errors import RefusedError
from perseus.filestore.replication_events import (
    CheckReplica,
    ChunkAllocated,
    ChunkEvents,
    ChunkRecovered,
    ChunksDropped,
    ChunkSealed,
    LinkBroken,
    RecoverChunk,
)
from perseus.filestore.replication_garbage import Garbage
from perseus.filestore.replication_links import Links
from perseus.filestore.replication_placement import Placement
from perseus.filestore.replication_recovery import Recovery
from perseus.filestore.replication_repair import Repair
from perseus.filestore.replication_state import (
    FIRST_VERSION,
    OPEN,
    PREFIX,
    Chunk,
    ChunkRecord,
    Nodes,
    Note,
    State,
    delete_directive,
    presence_directive,
    probe_directive,
    seal_directive,
)
from perseus.membership.commands import Connect, MasterStarted
from perseus.membership.events import NodeChanged, NodeDown, NodeUp, Replica
from perseus.membership.history import HINT
from perseus.proto.v1 import agent_pb2
from perseus.runtime.machine import Event, Instant, Step, Tick
from perseus.settings import Settings

# Chunks of nodes that came or went, looked at in one Tick.
LOOKS_PER_TICK = 5000
# A holder that has not confirmed a seal is told again after so long.
SEAL_RETRY_S = 10.0
# A replica that readers complain of is asked after once in so long, and so many at a time.
CHECK_AGAIN_S = 10.0
CHECKS_MAXIMUM = 1000
# For so long others are preferred to a node that failed a writer.
SUSPECT_S = 30.0


class Plan(NamedTuple):
    """The chain of an open chunk, as ids of nodes."""

    chunk: int
    version: int
    nodes: tuple[str, ...]


class Located(NamedTuple):
    """Where a chunk can be read, and under which version."""

    version: int
    # replication_state.OPEN while it is being written.
    length_bytes: int
    nodes: tuple[str, ...]


class Replication:
    """See the module's contract."""

    prefixes: Sequence[bytes] = (PREFIX,)

    def __init__(self, settings: Settings, nodes: Nodes) -> None:
        self._settings = settings
        self._state = State(nodes)
        self._placement = Placement(self._state, settings.disk_reserve_bytes)
        self._garbage = Garbage(self._state)
        self._repair = Repair(self._state, self._placement, self._garbage)
        self._recovery = Recovery(self._state)
        # What writers met of late, for people.
        self.links = Links()
        self._sessions: dict[str, int] = {}
        # (chunk, node) that a reader complained of, and until when it is not asked again.
        self._checks: dict[tuple[int, str], float] = {}
        # Nodes that could not say what they hold, and until when it is taken to be still there.
        self._untold_until_s: dict[str, float] = {}
        # Chunks to look at again, a bounded number each Tick.
        self._looks: deque[int] = deque()
        # Nodes removed for good whose chunks are being let go.
        self._leaving: deque[str] = deque()
        # (chunk, node) told to seal, and when to tell it again; in the order of time.
        self._seals: dict[tuple[int, str], float] = {}
        self._started = False
        self._handlers: dict[type[Event], Callable[[Instant, Any], None]] = {
            Tick: self._tick,
            ChunkAllocated: self._allocated,
            ChunkSealed: self._sealed,
            LinkBroken: self._link_broken,
            ChunksDropped: self._dropped,
            RecoverChunk: self._recover,
            ChunkEvents: self._chunk_events,
            CheckReplica: self._check,
            NodeUp: self._node_up,
            NodeDown: self._node_down,
            NodeChanged: lambda at, event: None,
            MasterStarted: self._begin_run,
        }
        self.events: Sequence[type[Event]] = tuple(self._handlers)

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Rebuilds the table of chunks."""
        self._state.load(items)

    def step(self, at: Instant, event: Event) -> Step:
        """What follows from ``event``."""
        self._handlers[type(event)](at, event)
        return self._state.finish()

    def _begin_run(self, at: Instant, event: MasterStarted) -> None:
        first_id = max(event.run, self._state.next_id + event.chance)
        self._state.begin_run(first_id, event.accept_old_state)

    def check_hello(self, name: str, event: Connect) -> None:
        """RefusedError for a node with a replica that was made under a later state than this;
        for Membership.guards."""
        for replica in event.replicas:
            if replica.chunk not in self._state.chunks and not self._state.was_used(replica.chunk):
                raise RefusedError(
                    f"the master's state is an old copy: node {name} has a replica of chunk "
                    f"{replica.chunk:016x}, which was made after it; so that this is not "
                    f"deleted, node {name} is kept apart from it",
                    hint=HINT,
                )

    # The namespace's word.

    def _allocated(self, at: Instant, event: ChunkAllocated) -> None:
        record = ChunkRecord(event.inode, FIRST_VERSION, OPEN, event.replicas, event.nodes)
        self._state.allocate(event.chunk, record)

    def _sealed(self, at: Instant, event: ChunkSealed) -> None:
        chunk = self._state.chunks.get(event.chunk)
        if chunk is None or not chunk.is_open:
            return
        failed = {
            node_id
            for node_id in chunk.nodes
            if node_id in event.failed_nodes or self._state.name(node_id) in event.failed_nodes
        }
        standing = tuple(node_id for node_id in chunk.nodes if node_id not in failed)
        self._recovery.forget(chunk.id)
        if failed and standing:
            # What the others still hold of it, or write to it, is stale from now on.
            self._state.seal(chunk, event.length_bytes, chunk.version + 1, standing)
            for node_id in failed:
                self._state.direct(node_id, delete_directive(chunk.id, chunk.version))
        else:
            # All failed: what was acknowledged is still on their disks, and nowhere else.
            self._state.seal(chunk, event.length_bytes, chunk.version, chunk.nodes)
        self._tell_seal(at, chunk)

    def _link_broken(self, at: Instant, event: LinkBroken) -> None:
        for node in map(self._state.nodes.find, event.targets):
            if node is not None:
                self._state.suspect_until_s[node.node_id] = at.now_s + SUSPECT_S
                self.links.note(at, event.source, node.node_id, event.words)

    def _tell_seal(self, at: Instant, chunk: Chunk) -> None:
        for node_id in chunk.nodes:
            self._send_seal(at, chunk, node_id)
        self._repair.look(at, chunk)

    def _send_seal(self, at: Instant, chunk: Chunk, node_id: str) -> None:
        self._state.doubt(chunk, node_id)
        self._seals.pop((chunk.id, node_id), None)
        self._seals[chunk.id, node_id] = at.now_s + SEAL_RETRY_S
        self._state.direct(node_id, seal_directive(chunk))

    def _dropped(self, at: Instant, event: ChunksDropped) -> None:
        for chunk_id in event.chunks:
            chunk = self._state.chunks.get(chunk_id)
            if chunk is None:
                continue
            for node_id in chunk.nodes:
                self._garbage.add(node_id, chunk_id, chunk.version + 1)
            self._repair.forget(chunk)
            self._recovery.forget(chunk_id)
            self._state.erase(chunk)

    def _recover(self, at: Instant, event: RecoverChunk) -> None:
        chunk = self._state.chunks.get(event.chunk)
        if chunk is None:
            self._state.emit(ChunkRecovered(event.chunk, event.inode, 0))
        elif not chunk.is_open:
            self._state.emit(ChunkRecovered(chunk.id, chunk.inode, chunk.length_bytes))
        else:
            self._recovery.begin(at, chunk)

    # The nodes' word.

    def _node_up(self, at: Instant, event: NodeUp) -> None:
        node_id = event.node_id
        self._sessions[node_id] = event.session
        self._garbage.forget_node(node_id)
        self._repair.hoped_until_s.pop(node_id, None)
        self._state.full_until_s.pop(node_id, None)
        self._state.suspect_until_s.pop(node_id, None)
        self._repair.node_gone(node_id)
        if event.replicas_known:
            self._untold_until_s.pop(node_id, None)
            self._take_list(at, node_id, {replica.chunk for replica in event.replicas})
        else:
            # From the first such session on: others may follow one another quickly.
            until_s = at.now_s + self._settings.replication_delay_s
            self._untold_until_s.setdefault(node_id, until_s)
        for replica in event.replicas:
            # What it was told in its session before may be lost.
            self._seals.pop((replica.chunk, node_id), None)
            self._present(at, node_id, replica)
        self._recovery.node_up(node_id)

    def _take_list(self, at: Instant, node_id: str, listed: set[int]) -> None:
        """The node has these chunks and no others."""
        for chunk_id in self._state.on_node.get(node_id, set()) - listed:
            self._unlisted(at, self._state.chunks[chunk_id], node_id)

    def _unlisted(self, at: Instant, chunk: Chunk, node_id: str) -> None:
        """The node did not name a replica; perhaps it was made after the list was."""
        if chunk.is_open:
            return
        if node_id in self._state.unconfirmed.get(chunk.id, ()):
            self._send_seal(at, chunk, node_id)
            return
        self._let_go(at, chunk, node_id, "has lost its replica")

    def _node_down(self, at: Instant, event: NodeDown) -> None:
        self._sessions.pop(event.node_id, None)
        self._untold_until_s.pop(event.node_id, None)
        self._garbage.forget_node(event.node_id)
        self.links.forget_node(event.node_id)
        self._repair.node_gone(event.node_id)
        if event.removed:
            self._repair.hoped_until_s.pop(event.node_id, None)
            self._leaving.append(event.node_id)
        elif event.node_id in self._state.on_node:
            self._hope(at, event.node_id)
        for chunk_id in list(self._recovery.probes):
            self._settle(at, self._state.chunks[chunk_id])

    def _hope(self, at: Instant, node_id: str) -> None:
        self._repair.hoped_until_s[node_id] = at.now_s + self._settings.replication_delay_s

    def _chunk_events(self, at: Instant, event: ChunkEvents) -> None:
        if self._sessions.get(event.node_id) != event.session:
            return
        for item in event.events:
            kind = item.WhichOneof("what")
            if kind == "present":
                self._present(at, event.node_id, Replica.of(item.present))
            elif kind == "corrupt":
                self._corrupt(at, event.node_id, item.corrupt)
            elif kind == "failure":
                self._failure(at, event.node_id, item.failure)
            elif kind == "deleted":
                self._deleted(at, event.node_id, item.deleted)

    def _present(self, at: Instant, node_id: str, replica: Replica) -> None:
        chunk = self._state.chunks.get(replica.chunk)
        if chunk is None:
            if self._state.was_used(replica.chunk):
                self._garbage.add(node_id, replica.chunk, replica.version + 1)
            return
        is_holder = node_id in chunk.nodes
        if replica.corrupt and not (is_holder and self._is_unborn(chunk, replica)):
            where = f"chunk {chunk.id:016x} on {self._state.name(node_id)}"
            self._damaged(at, chunk, node_id, replica.version, f"{where} is damaged")
        if chunk.is_open:
            # A replica that is written on may be longer by now than it says: what was
            # acknowledged meanwhile would be cut off. So only a probe's answer counts.
            if is_holder and (replica.fenced or replica.sealed or not replica.version):
                # Without a version its log, and with it its length, cannot be read.
                known = replica.length_bytes if replica.version else None
                self._answer(at, chunk, node_id, known)
            return
        if replica.corrupt:
            return
        if replica.version < chunk.version and not is_holder:
            self._garbage.add(node_id, chunk.id, chunk.version)
        elif replica.version > chunk.version:
            self._from_the_future(at, chunk, node_id, replica)
        elif replica.length_bytes < chunk.length_bytes:
            self._too_short(at, chunk, node_id, replica)
        elif not _is_same(chunk, replica):
            self._adopt(chunk, node_id)
            if (chunk.id, node_id) not in self._seals:
                # Told already, it is told again by time alone: its disk may refuse.
                self._send_seal(at, chunk, node_id)
            self._repair.look(at, chunk)
        else:
            self._adopt(chunk, node_id)
            self._state.corrupt.discard((chunk.id, node_id))
            self._state.confirm(chunk, node_id)
            self._repair.arrived(chunk, node_id)
            self._repair.look(at, chunk)

    def _is_unborn(self, chunk: Chunk, replica: Replica) -> bool:
        """Whether it looks as if its node crashed before the first sync: no cause for alarm.

        Should its log have rotted, the chunk's other holders have what was acknowledged.
        """
        return chunk.is_open and not replica.version and len(self._state.good(chunk)) > 1

    def _adopt(self, chunk: Chunk, node_id: str) -> None:
        if node_id not in chunk.nodes:
            self._state.set_nodes(chunk, (*chunk.nodes, node_id))

    def _from_the_future(self, at: Instant, chunk: Chunk, node_id: str, replica: Replica) -> None:
        self._state.note(
            "error",
            chunk,
            f"{self._state.name(node_id)} has version {replica.version} of chunk {chunk.id:016x}, "
            f"the master knows {chunk.version}: its state is older than the cluster's",
            at.time_s,
        )

    def _too_short(self, at: Instant, chunk: Chunk, node_id: str, replica: Replica) -> None:
        text = (
            f"chunk {chunk.id:016x} on {self._state.name(node_id)} has "
            f"{replica.length_bytes} of its {chunk.length_bytes} bytes"
        )
        self._damaged(at, chunk, node_id, replica.version, text)

    def _corrupt(self, at: Instant, node_id: str, report: agent_pb2.CorruptReplica) -> None:
        chunk = self._state.chunks.get(report.chunk)
        if chunk is None:
            if self._state.was_used(report.chunk):
                self._garbage.add(node_id, report.chunk, report.version + 1)
            return
        text = (
            f"chunk {chunk.id:016x} on {self._state.name(node_id)} did not match its "
            f"checksum at byte {report.offset_bytes}"
        )
        self._damaged(at, chunk, node_id, report.version, text)

    def _damaged(self, at: Instant, chunk: Chunk, node_id: str, version: int, text: str) -> None:
        """The node's replica is damaged: its good blocks count until good replicas stand."""
        is_holder = node_id in chunk.nodes
        if not is_holder and chunk.is_open:
            # Nobody waits for its blocks.
            self._state.direct(node_id, delete_directive(chunk.id, version + 1))
            return
        # One that was given up, and of which good ones stand, goes without a word.
        matters = is_holder or not self._state.good(chunk)
        self._adopt(chunk, node_id)
        if (chunk.id, node_id) not in self._state.corrupt:
            self._state.corrupt.add((chunk.id, node_id))
            if matters:
                self._state.note("warning", chunk, text, at.time_s)
        if matters:
            self._repair.heal(chunk, text)
        self._repair.look(at, chunk)

    def _failure(self, at: Instant, node_id: str, failure: agent_pb2.ChunkFailure) -> None:
        was_fetch = self._repair.failed(at, failure.chunk, node_id, failure.disk_full)
        chunk = self._state.chunks.get(failure.chunk)
        if chunk is None:
            return
        where = self._state.name(node_id)
        if was_fetch:
            text = f"{where} could not copy chunk {chunk.id:016x}: {failure.message}"
            self._state.note("warning", chunk, text, at.time_s)
            self._repair.look(at, chunk)
        elif node_id in chunk.nodes and not self._drop_unsealed(at, chunk, node_id, failure):
            # A seal or probe failed, perhaps because nothing is there.
            self._state.direct(node_id, presence_directive(chunk.id))

    def _drop_unsealed(
        self, at: Instant, chunk: Chunk, node_id: str, failure: agent_pb2.ChunkFailure
    ) -> bool:
        """Gives up a replica that could not be sealed, if others are for sure."""
        others = self._state.confirmed(chunk)
        if node_id not in self._state.unconfirmed.get(chunk.id, ()) or not others:
            return False
        self._let_go(at, chunk, node_id, f"could not seal its replica ({failure.message})")
        self._state.direct(node_id, delete_directive(chunk.id, chunk.version + 1))
        return True

    def _deleted(self, at: Instant, node_id: str, chunk_id: int) -> None:
        chunk = self._state.chunks.get(chunk_id)
        if chunk is None or node_id not in chunk.nodes:
            return
        if chunk.is_open:
            self._answer(at, chunk, node_id, None)
        else:
            self._let_go(at, chunk, node_id, "has lost its replica")

    def _let_go(self, at: Instant, chunk: Chunk, node_id: str, why: str) -> None:
        """The node has no good replica of a sealed chunk any more."""
        text = f"{self._state.name(node_id)} {why} of chunk {chunk.id:016x}"
        self._state.note("warning", chunk, text, at.time_s)
        self._repair.heal(chunk, text)
        rest = tuple(other for other in chunk.nodes if other != node_id)
        self._state.set_nodes(chunk, rest)
        self._repair.look(at, chunk)

    def _answer(self, at: Instant, chunk: Chunk, node_id: str, length_bytes: int | None) -> None:
        if self._recovery.answer(chunk, node_id, length_bytes):
            self._tell_seal(at, chunk)

    def _settle(self, at: Instant, chunk: Chunk) -> None:
        if self._recovery.settle(chunk):
            self._tell_seal(at, chunk)

    def _check(self, at: Instant, event: CheckReplica) -> None:
        chunk = self._state.chunks.get(event.chunk)
        node = self._state.nodes.find(event.node)
        if chunk is None or node is None or node.node_id not in chunk.nodes:
            return
        key = (chunk.id, node.node_id)
        if key not in self._checks and len(self._checks) < CHECKS_MAXIMUM:
            self._checks[key] = at.now_s + CHECK_AGAIN_S
            self._state.direct(node.node_id, probe_directive(chunk.id, chunk.version))

    # Time.

    def _tick(self, at: Instant, event: Tick) -> None:
        if not self._started:
            self._started = True
            self._start(at)
        for node_id, until_s in list(self._repair.hoped_until_s.items()):
            if until_s <= at.now_s:
                del self._repair.hoped_until_s[node_id]
                self._looks.extend(self._state.on_node.get(node_id, ()))
        for node_id, until_s in list(self._untold_until_s.items()):
            if until_s <= at.now_s:
                del self._untold_until_s[node_id]
                self._take_list(at, node_id, set())
        self._release()
        self._looks.extendleft(self._garbage.tick())
        for _ in range(min(LOOKS_PER_TICK, len(self._looks))):
            chunk = self._state.chunks.get(self._looks.popleft())
            if chunk is not None:
                self._repair.look(at, chunk)
        for chunk in self._recovery.tick(at):
            self._tell_seal(at, chunk)
        self._seal_again(at)
        for key in [key for key, until_s in self._checks.items() if until_s <= at.now_s]:
            del self._checks[key]
        self._repair.tick(at)
        self.links.tick(at)

    def _start(self, at: Instant) -> None:
        """After a restart: nodes that are down get their delay, those removed are let go."""
        for node_id in list(self._state.on_node):
            node = self._state.nodes.find(node_id)
            if node is None:
                self._leaving.append(node_id)
            elif not node.alive:
                self._hope(at, node_id)
        self._looks.extend(self._state.chunks)

    def _release(self) -> None:
        """Takes removed nodes out of the sets of their chunks, a bounded number at a time."""
        left = LOOKS_PER_TICK
        while self._leaving and left > 0:
            node_id = self._leaving[0]
            held = self._state.on_node.get(node_id, ())
            for chunk_id in list(islice(held, left)):
                left -= 1
                chunk = self._state.chunks[chunk_id]
                rest = tuple(other for other in chunk.nodes if other != node_id)
                self._state.set_nodes(chunk, rest)
                self._looks.append(chunk_id)
            if node_id not in self._state.on_node:
                self._leaving.popleft()

    def _seal_again(self, at: Instant) -> None:
        """Tells those again who have not confirmed a seal."""
        for (chunk_id, node_id), due_s in list(self._seals.items()):
            if due_s > at.now_s:
                return
            del self._seals[chunk_id, node_id]
            chunk = self._state.chunks.get(chunk_id)
            waits = node_id in self._state.unconfirmed.get(chunk_id, ())
            if chunk is not None and waits and self._state.is_alive(node_id):
                self._send_seal(at, chunk, node_id)

    # Reads. They change nothing and may be called at any time.

    def plan(self, replicas: int, near_node: str, avoid_nodes: Iterable[str]) -> Plan:
        """A chain for a new chunk; raises FullError or UnavailableError."""
        chunk = self._state.next_id
        nodes = self._placement.chain(chunk, replicas, near_node, avoid_nodes)
        return Plan(chunk, FIRST_VERSION, nodes)

    def planned(self, chunk: int) -> Plan:
        """The chain of an open chunk."""
        found = self._state.chunks[chunk]
        return Plan(chunk, found.version, found.nodes)

    def live_replicas(self, chunk: int) -> int:
        """How many good replicas are on live nodes."""
        found = self._state.chunks.get(chunk)
        return len(self._state.good(found)) if found is not None else 0

    def located(self, chunk: int) -> Located | None:
        """Where to read a chunk; corrupt replicas only when there is no other."""
        found = self._state.chunks.get(chunk)
        if found is None:
            return None
        nodes = self._state.good(found)
        nodes = nodes or [node_id for node_id in found.nodes if self._state.is_alive(node_id)]
        version = found.version
        if found.id in self._state.unconfirmed:
            # Some holder may not have taken the newest version yet; its bytes are the same.
            version = max(FIRST_VERSION, version - 1)
        nodes.sort(key=self._placement.is_doubtful_id)
        return Located(version, found.length_bytes, tuple(nodes))

    def holders(self, chunk: int) -> tuple[str, ...]:
        """All nodes in the chunk's set, also lost ones."""
        found = self._state.chunks.get(chunk)
        return found.nodes if found is not None else ()

    def held_by(self, node_id: str) -> tuple[int, int]:
        """How many replicas a node holds, and their bytes."""
        held = self._state.on_node.get(node_id, set())
        chunks = (self._state.chunks[chunk_id] for chunk_id in held)
        return len(held), sum(max(0, chunk.length_bytes) for chunk in chunks)

    def only_on(self, node_id: str) -> int:
        """How many chunks would be lost with a node: no other live one holds them."""
        held = self._state.on_node.get(node_id, set())
        return sum(
            not any(other != node_id for other in self._state.good(self._state.chunks[chunk]))
            for chunk in held
        )

    @property
    def under_replicated(self) -> list[int]:
        """Chunks that lack replicas and have at least one."""
        return self._repair.under_replicated

    @property
    def lost(self) -> list[int]:
        """Sealed chunks without a good replica on a live node."""
        return list(self._repair.lost)

    @property
    def stranded(self) -> list[int]:
        """Open chunks whose writer is gone and none of whose holders is alive."""
        return [
            chunk
            for chunk in self._recovery.probes
            if not any(map(self._state.is_alive, self.holders(chunk)))
        ]

    @property
    def notes(self) -> list[Note]:
        """What happened to replicas of late, the oldest first."""
        return list(self._state.notes)

    def inode_of(self, chunk: int) -> int:
        """The file of a chunk; 0 when it is unknown."""
        found = self._state.chunks.get(chunk)
        return found.inode if found is not None else 0


def _is_same(chunk: Chunk, replica: Replica) -> bool:
    whole = (chunk.version, chunk.length_bytes, True)
    return (replica.version, replica.length_bytes, replica.sealed) == whole
