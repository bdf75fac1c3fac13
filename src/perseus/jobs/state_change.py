"""What one step changes: each record is written once, at the end of the step."""

from perseus.filestore.events import RemoveFolder
from perseus.jobs import records
from perseus.jobs.records import TaskRecord
from perseus.jobs.state_events import JobChanged
from perseus.jobs.state_job import Job, folder_of
from perseus.runtime.machine import Effect, Event, Step, Write

# Where clients put what they stream to one job's stdin.
STDIN_FOLDER = "/.perseus/stdin/"


class Change:
    """Collects; ``step`` gives the writes and effects."""

    __slots__ = ("_changed", "_jobs", "_tasks", "_writes", "effects")

    def __init__(self) -> None:
        self.effects: list[Effect | Event] = []
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[int, tuple[str, TaskRecord]] = {}
        self._changed: dict[str, None] = {}
        self._writes: list[Write] = []

    def job(self, job: Job) -> None:
        """The job's record changed."""
        self._jobs[job.job_id] = job
        self._changed[job.job_id] = None

    def task(self, job: Job, task: TaskRecord) -> None:
        """The task's record changed."""
        self._tasks[id(task)] = (job.job_id, task)
        self._changed[job.job_id] = None

    def touched(self, job: Job) -> None:
        """Those who wait for the job may look; nothing more to write."""
        self._changed[job.job_id] = None

    def forget(self, job: Job) -> None:
        """The job is gone, and so is its folder."""
        self._writes.append(Write(records.job_key(job.job_id), None))
        self.effects.append(RemoveFolder(folder_of(job.job_id)))
        self.stdin_done(job)
        self._changed[job.job_id] = None

    def forget_task(self, job_id: str, index: int) -> None:
        """The record of a task whose job is gone goes."""
        self._writes.append(Write(records.task_key(job_id, index), None))

    def stdin_done(self, job: Job) -> None:
        """Nobody will read the job's stdin again: removes it where it was streamed for the
        job alone. Any other file of the filestore is not the job's to remove."""
        path = job.spec.stdin_path
        if path.startswith(STDIN_FOLDER):
            self.effects.append(RemoveFolder(path))

    def step(self, reply: object) -> Step:
        """The step of all that was collected."""
        writes = self._writes
        for job in self._jobs.values():
            writes.append(records.job_write(job.record))
        for job_id, task in self._tasks.values():
            writes.append(records.task_write(job_id, task))
        self.effects.extend(JobChanged(job_id) for job_id in self._changed)
        return Step(writes, self.effects, reply)
