"""The pure state machine of membership: who belongs to the cluster, and who is alive.

Invariants:

- A node has at most one live session; a new stream of it makes the older one
  void, also across restarts of the master (sessions are counted durably).
- A node is lost only after it was silent for the lease time by the master's
  monotonic clock, not counting time in which the master itself stood still. A
  longer lease on the master's side is always safe, for the node's own ends first. So
  one that is being welcomed has time until a slow disk has kept its session.
- A node that was alive when the master stopped has one lease time, from the first
  step after the start, to come back before it is lost.
- Names are unique. A name whose node is not alive is free to join again.
- A node that is lost or removed has no session: whoever still speaks for it gets
  LeaseLostError and must say Hello again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from perseus import settings
from perseus.errors import (
    AlreadyExistsError,
    IncompatibleError,
    InvalidError,
    LeaseLostError,
    NotFoundError,
    PerseusError,
    RefusedError,
    TooLargeError,
)
from perseus.identity.subject import BACKDATE_S
from perseus.ids import check_node_name
from perseus.membership.commands import (
    AddNode,
    Connect,
    Connected,
    Disconnected,
    HeartbeatReceived,
    NodeDialled,
    RemoveNode,
    UpdateNode,
    Welcomed,
)
from perseus.membership.events import EndSession, NodeChanged, NodeDown, NodeUp, OpenSession
from perseus.membership.values import NO_CAPACITY, NO_LOAD, Capacity, Load, NodeInfo
from perseus.runtime.machine import Effect, Event, Instant, Step, Tick, Write

PREFIX = b"node/"
NODES_MAXIMUM = 10_000
LABELS_MAXIMUM = 64
LABEL_MAXIMUM_LENGTH = 128
# A gap between two steps longer than this share of the lease means that the master stood still.
STALL_SHARE = 0.25
# How long the disk may take to keep a new session before the node's lease runs.
WELCOME_S = 60.0
# Changes of load that are worth planning anew for.
CPU_STEP = 0.1
FREE_STEP_SHARE = 0.1

_SCHEMA = b"\x01"


class NodeRecord(msgspec.Struct):
    """What is durable of a node."""

    node_id: str
    name: str
    is_master: bool
    joined_at_s: float
    labels: dict[str, str]
    draining: bool = False
    # Had a lease when this was written.
    alive: bool = False
    # Number of its latest stream.
    session: int = 0
    address: str = ""
    chunk_address: str = ""
    version: str = ""
    capacity: Capacity = NO_CAPACITY
    certificate_expires_at_s: float = 0.0
    # When it was last heard of, seconds since 1970; written when it is lost.
    lost_since_s: float = 0.0
    # The lease that its latest stream was granted; a restart may have changed the setting.
    lease_s: float = 0.0
    certificate_begins_at_s: float = 0.0


@dataclass(slots=True)
class _Node:
    """A node in memory: the record, and what a restart may forget."""

    record: NodeRecord
    connected: bool = False
    load: Load = NO_LOAD
    # The load that siblings were last told of.
    announced: Load = NO_LOAD
    heard_at_s: float | None = None
    # Counts while the record says alive; None until the first step after a start.
    lease_ends_s: float | None = None
    clock_skew_s: float = 0.0
    # Why others do not reach it.
    unreachable: str = ""
    # Names of nodes whose certificates begin later than its clock says, the master's first.
    distrusts: tuple[str, ...] = ()
    distrusts_master: bool = False
    info: NodeInfo | None = None


class Membership:
    """See the module. Read methods answer from memory and give immutable values."""

    prefixes: Sequence[bytes] = (PREFIX,)
    events: Sequence[type[Event]] = (
        AddNode,
        Connect,
        Welcomed,
        HeartbeatReceived,
        Disconnected,
        NodeDialled,
        UpdateNode,
        RemoveNode,
        Tick,
    )

    def __init__(
        self,
        lease_s: float,
        protocol_minimum: int = settings.PROTOCOL_MINIMUM,
        protocol_maximum: int = settings.PROTOCOL_MAXIMUM,
    ) -> None:
        self.lease_s = lease_s
        self._protocol = (protocol_minimum, protocol_maximum)
        self._nodes: dict[str, _Node] = {}
        self._ids_by_name: dict[str, str] = {}
        self._last_step_s: float | None = None
        # Asked with a node's name before it connects; they raise RefusedError, and only read.
        self.guards: Sequence[Callable[[str, Connect], None]] = ()

    # What others read.

    def nodes(self) -> list[NodeInfo]:
        """All nodes, in the order of their ids."""
        return [_info(self._nodes[node_id]) for node_id in sorted(self._nodes)]

    def find(self, node: str) -> NodeInfo | None:
        """The node of that id or name, or None."""
        found = self._nodes.get(node) or self._nodes.get(self._ids_by_name.get(node, ""))
        return None if found is None else _info(found)

    def node(self, node: str) -> NodeInfo:
        """The node of that id or name; raises NotFoundError."""
        found = self.find(node)
        if found is None:
            raise NotFoundError(f"there is no node {node!r}", hint="perseus nodes")
        return found

    def check_session(self, node_id: str, session: int) -> None:
        """Raises LeaseLostError unless ``session`` is the node's live one."""
        node = self._nodes.get(node_id)
        if node is None:
            raise LeaseLostError(f"node {node_id} is no longer part of the cluster")
        record = node.record
        if record.session > session:
            # Its stream is ended with the same words as soon as the new session is durable.
            raise LeaseLostError(
                f"this node has a newer stream: session {session} of node {record.name} is over "
                f"(its latest is {record.session})"
            )
        if not (record.alive and node.connected and record.session == session):
            raise LeaseLostError(
                f"session {session} of node {record.name} is over "
                f"(its latest is {record.session}, {_info(node).state.name.lower()})"
            )

    def check_join(self, name: str, labels: Mapping[str, str], now_s: float) -> None:
        """Raises what AddNode would: InvalidError, AlreadyExistsError or TooLargeError."""
        check_node_name(name)
        _check_labels(labels)
        holder = self._nodes.get(self._ids_by_name.get(name, ""))
        if holder is None:
            if len(self._nodes) >= NODES_MAXIMUM:
                raise TooLargeError(
                    f"the cluster has {NODES_MAXIMUM} nodes, the most it can",
                    hint="take one out that is gone for good: perseus nodes; perseus nodes rm NODE",
                )
        elif holder.record.alive:
            raise _name_taken(holder, now_s, self.lease_s)

    # The machine.

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Rebuilds the state; whoever was alive gets a new lease with the first step."""
        for key, value in items:
            if value[:1] != _SCHEMA:
                raise IncompatibleError(
                    f"{key!r} was written by a newer Perseus (version {value[0]})",
                    hint="upgrade Perseus on this machine",
                )
            self._insert(msgspec.msgpack.decode(value[1:], type=NodeRecord))

    def step(self, at: Instant, event: Event) -> Step:
        """What follows from ``event``."""
        self._notice_time(at.now_s)
        match event:
            case HeartbeatReceived():
                return self._heartbeat(at, event)
            case Tick():
                return self._tick(at)
            case Connect():
                return self._connect(at, event)
            case Welcomed():
                return self._welcomed(at, event)
            case Disconnected():
                return self._disconnected(at, event)
            case NodeDialled():
                return self._dialled(event)
            case AddNode():
                return self._add(at, event)
            case UpdateNode():
                return self._update(event)
            case RemoveNode():
                return self._remove(event)
        raise TypeError(f"membership does not take {type(event).__name__}")

    def _notice_time(self, now_s: float) -> None:
        """Starts leases after a restart, and prolongs them by what the master slept."""
        last, self._last_step_s = self._last_step_s, now_s
        gap_s = 0.0 if last is None else now_s - last
        if last is not None and gap_s <= self.lease_s * STALL_SHARE:
            return
        for node in self._nodes.values():
            if not node.record.alive:
                continue
            if node.lease_ends_s is None:
                node.lease_ends_s = now_s + max(self.lease_s, node.record.lease_s)
            else:
                node.lease_ends_s += gap_s

    def _add(self, at: Instant, event: AddNode) -> Step:
        self.check_join(event.name, event.labels, at.now_s)
        if event.node_id in self._nodes:
            raise AlreadyExistsError(
                f"there is a node {event.node_id} already", hint="join once more; ids are random"
            )
        step = Step()
        holder = self._nodes.get(self._ids_by_name.get(event.name, ""))
        if holder is not None:
            self._take_out(holder, "another machine joined under its name", step)
        record = NodeRecord(
            node_id=event.node_id,
            name=event.name,
            is_master=event.is_master,
            joined_at_s=at.time_s,
            labels={key: value for key, value in event.labels.items() if value},
        )
        node = self._insert(record)
        step.writes.append(_write(record))
        step.reply = _info(node)
        return step

    def _connect(self, at: Instant, event: Connect) -> Step:
        node = self._nodes.get(event.node_id)
        if node is None:
            raise RefusedError(
                f"node {event.node_id} is not (or no longer) part of this cluster",
                hint="join again with a new token, made on the master: perseus token create",
            )
        record = node.record
        protocol = self._common_protocol(record.name, event)
        for guard in self.guards:
            guard(record.name, event)
        record.alive = True
        record.lost_since_s = 0.0
        record.lease_s = self.lease_s
        record.session += 1
        record.address = event.address
        record.chunk_address = event.chunk_address
        record.version = event.version
        record.capacity = event.capacity
        record.certificate_expires_at_s = event.certificate_expires_at_s
        record.certificate_begins_at_s = event.certificate_begins_at_s
        node.connected = True
        node.unreachable = ""
        node.heard_at_s = at.now_s
        node.lease_ends_s = at.now_s + self.lease_s + WELCOME_S
        node.info = None
        effects: list[Effect | Event] = [
            OpenSession(record.node_id, record.session),
            NodeUp(
                record.node_id,
                record.name,
                record.session,
                event.attempts,
                event.replicas,
                event.replicas_known,
                event.frozen,
            ),
        ]
        reply = Connected(record.node_id, record.name, record.session, protocol, self.lease_s)
        return Step([_write(record)], effects, reply)

    def _common_protocol(self, name: str, event: Connect) -> int:
        minimum, maximum = self._protocol
        common = min(maximum, event.protocol_maximum)
        if common >= max(minimum, event.protocol_minimum):
            return common
        older = f"node {name}" if event.protocol_maximum < minimum else "the master"
        raise IncompatibleError(
            f"node {name} (Perseus {event.version}) speaks versions {event.protocol_minimum} to "
            f"{event.protocol_maximum} of the protocol, the master {minimum} to {maximum}",
            hint=f"upgrade Perseus on {older}",
        )

    def _welcomed(self, at: Instant, event: Welcomed) -> Step:
        node = self._nodes.get(event.node_id)
        if node is not None and node.connected and node.record.session == event.session:
            node.lease_ends_s = at.now_s + self.lease_s
        return Step()

    def _heartbeat(self, at: Instant, event: HeartbeatReceived) -> Step:
        self.check_session(event.node_id, event.session)
        node = self._nodes[event.node_id]
        node.heard_at_s = at.now_s
        node.lease_ends_s = at.now_s + self.lease_s
        node.clock_skew_s = event.time_s - at.time_s
        node.load = event.load
        node.info = None
        if not self._note_distrust(node, event.time_s) and not _differs(node.announced, event.load):
            return Step()
        node.announced = event.load
        return Step(effects=[NodeChanged(event.node_id)])

    def _note_distrust(self, node: _Node, time_s: float) -> bool:
        """Which certificates have not begun by the node's clock; whether that has changed."""
        before, found = node.distrusts, []
        # Certificates begin so long before they are made that a lesser error does no harm.
        if node.clock_skew_s < -BACKDATE_S:
            others = (other.record for other in self._nodes.values() if other is not node)
            found = [each for each in others if each.certificate_begins_at_s > time_s]
        found.sort(key=lambda record: (not record.is_master, record.name))
        node.distrusts = tuple(record.name for record in found if record.alive)
        node.distrusts_master = any(record.is_master for record in found)
        return node.distrusts != before

    def _disconnected(self, at: Instant, event: Disconnected) -> Step:
        node = self._nodes.get(event.node_id)
        if node is None or not node.connected or node.record.session != event.session:
            return Step()
        node.connected = False
        node.info = None
        if node.lease_ends_s is not None:
            # It may have left before it was welcomed.
            node.lease_ends_s = min(node.lease_ends_s, at.now_s + self.lease_s)
        return Step(effects=[NodeChanged(event.node_id)])

    def _dialled(self, event: NodeDialled) -> Step:
        node = self._nodes.get(event.node_id)
        if node is None or node.record.session != event.session or not node.connected:
            return Step()
        node.unreachable = event.error
        node.info = None
        return Step(effects=[NodeChanged(event.node_id)])

    def _tick(self, at: Instant) -> Step:
        step = Step()
        for node in list(self._nodes.values()):
            ends_s = node.lease_ends_s
            if node.record.alive and ends_s is not None and at.now_s > ends_s:
                self._lose(node, at, step)
        return step

    def _lose(self, node: _Node, at: Instant, step: Step) -> None:
        record = node.record
        reason = _silence(node, at.now_s, max(self.lease_s, record.lease_s))
        silent_s = self.lease_s if node.heard_at_s is None else at.now_s - node.heard_at_s
        record.lost_since_s = at.time_s - silent_s
        record.alive = False
        node.connected = False
        node.lease_ends_s = None
        node.info = None
        step.writes.append(_write(record))
        step.effects.append(EndSession(record.node_id, reason))
        step.effects.append(NodeDown(record.node_id, record.name, reason))

    def _update(self, event: UpdateNode) -> Step:
        node = self._nodes[self.node(event.node).node_id]
        labels = {**node.record.labels, **event.labels}
        labels = {key: value for key, value in labels.items() if value}
        _check_labels({**event.labels, **labels})
        node.record.labels = labels
        if event.draining is not None:
            node.record.draining = event.draining
        node.info = None
        changed = NodeChanged(node.record.node_id)
        return Step([_write(node.record)], [changed], _info(node))

    def _remove(self, event: RemoveNode) -> Step:
        info = self.node(event.node)
        if info.is_master:
            raise InvalidError(
                f"{info.name} is the master and cannot leave its cluster",
                hint=f"to keep tasks away from it: perseus nodes drain {info.name}",
            )
        step = Step(reply=info)
        self._take_out(self._nodes[info.node_id], "left the cluster", step)
        return step

    def _take_out(self, node: _Node, reason: str, step: Step) -> None:
        record = node.record
        del self._nodes[record.node_id]
        del self._ids_by_name[record.name]
        step.writes.append(Write(_key(record.node_id), None))
        step.effects.append(EndSession(record.node_id, reason))
        step.effects.append(NodeDown(record.node_id, record.name, reason, removed=True))

    def _insert(self, record: NodeRecord) -> _Node:
        node = _Node(record)
        self._nodes[record.node_id] = node
        self._ids_by_name[record.name] = record.node_id
        return node


def _info(node: _Node) -> NodeInfo:
    if node.info is None:
        record = node.record
        node.info = NodeInfo(
            node_id=record.node_id,
            name=record.name,
            is_master=record.is_master,
            alive=record.alive,
            connected=node.connected,
            draining=record.draining,
            session=record.session,
            address=record.address,
            chunk_address=record.chunk_address,
            version=record.version,
            capacity=record.capacity,
            load=node.load,
            labels=dict(record.labels),
            heard_at_s=node.heard_at_s,
            clock_skew_s=node.clock_skew_s,
            certificate_expires_at_s=record.certificate_expires_at_s,
            joined_at_s=record.joined_at_s,
            lost_since_s=record.lost_since_s,
            unreachable=node.unreachable,
            distrusts=node.distrusts,
            distrusts_master=node.distrusts_master,
        )
    return node.info


def _key(node_id: str) -> bytes:
    return PREFIX + node_id.encode()


def _write(record: NodeRecord) -> Write:
    return Write(_key(record.node_id), _SCHEMA + msgspec.msgpack.encode(record))


def _silence(node: _Node, now_s: float, lease_s: float) -> str:
    if node.heard_at_s is None:
        return f"did not come back within {lease_s:.0f} s of the master's start"
    return f"silent for {now_s - node.heard_at_s:.0f} s"


def _differs(before: Load, after: Load) -> bool:
    """Whether the change of load may change where tasks are placed."""
    return (
        abs(before.cpu - after.cpu) >= CPU_STEP
        or _moved(before.memory_available_bytes, after.memory_available_bytes)
        or _moved(before.disk_free_bytes, after.disk_free_bytes)
    )


def _moved(before: int, after: int) -> bool:
    return abs(before - after) > FREE_STEP_SHARE * max(before, after)


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > LABELS_MAXIMUM:
        raise TooLargeError(
            f"{len(labels)} labels; a node has at most {LABELS_MAXIMUM}",
            hint="take one away: perseus nodes label NODE NAME=",
        )
    for key, value in labels.items():
        if not key or len(key) > LABEL_MAXIMUM_LENGTH or len(value) > LABEL_MAXIMUM_LENGTH:
            raise InvalidError(
                f"label {key[:40]!r} needs a key and value of 1 to {LABEL_MAXIMUM_LENGTH} letters",
                hint="write NAME=VALUE, as in --label gpu=yes",
            )
        # One that is there already can be taken away whatever it looks like.
        if value and ("=" in key or not (key + value).isprintable()):
            raise InvalidError(
                f"label {key[:40]!r}={value[:40]!r} has letters that cannot be printed, "
                "or '=' in its key",
                hint="write NAME=VALUE, as in --label gpu=yes",
            )


def _name_taken(holder: _Node, now_s: float, lease_s: float) -> PerseusError:
    name = holder.record.name
    if holder.connected or holder.heard_at_s is None:
        return AlreadyExistsError(
            f"a node named {name} is in the cluster and alive",
            hint=f"choose another name with --name, or first: perseus nodes rm {name}",
        )
    silent_s = now_s - holder.heard_at_s
    return AlreadyExistsError(
        f"a node named {name} was here {silent_s:.0f} s ago",
        hint=f"if it is this machine, made anew, try again in {max(1.0, lease_s - silent_s):.0f} s",
    )
