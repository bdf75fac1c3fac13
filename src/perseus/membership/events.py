"""What membership tells the machines above it, and the effects that reach nodes."""

from dataclasses import dataclass
from typing import NamedTuple

from perseus.proto.v1 import agent_pb2
from perseus.runtime.machine import Effect, Event


class Replica(NamedTuple):
    """A replica as its holder reports it."""

    chunk: int
    version: int
    length_bytes: int
    sealed: bool
    # Some of it is known to be damaged.
    corrupt: bool = False
    # Takes no more writes: its length is final.
    fenced: bool = False

    @staticmethod
    def of(report: agent_pb2.ReplicaReport) -> "Replica":
        """The value of a message."""
        return Replica(
            report.chunk,
            report.version,
            report.length_bytes,
            report.sealed,
            report.corrupt,
            report.fenced,
        )


@dataclass(frozen=True, slots=True)
class NodeUp(Event):
    """A node's agent has a new session. What it does not list, it does not have; of replicas
    that is so only when they are known."""

    node_id: str
    name: str
    session: int
    # "JOB.TASK.ATTEMPT", running or ended and not acknowledged.
    attempts: tuple[str, ...]
    replicas: tuple[Replica, ...]
    # Whether the node could tell which replicas it has.
    replicas_known: bool = True
    # Its attempts stand still, since its lease was over; ThawAttempts lets them go on.
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class NodeDown(Event):
    """A node's lease is over, or it was removed: what was leased to it is lost."""

    node_id: str
    name: str
    # For people: "silent for 10 s", "left the cluster".
    reason: str
    # The node is gone for good, its replicas with it.
    removed: bool = False


@dataclass(frozen=True, slots=True)
class NodeChanged(Event):
    """Capacity, load, labels or draining changed, such that planning may differ."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Direct(Effect):
    """A directive for a node; dropped when the node has no session."""

    node_id: str
    directive: agent_pb2.Directive


@dataclass(frozen=True, slots=True)
class AcknowledgeAttempts(Effect):
    """The ends of these attempts are durable; the node may forget them."""

    node_id: str
    attempts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenSession(Effect):
    """A node's new session begins: what is directed to it from now on goes there alone."""

    node_id: str
    session: int


@dataclass(frozen=True, slots=True)
class EndSession(Effect):
    """A node's session is void, whatever its number: its stream is to be ended."""

    node_id: str
    # For people: "silent for 10 s", "left the cluster".
    reason: str
