"""What happens to jobs: the events that the machine takes, and the effects it has.

Besides these it takes NodeUp, NodeDown and NodeChanged of membership, and Tick.
"""

from dataclasses import dataclass
from typing import NamedTuple

from perseus.proto.v1 import agent_pb2, jobs_pb2
from perseus.runtime.machine import Effect, Event


@dataclass(frozen=True, slots=True)
class Submit(Event):
    """A job, checked by ``spec.check``. Replies the job's id.

    The same ``request_id`` of the same user again replies the id of the first.
    Raises ConflictError when ``job_id`` is taken, TooLargeError when the queue is full.
    """

    # Chosen by the caller, as ``ids`` has it.
    job_id: str
    user: str
    # With all defaults filled in; never changed afterwards.
    spec: jobs_pb2.TaskSpec
    count: int = 1
    parallel: int = 0
    name: str = ""
    request_id: str = ""

    @property
    def needs_room(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class AttemptsReported(Event):
    """What a node tells of its attempts, all of one message. Never raises.

    A report of an older session is dropped: the agent repeats it on the newer one.
    """

    node_id: str
    session: int
    reports: tuple[agent_pb2.AttemptEvent, ...]


@dataclass(frozen=True, slots=True)
class Kill(Event):
    """Signals running tasks; SIGTERM and SIGKILL cancel the job. Replies Reached.
    Raises NotFoundError."""

    job_id: str
    signal: int
    # Who asks, for the history.
    user: str = ""


class Reached(NamedTuple):
    """The tasks that a Kill concerned, and of these the ones whose program had ended and whose
    output was on its way."""

    tasks: int
    keeping: int


class Retried(NamedTuple):
    """How many tasks a part of a retry concerned, and what the next one needs."""

    tasks: int
    # Indexes not looked at so far; empty with the last part. A task that is leased for the
    # first time meanwhile is not among them.
    rest: range
    # How often the job had been cancelled: who cancels it ends the retry too.
    cancels: int


@dataclass(frozen=True, slots=True)
class Retry(Event):
    """Runs once more what did not finish well, a bounded part of it. Replies Retried.

    Raises NotFoundError, ConflictError when there is none, and TooLargeError when the queue
    is full.
    """

    job_id: str
    user: str = ""
    # What the part before replied; None for the first.
    after: "Retried | None" = None

    @property
    def needs_room(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class JobChanged(Effect):
    """A job or a task of it changed: those who wait may look again."""

    job_id: str
