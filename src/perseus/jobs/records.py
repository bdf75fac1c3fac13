"""What is durable of jobs and tasks, and how it is written.

One key for each job and one for each task that was ever leased or ended; a task
that was never leased needs none, so a submit of 100,000 tasks writes one key.
Values are msgpack arrays behind a byte of schema version; a field is only ever
added at the end, with a default.
"""

from collections.abc import Iterable

import msgspec

from perseus.errors import IncompatibleError
from perseus.proto.v1 import jobs_pb2
from perseus.runtime.machine import Write

JOB_PREFIX = b"job/"
TASK_PREFIX = b"task/"
# Entries kept of a task's history; the oldest make way.
HISTORY_MAXIMUM = 24

PENDING = int(jobs_pb2.TASK_STATE_PENDING)
LEASED = int(jobs_pb2.TASK_STATE_LEASED)
RUNNING = int(jobs_pb2.TASK_STATE_RUNNING)
FINISHED = int(jobs_pb2.TASK_STATE_FINISHED)
FAILED = int(jobs_pb2.TASK_STATE_FAILED)
LOST = int(jobs_pb2.TASK_STATE_LOST)
CANCELLED = int(jobs_pb2.TASK_STATE_CANCELLED)
STATES = 8
ENDED_STATES = frozenset((FINISHED, FAILED, LOST, CANCELLED))

# Causes of a task's transitions.
CAUSE_LEASED = 1
CAUSE_RUNNING = 2
CAUSE_ENDED = 3
CAUSE_LOST = 4
CAUSE_FAILED_AGAIN = 5
CAUSE_CANCEL_ASKED = 6
CAUSE_CANCELLED = 7
CAUSE_RETRY_ASKED = 8
CAUSE_GIVEN_UP = 9
CAUSE_UNDELIVERED = 10
# Its program has ended, and its output is on its way; the second, if not by itself.
CAUSE_KEEPING = 11
CAUSE_STOPPED = 12
# It stood still since its node's lease was over, is leased there still, and goes on.
CAUSE_THAWED = 13

_SCHEMA = b"\x01"


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One transition of a task."""

    time_s: float
    # One of CAUSE_…
    cause: int
    attempt: int
    # Name of the node concerned, or who asked.
    who: str = ""
    # For people: facts with numbers.
    detail: str = ""


class Ended(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """How a task ended; as ``Ending`` of the protocol."""

    kind: int
    exit_code: int
    signal: int = 0
    message: str = ""


class TaskRecord(msgspec.Struct, array_like=True):
    """A task that was leased or ended at least once."""

    index: int
    state: int = PENDING
    # Number of its latest attempt, the epoch of the lease.
    attempt: int = 0
    # Of the latest attempt.
    node_id: str = ""
    node: str = ""
    # Attempts lost, and attempts that failed, since the submit or the last retry by hand.
    losses: int = 0
    failures: int = 0
    # The signal with which it is being cancelled; 0 when it is not.
    cancelling: int = 0
    leased_at_s: float = 0.0
    started_at_s: float = 0.0
    ended_at_s: float = 0.0
    ending: Ended | None = None
    # The latest attempt's outputs are in the filestore.
    committed: bool = False
    cpu_s: float = 0.0
    memory_peak_bytes: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    # How many of the job the node was allowed to run at once when this was leased.
    granted: int = 0
    history: list[Entry] = []

    def note(self, entry: Entry) -> None:
        """Adds to the history, within its bound."""
        if len(self.history) >= HISTORY_MAXIMUM:
            del self.history[0]
        self.history.append(entry)


class JobRecord(msgspec.Struct, array_like=True):
    """What was submitted."""

    job_id: str
    # Counts the jobs in the order of their submission.
    sequence: int
    name: str
    user: str
    request_id: str
    count: int
    parallel: int
    submitted_at_s: float
    # jobs_pb2.TaskSpec with all defaults filled in.
    spec: bytes
    # When set, its tasks that were never leased are cancelled.
    cancelled_at_s: float = 0.0
    cancel_signal: int = 0
    # Who cancelled it last, and who asked for its retry.
    cancelled_by: str = ""


_encoder = msgspec.msgpack.Encoder()
_job_decoder = msgspec.msgpack.Decoder(JobRecord)
_task_decoder = msgspec.msgpack.Decoder(TaskRecord)


def job_key(job_id: str) -> bytes:
    """Where a job is kept."""
    return b"job/" + job_id.encode()


def task_key(job_id: str, index: int) -> bytes:
    """Where a task is kept; keys sort as (job, index)."""
    return b"task/%s/%06d" % (job_id.encode(), index)


def job_write(record: JobRecord) -> Write:
    """The change that makes the record durable."""
    return Write(job_key(record.job_id), _SCHEMA + _encoder.encode(record))


def task_write(job_id: str, record: TaskRecord) -> Write:
    """The change that makes the record durable."""
    return Write(task_key(job_id, record.index), _SCHEMA + _encoder.encode(record))


def read(
    items: Iterable[tuple[bytes, bytes]],
) -> tuple[list[JobRecord], dict[str, list[TaskRecord]]]:
    """Jobs in the order of their submission, and tasks by job and index."""
    jobs: list[JobRecord] = []
    tasks: dict[str, list[TaskRecord]] = {}
    for key, value in items:
        if value[:1] != _SCHEMA:
            raise IncompatibleError(
                f"{key!r} was written by a newer Perseus (version {value[0]})",
                hint="upgrade Perseus on this machine",
            )
        if key.startswith(JOB_PREFIX):
            jobs.append(_job_decoder.decode(value[1:]))
        else:
            job_id = key.split(b"/")[1].decode()
            tasks.setdefault(job_id, []).append(_task_decoder.decode(value[1:]))
    for records in tasks.values():
        records.sort(key=lambda record: record.index)
    return sorted(jobs, key=lambda record: record.sequence), tasks
