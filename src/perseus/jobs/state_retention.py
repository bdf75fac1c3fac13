"""Which jobs that ended are kept, and for how long.

A job goes when it ended ``keep_jobs_s`` ago, when more than ``keep_jobs`` ended
after it, or when the specs of those kept are more than KEPT_SPEC_MAXIMUM_BYTES,
which they are in memory.
"""

from collections import OrderedDict
from collections.abc import Iterator

from perseus.jobs.state_job import Job
from perseus.runtime.machine import Instant
from perseus.settings import Settings

KEPT_SPEC_MAXIMUM_BYTES = 128 << 20
# Jobs, and tasks of jobs, that one Tick removes (at least one job, of however many tasks).
REMOVED_JOBS_PER_TICK = 100
REMOVED_TASKS_PER_TICK = 10_000


class Retention:
    """Jobs that ended, in the order of their ends."""

    def __init__(self, settings: Settings) -> None:
        self._keep_s = settings.keep_jobs_s
        self._keep = settings.keep_jobs
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self._spec_bytes = 0

    def ended(self, job: Job) -> None:
        """The job has ended."""
        self._ended[job.job_id] = job
        self._spec_bytes += len(job.record.spec)

    def runs_again(self, job: Job) -> None:
        """The job is retried."""
        del self._ended[job.job_id]
        self._spec_bytes -= len(job.record.spec)

    def due(self, at: Instant) -> Iterator[Job]:
        """The jobs to remove now, taken out of here."""
        tasks = 0
        for _ in range(REMOVED_JOBS_PER_TICK):
            job = next(iter(self._ended.values()), None)
            if job is None or tasks >= REMOVED_TASKS_PER_TICK or not self._over(job, at):
                return
            self.runs_again(job)
            tasks += len(job.tasks)
            yield job

    def _over(self, job: Job, at: Instant) -> bool:
        return (
            at.time_s - job.ended_at_s > self._keep_s
            or len(self._ended) > self._keep
            or self._spec_bytes > KEPT_SPEC_MAXIMUM_BYTES
        )
