"""Jobs and tasks as messages of the protocol."""

from perseus.jobs.records import Ended, TaskRecord
from perseus.jobs.state_job import Job, folder_of
from perseus.proto.v1 import jobs_pb2

TASKS_MAXIMUM = 1_000
# Characters of a job's arguments that a listing shows.
LISTED_ARGV_MAXIMUM = 1_000


def job_message(job: Job, first_task: int = 0) -> jobs_pb2.Job:
    """The whole job, with up to TASKS_MAXIMUM of its tasks from ``first_task`` on."""
    message = _summary(job)
    message.spec.CopyFrom(job.spec)
    last = min(job.record.count, first_task + TASKS_MAXIMUM)
    message.tasks.extend(_task_of(job, index) for index in range(first_task, last))
    return message


def listed_message(job: Job) -> jobs_pb2.Job:
    """The job for a listing: without its inputs, environment and tasks, with the beginning
    of its arguments."""
    message = _summary(job)
    message.spec.CopyFrom(job.spec)
    for name in ("stdin_inline", "environment", "files", "argv"):
        message.spec.ClearField(name)
    room = LISTED_ARGV_MAXIMUM
    for word in job.spec.argv:
        if len(word) > room:
            message.spec.argv.append("…")
            break
        message.spec.argv.append(word)
        room -= len(word)
    return message


def _task_of(job: Job, index: int) -> jobs_pb2.Task:
    message = task_message(job.task(index))
    message.keeping = index in job.keeping
    return message


def task_message(task: TaskRecord) -> jobs_pb2.Task:
    """A task."""
    message = jobs_pb2.Task(
        index=task.index,
        state=task.state,  # type: ignore[arg-type]
        attempt=task.attempt,
        node=task.node,
        started_at_s=task.started_at_s,
        ended_at_s=task.ended_at_s,
        cpu_s=task.cpu_s,
        memory_peak_bytes=task.memory_peak_bytes,
        stdout_bytes=task.stdout_bytes,
        stderr_bytes=task.stderr_bytes,
    )
    if task.ending is not None:
        message.ending.CopyFrom(ending_message(task.ending))
    return message


def ending_message(ending: Ended) -> jobs_pb2.Ending:
    """An ending."""
    return jobs_pb2.Ending(
        kind=ending.kind,  # type: ignore[arg-type]
        exit_code=ending.exit_code,
        signal=ending.signal,
        message=ending.message,
    )


def job_ending(job: Job) -> jobs_pb2.Ending:
    """The ending of a job that has ended: of the first task that did not end well, else of task 0.

    In a job of several tasks the message says which task it is about.
    """
    unwell = job.first_unwell()
    ending = job.task(unwell or 0).ending
    message = jobs_pb2.Ending() if ending is None else ending_message(ending)
    if unwell is not None and job.record.count > 1:
        words = message.message or f"exit code {message.exit_code}"
        message.message = f"task {unwell} of {job.record.count}: {words}"
    return message


def _summary(job: Job) -> jobs_pb2.Job:
    record = job.record
    message = jobs_pb2.Job(
        job_id=record.job_id,
        name=record.name,
        user=record.user,
        state=job.state,  # type: ignore[arg-type]
        count=record.count,
        submitted_at_s=record.submitted_at_s,
        ended_at_s=job.ended_at_s,
        folder=folder_of(record.job_id),
        keeping=len(job.keeping),
        task_counts={state: count for state, count in enumerate(job.counts) if count},
    )
    unwell = job.first_unwell()
    ending = None if unwell is None else job.task(unwell).ending
    if ending is not None:
        message.exit_code = ending.exit_code
    return message
