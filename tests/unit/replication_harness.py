"""The master's machines over nodes whose chunkservers are dictionaries.

``Cluster`` holds the real membership, replication and namespace as one
transaction, folds their writes into a dictionary, and hands directives to
nodes that obey them as the chunkserver does.
"""

from dataclasses import dataclass, field
from typing import Any

from perseus.errors import PerseusError
from perseus.filestore import namespace_events as files
from perseus.filestore.namespace import Namespace
from perseus.filestore.replication import Replication
from perseus.filestore.replication_events import ChunkEvents
from perseus.membership.commands import (
    AddNode,
    Connect,
    HeartbeatReceived,
    RemoveNode,
)
from perseus.membership.events import Direct, Replica
from perseus.membership.state import Membership
from perseus.membership.values import Capacity, Load
from perseus.proto.v1 import agent_pb2
from perseus.runtime.machine import Composite, Event, Instant, Tick
from perseus.settings import Settings

LEASE_S = 10.0
GIB = 1 << 30


@dataclass
class Held:
    """A replica on a node's disk."""

    version: int
    length: int
    sealed: bool = False
    fenced: bool = False
    # Blocks that are bad, and whether the node knows that there are any.
    rotten: set[int] = field(default_factory=set)
    found: bool = False

    @property
    def intact(self) -> bool:
        return not self.rotten


@dataclass
class Node:
    """A chunkserver, its agent's session, and what it was told and has not done yet."""

    node_id: str
    held: dict[int, Held] = field(default_factory=dict)
    up: bool = False
    session: int = 0
    free: int = 100 * GIB
    inbox: list[agent_pb2.Directive] = field(default_factory=list)


class Cluster:
    """See the module."""

    def __init__(self, nodes: int, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.now_s = 1000.0
        self.rows: dict[bytes, bytes] = {}
        self.nodes: dict[str, Node] = {}
        self.effects: list[object] = []
        self._build()
        for number in range(nodes):
            self.add_node(f"n{number}")

    def _build(self) -> None:
        self.membership = Membership(LEASE_S)
        self.replication = Replication(self.settings, self.membership)
        self.namespace = Namespace(self.settings, self.replication)
        self.machine = Composite([self.membership, self.replication, self.namespace])
        self.machine.load(sorted(self.rows.items()))

    def restart(self) -> None:
        """The master begins anew from what is durable; all streams break."""
        for node in self.nodes.values():
            node.inbox.clear()
        self._build()
        for node in self.nodes.values():
            if node.up:
                self.connect(node)

    def do(self, event: Event) -> Any:
        """Steps, makes it durable, delivers directives; the reply."""
        step = self.machine.step(Instant(self.now_s, 1e9 + self.now_s), event)
        for write in step.writes:
            if write.value is None:
                self.rows.pop(write.key, None)
            else:
                self.rows[write.key] = write.value
        for effect in step.effects:
            self.effects.append(effect)
            if isinstance(effect, Direct):
                node = self.nodes[effect.node_id]
                if node.up:
                    node.inbox.append(effect.directive)
        return step.reply

    def refused(self, event: Event) -> PerseusError:
        """The error of an event that must not change anything."""
        before = dict(self.rows)
        try:
            self.do(event)
        except PerseusError as error:
            assert self.rows == before
            return error
        raise AssertionError(f"{event} was not refused")

    # Nodes.

    def add_node(self, node_id: str) -> Node:
        """A new node, connected."""
        node = self.nodes[node_id] = Node(node_id)
        self.do(AddNode(node_id, f"name-{node_id}"))
        self.connect(node)
        return node

    def connect(self, node: Node, knows: bool = True) -> None:
        """A new session, with a list of all that is held if the node knows it."""
        node.up = True
        node.inbox.clear()
        replicas = tuple(
            Replica(chunk, held.version, held.length, held.sealed, held.found)
            for chunk, held in node.held.items()
            if knows
        )
        # Directives that follow belong to the new session already.
        reply = self.do(
            Connect(
                node_id=node.node_id,
                protocol_minimum=1,
                protocol_maximum=1,
                version="",
                address=f"{node.node_id}:1",
                chunk_address=f"{node.node_id}:2",
                capacity=Capacity(),
                replicas=replicas,
                replicas_known=knows,
            )
        )
        node.session = reply.session
        self.beat(node)

    def beat(self, node: Node) -> None:
        """A heartbeat with the node's free disk."""
        load = Load(disk_free_bytes=node.free, memory_available_bytes=1)
        self.do(HeartbeatReceived(node.node_id, node.session, load, 1e9 + self.now_s))

    def lose(self, node_id: str) -> None:
        """The node falls silent until its lease is over."""
        self.nodes[node_id].up = False
        self.nodes[node_id].inbox.clear()
        self.advance(LEASE_S + 1)

    def remove(self, node_id: str) -> None:
        """The node leaves for good."""
        self.nodes[node_id].up = False
        self.do(RemoveNode(node_id))

    def advance(self, seconds: float, step_s: float = 1.0) -> None:
        """Time passes, with heartbeats, Ticks, and directives carried out."""
        while seconds > 0:
            self.now_s += min(step_s, seconds)
            seconds -= step_s
            for node in self.nodes.values():
                if node.up:
                    self.beat(node)
            self.do(Tick())
            self.deliver()

    def deliver(self) -> None:
        """All nodes carry out all they were told, until nothing is left."""
        for _ in range(1000):
            busy = [node for node in self.nodes.values() if node.inbox]
            if not busy:
                return
            for node in busy:
                self.carry_out(node)
        raise AssertionError("directives without end")

    def carry_out(self, node: Node) -> None:
        """The node does the first thing it was told, and tells how it went."""
        event = self._obey(node, node.inbox.pop(0))
        self.do(ChunkEvents(node.node_id, node.session, (event,)))

    def _obey(self, node: Node, directive: agent_pb2.Directive) -> agent_pb2.ChunkEvent:
        kind = directive.WhichOneof("what")
        if kind == "delete":
            return self._delete(node, directive.delete)
        if kind == "fetch":
            return self._fetch(node, directive.fetch)
        assert kind == "seal"
        seal = directive.seal
        held = node.held.get(seal.chunk)
        if held is None:
            failure = agent_pb2.ChunkFailure(chunk=seal.chunk, message="it is not here")
            return agent_pb2.ChunkEvent(failure=failure)
        if seal.probe:
            held.fenced = held.fenced or seal.version > held.version
            event = present(seal.chunk, held)
            event.present.fenced = seal.version > held.version
            return event
        elif held.length < seal.length_bytes or held.version > seal.version:
            failure = agent_pb2.ChunkFailure(chunk=seal.chunk, version=seal.version)
            return agent_pb2.ChunkEvent(failure=failure)
        else:
            held.length, held.version, held.sealed = seal.length_bytes, seal.version, True
        return present(seal.chunk, held)

    def _delete(self, node: Node, delete: agent_pb2.DeleteChunk) -> agent_pb2.ChunkEvent:
        held = node.held.get(delete.chunk)
        if held is not None and held.version >= delete.below_version:
            return present(delete.chunk, held)
        if held is not None:
            self.check_deletion(node, delete.chunk)
            del node.held[delete.chunk]
        return agent_pb2.ChunkEvent(deleted=delete.chunk)

    def check_deletion(self, node: Node, chunk: int) -> None:
        """A replica that counts goes only while all its good blocks stay elsewhere."""
        located = self.replication.located(chunk)
        held = node.held[chunk]
        if located is None or located.length_bytes < 0 or held.length < located.length_bytes:
            return
        others = [other for other in self.nodes.values() if other is not node]
        lost = self.lost_blocks(chunk, located.length_bytes, others)
        assert lost is not None and lost <= held.rotten, f"bytes of chunk {chunk} were deleted"

    def lost_blocks(self, chunk: int, length: int, nodes: list[Node]) -> set[int] | None:
        """Blocks that are good on none of these nodes; None when none has a replica."""
        held = [node.held[chunk] for node in nodes if chunk in node.held]
        rotten = [replica.rotten for replica in held if replica.length >= length]
        return set.intersection(*rotten) if rotten else None

    def _fetch(self, node: Node, fetch: agent_pb2.FetchChunk) -> agent_pb2.ChunkEvent:
        sources = [self.nodes[address.split(":")[0]] for address in fetch.sources]
        usable = [
            source
            for source in sources
            if source.up
            and (held := source.held.get(fetch.chunk)) is not None
            and held.version >= fetch.version
        ]
        for source in usable:
            if not source.held[fetch.chunk].intact:
                self.tell_corrupt(source, fetch.chunk)
        if self.lost_blocks(fetch.chunk, fetch.length_bytes, usable) == set():
            node.held[fetch.chunk] = Held(fetch.version, fetch.length_bytes, sealed=True)
            return present(fetch.chunk, node.held[fetch.chunk])
        failure = agent_pb2.ChunkFailure(chunk=fetch.chunk, message="no source")
        return agent_pb2.ChunkEvent(failure=failure)

    def rot(self, node_id: str, chunk: int, block: int = 0, found: bool = True) -> None:
        """A bit flips, and perhaps the scrubber finds it."""
        node = self.nodes[node_id]
        node.held[chunk].rotten.add(block)
        if found:
            self.tell_corrupt(node, chunk)

    def tell_corrupt(self, node: Node, chunk: int) -> None:
        """The node reports a corrupt replica."""
        node.held[chunk].found = True
        if not node.up:
            return
        report = agent_pb2.CorruptReplica(chunk=chunk, version=node.held[chunk].version)
        event = agent_pb2.ChunkEvent(corrupt=report)
        self.do(ChunkEvents(node.node_id, node.session, (event,)))

    # Writers.

    def open(self, path: str, **options: Any) -> Any:
        """A WriteLease on a new file."""
        return self.do(files.Create(path, "me", parents=True, **options))

    def allocate(self, lease: Any, near: str = "") -> files.Allocation:
        """The next chunk of an open file."""
        allocation = self.do(files.AllocateChunk(lease.inode, lease.epoch, near))
        assert isinstance(allocation, files.Allocation)
        return allocation

    def write(self, allocation: files.Allocation, count: int, reaching: int = 99) -> bool:
        """Sends bytes down the chain, to its first ``reaching`` nodes; whether acknowledged."""
        chain = [self.nodes[node_id] for node_id in allocation.nodes]
        done = 0
        for node in chain[:reaching]:
            held = node.held.setdefault(allocation.chunk, Held(allocation.version, 0))
            if not node.up or held.sealed or held.fenced:
                break
            held.length += count
            done += 1
        return done == len(chain)

    def put(self, path: str, sizes: tuple[int, ...] = (1000,), **options: Any) -> Any:
        """A whole file of chunks of these sizes; its FileInfo."""
        lease = self.open(path, **options)
        for size in sizes:
            allocation = self.allocate(lease)
            assert self.write(allocation, size)
            self.do(files.SealChunk(lease.inode, lease.epoch, allocation.chunk, size))
        return self.do(files.Close(lease.inode, lease.epoch, b"", sum(sizes)))

    def chunks_of(self, path: str) -> list[int]:
        """The sealed chunks of a file."""
        file = self.namespace.file_by_id(self.namespace.inode_at(path).id)
        return [chunk for chunk, _ in file.parts]

    def copies(self, chunk: int, live: bool = True) -> list[str]:
        """Nodes with an intact and sealed replica."""
        return [
            node.node_id
            for node in self.nodes.values()
            if (node.up or not live)
            and chunk in node.held
            and node.held[chunk].intact
            and node.held[chunk].sealed
        ]


def present(chunk: int, held: Held) -> agent_pb2.ChunkEvent:
    """What a node says of a replica."""
    report = agent_pb2.ReplicaReport(
        chunk=chunk,
        version=held.version,
        length_bytes=held.length,
        sealed=held.sealed,
        corrupt=held.found,
    )
    return agent_pb2.ChunkEvent(present=report)
