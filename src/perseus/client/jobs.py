"""Jobs and tasks as a program holds them.

``Cluster.run`` gives a ``Task``, ``Cluster.submit`` and ``Cluster.job`` a
``Job``. Both are handles: the work goes on in the cluster whether or not the
handle, or the program, is still there.
"""

import signal as signals
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from perseus.client.messages import (
    Ending,
    FollowEvent,
    JobInfo,
    TaskInfo,
    decode,
)
from perseus.client.output import EventStream, Feed, Output
from perseus.errors import DeadlineError, InvalidError, NotFoundError

if TYPE_CHECKING:
    from perseus.client.transport import Transport

# The longest one Wait call lasts; waiting longer takes several.
WAIT_STEP_S = 30.0
# Outputs lie in JOBS_FOLDER/JOB/TASK/stdout and stderr.
JOBS_FOLDER = "/jobs"


class Job:
    """A job: one task, or ``count`` of them."""

    def __init__(self, transport: "Transport", job_id: str) -> None:
        self._transport = transport
        self.job_id = job_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.job_id!r})"

    def info(self, first_task: int = 0) -> JobInfo:
        """The job as it is now, with up to 1,000 of its tasks from ``first_task`` on."""
        request = {"job_id": self.job_id, "first_task": first_task}
        return decode(JobInfo, self._transport.call("Jobs/GetJob", request))

    @property
    def state(self) -> str:
        """pending, leased, running, finished, failed, lost or cancelled."""
        return self.info().state

    def wait(self, timeout_s: float | None = None) -> JobInfo:
        """The job when it has ended; raises DeadlineError after ``timeout_s``."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = WAIT_STEP_S if deadline is None else deadline - time.monotonic()
            step_s = max(min(left, WAIT_STEP_S), 0.001)
            request = {"job_id": self.job_id, "timeout_s": step_s}
            answer = self._transport.call("Jobs/Wait", request, timeout_s=step_s + 30)
            job = decode(JobInfo, answer)
            if job.has_ended:
                return job
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineError(
                    f"job {self.job_id} has not ended in {timeout_s:g} s",
                    hint=f"perseus why {self.job_id}",
                )

    @property
    def exit_code(self) -> int | None:
        """0 when all tasks finished, else the first bad one's; None while it runs."""
        job = self.info()
        return job.exit_code if job.has_ended else None

    def task(self, index: int) -> "Task":
        """One of its tasks; raises NotFoundError when there is none of this number."""
        if not 0 <= index < max(self.info().count, 1):
            raise _no_task(self.job_id, index)
        return Task(self._transport, self.job_id, index)

    def tasks(self) -> "Iterator[Task]":
        """All its tasks, by number."""
        for index in range(self.info().count):
            yield Task(self._transport, self.job_id, index)

    def follow(
        self,
        *,
        task: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
        follow: bool = True,
    ) -> Iterator[FollowEvent]:
        """Output and changes from the first byte, live while it runs.

        Without ``follow`` it ends with what is there now.
        """
        stream = open_events(self._transport, self.job_id, task, stdout, stderr, follow)
        try:
            for message in stream:
                yield decode(FollowEvent, message)
        finally:
            stream.close()

    def kill(self, signal: int | str = signals.SIGTERM) -> int:
        """Sends a signal to its running tasks; SIGTERM and SIGKILL cancel the job.

        Returns how many tasks were reached.
        """
        number = signal_number(signal)
        answer = self._transport.call("Jobs/Kill", {"job_id": self.job_id, "signal": number})
        return int(answer.get("tasks", 0))

    def retry(self) -> JobInfo:
        """Runs the tasks that did not finish well once more."""
        return decode(JobInfo, self._transport.call("Jobs/Retry", {"job_id": self.job_id}))

    def why(self) -> list[str]:
        """Why it waits, was placed where it was, or was retried; in sentences."""
        answer = self._transport.call("Jobs/Why", {"job_id": self.job_id})
        return list(answer.get("sentences", []))


class Task:
    """One task: what ``Cluster.run`` gives. ``stdout`` and ``stderr`` are its outputs.

    ``close`` (or leaving a ``with`` block) gives up the connection that the task
    was started on, and with it a task that has not ended, unless it is detached.
    """

    def __init__(
        self,
        transport: "Transport",
        job_id: str,
        index: int = 0,
        feed: Feed | None = None,
    ) -> None:
        self._transport = transport
        self.job_id = job_id
        self.index = index
        self._feed = feed or Feed(None)
        self._ending: Ending | None = None
        folder = f"{JOBS_FOLDER}/{job_id}/{index}"
        self.stdout = Output(self._feed, "stdout", self._open, f"{folder}/stdout")
        self.stderr = Output(self._feed, "stderr", self._open, f"{folder}/stderr")

    def __repr__(self) -> str:
        return f"Task({self.job_id!r}, {self.index})"

    def __enter__(self) -> "Task":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def job(self) -> Job:
        """The job it belongs to."""
        return Job(self._transport, self.job_id)

    def info(self) -> TaskInfo:
        """The task as it is now: state, node, attempt, times, use of resources."""
        for task in self.job.info(first_task=self.index).tasks:
            if task.index == self.index:
                return task
        raise _no_task(self.job_id, self.index)

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit code when the task has ended; raises DeadlineError after ``timeout_s``.

        It is the program's own, 128+N after signal N, 124 after the time limit,
        125 for Perseus's own failure, 126 and 127 when it could not start.
        """
        if timeout_s is None:
            while self._ending is None and self._feed.pump():
                self._ending = self._feed.ending
        if self._ending is None:
            self._ending = self._wait_ending(timeout_s)
        self._feed.tell(True)
        return self._ending.exit_code

    def _wait_ending(self, timeout_s: float | None) -> Ending:
        job = self.job.wait(timeout_s)
        if job.count > 1:
            task = self.info()
        else:
            task = job.tasks[0] if job.tasks else TaskInfo()
        return task.ending or Ending(kind=task.state or job.state, exit_code=job.exit_code)

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while it runs. Does not wait."""
        if self._ending is None and self.job.info().has_ended:
            self.wait()
        return None if self._ending is None else self._ending.exit_code

    @property
    def ending(self) -> Ending | None:
        """How it ended, or None while it runs."""
        return self._ending if self.exit_code is not None else None

    @property
    def messages(self) -> list[str]:
        """What the cluster said so far: an attempt lost and tried again, and so on."""
        return list(self._feed.messages)

    def kill(self, signal: int | str = signals.SIGTERM) -> None:
        """Sends a signal to its job, as ``job.kill`` does: signals are for whole jobs, so it
        reaches every running task of this job; SIGTERM and SIGKILL cancel the job."""
        self.job.kill(signal)

    def retry(self) -> JobInfo:
        """Runs the job once more where it did not finish well; ``wait`` then waits anew."""
        job = self.job.retry()
        self._feed.close()
        self._feed.reset()
        self._ending = None
        return job

    def why(self) -> list[str]:
        """Why it waits, was placed where it was, or was retried; in sentences."""
        return self.job.why()

    def close(self) -> None:
        """Gives up the connection it was started on."""
        self._feed.close()

    def _open(self, stdout_offset: int, stderr_offset: int, which: str) -> EventStream:
        return open_events(
            self._transport,
            self.job_id,
            self.index,
            which in ("", "stdout"),
            which in ("", "stderr"),
            True,
            stdout_offset,
            stderr_offset,
        )


def _no_task(job_id: str, index: int) -> NotFoundError:
    return NotFoundError(f"job {job_id} has no task {index}", hint=f"see them: perseus ps {job_id}")


def open_events(
    transport: "Transport",
    job_id: str,
    task: int | None,
    stdout: bool,
    stderr: bool,
    follow: bool,
    stdout_offset: int = 0,
    stderr_offset: int = 0,
) -> EventStream:
    """A Follow call as a stream of events in JSON's form."""
    request: dict[str, Any] = {"job_id": job_id, "follow": follow}
    if task is not None:
        request["task"] = task
    # Both unset means both; a caller who wants neither is after the changes of state.
    request |= {"stdout": stdout, "stderr": stderr}
    request |= {"stdout_offset_bytes": stdout_offset, "stderr_offset_bytes": stderr_offset}
    return transport.stream("Jobs/Follow", request)


def signal_number(signal: int | str) -> int:
    """15, "15", "TERM" and "SIGTERM" as 15; raises InvalidError."""
    text = str(int(signal)) if isinstance(signal, int) else signal.upper()
    if text.isdigit() and 0 < int(text) < signals.NSIG:
        return int(text)
    name = text if text.startswith("SIG") else f"SIG{text}"
    try:
        return int(signals.Signals[name])
    except KeyError:
        raise InvalidError(
            f"{signal!r} is not a signal", hint=f"signals are: {_signal_names()}; or a number"
        ) from None


def _signal_names() -> str:
    """Those that have a use of their own; the real-time ones have none."""
    names = [one.name.removeprefix("SIG") for one in signals.Signals]
    return " ".join(name for name in names if not name.startswith("RT"))
