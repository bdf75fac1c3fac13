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
        # Who has whose place next, with the order of their coming; and the other way round.
        self._heirs: dict[str, tuple[int, Item]] = {}
        self._heir_of: dict[str, str] = {}

    @property
    def waiting(self) -> int:
        """Attempts that wait."""
        return sum(len(queue) for queue in self._waiting.values()) + len(self._heirs)

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
        head = self._oldest()
        if head is None:
            return None
        _, attempt = head
        cpu = self._cpu(attempt)
        if self._used + cpu > self._cores + _CPU_SLACK:
            return None
        self._running.setdefault(attempt.job_id, set()).add(attempt.id)
        self._used += cpu
        self.drop(attempt)
        return attempt

    def take(self, attempt: Item) -> None:
        """One that waits has begun all the same: it uses its cores, whoever else does."""
        if attempt.id in self._waiting.get(attempt.job_id, ()):
            self._running.setdefault(attempt.job_id, set()).add(attempt.id)
            self._used += self._cpu(attempt)
            self.drop(attempt)

    def line_up(self, attempt: Item) -> Item | None:
        """Takes the one out of the queue that has the place of ``attempt``, which runs, when it
        is released: the next of all, if that is of its job and needs as many cores."""
        head = None if attempt.id in self._heirs else self._oldest(attempt.job_id)
        if head is None:
            return None
        heir = head[1]
        if heir.job_id != attempt.job_id or self._cpu(heir) != self._cpu(attempt):
            return None
        self._heirs[attempt.id] = head
        self._heir_of[heir.id] = attempt.id
        self.drop(heir)
        return heir

    def send_back(self, heir: Item) -> bool:
        """One that was lined up waits again, as the oldest of its job; False when it has its
        place, or never had a claim to one."""
        head = self._disown(heir)
        if head is None:
            return False
        queue = self._waiting.setdefault(heir.job_id, OrderedDict())
        queue[heir.id] = head
        queue.move_to_end(heir.id, last=False)
        self._parallel.setdefault(heir.job_id, heir.start.parallel)
        return True

    def release(self, attempt: Item) -> None:
        """Its cores are free again, or its heir's; its own claim to some is over. Harmless when
        they were free."""
        self._disown(attempt)
        self.drop(attempt)
        ids = self._running.get(attempt.job_id)
        if ids is None or attempt.id not in ids:
            return
        ids.remove(attempt.id)
        head = self._heirs.pop(attempt.id, None)
        if head is not None:
            del self._heir_of[head[1].id]
            ids.add(head[1].id)
            return
        self._used -= self._cpu(attempt)
        if not ids:
            del self._running[attempt.job_id]
            self._forget(attempt.job_id)

    def _disown(self, heir: Item) -> tuple[int, Item] | None:
        before = self._heir_of.pop(heir.id, None)
        return None if before is None else self._heirs.pop(before)

    def _oldest(self, instead: str = "") -> tuple[int, Item] | None:
        """Of all that wait; one more of the job ``instead`` takes another's place."""
        heads = [
            next(iter(queue.values()))
            for job_id, queue in self._waiting.items()
            if self._allows(job_id, job_id == instead)
        ]
        return min(heads, key=lambda head: head[0]) if heads else None

    def _allows(self, job_id: str, is_instead: bool = False) -> bool:
        parallel = self._parallel[job_id]
        return not parallel or len(self._running.get(job_id, ())) - is_instead < parallel

    def _forget(self, job_id: str) -> None:
        if job_id not in self._waiting and job_id not in self._running:
            self._parallel.pop(job_id, None)

    def _cpu(self, attempt: Item) -> float:
        # More than the node has: then it runs alone.
        return min(attempt.start.spec.resources.cpu or 1.0, self._cores)
