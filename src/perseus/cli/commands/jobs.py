"""``ps``, ``logs``, ``wait``, ``kill``, ``attach``, ``retry``, ``why``."""

import time
from collections.abc import Callable
from signal import SIGKILL, SIGTERM
from typing import Any

from perseus.cli import fast, units
from perseus.cli.commands.work import make_foreground
from perseus.cli.foreground import EXIT_PERSEUS, EXIT_PIPE, write
from perseus.cli.main import Invocation
from perseus.client.jobs import Job, open_events, signal_number
from perseus.client.messages import FollowEvent, JobInfo, TaskInfo, decode
from perseus.errors import DeadlineError, UnavailableError

EXIT_TIME_LIMIT = 124
# Shown in the place of "running" when only output is still on its way.
KEEPING = "keeping"
# Kinds of endings that are the program's, and said by the exit code alone.
OWN_ENDINGS = ("exited", "signaled")


def ps(invocation: Invocation) -> int:
    """A table of jobs, newest first; of those named, also their tasks."""
    options = invocation.options
    if options.job:
        return _ps_of(invocation, [invocation.cluster.job(name).info() for name in options.job])
    jobs = invocation.cluster.jobs(active=options.active, limit=options.limit)
    if invocation.console.as_json:
        invocation.console.json(jobs)
        return 0
    heads = ("JOB", "NAME", "STATE", "TASKS", "EXIT", "USER", "AGE", "TIME")
    invocation.console.table(heads, [_row(job) for job in jobs])
    return 0


def _ps_of(invocation: Invocation, jobs: list[JobInfo]) -> int:
    if invocation.console.as_json:
        invocation.console.json(jobs[0] if len(jobs) == 1 else jobs)
        return 0
    for job in jobs:
        console = invocation.console
        console.say(f"job {job.job_id} ({_state(job)}): {' '.join(job.spec.argv)}")
        heads = ("TASK", "STATE", "NODE", "ATTEMPT", "EXIT", "TIME", "CPU", "MEMORY", "OUTPUT")
        console.table(heads, [_task_row(task) for task in job.tasks])
        if len(job.tasks) < job.count:
            console.say(f"{job.count - len(job.tasks)} more tasks are not shown")
    return 0


def _task_row(task: TaskInfo) -> tuple[Any, ...]:
    end_s = task.ended_at_s or time.time()
    return (
        task.index,
        KEEPING if task.keeping else task.state,
        task.node or "-",
        task.attempt,
        "-" if task.ending is None else task.ending.exit_code,
        units.format_duration(end_s - task.started_at_s) if task.started_at_s else "-",
        units.format_duration(task.cpu_s),
        units.format_size(task.memory_peak_bytes),
        units.format_size(task.stdout_bytes + task.stderr_bytes),
    )


def _state(job: JobInfo) -> str:
    """Its state; ``keeping`` when of all that runs the programs have ended."""
    is_keeping = job.keeping and job.keeping == job.task_counts.get("running")
    return KEEPING if is_keeping else job.state


def _row(job: JobInfo) -> tuple[Any, ...]:
    now_s = time.time()
    end_s = job.ended_at_s or now_s
    done = sum(job.task_counts.get(state, 0) for state in ("finished",))
    tasks = f"{done}/{job.count}" if job.count > 1 else "1"
    return (
        job.job_id,
        job.name[:40],
        _state(job),
        tasks,
        job.exit_code if job.has_ended else "-",
        job.user,
        units.format_duration(now_s - job.submitted_at_s),
        units.format_duration(end_s - job.submitted_at_s),
    )


def logs(invocation: Invocation) -> int:
    """The output from the first byte, with -f until the end; 125 when part of it is missing."""
    options = invocation.options
    job_id = invocation.cluster.job(options.job).job_id
    both = options.stdout == options.stderr
    stream = open_events(
        invocation.cluster.transport,
        job_id,
        options.task,
        both or options.stdout,
        both or options.stderr,
        options.follow,
    )
    show = _shower(invocation, both)
    code = 0
    try:
        for message in stream:
            show(message)
            if message.get("missing"):
                code = EXIT_PERSEUS
    except BrokenPipeError:
        return EXIT_PIPE
    except OSError as error:
        raise UnavailableError(
            f"the output cannot be written: {error.strerror}",
            hint=f"it is kept; when there is room: perseus logs {job_id}",
        ) from None
    finally:
        stream.close()
    return code


def _shower(invocation: Invocation, both: bool) -> Callable[[dict[str, Any]], None]:
    """What shows an event: its bytes as they are, or all of it as a line of JSON."""

    def show(message: dict[str, Any]) -> None:
        event = decode(FollowEvent, message)
        # `logs --stderr` shows what was on stderr, on stdout, so that it can be piped.
        write(1, event.stdout)
        write(2 if both else 1, event.stderr)
        if event.message:
            console = invocation.console
            (console.warn if event.missing else console.say)(event.message)

    return invocation.console.event if invocation.console.as_json else show


def wait(invocation: Invocation) -> int:
    """Waits; the exit code is the job's, 124 when --timeout passed."""
    timeout = invocation.options.timeout
    timeout_s = None if timeout is None else units.parse_duration_s(timeout, "--timeout")
    try:
        job = invocation.cluster.job(invocation.options.job).wait(timeout_s)
    except DeadlineError as error:
        return fast.fail(error, invocation.console.as_json, EXIT_TIME_LIMIT)
    if invocation.console.as_json:
        invocation.console.json(job)
    elif said := _told_end(job):
        invocation.console.warn(said)
    return job.exit_code


def _told_end(job: JobInfo) -> str:
    """Why Perseus itself ended the job, as `run` would have said it; empty when it did not."""
    for task in job.tasks:
        ending = task.ending
        if ending is not None and ending.message and ending.kind not in OWN_ENDINGS:
            which = f"job {job.job_id}, task {task.index}" if job.count > 1 else f"job {job.job_id}"
            where = "" if not task.node or task.node in ending.message else f" on {task.node}"
            return f"{which}{where}: {ending.message}"
    return ""


def kill(invocation: Invocation) -> int:
    """Signals each job."""
    units.checked(signal_number, invocation.options.signal)
    for name in invocation.options.job:
        job = invocation.cluster.job(name)
        count = job.kill(invocation.options.signal)
        if invocation.console.as_json:
            invocation.console.json({"job_id": job.job_id, "tasks": count})
        else:
            invocation.console.say(_killed(job, invocation.options.signal, count))
    return 0


def _killed(job: Job, signal: str, count: int) -> str:
    """What came of a signal."""
    if not count:
        info = job.info()
        said = f"has ended already ({info.state})" if info.has_ended else "has no task that runs"
        return f"job {job.job_id} {said}; nothing was signalled"
    # These two also end the tasks that wait.
    what = "cancelled" if signal_number(signal) in (SIGTERM, SIGKILL) else "signalled"
    return f"job {job.job_id}: {count} task{'s' * (count != 1)} {what}"


def attach(invocation: Invocation) -> int:
    """Follows a job in the foreground; leaving does not end it."""
    job = invocation.cluster.job(invocation.options.job)
    stream = open_events(invocation.cluster.transport, job.job_id, None, True, True, True)
    foreground = make_foreground(invocation, cancels=False)
    foreground.job_id = job.job_id
    foreground.catch_signals()
    return foreground.run(iter(stream), invocation.cluster.context)


def retry(invocation: Invocation) -> int:
    """Runs once more what did not finish well; prints the job's id."""
    job = invocation.cluster.job(invocation.options.job).retry()
    if invocation.console.as_json:
        invocation.console.json(job)
    else:
        invocation.console.line(job.job_id)
    return 0


def why(invocation: Invocation) -> int:
    """Sentences about a job."""
    job = invocation.cluster.job(invocation.options.job)
    sentences = job.why()
    if invocation.console.as_json:
        invocation.console.json({"job_id": job.job_id, "sentences": sentences})
        return 0
    for sentence in sentences:
        invocation.console.line(invocation.console.sentence(sentence))
    return 0
