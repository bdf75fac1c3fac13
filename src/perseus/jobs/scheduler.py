"""The scheduler: a snapshot in, a plan out; pure.

Order: higher priority first; among equals, jobs take turns, one task each, so a
long job delays a later one by at most a round. A task goes where it fits by
what is leased, and of those nodes to the one with the least share of its cores
in use (leased, or measured to be used by others), the fastest, and the nearest
to the task's inputs. So tasks spread.

A task that fits only an emptier node is not passed over forever: once
RESERVE_AFTER_TURNS placements went by while it waited, the node nearest to
having room for it takes nothing else.

Leasing ahead: where a job's tasks are known to be shorter than SHORT_S, a node
that runs some of them gets more than its cores can take, about AHEAD_WORK_S of
work, so that it starts the next without asking. Not while somebody else waits
for that node's cores.
"""

import heapq
from collections.abc import Iterator, Sequence

from perseus.jobs.plan import JobView, Line, Needs, NodeView, Placement, Plan, Snapshot

SHORT_S = 0.1
AHEAD_WORK_S = 0.1
AHEAD_MAXIMUM = 64
RESERVE_AFTER_TURNS = 32
# So many bytes of input elsewhere weigh as much as all cores in use; at most FAR_MAXIMUM times.
FAR_BYTES = 64 << 20
FAR_MAXIMUM = 8.0
# What it weighs that an attempt of the task went wrong on the node: more than all else.
AVOID_COST = 20.0
LOAD_SHARE_MAXIMUM = 1.0


class _Room:
    """A node and what this plan has put on it."""

    __slots__ = ("ahead", "at", "cpu_milli", "disk_bytes", "memory_bytes", "node")

    def __init__(self, node: NodeView) -> None:
        self.node = node
        # Free; memory and disk by lease and by measure, whichever is less.
        self.cpu_milli = node.cpu_milli - node.used_cpu_milli
        self.memory_bytes = node.memory_bytes - node.used_memory_bytes
        self.disk_bytes = node.disk_bytes - node.used_disk_bytes
        if node.memory_available_bytes:
            self.memory_bytes = min(self.memory_bytes, node.memory_available_bytes)
        if node.disk_free_bytes:
            self.disk_bytes = min(self.disk_bytes, node.disk_free_bytes)
        self.ahead = node.ahead
        # By job: attempts leased here, and how many of them may run.
        self.at: dict[str, tuple[int, int]] = {}

    def of(self, job: JobView) -> tuple[int, int]:
        """(leased, granted) of the job on this node, with what this plan adds."""
        here = self.at.get(job.job_id)
        return here if here is not None else job.at.get(self.node.node_id, (0, 0))

    def fits(self, needs: Needs) -> bool:
        return self.cpu_milli >= needs.cpu_milli and self.fits_beside_cpu(needs)

    def fits_beside_cpu(self, needs: Needs) -> bool:
        return (not needs.memory_bytes or self.memory_bytes >= needs.memory_bytes) and (
            not needs.disk_bytes or self.disk_bytes >= needs.disk_bytes
        )

    def could_fit(self, needs: Needs) -> bool:
        """Whether it would fit once what is leased here has ended."""
        node = self.node
        return (
            node.cpu_milli >= needs.cpu_milli
            and self.memory_bytes + node.used_memory_bytes >= needs.memory_bytes
            and self.disk_bytes + node.used_disk_bytes >= needs.disk_bytes
            and node.memory_bytes >= needs.memory_bytes
            and node.disk_bytes >= needs.disk_bytes
        )

    def take(self, job: JobView, needs: Needs, ahead: bool) -> None:
        leased, granted = self.of(job)
        self.memory_bytes -= needs.memory_bytes
        self.disk_bytes -= needs.disk_bytes
        if ahead:
            self.ahead += 1
        else:
            self.cpu_milli -= needs.cpu_milli
            granted += 1
        self.at[job.job_id] = (leased + 1, granted)

    def cost(self, job: JobView, needs: Needs, nearest_bytes: int) -> float:
        """Lower is better."""
        node = self.node
        whole = node.cpu_milli
        leased = (whole - self.cpu_milli) / whole
        others = max(0.0, min(node.load_cpu, LOAD_SHARE_MAXIMUM) - node.used_cpu_milli / whole)
        cost = (leased + others + needs.cpu_milli / whole) / (node.speed or 1.0)
        if nearest_bytes:
            far_bytes = nearest_bytes - job.bytes_by_node.get(node.node_id, 0)
            cost += min(far_bytes / FAR_BYTES, FAR_MAXIMUM)
        return cost + AVOID_COST if job.avoid == node.node_id else cost


def plan(snapshot: Snapshot) -> Plan:
    """What to lease now; at most ``snapshot.limit`` placements."""
    return _Planner(snapshot).run()


def matches(node: NodeView, needs: Needs) -> bool:
    """Whether the node is of the kind asked for, whatever its room."""
    return (
        (not needs.node or needs.node == node.name or needs.node == node.node_id)
        and (not needs.architecture or needs.architecture == node.architecture)
        and all(node.labels.get(key) == value for key, value in needs.labels)
    )


def ahead_maximum(duration_s: float | None, granted: int) -> int:
    """How many more than ``granted`` attempts to lease to a node that runs so many."""
    if duration_s is None or duration_s >= SHORT_S:
        return 0
    return min(AHEAD_MAXIMUM, int(AHEAD_WORK_S / max(duration_s, 1e-4) * granted))


class _Planner:
    """One run of the scheduler."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._turn = snapshot.turn
        self._plan = Plan()
        self._rooms = [_Room(node) for node in snapshot.nodes if node.accepts]
        self._rooms_by_needs: dict[Needs, list[_Room]] = {}
        # Nodes for whose cores somebody waits, so that nothing is leased ahead there.
        self._wanted: set[str] = set()
        self._iterators: list[Iterator[JobView]] = []
        # Jobs that had their turn, by line, to come again after the others.
        self._again: list[list[JobView]] = []
        self._heap: list[tuple[int, int, int, JobView]] = []

    def run(self) -> Plan:
        if not self._rooms:
            return self._plan
        for number, line in enumerate(self._snapshot.lines):
            self._iterators.append(iter(line.jobs))
            self._again.append([])
            self._next(number, line)
        while self._heap:
            _, _, number, job = heapq.heappop(self._heap)
            line = self._snapshot.lines[number]
            if not self._serve(job, line.needs, number):
                continue
            if len(self._plan.placements) >= self._snapshot.limit:
                self._plan.more = True
                break
            self._next(number, line)
        return self._plan

    def _next(self, number: int, line: Line) -> None:
        """Puts the line's next job on the heap."""
        job = next(self._iterators[number], None)
        if job is None:
            again = self._again[number]
            if not again:
                return
            self._again[number] = []
            self._iterators[number] = iter(again)
            job = next(self._iterators[number])
        heapq.heappush(self._heap, (-line.needs.priority, job.turn, number, job))

    def _serve(self, job: JobView, needs: Needs, number: int) -> bool:
        """Places one task of the job; false when the rest of its line has no room either."""
        rooms = self._matching(needs)
        room = self._best(job, needs, rooms) if job.slots > 0 else None
        ahead = room is None
        if room is None:
            room = self._best_ahead(job, needs, rooms)
        if room is not None:
            self._place(job, needs, room, ahead, number)
            return True
        if job.slots <= 0 or self._goes_on(job, rooms):
            return True
        self._blocked(job, needs, rooms)
        return False

    def _goes_on(self, job: JobView, rooms: Sequence[_Room]) -> bool:
        """Whether short tasks of the job run anyway, so that it need not wait for room."""
        return ahead_maximum(job.duration_s, 1) > 0 and any(room.of(job)[1] for room in rooms)

    def _matching(self, needs: Needs) -> list[_Room]:
        rooms = self._rooms_by_needs.get(needs)
        if rooms is None:
            rooms = [room for room in self._rooms if matches(room.node, needs)]
            self._rooms_by_needs[needs] = rooms
        return rooms

    def _best(self, job: JobView, needs: Needs, rooms: Sequence[_Room]) -> _Room | None:
        best, least = None, 0.0
        nearest_bytes = max(job.bytes_by_node.values(), default=0)
        for room in rooms:
            if not room.fits(needs) or room.node.node_id in self._plan.reserved:
                continue
            cost = room.cost(job, needs, nearest_bytes)
            if best is None or cost < least:
                best, least = room, cost
        return best

    def _best_ahead(self, job: JobView, needs: Needs, rooms: Sequence[_Room]) -> _Room | None:
        """The node with the shortest queue of this job's that may be made longer."""
        if not ahead_maximum(job.duration_s, 1):
            return None
        best, least = None, 0.0
        for room in rooms:
            leased, granted = room.of(job)
            extra = leased - granted
            if not granted or extra >= ahead_maximum(job.duration_s, granted):
                continue
            if room.ahead >= AHEAD_MAXIMUM or not room.fits_beside_cpu(needs):
                continue
            if room.node.node_id in self._wanted or room.node.node_id in self._plan.reserved:
                continue
            if best is None or extra / granted < least:
                best, least = room, extra / granted
        return best

    def _place(self, job: JobView, needs: Needs, room: _Room, ahead: bool, number: int) -> None:
        room.take(job, needs, ahead)
        node_id = room.node.node_id
        local_bytes = job.bytes_by_node.get(node_id, 0)
        self._plan.placements.append(Placement(job.job_id, node_id, ahead, local_bytes))
        if job.waiting > 1:
            slots = job.slots if ahead else job.slots - 1
            later = job._replace(turn=self._turn, waiting=job.waiting - 1, slots=slots, avoid="")
            self._again[number].append(later)
        self._turn += 1

    def _blocked(self, job: JobView, needs: Needs, rooms: Sequence[_Room]) -> None:
        self._plan.blocked.append(needs)
        able = [room for room in rooms if room.could_fit(needs)]
        self._wanted.update(room.node.node_id for room in able)
        if self._snapshot.turn - job.turn < RESERVE_AFTER_TURNS:
            return
        free = [room for room in able if room.node.node_id not in self._plan.reserved]
        if free:
            nearest = max(free, key=lambda room: _share_ready(room, needs))
            self._plan.reserved[nearest.node.node_id] = needs


def _share_ready(room: _Room, needs: Needs) -> tuple[float, str]:
    """How near the node is to having room, 0 to 1 for each resource asked for."""
    shares = [min(1.0, room.cpu_milli / needs.cpu_milli)]
    if needs.memory_bytes:
        shares.append(min(1.0, room.memory_bytes / needs.memory_bytes))
    if needs.disk_bytes:
        shares.append(min(1.0, room.disk_bytes / needs.disk_bytes))
    return min(shares), room.node.node_id
