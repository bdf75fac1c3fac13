"""The simulated cluster with one mistake each: every invariant is broken on purpose."""

from typing import Any

from perseus.algo import Group, Id, Layout, Process
from perseus.filestore.replication_events import ChunkEvents
from perseus.ids import AttemptId
from perseus.jobs import records
from perseus.membership.commands import Connected
from perseus.proto.v1 import agent_pb2
from tests.sim.cluster.agent import Agent
from tests.sim.cluster.layout import AGENTS, cluster
from tests.sim.cluster.master import Master
from tests.sim.cluster.messages import Held


def _cluster(master: type[Process] = Master, agent: type[Process] = Agent) -> Layout:
    groups = cluster.groups | {
        "master": Group(master, 1, is_simulated=True),
        "node": Group(agent, AGENTS),
    }
    made = Layout(**groups)
    made._properties = cluster._properties
    return made


class _GoesOn(Agent):
    """Does not stop when its lease is over."""

    def stop_all(self) -> None:
        return None

    def acts(self) -> list[str]:
        return list(self.running)


class _ThawsItself(Agent):
    """Goes on as soon as it is welcome, before it is told what is leased to it still."""

    def take_in(self, what: Any) -> None:
        super().take_in(what)
        if isinstance(what, Connected) and self.frozen:
            self.thaw({*self.queue, *self.running, *self.ended})


class _KeepsNothing(Agent):
    """Acknowledges bytes that are not on disk."""

    def start(self) -> None:
        self.held = {}
        super().start()


class _CopiesHalf(Agent):
    """Takes part of a replica for the whole."""

    def try_sources(self, chunk: int, version: int, length: int, sources: tuple[Id, ...]) -> None:
        self.held[chunk] = Held(version, b"", sealed=True)
        report = agent_pb2.ReplicaReport(
            chunk=chunk, version=version, length_bytes=length, sealed=True
        )
        self.tell_chunk(present=report)


class _NeverDeletes(Agent):
    """Leaves garbage."""

    def delete(self, delete: agent_pb2.DeleteChunk) -> None:
        self.tell_chunk(deleted=delete.chunk)


class _AnswersTooEarly(Master):
    """Answers, and forgets in a crash what it answered."""

    def start(self) -> None:
        if self.restarts:
            for key in list(self.rows):
                if key.startswith((b"job/", b"task/")):
                    del self.rows[key]
        super().start()


class _ForgetsAttempts(Master):
    """Leases numbers again that were leased before a crash."""

    def start(self) -> None:
        for key in list(self.rows):
            if key.startswith(b"task/"):
                del self.rows[key]
        super().start()


class _TakesAnyEnd(Master):
    """Commits what an attempt says that does not hold the lease any more."""

    def start(self) -> None:
        super().start()
        jobs: Any = self.jobs

        def held(node_id: str, attempt: AttemptId) -> Any:
            job = jobs._jobs.get(attempt.job_id)
            if job is None or attempt.task >= len(job.tasks):
                return None
            task = job.task(attempt.task)
            task.attempt = attempt.number
            task.state = records.RUNNING
            return job, task

        jobs._held = held


class _BelievesLengths(Master):
    """Seals at the longest replica, not at what all have."""

    def do(self, event: Any) -> Any:
        if isinstance(event, ChunkEvents):
            for one in event.events:
                if one.HasField("present") and not one.present.sealed:
                    one.present.length_bytes += 1
        return super().do(event)


goes_on = _cluster(agent=_GoesOn)
thaws_itself = _cluster(agent=_ThawsItself)
keeps_nothing = _cluster(agent=_KeepsNothing)
copies_half = _cluster(agent=_CopiesHalf)
never_deletes = _cluster(agent=_NeverDeletes)
answers_too_early = _cluster(master=_AnswersTooEarly)
forgets_attempts = _cluster(master=_ForgetsAttempts)
takes_any_end = _cluster(master=_TakesAnyEnd)
believes_lengths = _cluster(master=_BelievesLengths)
