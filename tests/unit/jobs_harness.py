"""A small world around the state machine of jobs: real membership, nodes that are toys.

The toys keep the agent's side of the protocol: they say Hello with what they hold,
repeat ends until acknowledged, stop what they run before their lease ends, and
run at most what they are told to. Everything is driven by hand or by a seed.
"""

import dataclasses
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from perseus.filestore.events import CommitOutputs, DiscardOutputs, RemoveFolder
from perseus.ids import parse_attempt
from perseus.jobs import records
from perseus.jobs.state import Jobs
from perseus.jobs.state_events import AttemptsReported, Kill, Reached, Retry, Submit
from perseus.membership.commands import (
    AddNode,
    Connect,
    Disconnected,
    HeartbeatReceived,
    Welcomed,
)
from perseus.membership.events import AcknowledgeAttempts, Direct, EndSession
from perseus.membership.state import Membership
from perseus.membership.values import Capacity, Load
from perseus.proto.v1 import agent_pb2, jobs_pb2
from perseus.runtime.machine import Composite, Effect, Event, Instant, Step, Tick
from perseus.settings import Settings

LEASE_S = 10.0
GIB = 1 << 30


class Outputs:
    """Stands where the namespace does: notes what is committed and discarded."""

    prefixes: Sequence[bytes] = (b"inode/",)
    events: Sequence[type[Event]] = (CommitOutputs, DiscardOutputs, RemoveFolder)

    def __init__(self) -> None:
        self.committed: Counter[str] = Counter()
        self.folders: dict[str, str] = {}
        self.discarded: Counter[str] = Counter()
        self.removed: list[str] = []
        self.inputs: dict[str, dict[str, int]] = {}

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Keeps what it noted: it stands for a disk."""

    def step(self, at: Instant, event: Event) -> Step:
        match event:
            case CommitOutputs():
                assert not self.discarded[event.attempt], "committed after it was discarded"
                self.committed[event.attempt] += 1
                self.folders[event.folder] = event.attempt
            case DiscardOutputs():
                # What was committed is the task's and stays, as with the real one.
                if not self.committed[event.attempt]:
                    self.discarded[event.attempt] += 1
            case RemoveFolder():
                self.removed.append(event.path)
        return Step()

    def exists(self, path: str) -> bool:
        return path in self.inputs

    def is_folder(self, path: str) -> bool:
        return any(name.startswith(f"{path}/") for name in self.inputs)

    def bytes_by_node(self, path: str) -> dict[str, int]:
        return self.inputs.get(path, {})


@dataclass
class Toy:
    """A node's agent, as a toy."""

    node_id: str
    name: str
    cores: int
    session: int = 0
    connected: bool = False
    heartbeat_s: float = -1e9
    # By attempt: "queued" or "running", and the ends not yet acknowledged.
    attempts: dict[str, str] = field(default_factory=dict)
    ended: dict[str, agent_pb2.AttemptEvent] = field(default_factory=dict)
    parallel: dict[str, int] = field(default_factory=dict)
    # Events on their way to the master.
    outbox: list[agent_pb2.AttemptEvent] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    # Its lease was over: nothing of it goes on before the master says so.
    frozen: bool = False

    def direct(self, directive: agent_pb2.Directive) -> None:
        what = directive.WhichOneof("what")
        if what == "start":
            assert directive.start.attempt not in self.attempts
            assert directive.start.attempt not in self.ended
            self.attempts[directive.start.attempt] = "queued"
            job_id = parse_attempt(directive.start.attempt).job_id
            self.parallel[job_id] = directive.start.parallel
        elif what == "discard":
            self.attempts.pop(directive.discard.attempt, None)
            self.ended.pop(directive.discard.attempt, None)
        elif what == "thaw":
            assert set(directive.thaw.attempts) == {*self.attempts, *self.ended}
            self.frozen = False
        elif what == "stop" and directive.stop.cancel:
            assert not self.frozen
            attempt = directive.stop.attempt
            if attempt in self.attempts:
                self.end(attempt, 128 + directive.stop.signal, jobs_pb2.ENDING_CANCELLED)

    def start_some(self) -> None:
        """Runs what its cores and the jobs' limits allow."""
        if self.frozen:
            return
        for attempt, state in self.attempts.items():
            running = [a for a, s in self.attempts.items() if s == "running"]
            job_id = attempt.split(".")[0]
            limit = self.parallel.get(job_id, 0)
            of_job = sum(a.startswith(job_id) for a in running)
            if state == "queued" and len(running) < self.cores and not 0 < limit <= of_job:
                self.attempts[attempt] = "running"
                self.outbox.append(running_event(attempt))

    def end(self, attempt: str, code: int = 0, kind: int = jobs_pb2.ENDING_EXITED) -> None:
        del self.attempts[attempt]
        self.ended[attempt] = ended_event(attempt, code, kind)
        self.outbox.append(self.ended[attempt])

    def stop_all(self) -> None:
        """Its lease is over: nothing goes on, and it must say Hello anew."""
        self.frozen = bool(self.attempts or self.ended)
        self.outbox.clear()
        self.connected = False


class World:
    """Membership and jobs in one composite, a durable table, and toys."""

    def __init__(self, nodes: int = 3, cores: int = 2, settings: Settings | None = None) -> None:
        self.settings = settings or Settings(lease_s=LEASE_S)
        self.now_s = 100.0
        self.table: dict[bytes, bytes] = {}
        self.outputs = Outputs()
        self.effects: list[Effect] = []
        self.toys: dict[str, Toy] = {}
        # Jobs that ``act`` submitted.
        self.chosen = 0
        self.highest: dict[tuple[str, int], int] = {}
        self.start_master()
        for number in range(nodes):
            self.add_node(f"id-{number}", f"node-{number}", cores)

    # The master.

    def start_master(self) -> None:
        self.membership = Membership(LEASE_S)
        self.jobs = Jobs(self.settings, self.membership, self.outputs)
        self.machine = Composite([self.membership, self.outputs, self.jobs])
        self.machine.load(sorted(self.table.items()))

    def restart_master(self) -> None:
        for toy in self.toys.values():
            toy.connected = False
            toy.outbox.clear()
        self.start_master()

    def at(self) -> Instant:
        return Instant(self.now_s, 1.7e9 + self.now_s)

    def do(self, event: Event) -> Step:
        self.now_s += 0.001
        step = self.machine.step(self.at(), event)
        for write in step.writes:
            if write.value is None:
                self.table.pop(write.key, None)
            else:
                self.table[write.key] = write.value
        for effect in step.effects:
            assert isinstance(effect, Effect)
            self.effects.append(effect)
            self.deliver(effect)
        return step

    def deliver(self, effect: Effect) -> None:
        if isinstance(effect, Direct):
            self.note_lease(effect)
            toy = self.toys.get(effect.node_id)
            if toy is not None and toy.connected:
                toy.direct(effect.directive)
        elif isinstance(effect, AcknowledgeAttempts):
            toy = self.toys[effect.node_id]
            if toy.connected:
                for attempt in effect.attempts:
                    toy.ended.pop(attempt, None)
                    # A test may report an end that the toy has not come to.
                    toy.attempts.pop(attempt, None)
        elif isinstance(effect, EndSession) and effect.node_id in self.toys:
            self.toys[effect.node_id].connected = False

    def note_lease(self, effect: Direct) -> None:
        """Attempt numbers rise by one, ever."""
        if effect.directive.WhichOneof("what") == "start":
            attempt = parse_attempt(effect.directive.start.attempt)
            before = self.highest.get((attempt.job_id, attempt.task), 0)
            assert attempt.number == before + 1
            self.highest[attempt.job_id, attempt.task] = attempt.number

    # Nodes.

    def add_node(self, node_id: str, name: str, cores: int, memory: int = 8 * GIB) -> Toy:
        self.do(AddNode(node_id, name))
        toy = self.toys[node_id] = Toy(node_id, name, cores)
        self.memory = memory
        self.connect(toy)
        return toy

    def connect(self, toy: Toy, listed: Iterable[str] | None = None) -> None:
        toy.connected = True
        toy.outbox.clear()
        held = [*toy.attempts, *toy.ended] if listed is None else listed
        capacity = Capacity(float(toy.cores), self.memory, 100 * GIB, 1.0, "x86_64", "linux")
        event = Connect(toy.node_id, 1, 1, "1", "a:1", "a:2", capacity, tuple(held), (), 1.9e9)
        event = dataclasses.replace(event, frozen=toy.frozen)
        # A toy that is told to start something takes it on the new stream.
        toy.session = self.do(event).reply.session
        self.do(Welcomed(toy.node_id, toy.session))
        toy.heartbeat_s = self.now_s
        for attempt, state in toy.attempts.items():
            if state == "running":
                toy.outbox.append(running_event(attempt))
        toy.outbox += toy.ended.values()

    def disconnect(self, toy: Toy) -> None:
        toy.connected = False
        toy.outbox.clear()
        self.do(Disconnected(toy.node_id, toy.session))

    def heartbeat(self, toy: Toy) -> None:
        if toy.connected:
            toy.heartbeat_s = self.now_s
            self.do(HeartbeatReceived(toy.node_id, toy.session, Load(), 1.7e9 + self.now_s))

    def send(self, toy: Toy, keep: bool = False) -> None:
        """Its outbox reaches the master, and stays to be sent again with ``keep``."""
        if toy.connected and toy.outbox:
            events = tuple(toy.outbox)
            if not keep:
                toy.outbox.clear()
            self.do(AttemptsReported(toy.node_id, toy.session, events))

    def expire(self) -> None:
        """Toys whose lease is nearly over stop what they run."""
        for toy in self.toys.values():
            if self.now_s > toy.heartbeat_s + LEASE_S * 0.8:
                toy.stop_all()

    def pass_time(self, seconds: float) -> None:
        for _ in range(max(1, int(seconds / 0.5))):
            self.now_s += min(0.5, seconds)
            self.expire()
            self.do(Tick())

    # What people do.

    def submit(
        self,
        job_id: str = "job00000",
        count: int = 1,
        parallel: int = 0,
        request_id: str = "",
        user: str = "ann",
        **fields: object,
    ) -> str:
        spec = task_spec(**fields)
        event = Submit(job_id, user, spec, count, parallel, "true", request_id)
        reply = self.do(event).reply
        assert isinstance(reply, str)
        return reply

    def kill(self, job_id: str, signal: int = 15) -> int:
        reply = self.do(Kill(job_id, signal, "ann")).reply
        assert isinstance(reply, Reached)
        return reply.tasks

    def retry(self, job_id: str) -> None:
        self.do(Retry(job_id, "ann"))

    def state(self, job_id: str = "job00000") -> int:
        return self.jobs.job(job_id).state

    def task(self, index: int = 0, job_id: str = "job00000") -> records.TaskRecord:
        return self.jobs.job(job_id).task(index)

    def report(self, toy: Toy, *events: agent_pb2.AttemptEvent) -> None:
        self.do(AttemptsReported(toy.node_id, toy.session, events))

    def holder(self, attempt: str) -> Toy:
        (toy,) = [toy for toy in self.toys.values() if attempt in toy.attempts]
        return toy

    @contextmanager
    def collected(self) -> Iterator[list[Effect]]:
        """The effects of what happens inside."""
        seen: list[Effect] = []
        self.effects = seen
        yield seen

    def settle(self, rounds: int = 500) -> None:
        """Everybody works and connects until nothing is left to do."""
        for _ in range(rounds):
            for toy in self.toys.values():
                if not toy.connected:
                    self.connect(toy)
                self.heartbeat(toy)
                toy.start_some()
                for attempt in [a for a, s in toy.attempts.items() if s == "running"]:
                    toy.end(attempt)
                self.send(toy)
            self.pass_time(0.5)
            if not any(job.active for job in self.jobs.jobs().values()):
                return
        raise AssertionError("jobs do not end")

    # What must hold at any time.

    def check(self) -> None:
        self.check_leases()
        self.check_rooms()
        self.check_outputs()

    def check_leases(self) -> None:
        running: Counter[tuple[str, int]] = Counter()
        for toy in self.toys.values():
            for attempt, state in toy.attempts.items():
                if state == "running" and not toy.frozen:
                    running[parse_attempt(attempt)[:2]] += 1
        assert all(count == 1 for count in running.values()), "two attempts of a task run at once"
        for job in self.jobs.jobs().values():
            held = [t for t in job.tasks if t.state in (records.LEASED, records.RUNNING)]
            assert sum(at.leased for at in job.at.values()) == len(held)
            counts = Counter(job.task(index).state for index in range(job.record.count))
            assert {s: c for s, c in enumerate(job.counts) if c} == dict(counts)
            assert job.waiting == counts[records.PENDING]
            assert job.granted == sum(at.granted for at in job.at.values())
            assert not job.record.parallel or job.granted <= job.record.parallel
            of_job = sum(c for (job_id, _), c in running.items() if job_id == job.job_id)
            assert not job.record.parallel or of_job <= job.record.parallel

    def check_rooms(self) -> None:
        for view in self.jobs.snapshot().nodes:
            assert 0 <= view.used_cpu_milli <= view.cpu_milli
            assert view.used_memory_bytes <= view.memory_bytes
            assert 0 <= view.ahead <= view.leased == self.jobs.leased_to(view.node_id)

    def check_outputs(self) -> None:
        assert all(count == 1 for count in self.outputs.committed.values())
        for job in self.jobs.jobs().values():
            for task in job.tasks:
                if task.state == records.FINISHED:
                    attempt = f"{job.job_id}.{task.index}.{task.attempt}"
                    assert self.outputs.folders[f"/jobs/{job.job_id}/{task.index}"] == attempt

    def durable(self) -> dict[str, object]:
        """What a restart must give back."""
        return {
            job.job_id: (
                job.record,
                [_as_kept(task) for task in job.tasks],
                sorted(job.again),
                _as_kept_counts(job.counts),
                job.waiting,
                job.active,
                job.first_unwell(),
                {node_id: at.leased for node_id, at in job.at.items()},
            )
            for job in self.jobs.jobs().values()
        }

    def check_reload(self) -> None:
        """A machine made from the table is the same."""
        other = World.__new__(World)
        other.settings, other.table, other.outputs = self.settings, self.table, self.outputs
        other.start_master()
        assert other.durable() == self.durable()
        assert list(other.jobs.jobs()) == list(self.jobs.jobs())


def _as_kept(task: records.TaskRecord) -> records.TaskRecord:
    """The record without what agents tell anew: that it runs, and since when."""
    if task.state not in (records.LEASED, records.RUNNING):
        return task
    kept = msgspec.structs.replace(task, state=records.LEASED, started_at_s=0.0)
    told = (records.CAUSE_RUNNING, task.attempt)
    kept.history = [entry for entry in task.history if (entry.cause, entry.attempt) != told]
    return kept


def _as_kept_counts(counts: list[int]) -> list[int]:
    kept = list(counts)
    kept[records.LEASED] += kept[records.RUNNING]
    kept[records.RUNNING] = 0
    return kept


def act(world: World, chance: random.Random) -> None:
    """One random thing happens."""
    toy = chance.choice(list(world.toys.values()))
    jobs = list(world.jobs.jobs())
    kind = chance.random()
    if kind < 0.08 and len(jobs) < 12:
        world.chosen += 1
        cpu = min(chance.choice((0.5, 1.0, 2.0)), float(toy.cores))
        world.submit(
            f"job{world.chosen:05d}",
            count=chance.choice((1, 1, 3, 40)),
            parallel=chance.choice((0, 0, 1, 3)),
            request_id=f"r{len(jobs)}-{world.now_s}",
            cpu=cpu,
            retries=chance.choice((0, 1, 3, 50)),
        )
    elif kind < 0.40:
        toy.start_some()
    elif kind < 0.62:
        running = [a for a, s in toy.attempts.items() if s == "running" and not toy.frozen]
        if running:
            toy.end(chance.choice(running), chance.choice((0, 0, 0, 1)))
    elif kind < 0.80:
        world.send(toy, keep=chance.random() < 0.2)
    elif kind < 0.90:
        for other in world.toys.values():
            if chance.random() < 0.8:
                world.heartbeat(other)
        world.pass_time(chance.choice((0.5, 1.0, 4.0)))
    elif kind < 0.96:
        _break(world, toy, chance)
    elif jobs and kind < 0.98:
        world.kill(chance.choice(jobs), chance.choice((2, 9, 15)))
    elif jobs:
        job = world.jobs.job(chance.choice(jobs))
        if job.first_unwell() is not None:
            world.retry(job.job_id)
        else:
            world.restart_master()


def _break(world: World, toy: Toy, chance: random.Random) -> None:
    """A fault."""
    kind = chance.randrange(4)
    if not toy.connected:
        world.connect(toy)
    elif kind == 0:
        world.disconnect(toy)
    elif kind == 1:
        toy.attempts.clear()
        toy.ended.clear()
        toy.frozen = False
        world.disconnect(toy)
    elif kind == 2:
        toy.connected = False
    else:
        world.restart_master()


def task_spec(**fields: object) -> jobs_pb2.TaskSpec:
    """A spec as ``spec.check`` leaves it."""
    resources = {key: fields.pop(key) for key in ("cpu", "memory_bytes") if key in fields}
    defaults: dict[str, object] = {"argv": ["true"], "retries": 3, "grace_s": 5.0}
    spec = jobs_pb2.TaskSpec(**(defaults | fields))  # type: ignore[arg-type]
    spec.resources.cpu = float(str(resources.get("cpu", 1.0)))
    spec.resources.memory_bytes = int(str(resources.get("memory_bytes", 0)))
    return spec


def running_event(attempt: str) -> agent_pb2.AttemptEvent:
    return agent_pb2.AttemptEvent(attempt=attempt, running=agent_pb2.AttemptRunning())


def ended_event(
    attempt: str,
    code: int = 0,
    kind: int = jobs_pb2.ENDING_EXITED,
    wall_s: float = 0.002,
    stdout: bytes = b"",
    message: str = "",
) -> agent_pb2.AttemptEvent:
    event = agent_pb2.AttemptEvent(attempt=attempt)
    ending = jobs_pb2.Ending(kind=kind, exit_code=code, message=message)  # type: ignore[arg-type]
    event.ended.ending.CopyFrom(ending)
    event.ended.wall_s = wall_s
    event.ended.stdout.inline = stdout
    event.ended.stdout.size_bytes = len(stdout)
    return event


def directives(effects: list[Effect], what: str) -> list[agent_pb2.Directive]:
    return [
        effect.directive
        for effect in effects
        if isinstance(effect, Direct) and effect.directive.WhichOneof("what") == what
    ]
