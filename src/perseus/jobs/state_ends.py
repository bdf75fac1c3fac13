"""How attempts and tasks end: what an end means for the task, and the backstop of time limits."""

import heapq
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from perseus.filestore.events import CommitOutputs, CommittedOutput
from perseus.jobs import records
from perseus.jobs.plan import NodeView, Placement
from perseus.jobs.records import Ended, Entry, TaskRecord
from perseus.jobs.state_change import Change
from perseus.jobs.state_job import SIGNAL_EXIT_BASE, Job, folder_of
from perseus.proto.v1 import agent_pb2, jobs_pb2
from perseus.runtime.machine import Instant

# How long after its time limit an attempt may take to end and to store its output,
# before the task is ended without the node's word.
BACKSTOP_S = 600.0
EXIT_TIME_LIMIT = 124
EXIT_PERSEUS = 125
# Not by what its program did, which may not have begun.
_NOT_ITS_OWN = (jobs_pb2.ENDING_NOT_STARTED, jobs_pb2.ENDING_NODE_FAILURE)
# Shared by all tasks that ended so: each of a hundred thousand would hold its own.
WELL = Ended(jobs_pb2.ENDING_EXITED, 0)
_UNITS = ((1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


class Outcome(NamedTuple):
    """What the end of an attempt means for its task."""

    state: int
    ending: Ended
    # A cause of ``records``.
    cause: int
    # For people.
    detail: str
    # The task waits once more.
    again: bool = False


def outcome(task: TaskRecord, job: Job, ended: agent_pb2.AttemptEnded) -> Outcome:
    """The outcome of an attempt that ended; counts it among the task's losses or failures."""
    given = ended.ending
    if given.kind == jobs_pb2.ENDING_EXITED and given.exit_code == 0:
        return Outcome(records.FINISHED, WELL, records.CAUSE_ENDED, "")
    ending = Ended(given.kind, given.exit_code, given.signal, given.message)
    if given.kind == jobs_pb2.ENDING_CANCELLED or (
        task.cancelling and given.kind == jobs_pb2.ENDING_SIGNALED
    ):
        return Outcome(records.CANCELLED, ending, records.CAUSE_CANCELLED, given.message)
    said, _, hint = (given.message or f"exit code {given.exit_code}").partition("\n")
    detail = f"{said}; {hint.strip()}" if hint else said
    if task.cancelling and given.kind in _NOT_ITS_OWN:
        return _cancelled(task, said, records.CAUSE_CANCELLED, detail)
    if task.cancelling:
        return Outcome(records.FAILED, ending, records.CAUSE_ENDED, detail)
    if given.kind == jobs_pb2.ENDING_NODE_FAILURE:
        task.losses += 1
        left = job.spec.retries - task.losses
    else:
        task.failures += 1
        left = job.spec.failure_retries - task.failures
    if left < 0:
        return Outcome(records.FAILED, ending, records.CAUSE_ENDED, detail)
    again = f"{said}; {_tries(left)}"
    return Outcome(records.PENDING, ending, records.CAUSE_FAILED_AGAIN, again, again=True)


def ask_again(at: Instant, task: TaskRecord, user: str) -> None:
    """Forgets how a task ended, and what it has used up of its retries."""
    task.losses = task.failures = task.cancelling = 0
    task.ended_at_s = 0.0
    task.ending = None
    task.note(Entry(at.time_s, records.CAUSE_RETRY_ASKED, task.attempt, user))


def lost(task: TaskRecord, job: Job, reason: str, counts: bool) -> Outcome:
    """The outcome of an attempt that was lost; without ``counts`` no retry is used up."""
    if task.cancelling:
        detail = f"{reason}; it was being cancelled, and is not tried again"
        return _cancelled(task, reason, records.CAUSE_LOST, detail)
    if not counts:
        none = Ended(jobs_pb2.ENDING_UNSPECIFIED, 0)
        return Outcome(records.PENDING, none, records.CAUSE_UNDELIVERED, reason, again=True)
    task.losses += 1
    left = job.spec.retries - task.losses
    message = f"lost with node {task.node} ({reason}); no retry of {job.spec.retries} is left"
    ending = Ended(jobs_pb2.ENDING_NODE_FAILURE, EXIT_PERSEUS, 0, message)
    if left < 0:
        return Outcome(records.LOST, ending, records.CAUSE_LOST, f"{reason}; no retry is left")
    detail = f"{reason}; {_tries(left)}"
    return Outcome(records.PENDING, ending, records.CAUSE_LOST, detail, again=True)


def _cancelled(task: TaskRecord, reason: str, cause: int, detail: str) -> Outcome:
    """The outcome of an attempt that was to be cancelled, when its node has trouble with it."""
    number = task.cancelling
    message = f"cancelled; its node: {reason}"
    ending = Ended(jobs_pb2.ENDING_CANCELLED, SIGNAL_EXIT_BASE + number, number, message)
    return Outcome(records.CANCELLED, ending, cause, detail)


def overdue(task: TaskRecord) -> Ended:
    """The ending of a task whose node did not end it in time."""
    message = (
        f"node {task.node} did not end it within {BACKSTOP_S:.0f} s after its time limit; "
        "its output is not kept\n  see what is wrong there: perseus doctor"
    )
    return Ended(jobs_pb2.ENDING_TIME_LIMIT, EXIT_TIME_LIMIT, 0, message)


def kept(told: agent_pb2.AttemptKeeping) -> tuple[int, str]:
    """The cause and the detail of an attempt whose output is on its way."""
    kind, words = told.ending.kind, size(told.output_bytes)
    if kind == jobs_pb2.ENDING_OUTPUT_LIMIT:
        stopped = "passed its output limit"
    elif kind == jobs_pb2.ENDING_TIME_LIMIT:
        stopped = "passed its time limit"
    elif kind == jobs_pb2.ENDING_SIGNALED:
        stopped = f"was {told.ending.message}"
    else:
        return records.CAUSE_KEEPING, f"its output, {words}, is being kept"
    return records.CAUSE_STOPPED, f"{stopped}; what was written, {words}, is being kept"


def take_usage(at: Instant, task: TaskRecord, ended: agent_pb2.AttemptEnded) -> None:
    """Notes what the attempt used, and when it ran by the master's clock."""
    task.ended_at_s = at.time_s
    if task.state == records.LEASED:
        task.started_at_s = max(task.leased_at_s, at.time_s - ended.wall_s)
    task.cpu_s = ended.cpu_s
    task.memory_peak_bytes = ended.memory_peak_bytes


def commit(job: Job, task: TaskRecord, ended: agent_pb2.AttemptEnded, change: Change) -> None:
    """Makes the attempt's outputs the task's."""
    task.committed = True
    task.stdout_bytes = ended.stdout.size_bytes
    task.stderr_bytes = ended.stderr.size_bytes
    outputs = (_output("stdout", ended.stdout), _output("stderr", ended.stderr))
    change.effects.append(
        CommitOutputs(
            attempt=f"{job.job_id}.{task.index}.{task.attempt}",
            folder=f"{folder_of(job.job_id)}/{task.index}",
            owner=job.record.user,
            outputs=outputs,
        )
    )


def placed(view: NodeView, job: Job, placement: Placement) -> str:
    """Why the node was chosen, in numbers, as it was before the plan was carried out."""
    if placement.ahead:
        # Of short tasks there are many, with few such sentences between them.
        duration_ms = (job.duration_s or 0.0) * 1000
        return sys.intern(f"leased ahead, as its tasks take {duration_ms:.0f} ms")
    free = (view.cpu_milli - view.used_cpu_milli) / 1000
    text = f"{free:g} of {view.cpu_milli / 1000:g} cores free"
    if placement.local_bytes:
        text += f", {size(placement.local_bytes)} of its input there"
    return text


def thawed(node: str) -> str:
    """What became of an attempt whose node has its lease again."""
    return f"stood still on {node}, which had no word from the master for too long; it goes on"


def size(count: int) -> str:
    """Bytes for people: "64 GB", "7.1 GB", "12 kB"."""
    for unit, name in _UNITS:
        if count >= unit:
            value = count / unit
            # From 1,000 on "g" would write 1.02e+03.
            return f"{value:.0f} {name}" if value >= 999.5 else f"{value:.3g} {name}"
    return f"{count} bytes"


class Deadlines:
    """When the backstop of running attempts with a time limit is due, by the monotonic clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str, int, int]] = []
        # Attempts that ran before a restart; their time begins with the first step.
        self._resumed: list[tuple[Job, TaskRecord]] = []

    def resume(self, jobs: Mapping[str, Job]) -> None:
        """Attempts that run, after a start."""
        self._resumed = [
            (job, task)
            for job in jobs.values()
            if job.at
            for task in job.tasks
            if task.state == records.RUNNING
        ]

    def begin(self, at: Instant) -> None:
        """Called with every step."""
        if self._resumed:
            resumed, self._resumed = self._resumed, []
            for job, task in resumed:
                self.add(at, job, task)

    def add(self, at: Instant, job: Job, task: TaskRecord) -> None:
        """The attempt runs from now on."""
        limit_s = job.spec.time_limit_s
        if limit_s > 0:
            due_s = at.now_s + limit_s + job.spec.grace_s + BACKSTOP_S
            heapq.heappush(self._heap, (due_s, job.job_id, task.index, task.attempt))

    def due(self, at: Instant, jobs: Mapping[str, Job]) -> Iterator[tuple[Job, TaskRecord]]:
        """Attempts that still run though they should have ended."""
        while self._heap and self._heap[0][0] <= at.now_s:
            _, job_id, index, attempt = heapq.heappop(self._heap)
            job = jobs.get(job_id)
            if job is None or index >= len(job.tasks):
                continue
            task = job.tasks[index]
            if task.state == records.RUNNING and task.attempt == attempt:
                yield job, task


def _tries(left: int) -> str:
    return f"it is tried again ({left} more after that)" if left else "it is tried a last time"


def _output(name: str, output: agent_pb2.Output) -> CommittedOutput:
    return CommittedOutput(name, output.size_bytes, output.inline, output.inode)
