"""Which jobs that ended are kept, and for how long.

A job goes when it ended ``keep_jobs_s`` ago, when more than ``keep_jobs`` ended
after it, when the tasks of those kept are more than ``keep_tasks``, or when their
specs are more than KEPT_SPEC_MAXIMUM_BYTES; all of these are in memory. The jobs
that ended first go first. For its tasks' number none goes within KEPT_SURELY_S of
its end, nor the one that ended last: who waits for it has time to read it.

A job goes in one step; the records of its tasks go after it, some with each Tick.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import NamedTuple

from perseus.jobs.records import TaskRecord
from perseus.jobs.state_job import Job
from perseus.runtime.machine import Instant
from perseus.settings import Settings

KEPT_SPEC_MAXIMUM_BYTES = 128 << 20
KEPT_SURELY_S = 60.0
# Jobs that one Tick removes: that many, or as many as have that many tasks, at least one.
REMOVED_JOBS_PER_TICK = 100
# Records of tasks that one Tick removes; of 100,000 at once the master would stand still for
# a third of a second.
REMOVED_TASKS_PER_TICK = 2_000


class Crowded(NamedTuple):
    """A job that was removed before its time, because there were too many."""

    at_s: float
    # How long it was kept.
    kept_s: float
    # The setting that bounds what there were too many of; empty for the bytes of specs.
    setting: str


class Retention:
    """Jobs that ended, in the order of their ends."""

    def __init__(self, settings: Settings) -> None:
        self._keep_s = settings.keep_jobs_s
        self._keep = settings.keep_jobs
        self._keep_tasks = settings.keep_tasks
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self._spec_bytes = 0
        self._tasks = 0
        # The latest, since the master started.
        self.crowded: Crowded | None = None

    def ended(self, job: Job) -> None:
        """The job has ended."""
        self._ended[job.job_id] = job
        self._count(job, 1)

    def runs_again(self, job: Job) -> None:
        """The job is retried."""
        del self._ended[job.job_id]
        self._count(job, -1)

    def _count(self, job: Job, by: int) -> None:
        # Tasks that were never leased are a number alone, and take no memory.
        self._tasks += by * len(job.tasks)
        self._spec_bytes += by * len(job.record.spec)

    def due(self, at: Instant) -> Iterator[Job]:
        """The jobs to remove now, taken out of here."""
        tasks = 0
        for _ in range(REMOVED_JOBS_PER_TICK):
            job = next(iter(self._ended.values()), None)
            if job is None or tasks >= REMOVED_TASKS_PER_TICK or not self._is_due(at, job):
                return
            self.runs_again(job)
            tasks += len(job.tasks)
            yield job

    def _is_due(self, at: Instant, job: Job) -> bool:
        kept_s = at.time_s - job.ended_at_s
        if kept_s > self._keep_s:
            return True
        setting = self._crowd(kept_s)
        if setting is not None:
            self.crowded = Crowded(at.time_s, kept_s, setting)
        return setting is not None

    def _crowd(self, kept_s: float) -> str | None:
        """What there is too much of, as Crowded has it; None when all fits."""
        if len(self._ended) > self._keep:
            return "keep_jobs"
        if self._tasks > self._keep_tasks and kept_s >= KEPT_SURELY_S and len(self._ended) > 1:
            return "keep_tasks"
        return "" if self._spec_bytes > KEPT_SPEC_MAXIMUM_BYTES else None


class Leftovers:
    """Records of tasks whose jobs are gone. They are known by that alone, so that a master
    which starts in the middle goes on where the one before it was."""

    def __init__(self) -> None:
        self._by_job: deque[tuple[str, list[TaskRecord]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._by_job)

    def __contains__(self, job_id: str) -> bool:
        return any(job_id == known for known, _ in self._by_job)

    def add(self, job_id: str, tasks: list[TaskRecord]) -> None:
        """The job is gone; ``tasks`` are ours from now on."""
        if tasks:
            self._by_job.append((job_id, tasks))

    def take(self) -> Iterator[tuple[str, int]]:
        """(job id, index) of the records to remove now."""
        for _ in range(REMOVED_TASKS_PER_TICK):
            if not self._by_job:
                return
            job_id, tasks = self._by_job[0]
            yield job_id, tasks.pop().index
            if not tasks:
                self._by_job.popleft()
