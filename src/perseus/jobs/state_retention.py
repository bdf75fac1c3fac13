"""Which jobs that ended are kept, and for how long.

A job goes when it ended ``keep_jobs_s`` ago, when more than ``keep_jobs`` ended
after it, when the tasks of those kept are more than ``keep_tasks``, or when their
specs are more than KEPT_SPEC_MAXIMUM_BYTES; all of these are in memory. The jobs
that ended first go first. For its tasks' number none goes within KEPT_SURELY_S of
its end, nor the one that ended last: who waits for it has time to read it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from perseus.jobs.state_job import Job
from perseus.runtime.machine import Instant
from perseus.settings import Settings

KEPT_SPEC_MAXIMUM_BYTES = 128 << 20
KEPT_SURELY_S = 60.0
# Jobs, and tasks of jobs, that one Tick removes (at least one job, of however many tasks).
REMOVED_JOBS_PER_TICK = 100
REMOVED_TASKS_PER_TICK = 10_000


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
