"""What is wrong with the cluster's nodes, each with the command that mends it."""

from collections.abc import Iterator, Sequence

from perseus.identity.files import duration_text
from perseus.membership.values import NodeInfo, NodeState
from perseus.proto.v1 import cluster_pb2
from perseus.runtime.machine import Instant

CLOCK_SKEW_MAXIMUM_S = 2.0
NAMES_MAXIMUM = 3
# The share of its disk below which a node's free space is worth a word.
DISK_FREE_SHARE = 0.05
DISK_FREE_BYTES = 1 << 30
# A certificate is renewed when a third of its life is left; half of that is late.
EXPIRY_WARNING_S = 7 * 86400.0
EXPIRY_WARNING_SHARE = 1 / 6

ERROR, WARNING, NOTE = "error", "warning", "note"


def diagnose_node(
    node: NodeInfo, at: Instant, version: str, certificate_s: float
) -> Iterator[cluster_pb2.Finding]:
    """Findings about one node; ``version`` is the master's program, ``certificate_s`` how
    long the certificates last that it signs."""
    yield from _standing(node, at)
    if not node.alive:
        return
    yield from _reach(node)
    yield from _clock(node)
    yield from _certificate(node, at, certificate_s)
    yield from _disk(node)
    if node.version != version:
        yield _finding(
            NOTE, node, f"runs Perseus {node.version}, the master {version}", "upgrade the older"
        )


def _standing(node: NodeInfo, at: Instant) -> Iterator[cluster_pb2.Finding]:
    state = node.state
    if state is NodeState.LOST:
        silent_s = node.silent_s(at)
        since = f", silent for {silent_s:.0f} s" if silent_s else ""
        off = _off(node)
        clock = f"; when it was heard last it had {off}, and so may trust nobody" if off else ""
        yield _finding(
            ERROR,
            node,
            f"is lost{since}{clock}",
            f"timedatectl set-ntp true  # on {node.name}; then there: perseus start"
            if off
            else f"start Perseus on it again (where it runs, perseus doctor there says what keeps "
            f"it away), or give it up: perseus nodes rm {node.name}",
        )
    elif state is NodeState.JOINED:
        yield _finding(
            WARNING,
            node,
            "joined, but its agent has never connected",
            "start Perseus on it: perseus start",
        )
    elif state is NodeState.DRAINING:
        yield _finding(
            NOTE,
            node,
            "is draining: it gets no new tasks",
            f"perseus nodes undrain {node.name}",
        )
    elif not node.connected:
        yield _finding(
            WARNING,
            node,
            "has no stream to the master just now",
            f"perseus nodes  # if it does not come back, on {node.name}: perseus start",
        )


def _reach(node: NodeInfo) -> Iterator[cluster_pb2.Finding]:
    if node.unreachable:
        yield _finding(
            ERROR,
            node,
            f"cannot be reached by others: {node.unreachable}; it gets no tasks, and no data "
            "where another node can take it",
            f"open ports {_ports(node)} of {node.name}'s firewall; or, if that is no address by "
            f"which others reach it, on {node.name}: perseus start --advertise HOST:PORT",
        )


def _ports(node: NodeInfo) -> str:
    ports = [address.rpartition(":")[2] for address in (node.address, node.chunk_address)]
    return " and ".join(port for port in ports if port)


def _clock(node: NodeInfo) -> Iterator[cluster_pb2.Finding]:
    if off := _off(node):
        severity, refuses = WARNING, ""
        if node.distrusts:
            severity = ERROR
            refuses = (
                f": for it the certificates of {_names(node.distrusts)} are not valid yet, so "
            )
            refuses += "it does not speak to them anew"
            refuses += ", and it gets no tasks" if node.distrusts_master else ""
        command = f"timedatectl set-ntp true  # on {node.name}"
        yield _finding(severity, node, f"has {off}{refuses}", command)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_MAXIMUM])
    return (
        shown if len(names) <= NAMES_MAXIMUM else f"{shown} and {len(names) - NAMES_MAXIMUM} more"
    )


def _off(node: NodeInfo) -> str:
    """What is wrong with the node's clock, as last heard; empty when it is right."""
    skew_s = node.clock_skew_s
    if abs(skew_s) <= CLOCK_SKEW_MAXIMUM_S:
        return ""
    return f"a clock {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} the master's"


def _certificate(node: NodeInfo, at: Instant, lifetime_s: float) -> Iterator[cluster_pb2.Finding]:
    if not node.certificate_expires_at_s:
        return
    left_s = node.certificate_expires_at_s - at.time_s
    if left_s < min(EXPIRY_WARNING_S, lifetime_s * EXPIRY_WARNING_SHARE):
        when = f"expires in {duration_text(left_s)}" if left_s > 0 else "has expired"
        yield _finding(
            ERROR if left_s <= 0 else WARNING,
            node,
            f"has a certificate that {when} and was not renewed",
            "restart Perseus on it; if that does not help, join it again with a new token",
        )


def _disk(node: NodeInfo) -> Iterator[cluster_pb2.Finding]:
    if node.load.disk_gone:
        yield _finding(
            ERROR,
            node,
            "cannot find its folder of replicas: it was removed, or its disk is not there",
            f"bring back the folder chunks of {node.name}'s data, then restart Perseus on it",
        )
        return
    free = node.load.disk_free_bytes
    enough = min(DISK_FREE_BYTES, int(node.capacity.disk_bytes * DISK_FREE_SHARE))
    # A node that has not sent a heartbeat yet has told nothing of its disk.
    if node.load.memory_available_bytes and free < enough:
        yield _finding(
            WARNING,
            node,
            f"has {free / (1 << 20):.0f} MiB of disk left",
            "perseus fs df  # shows what takes the room",
        )


def _finding(severity: str, node: NodeInfo, what: str, command: str) -> cluster_pb2.Finding:
    return cluster_pb2.Finding(
        severity=severity, subject=node.name, message=f"{node.name} {what}", command=command
    )
