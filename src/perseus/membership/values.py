"""What is known of a node, as typed values that other machines and the scheduler read.

They are immutable: whoever keeps one keeps a moment, not the node.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from perseus.proto.v1 import cluster_pb2
from perseus.runtime.machine import Instant


class NodeState(enum.Enum):
    """How a node stands; the names are those of ``NodeState`` in the protocol."""

    JOINED = cluster_pb2.NODE_STATE_JOINED
    ALIVE = cluster_pb2.NODE_STATE_ALIVE
    DRAINING = cluster_pb2.NODE_STATE_DRAINING
    LOST = cluster_pb2.NODE_STATE_LOST


class Capacity(msgspec.Struct, frozen=True):
    """What a node can do, measured when its agent starts. Also kept in the store."""

    cpu: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    # Of one core; 1.0 is a reference core of 2020.
    speed: float = 1.0
    architecture: str = ""
    operating_system: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a node is, measured each heartbeat."""

    # Share of all cores, 0 to 1.
    cpu: float = 0.0
    load_average: float = 0.0
    memory_available_bytes: int = 0
    disk_free_bytes: int = 0
    attempts_running: int = 0
    # The folder of replicas, or its disk, is gone.
    disk_gone: bool = False


NO_CAPACITY = Capacity()
NO_LOAD = Load()


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node at one moment."""

    node_id: str
    name: str
    is_master: bool
    # Holds a lease: it is counted on, though its stream may be down just now.
    alive: bool
    # Has a live stream, so that directives reach it.
    connected: bool
    # Gets no new attempts.
    draining: bool
    # Number of its latest stream; 0 when it never had one.
    session: int
    # Of its agent and of its chunkserver, "host:port"; empty before the first stream.
    address: str = ""
    chunk_address: str = ""
    # Of the program it runs.
    version: str = ""
    capacity: Capacity = NO_CAPACITY
    load: Load = NO_LOAD
    labels: Mapping[str, str] = field(default_factory=dict)
    # When the master last heard of it, by the master's monotonic clock; None since its start.
    heard_at_s: float | None = None
    # Seconds that its clock is ahead of the master's.
    clock_skew_s: float = 0.0
    certificate_expires_at_s: float = 0.0
    joined_at_s: float = 0.0
    # When a lost node was last heard of, seconds since 1970; 0 for others.
    lost_since_s: float = 0.0
    # Why the master could not dial it where it says that others reach it; "" when it could.
    unreachable: str = ""
    # Names of nodes whose certificates begin later than its clock says: it speaks to none of
    # them but over the streams that it has. The master's is the first, when it is among them.
    distrusts: tuple[str, ...] = ()
    distrusts_master: bool = False

    def silent_s(self, at: Instant) -> float:
        """Seconds since it was last heard of, also before the master's start; 0 when unknown."""
        if self.heard_at_s is not None:
            return max(0.0, at.now_s - self.heard_at_s)
        return max(0.0, at.time_s - self.lost_since_s) if self.lost_since_s else 0.0

    @property
    def state(self) -> NodeState:
        """The state that people see."""
        if self.alive:
            return NodeState.DRAINING if self.draining else NodeState.ALIVE
        return NodeState.LOST if self.session else NodeState.JOINED

    @property
    def accepts_attempts(self) -> bool:
        """Whether new attempts may be placed on it."""
        cut_off = self.unreachable or self.distrusts_master
        return self.alive and self.connected and not self.draining and not cut_off


def capacity_from_message(message: cluster_pb2.Capacity) -> Capacity:
    """The value of a message."""
    return Capacity(
        cpu=message.resources.cpu,
        memory_bytes=message.resources.memory_bytes,
        disk_bytes=message.resources.disk_bytes,
        speed=message.speed,
        architecture=message.architecture,
        operating_system=message.operating_system,
    )


def capacity_to_message(capacity: Capacity) -> cluster_pb2.Capacity:
    """The message of a value."""
    message = cluster_pb2.Capacity(
        speed=capacity.speed,
        architecture=capacity.architecture,
        operating_system=capacity.operating_system,
    )
    message.resources.cpu = capacity.cpu
    message.resources.memory_bytes = capacity.memory_bytes
    message.resources.disk_bytes = capacity.disk_bytes
    return message


def load_from_message(message: cluster_pb2.Load) -> Load:
    """The value of a message."""
    return Load(
        cpu=message.cpu,
        load_average=message.load_average,
        memory_available_bytes=message.memory_available_bytes,
        disk_free_bytes=message.disk_free_bytes,
        attempts_running=message.attempts_running,
        disk_gone=message.disk_gone,
    )


def load_to_message(load: Load) -> cluster_pb2.Load:
    """The message of a value."""
    return cluster_pb2.Load(
        cpu=load.cpu,
        load_average=load.load_average,
        memory_available_bytes=load.memory_available_bytes,
        disk_free_bytes=load.disk_free_bytes,
        attempts_running=load.attempts_running,
        disk_gone=load.disk_gone,
    )


def node_to_message(node: NodeInfo, at: Instant) -> cluster_pb2.Node:
    """The message of a node; tasks and chunks are for others to fill in."""
    return cluster_pb2.Node(
        node_id=node.node_id,
        name=node.name,
        state=node.state.value,
        address=node.address,
        chunk_address=node.chunk_address,
        capacity=capacity_to_message(node.capacity),
        load=load_to_message(node.load),
        labels=dict(node.labels),
        version=node.version,
        silent_s=node.silent_s(at),
        is_master=node.is_master,
        clock_skew_s=node.clock_skew_s,
        certificate_expires_at_s=node.certificate_expires_at_s,
    )
