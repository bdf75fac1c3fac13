"""The events that membership itself takes: what happens to nodes, and what is asked of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from perseus.membership.events import Replica
from perseus.membership.values import Capacity, Load
from perseus.runtime.machine import Event

# Of MasterStarted.chance.
CHANCE_BITS = 20


@dataclass(frozen=True, slots=True)
class MasterStarted(Event):
    """The master begins a run, before anything else is stepped. Never raises."""

    # Microseconds since 1970, and a random number for when that clock is behind.
    run: int
    chance: int
    # Somebody said that the state is to go on, though machines know of a later one.
    accept_old_state: bool = False


@dataclass(frozen=True, slots=True)
class AddNode(Event):
    """A machine becomes a node. Replies NodeInfo.

    Raises AlreadyExistsError when a node of that name is alive; one that is not
    alive makes way and is removed. As a follow-up it must have been let through
    by ``Membership.check_join`` in the same breath.
    """

    node_id: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    is_master: bool = False


@dataclass(frozen=True, slots=True)
class Connect(Event):
    """A node's agent said Hello on a new stream. Replies Connected.

    Raises RefusedError for a node that is not (or no longer) of the cluster and
    IncompatibleError when no version of the protocol is common.
    """

    node_id: str
    protocol_minimum: int
    protocol_maximum: int
    version: str
    address: str
    chunk_address: str
    capacity: Capacity
    attempts: tuple[str, ...] = ()
    replicas: tuple[Replica, ...] = ()
    certificate_expires_at_s: float = 0.0
    # False while the node cannot tell which replicas it has; then it lists none.
    replicas_known: bool = True
    # The run and number of the master's state that the node was told last; zeros for none.
    state_mark: tuple[int, int] = (0, 0)
    # Its lease was over: its attempts stand still until they are told to go on.
    frozen: bool = False
    certificate_begins_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Connected:
    """The reply to Connect: the node has a lease and a session."""

    node_id: str
    name: str
    session: int
    protocol: int
    lease_s: float


@dataclass(frozen=True, slots=True)
class Welcomed(Event):
    """What Connect did is durable and the node is told: its lease runs from now. Never raises."""

    node_id: str
    session: int


@dataclass(frozen=True, slots=True)
class HeartbeatReceived(Event):
    """A node renews its lease. Raises LeaseLostError when the session is not its live one."""

    node_id: str
    session: int
    load: Load
    # Seconds since 1970 on the node's clock.
    time_s: float


@dataclass(frozen=True, slots=True)
class Disconnected(Event):
    """A stream ended. The node keeps its lease, for it may come back. Never raises."""

    node_id: str
    session: int


@dataclass(frozen=True, slots=True)
class NodeDialled(Event):
    """Whether others reach a node; void when its session is an older one. Never raises."""

    node_id: str
    session: int
    # Why they do not, in words; empty when they do.
    error: str


@dataclass(frozen=True, slots=True)
class UpdateNode(Event):
    """Sets labels (an empty value takes one away) and draining. Replies NodeInfo."""

    # Name or id.
    node: str
    labels: Mapping[str, str] = field(default_factory=dict)
    draining: bool | None = None


@dataclass(frozen=True, slots=True)
class RemoveNode(Event):
    """The node leaves for good; its certificate is refused from then on. Replies NodeInfo."""

    # Name or id.
    node: str
