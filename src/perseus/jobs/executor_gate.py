"""Which of the attempts that wait on a node may use its cores next. Pure: no I/O, no clock."""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from perseus.proto.v1 import agent_pb2

# Sums of fractions of cores are compared with this much slack.
_CPU_SLACK = 1e-6


class Waiting(Protocol):
    """What the gate reads of an attempt."""

    id: str
    job_id: str
    start: agent_pb2.StartAttempt


Item = TypeVar("Item", bound=Waiting)


class Gate(Generic[Item]):
    """Which waiting attempt may use cores next: the oldest that its job's limit allows.

    When the oldest does not fit, younger ones wait as well, so that none starves.
    """

    def __init__(self, cores: float) -> None:
        self._cores = cores
        self._used = 0.0
        self._sequence = 0
        # Waiting attempts of each job, oldest first, by the order of their coming.
        self._waiting: dict[str, OrderedDict[str, tuple[int, Item]]] = {}
        self._running: dict[str, set[str]] = {}
        # How many of a job may run at once here, as said last; 0: no limit.
        self._parallel: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """Attempts that wait."""
        return sum(len(queue) for queue in self._waiting.values())

    @property
    def running(self) -> int:
        """Attempts that use cores."""
        return sum(len(ids) for ids in self._running.values())

    def add(self, attempt: Item) -> None:
        """Queues it."""
        self._sequence += 1
        queue = self._waiting.setdefault(attempt.job_id, OrderedDict())
        queue[attempt.id] = (self._sequence, attempt)
        self._parallel[attempt.job_id] = attempt.start.parallel

    def drop(self, attempt: Item) -> None:
        """Takes a waiting attempt out."""
        queue = self._waiting.get(attempt.job_id)
        if queue is not None and queue.pop(attempt.id, None) is not None and not queue:
            del self._waiting[attempt.job_id]
            self._forget(attempt.job_id)

    def next(self) -> Item | None:
        """Takes the next one out of the queue and gives it its cores; None when none may run."""
        heads = [
            next(iter(queue.values()))
            for job_id, queue in self._waiting.items()
            if self._allows(job_id)
        ]
        if not heads:
            return None
        _, attempt = min(heads, key=lambda head: head[0])
        cpu = self._cpu(attempt)
        if self._used + cpu > self._cores + _CPU_SLACK:
            return None
        self._running.setdefault(attempt.job_id, set()).add(attempt.id)
        self._used += cpu
        self.drop(attempt)
        return attempt

    def release(self, attempt: Item) -> None:
        """Its cores are free again; harmless when they were."""
        ids = self._running.get(attempt.job_id)
        if ids is None or attempt.id not in ids:
            return
        ids.remove(attempt.id)
        self._used -= self._cpu(attempt)
        if not ids:
            del self._running[attempt.job_id]
            self._forget(attempt.job_id)

    def _allows(self, job_id: str) -> bool:
        parallel = self._parallel[job_id]
        return not parallel or len(self._running.get(job_id, ())) < parallel

    def _forget(self, job_id: str) -> None:
        if job_id not in self._waiting and job_id not in self._running:
            self._parallel.pop(job_id, None)

    def _cpu(self, attempt: Item) -> float:
        # More than the node has: then it runs alone.
        return min(attempt.start.spec.resources.cpu or 1.0, self._cores)
