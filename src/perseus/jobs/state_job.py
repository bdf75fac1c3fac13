"""A job in memory: its record, its tasks, and the sums over them kept as they change."""

import heapq
from dataclasses import dataclass

from perseus.jobs import records
from perseus.jobs.plan import UNLIMITED, Needs
from perseus.jobs.records import CANCELLED, ENDED_STATES, PENDING, Ended, JobRecord, TaskRecord
from perseus.proto.v1 import jobs_pb2

# How much the newest task's duration weighs in the job's mean.
DURATION_WEIGHT = 0.2
SIGNAL_EXIT_BASE = 128
# The worst first.
_WORST = (records.LOST, records.FAILED, CANCELLED, records.FINISHED)


@dataclass(slots=True)
class At:
    """What a job has on a node: attempts leased, and how many of them may run at once."""

    leased: int = 0
    granted: int = 0


class Job:
    """See the module. Tasks are leased in the order of their index, so ``tasks`` holds
    exactly those that were ever leased, and the rest is a number."""

    __slots__ = (
        "_spec",
        "again",
        "at",
        "cancels",
        "counts",
        "duration_s",
        "ended_at_s",
        "first_bad",
        "granted",
        "keeping",
        "needs",
        "record",
        "tasks",
        "turn",
    )

    def __init__(self, record: JobRecord, spec: jobs_pb2.TaskSpec | None = None) -> None:
        self.record = record
        self.tasks: list[TaskRecord] = []
        # Tasks to be leased once more; a heap of indexes.
        self.again: list[int] = []
        self.counts = [0] * records.STATES
        self.counts[PENDING] = record.count
        self.at: dict[str, At] = {}
        # Attempts that may run at once on all nodes.
        self.granted = 0
        # Indexes of running tasks whose program has ended and whose output is on its way.
        self.keeping: set[int] = set()
        self.turn = 0
        # How often it was cancelled since this master began.
        self.cancels = 0
        self.duration_s: float | None = None
        self.first_bad: int | None = None
        self.ended_at_s = 0.0
        self._spec = spec
        self.needs = needs_of(self.spec)
        if record.cancelled_at_s:
            self.counts[PENDING] = 0
            self.counts[CANCELLED] = record.count
            self.first_bad = 0

    @property
    def job_id(self) -> str:
        """Its id."""
        return self.record.job_id

    @property
    def spec(self) -> jobs_pb2.TaskSpec:
        """What its tasks are; never to be changed. Kept parsed while the job is active."""
        if self._spec is not None:
            return self._spec
        spec = jobs_pb2.TaskSpec.FromString(self.record.spec)
        if self.active:
            self._spec = spec
        return spec

    def forget_spec(self) -> None:
        """Drops the parsed spec of a job that has ended."""
        self._spec = None

    # Sums.

    @property
    def fresh(self) -> int:
        """How many tasks were never leased."""
        return self.record.count - len(self.tasks)

    @property
    def waiting(self) -> int:
        """How many tasks wait for a lease."""
        return len(self.again) + (0 if self.record.cancelled_at_s else self.fresh)

    @property
    def active(self) -> int:
        """How many tasks have not ended."""
        counts = self.counts
        return counts[PENDING] + counts[records.LEASED] + counts[records.RUNNING]

    @property
    def state(self) -> int:
        """What its tasks add up to."""
        for state in (records.RUNNING, records.LEASED, PENDING, *_WORST):
            if self.counts[state]:
                return state
        return PENDING

    @property
    def slots(self) -> int:
        """How many more of its tasks may run at once."""
        limit = self.record.parallel
        return UNLIMITED if not limit else max(0, limit - self.granted)

    def task(self, index: int) -> TaskRecord:
        """The task's record; of one that was never leased, made up on the spot."""
        if index < len(self.tasks):
            return self.tasks[index]
        record = TaskRecord(index)
        if self.record.cancelled_at_s:
            record.state = CANCELLED
            record.ended_at_s = self.record.cancelled_at_s
            record.ending = cancelled_ending(self.record.cancel_signal)
        return record

    def first_unwell(self) -> int | None:
        """The first task that ended otherwise than well, or None. Looked for only when asked."""
        if self.first_bad is None and self.counts[records.FINISHED] < self.record.count:
            for task in self.tasks:
                if task.state in ENDED_STATES and task.state != records.FINISHED:
                    self.first_bad = task.index
                    break
            else:
                if self.record.cancelled_at_s and self.fresh:
                    self.first_bad = len(self.tasks)
        return self.first_bad

    # Changes.

    def move(self, task: TaskRecord, state: int) -> None:
        """Puts a task into another state."""
        self.counts[task.state] -= 1
        self.counts[state] += 1
        task.state = state
        if state != records.RUNNING:
            self.keeping.discard(task.index)
        if self.first_bad is not None:
            unwell = state in ENDED_STATES and state != records.FINISHED
            self.first_bad = min(self.first_bad, task.index) if unwell else None

    def next_avoid(self) -> str:
        """The node on which the next task's last attempt went wrong; empty when it is new."""
        return self.tasks[self.again[0]].node_id if self.again else ""

    def take_next(self) -> TaskRecord:
        """The next waiting task, which is then the caller's to lease."""
        if self.again:
            return self.tasks[heapq.heappop(self.again)]
        record = TaskRecord(len(self.tasks), history=[])
        self.tasks.append(record)
        return record

    def unwell_in(self, indexes: range, most: int) -> tuple[list[TaskRecord], range]:
        """The first tasks of these that ended otherwise than well, and the indexes behind them."""
        found: list[TaskRecord] = []
        for index in indexes:
            if len(found) == most:
                return found, range(index, indexes.stop)
            task = self.tasks[index]
            if task.state in ENDED_STATES and task.state != records.FINISHED:
                found.append(task)
        return found, range(0)

    def wait_again(self, task: TaskRecord) -> None:
        """The task waits once more."""
        self.move(task, PENDING)
        heapq.heappush(self.again, task.index)

    def cancel_fresh(self, signal: int, time_s: float) -> int:
        """Cancels the tasks that were never leased; returns how many."""
        count = self.fresh
        if not count or self.record.cancelled_at_s:
            return 0
        self.record.cancelled_at_s = time_s
        self.record.cancel_signal = signal
        self.counts[PENDING] -= count
        self.counts[CANCELLED] += count
        self.first_bad = None
        return count

    def restore_fresh(self) -> int:
        """Takes ``cancel_fresh`` back; returns how many wait again."""
        if not self.record.cancelled_at_s:
            return 0
        self.record.cancelled_at_s = 0.0
        self.record.cancel_signal = 0
        self.counts[CANCELLED] -= self.fresh
        self.counts[PENDING] += self.fresh
        self.first_bad = None
        return self.fresh

    def learn_duration(self, duration_s: float) -> None:
        """A task ran this long."""
        if self.duration_s is None:
            self.duration_s = duration_s
        else:
            self.duration_s += DURATION_WEIGHT * (duration_s - self.duration_s)

    def adopt(self, tasks: list[TaskRecord]) -> None:
        """Takes the tasks of the store, once, after a start."""
        virtual = CANCELLED if self.record.cancelled_at_s else PENDING
        self.counts[virtual] -= len(tasks)
        self.first_bad = None
        self.tasks = tasks
        for task in tasks:
            self.counts[task.state] += 1
            if task.state == PENDING:
                heapq.heappush(self.again, task.index)
        ends = [task.ended_at_s for task in tasks] or [0.0]
        self.ended_at_s = 0.0 if self.active else max(*ends, self.record.cancelled_at_s)


def needs_of(spec: jobs_pb2.TaskSpec) -> Needs:
    """What the scheduler asks of a node for such a task."""
    return Needs(
        priority=spec.priority,
        cpu_milli=max(1, round((spec.resources.cpu or 1.0) * 1000)),
        memory_bytes=spec.resources.memory_bytes,
        disk_bytes=spec.resources.disk_bytes,
        labels=tuple(sorted(spec.labels.items())),
        architecture=spec.architecture,
        node=spec.node,
    )


def cancelled_ending(signal: int) -> Ended:
    """The ending of a task that was cancelled before it ran."""
    return Ended(
        jobs_pb2.ENDING_CANCELLED,
        SIGNAL_EXIT_BASE + signal,
        signal,
        "cancelled before it ran",
    )


def folder_of(job_id: str) -> str:
    """Where the filestore keeps a job's outputs; each task has a folder in it."""
    return f"/jobs/{job_id}"
