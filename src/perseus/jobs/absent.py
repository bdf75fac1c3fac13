"""Why an output of a task is not in the filestore: its task has not ended, or left none."""

from perseus.errors import InvalidError, NotFoundError
from perseus.filestore import paths
from perseus.jobs.records import ENDED_STATES, LEASED, PENDING, TaskRecord
from perseus.jobs.state import Jobs
from perseus.jobs.state_job import Job, folder_of

# What a task's folder holds.
OUTPUTS = ("stdout", "stderr")


def as_input(jobs: Jobs, path: str) -> NotFoundError | None:
    """What to say to who wants a file as an input, and nothing is at its path; None when the
    path is not that of an output to come."""
    found = _task_at(jobs, path)
    if found is None:
        return None
    job, index = found
    return _explained(job, index, path, f"perseus wait {job.job_id}")


def as_file(jobs: Jobs, path: str) -> NotFoundError | None:
    """As ``as_input``, for who wants to see what is at the path."""
    found = _task_at(jobs, path)
    if found is None:
        return None
    job, index = found
    one = f"--task {index} " if job.record.count > 1 else ""
    return _explained(job, index, path, f"perseus logs -f {one}{job.job_id}")


def _task_at(jobs: Jobs, path: str) -> tuple[Job, int] | None:
    """The job and the index of the task whose folder or output the path is."""
    try:
        names = paths.split(path)
    except InvalidError:
        return None
    job = jobs.find(names[1]) if len(names) in (3, 4) else None
    if job is None or names[:2] != paths.split(folder_of(job.job_id)):
        return None
    index, outputs = names[2], names[3:]
    if not (index.isascii() and index.isdecimal()) or not set(outputs) <= set(OUTPUTS):
        return None
    return job, int(index)


def _explained(job: Job, index: int, path: str, hint: str) -> NotFoundError | None:
    who = f"task {index} of job {job.job_id}"
    if index >= job.record.count:
        return NotFoundError(
            f"job {job.job_id} has no task {index}; it has {job.record.count}, from 0",
            hint=f"perseus ps {job.job_id}",
        )
    task = job.task(index)
    if task.state not in ENDED_STATES:
        words = f"{who} {_doing(job, task)}; {paths.normalise(path)} is there when it has ended"
        return NotFoundError(words, hint=hint)
    if task.committed:
        # It was there, and somebody took it away.
        return None
    return NotFoundError(f"{who} left no output", hint=f"perseus why {job.job_id}")


def _doing(job: Job, task: TaskRecord) -> str:
    if task.state == PENDING:
        return "waits for a node"
    if task.state == LEASED:
        return f"is about to run on {task.node}"
    if task.index in job.keeping:
        return f"has ended, and its output is on its way from {task.node}"
    return f"is still running on {task.node}"
