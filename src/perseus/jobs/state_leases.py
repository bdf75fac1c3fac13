"""Who holds which lease, and what that leaves free on each node.

Of the attempts of a job that are leased to a node, ``granted`` may run at once
and are charged for their cores; the others were leased ahead and wait there for
one of them to end. Memory and disk are charged for all.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from perseus.jobs.plan import Needs, NodeView
from perseus.jobs.records import TaskRecord
from perseus.jobs.state_job import At, Job
from perseus.membership.values import NodeInfo


class Nodes(Protocol):
    """What jobs ask of membership; answered from memory."""

    def nodes(self) -> Sequence[NodeInfo]:
        """All nodes."""

    def find(self, node: str) -> NodeInfo | None:
        """The node of that id or name, or None."""


class Leases:
    """See the module."""

    def __init__(self, nodes: Nodes, jobs: Mapping[str, Job]) -> None:
        self._nodes = nodes
        self._jobs = jobs
        self._views: dict[str, NodeView] = {}
        # Nodes of which membership said that something changed; None for all.
        self._stale: set[str] | None = None
        self._by_node: dict[str, dict[tuple[str, int], TaskRecord]] = {}

    def of_node(self, node_id: str) -> dict[tuple[str, int], TaskRecord]:
        """Leased tasks by (job id, index); not to be changed."""
        return self._by_node.get(node_id, {})

    def count(self, node_id: str) -> int:
        """How many attempts are leased to the node."""
        return len(self._by_node.get(node_id, ()))

    def changed(self, node_id: str) -> None:
        """Membership knows something new of the node."""
        if self._stale is not None:
            self._stale.add(node_id)

    def views(self) -> list[NodeView]:
        """All nodes as the scheduler sees them."""
        self._refresh()
        return list(self._views.values())

    def add(self, job: Job, task: TaskRecord, ahead: bool) -> At:
        """The task is leased to its node; returns what the job now has there."""
        at = job.at.setdefault(task.node_id, At())
        at.leased += 1
        self._by_node.setdefault(task.node_id, {})[job.job_id, task.index] = task
        self._charge(task.node_id, job.needs, 1)
        if not ahead:
            self._grant(job, task.node_id, at, 1)
        return at

    def release(self, job: Job, task: TaskRecord) -> None:
        """The lease of the task is over."""
        held = self._by_node[task.node_id]
        del held[job.job_id, task.index]
        if not held:
            del self._by_node[task.node_id]
        at = job.at[task.node_id]
        at.leased -= 1
        if at.granted > at.leased:
            self._grant(job, task.node_id, at, -1)
        self._charge(task.node_id, job.needs, -1)
        if not at.leased:
            del job.at[task.node_id]

    def restore(self, job: Job, tasks: list[TaskRecord]) -> None:
        """Leases of the store, after a start; what was granted last holds."""
        last: dict[str, TaskRecord] = {}
        for task in tasks:
            self.add(job, task, ahead=True)
            known = last.get(task.node_id)
            if known is None or _order(known) < _order(task):
                last[task.node_id] = task
        for node_id, task in last.items():
            at = job.at[node_id]
            self._grant(job, node_id, at, max(1, min(at.leased, task.granted)))

    def _grant(self, job: Job, node_id: str, at: At, count: int) -> None:
        at.granted += count
        job.granted += count
        view = self._views.get(node_id)
        if view is not None:
            view.used_cpu_milli += count * job.needs.cpu_milli
            view.ahead -= count

    def _charge(self, node_id: str, needs: Needs, count: int) -> None:
        view = self._views.get(node_id)
        if view is not None:
            view.leased += count
            view.ahead += count
            view.used_memory_bytes += count * needs.memory_bytes
            view.used_disk_bytes += count * needs.disk_bytes

    def _refresh(self) -> None:
        if self._stale is None:
            self._views = {info.node_id: _view(info) for info in self._nodes.nodes()}
            self._stale = set()
            self._recount()
            return
        for node_id in self._stale:
            info = self._nodes.find(node_id)
            if info is None:
                self._views.pop(node_id, None)
            else:
                _renew(self._views, info)
        self._stale.clear()

    def _recount(self) -> None:
        """Charges the views anew from the leases; for the first look after a start."""
        for node_id, view in self._views.items():
            for job_id in {job_id for job_id, _ in self.of_node(node_id)}:
                job = self._jobs[job_id]
                at = job.at[node_id]
                view.leased += at.leased
                view.ahead += at.leased - at.granted
                view.used_cpu_milli += at.granted * job.needs.cpu_milli
                view.used_memory_bytes += at.leased * job.needs.memory_bytes
                view.used_disk_bytes += at.leased * job.needs.disk_bytes


def _order(task: TaskRecord) -> tuple[float, int]:
    return task.leased_at_s, task.granted


def _renew(views: dict[str, NodeView], info: NodeInfo) -> None:
    """Replaces a node's view, keeping what is leased."""
    new, old = _view(info), views.get(info.node_id)
    if old is not None:
        new.leased, new.ahead = old.leased, old.ahead
        new.used_cpu_milli = old.used_cpu_milli
        new.used_memory_bytes = old.used_memory_bytes
        new.used_disk_bytes = old.used_disk_bytes
    views[info.node_id] = new


def _view(info: NodeInfo) -> NodeView:
    capacity, load = info.capacity, info.load
    return NodeView(
        node_id=info.node_id,
        name=info.name,
        accepts=info.accepts_attempts and capacity.cpu > 0,
        refusal=_refusal(info),
        cpu_milli=round(capacity.cpu * 1000),
        memory_bytes=capacity.memory_bytes,
        disk_bytes=capacity.disk_bytes,
        load_cpu=load.cpu,
        memory_available_bytes=load.memory_available_bytes,
        disk_free_bytes=load.disk_free_bytes,
        speed=capacity.speed,
        labels=info.labels,
        architecture=capacity.architecture,
    )


def _refusal(info: NodeInfo) -> str:
    if info.accepts_attempts:
        return ""
    if not info.alive:
        return "is lost" if info.session else "has never connected"
    if info.draining:
        return "is being drained"
    if not info.connected:
        return "has no connection just now"
    if info.unreachable:
        return f"cannot be reached by others ({info.unreachable})"
    behind_s = -info.clock_skew_s
    return (
        f"has a clock {behind_s:.0f} s behind the master's, and so takes its certificate for false"
    )
