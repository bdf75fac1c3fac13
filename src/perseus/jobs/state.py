"""The pure state machine of jobs: what was submitted, and the life of each task.

Invariants:

- At most one attempt of a task is leased. Attempt numbers rise by one; the number
  is the epoch of the lease, and whatever comes under another is void.
- A task ends, and its outputs become visible, in one transaction, once.
- An attempt is lost only when its node is (by lease), or says that it has none.
- A task that was cancelled is not leased again, unless somebody retries it.
- Leases are given in the same transaction as the event that made room for them.
- That an attempt runs, or that its program has ended and its output is on its way, is
  known in memory alone: agents tell it on each new stream.

It assumes a Tick about five times a second, that ``nodes`` and ``locality`` step in
the same transaction before it, and that a Direct to a node without a session is
dropped: NodeUp makes good what was not delivered.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from perseus.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    PerseusError,
    TooLargeError,
)
from perseus.filestore.events import DiscardOutputs, Locality
from perseus.ids import AttemptId, parse_attempt
from perseus.jobs import records, scheduler, state_ends
from perseus.jobs.plan import Placement, Snapshot
from perseus.jobs.records import (
    CANCELLED,
    FINISHED,
    LEASED,
    RUNNING,
    Entry,
    JobRecord,
    TaskRecord,
)
from perseus.jobs.state_change import Change
from perseus.jobs.state_events import AttemptsReported, Kill, Reached, Retried, Retry, Submit
from perseus.jobs.state_job import Job, cancelled_ending
from perseus.jobs.state_leases import Leases, Nodes
from perseus.jobs.state_queue import Queue
from perseus.jobs.state_retention import Crowded, Leftovers, Retention
from perseus.membership.events import (
    AcknowledgeAttempts,
    Direct,
    NodeChanged,
    NodeDown,
    NodeUp,
)
from perseus.proto.v1 import agent_pb2
from perseus.runtime.machine import Event, Instant, Step, Tick
from perseus.settings import Settings

# Jobs that have not ended, and the bytes of their specs.
ACTIVE_MAXIMUM = 50_000
ACTIVE_SPEC_MAXIMUM_BYTES = 512 << 20
# Leases given in one step; the rest with the next Tick.
LEASES_PER_STEP = 2_000
# Tasks that one step of a retry concerns: about 0.1 s.
RETRIES_PER_STEP = 10_000
CANCELLING_SIGNALS = (15, 9)
KILL_SIGNAL = 9


class Jobs:
    """See the module. Read methods answer from memory; what they give must not be changed."""

    prefixes: Sequence[bytes] = (records.JOB_PREFIX, records.TASK_PREFIX)

    def __init__(self, settings: Settings, nodes: Nodes, locality: Locality) -> None:
        self._settings = settings
        self._nodes = nodes
        self._jobs: dict[str, Job] = {}
        self._requests: dict[tuple[str, str], str] = {}
        self._queue = Queue(locality.bytes_by_node)
        self._leases = Leases(nodes, self._jobs)
        self._retention = Retention(settings)
        self._leftovers = Leftovers()
        # Records of tasks that were leased when the master started: they may have run.
        self._unsure: set[int] = set()
        # The latest session of each node, as far as heard of.
        self._sessions: dict[str, int] = {}
        self._sequence = 0
        self._active = 0
        self._active_spec_bytes = 0
        # Something changed such that more may be leased.
        self._replan = True
        self._change = Change()
        self._deadlines = state_ends.Deadlines()
        self._handlers: dict[type[Event], Callable[[Instant, Any], object]] = {
            AttemptsReported: self._reported,
            Submit: self._submit,
            Tick: self._tick,
            NodeChanged: self._node_changed,
            NodeUp: self._node_up,
            NodeDown: self._node_down,
            Kill: self._kill,
            Retry: self._retry,
        }
        self.events: Sequence[type[Event]] = tuple(self._handlers)

    # What others read.

    def job(self, job_id: str) -> Job:
        """The job of that id, written out; raises NotFoundError."""
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFoundError(f"there is no job {job_id!r}", hint="perseus ps")
        return job

    def find(self, job_id: str) -> Job | None:
        """The job of that id, or None."""
        return self._jobs.get(job_id)

    def jobs(self) -> dict[str, Job]:
        """All jobs by id, in the order of their submission."""
        return self._jobs

    @property
    def crowded(self) -> Crowded | None:
        """The latest job that was removed before its time; None when none was."""
        return self._retention.crowded

    def leased_to(self, node_id: str) -> int:
        """How many attempts are leased to a node."""
        return self._leases.count(node_id)

    def is_at(self, node_id: str, name: str, user: str) -> bool:
        """Whether a task of a job of that name, submitted by that user, is leased to a node."""
        records = (self._jobs[job_id].record for job_id, _ in self._leases.of_node(node_id))
        return any(record.name == name and record.user == user for record in records)

    def is_leased(self, attempt: str) -> bool:
        """Whether this attempt is leased to a node now; an id that is none is not."""
        try:
            name = parse_attempt(attempt)
        except InvalidError:
            return False
        job = self._jobs.get(name.job_id)
        if job is None or name.task >= len(job.tasks):
            return False
        task = job.tasks[name.task]
        return task.attempt == name.number and task.state in (LEASED, RUNNING)

    def snapshot(self) -> Snapshot:
        """What the scheduler looks at, for ``why``; not to be kept."""
        return Snapshot(
            self._leases.views(), self._queue.lines(), self._queue.turn, LEASES_PER_STEP
        )

    def waiting_before(self, job: Job) -> int:
        """How many jobs stand before it in the queue."""
        jobs = self._queue.jobs()
        return jobs.index(job) if job in jobs else 0

    # The machine.

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Rebuilds everything; leases stand until their nodes come back or are lost."""
        jobs, tasks = records.read(items)
        for record in jobs:
            job = Job(record)
            self._sequence = max(self._sequence, record.sequence)
            self._insert(job)
            job.adopt(tasks.pop(job.job_id, []))
            held = [task for task in job.tasks if task.state in (LEASED, RUNNING)]
            self._leases.restore(job, held)
            self._unsure.update(id(task) for task in held)
            self._queue.put(job)
        for job_id, left in tasks.items():
            self._leftovers.add(job_id, left)
        ended = [job for job in self._jobs.values() if not job.active]
        for job in sorted(ended, key=lambda job: job.ended_at_s):
            job.forget_spec()
            self._count_active(job, -1)
            self._retention.ended(job)
        self._deadlines.resume(self._jobs)

    def step(self, at: Instant, event: Event) -> Step:
        """What follows from ``event``."""
        self._deadlines.begin(at)
        try:
            reply = self._handlers[type(event)](at, event)
        except PerseusError:
            self._change = Change()
            raise
        if self._replan:
            self._schedule(at)
        change, self._change = self._change, Change()
        return change.step(reply)

    def _insert(self, job: Job) -> None:
        self._jobs[job.job_id] = job
        if job.record.request_id:
            self._requests[job.record.user, job.record.request_id] = job.job_id
        self._count_active(job, 1)

    def _count_active(self, job: Job, count: int) -> None:
        self._active += count
        self._active_spec_bytes += count * len(job.record.spec)

    # What people do.

    def _submit(self, at: Instant, event: Submit) -> str:
        known = self._requests.get((event.user, event.request_id)) if event.request_id else None
        if known is not None:
            return known
        if event.job_id in self._jobs or event.job_id in self._leftovers:
            raise ConflictError(f"the job id {event.job_id} is taken")
        spec = event.spec.SerializeToString(deterministic=True)
        self._check_room(spec)
        self._sequence += 1
        record = JobRecord(
            job_id=event.job_id,
            sequence=self._sequence,
            name=event.name,
            user=event.user,
            request_id=event.request_id,
            count=event.count,
            parallel=event.parallel,
            submitted_at_s=at.time_s,
            spec=spec,
        )
        job = Job(record, event.spec)
        self._insert(job)
        self._queue.put(job)
        self._change.job(job)
        self._replan = True
        return job.job_id

    def _check_room(self, spec: bytes) -> None:
        """Whether one more job may be active; raises TooLargeError."""
        if (
            self._active >= ACTIVE_MAXIMUM
            or self._active_spec_bytes + len(spec) > ACTIVE_SPEC_MAXIMUM_BYTES
        ):
            raise TooLargeError(
                f"the queue is full: {self._active} jobs have not ended",
                hint="wait for some to end (perseus ps), or submit many tasks as one job: --count",
            )

    def _kill(self, at: Instant, event: Kill) -> Reached:
        job = self.job(event.job_id)
        if not job.active:
            return Reached(0, 0)
        cancels = event.signal in CANCELLING_SIGNALS
        job.cancels += cancels
        count = self._cancel_waiting(at, job, event) if cancels else 0
        # A signal has nobody to go to where only the output is on its way.
        keeping = len(job.keeping) if cancels else 0
        for node_id in list(job.at):
            for (job_id, _), task in self._leases.of_node(node_id).items():
                if job_id == job.job_id and (cancels or task.index not in job.keeping):
                    self._stop(at, job, task, event)
                    count += 1
        self._settle(at, job)
        return Reached(count, keeping)

    def _cancel_waiting(self, at: Instant, job: Job, event: Kill) -> int:
        count = job.cancel_fresh(event.signal, at.time_s)
        if count:
            job.record.cancelled_by = event.user
            self._change.job(job)
        for index in job.again:
            task = job.tasks[index]
            task.ended_at_s = at.time_s
            task.ending = cancelled_ending(event.signal)
            self._move(at, job, task, CANCELLED, records.CAUSE_CANCELLED, event.user)
            count += 1
        job.again.clear()
        self._queue.remove(job)
        return count

    def _stop(self, at: Instant, job: Job, task: TaskRecord, event: Kill) -> None:
        cancels = event.signal in CANCELLING_SIGNALS
        if cancels and task.cancelling != event.signal:
            task.cancelling = event.signal
            detail = f"signal {event.signal}"
            self._move(at, job, task, task.state, records.CAUSE_CANCEL_ASKED, event.user, detail)
        self._direct(task.node_id, _stop_directive(job, task, event.signal, cancels))

    def _retry(self, at: Instant, event: Retry) -> Retried:
        job, after = self.job(event.job_id), event.after
        indexes = after.rest if after else range(len(job.tasks))
        unwell, rest = job.unwell_in(indexes, RETRIES_PER_STEP)
        if after and (after.cancels != job.cancels or not unwell):
            return Retried(0, range(0), job.cancels)
        fresh = job.fresh if job.record.cancelled_at_s else 0
        if not unwell and not fresh:
            raise ConflictError(
                f"job {job.job_id} has no task that ended otherwise than well",
                hint=f"perseus why {job.job_id}",
            )
        was_active = job.active > 0
        if not was_active:
            self._check_room(job.record.spec)
        if job.restore_fresh() or fresh:
            self._change.job(job)
        for task in unwell:
            state_ends.ask_again(at, task, event.user)
            job.wait_again(task)
            self._change.task(job, task)
        if not was_active:
            self._count_active(job, 1)
            self._retention.runs_again(job)
            job.ended_at_s = 0.0
        self._queue.keep(job)
        self._replan = True
        return Retried(len(unwell) + fresh, rest, job.cancels)

    # What nodes tell.

    def _reported(self, at: Instant, event: AttemptsReported) -> None:
        if self._sessions.get(event.node_id, event.session) > event.session:
            return
        acknowledged: dict[str, None] = {}
        for report in event.reports:
            try:
                attempt = parse_attempt(report.attempt)
            except PerseusError:
                continue
            if report.HasField("ended"):
                acknowledged[report.attempt] = None
                self._ended(at, event.node_id, attempt, report)
            elif report.HasField("keeping"):
                self._keeping(at, event.node_id, attempt, report.keeping)
            else:
                self._running(at, event.node_id, attempt, report.running.at_s)
        if acknowledged:
            self._change.effects.append(AcknowledgeAttempts(event.node_id, tuple(acknowledged)))

    def _held(self, node_id: str, attempt: AttemptId) -> tuple[Job, TaskRecord] | None:
        """The task whose lease this attempt is, if the node holds it."""
        task = self._leases.of_node(node_id).get((attempt.job_id, attempt.task))
        if task is None or task.attempt != attempt.number:
            return None
        return self._jobs[attempt.job_id], task

    def _running(self, at: Instant, node_id: str, attempt: AttemptId, told_at_s: float) -> None:
        held = self._held(node_id, attempt)
        if held is None:
            if not self._committed(node_id, attempt):
                self._discard(node_id, str(attempt))
            return
        job, task = held
        if task.state != LEASED:
            return
        # By the agent's clock, as far as that can be.
        task.started_at_s = min(at.time_s, max(task.leased_at_s, told_at_s))
        job.move(task, RUNNING)
        task.note(Entry(at.time_s, records.CAUSE_RUNNING, task.attempt, task.node))
        # Not written: the agent tells it again on each new stream, and a commit for it
        # would stand before the one of the end.
        self._change.touched(job)
        self._deadlines.add(at, job, task)

    def _keeping(
        self, at: Instant, node_id: str, attempt: AttemptId, told: agent_pb2.AttemptKeeping
    ) -> None:
        held = self._held(node_id, attempt)
        if held is None:
            return
        job, task = held
        if task.state != RUNNING or task.index in job.keeping:
            return
        job.keeping.add(task.index)
        cause, detail = state_ends.kept(told)
        task.note(Entry(at.time_s, cause, task.attempt, task.node, detail))
        # In memory alone, as that it runs.
        self._change.touched(job)

    def _ended(
        self, at: Instant, node_id: str, attempt: AttemptId, report: agent_pb2.AttemptEvent
    ) -> None:
        held = self._held(node_id, attempt)
        if held is None:
            if not self._committed(node_id, attempt):
                self._change.effects.append(DiscardOutputs(report.attempt))
            return
        job, task = held
        self._release(job, task)
        ended = report.ended
        outcome = state_ends.outcome(task, job, ended)
        state_ends.take_usage(at, task, ended)
        if ended.wall_s > 0 and outcome.state == FINISHED:
            job.learn_duration(ended.wall_s)
        if outcome.again:
            self._change.effects.append(DiscardOutputs(report.attempt))
            task.note(Entry(at.time_s, outcome.cause, task.attempt, task.node, outcome.detail))
            self._wait_again(job, task)
            return
        state_ends.commit(job, task, ended, self._change)
        task.ending = outcome.ending
        self._move(at, job, task, outcome.state, outcome.cause, task.node, outcome.detail)
        self._settle(at, job)

    def _committed(self, node_id: str, attempt: AttemptId) -> bool:
        """Whether the attempt ended here and its outputs are the task's."""
        job = self._jobs.get(attempt.job_id)
        if job is None or attempt.task >= len(job.tasks):
            return False
        task = job.tasks[attempt.task]
        return task.committed and task.node_id == node_id and task.attempt == attempt.number

    def _node_up(self, at: Instant, event: NodeUp) -> None:
        self._sessions[event.node_id] = event.session
        self._leases.changed(event.node_id)
        self._replan = True
        listed = set(event.attempts)
        cancelled = []
        for (job_id, _), task in list(self._leases.of_node(event.node_id).items()):
            job = self._jobs[job_id]
            if f"{job_id}.{task.index}.{task.attempt}" not in listed:
                counts = task.state == RUNNING or id(task) in self._unsure
                self._lose(at, job, task, "the node came back without it", counts)
            elif task.cancelling:
                cancelled.append((job, task))
        for text in event.attempts:
            self._reconcile(event.node_id, text)
        if event.frozen:
            self._thaw(at, event)
        for job, task in cancelled:
            directive = _stop_directive(job, task, task.cancelling, cancels=True)
            self._direct(event.node_id, directive)

    def _thaw(self, at: Instant, event: NodeUp) -> None:
        """What is leased to the node still, and so was listed by it, goes on there."""
        thawed = []
        for (job_id, _), task in self._leases.of_node(event.node_id).items():
            task.note(Entry(at.time_s, records.CAUSE_THAWED, task.attempt, task.node))
            self._change.task(self._jobs[job_id], task)
            thawed.append(f"{job_id}.{task.index}.{task.attempt}")
        thaw = agent_pb2.ThawAttempts(attempts=thawed)
        self._direct(event.node_id, agent_pb2.Directive(thaw=thaw))

    def _reconcile(self, node_id: str, text: str) -> None:
        """Answers for an attempt that the node says it holds."""
        try:
            attempt = parse_attempt(text)
        except PerseusError:
            self._discard(node_id, text)
            return
        if self._committed(node_id, attempt):
            self._change.effects.append(AcknowledgeAttempts(node_id, (text,)))
        elif self._held(node_id, attempt) is None:
            self._discard(node_id, text)

    def _node_down(self, at: Instant, event: NodeDown) -> None:
        self._leases.changed(event.node_id)
        self._replan = True
        if event.removed:
            self._sessions.pop(event.node_id, None)
        for (job_id, _), task in list(self._leases.of_node(event.node_id).items()):
            self._lose(at, self._jobs[job_id], task, event.reason, counts=True)

    def _node_changed(self, at: Instant, event: NodeChanged) -> None:
        self._leases.changed(event.node_id)
        self._replan = True

    def _tick(self, at: Instant, event: Tick) -> None:
        for job, task in self._deadlines.due(at, self._jobs):
            self._give_up(at, job, task)
        if not self._leftovers:
            for job in self._retention.due(at):
                self._forget(job)
        for job_id, index in self._leftovers.take():
            self._change.forget_task(job_id, index)

    # What follows.

    def _lose(self, at: Instant, job: Job, task: TaskRecord, reason: str, counts: bool) -> None:
        """The attempt is lost; without ``counts`` it never ran, and no retry is used up."""
        self._release(job, task)
        self._change.effects.append(DiscardOutputs(f"{job.job_id}.{task.index}.{task.attempt}"))
        outcome = state_ends.lost(task, job, reason, counts)
        task.note(Entry(at.time_s, outcome.cause, task.attempt, task.node, outcome.detail))
        if outcome.again:
            self._wait_again(job, task)
            return
        task.ended_at_s = at.time_s
        task.ending = outcome.ending
        job.move(task, outcome.state)
        self._change.task(job, task)
        self._settle(at, job)

    def _give_up(self, at: Instant, job: Job, task: TaskRecord) -> None:
        """The node did not end the attempt in time: the task is over without it."""
        self._release(job, task)
        attempt = f"{job.job_id}.{task.index}.{task.attempt}"
        self._discard(task.node_id, attempt)
        self._change.effects.append(DiscardOutputs(attempt))
        task.ended_at_s = at.time_s
        task.ending = state_ends.overdue(task)
        self._move(at, job, task, records.FAILED, records.CAUSE_GIVEN_UP, task.node)
        self._settle(at, job)

    def _release(self, job: Job, task: TaskRecord) -> None:
        self._leases.release(job, task)
        self._unsure.discard(id(task))
        self._replan = True

    def _wait_again(self, job: Job, task: TaskRecord) -> None:
        task.ended_at_s = 0.0
        job.wait_again(task)
        self._queue.keep(job)
        self._change.task(job, task)

    def _move(
        self,
        at: Instant,
        job: Job,
        task: TaskRecord,
        state: int,
        cause: int,
        who: str,
        detail: str = "",
    ) -> None:
        job.move(task, state)
        task.note(Entry(at.time_s, cause, task.attempt, who, detail))
        self._change.task(job, task)

    def _settle(self, at: Instant, job: Job) -> None:
        """When the last task has ended, so has the job."""
        if job.active or job.ended_at_s:
            return
        job.ended_at_s = at.time_s
        if job.counts[FINISHED] == job.record.count:
            # A job that did not finish well keeps its stdin for a retry.
            self._change.stdin_done(job)
        job.forget_spec()
        self._count_active(job, -1)
        self._queue.remove(job)
        self._retention.ended(job)
        self._change.touched(job)

    def _forget(self, job: Job) -> None:
        del self._jobs[job.job_id]
        if job.record.request_id:
            del self._requests[job.record.user, job.record.request_id]
        self._change.forget(job)
        self._leftovers.add(job.job_id, job.tasks)

    def _direct(self, node_id: str, directive: agent_pb2.Directive) -> None:
        self._change.effects.append(Direct(node_id, directive))

    def _discard(self, node_id: str, attempt: str) -> None:
        discard = agent_pb2.DiscardAttempt(attempt=attempt)
        self._direct(node_id, agent_pb2.Directive(discard=discard))

    # Leases.

    def _schedule(self, at: Instant) -> None:
        self._replan = False
        if not self._queue:
            return
        made = scheduler.plan(self.snapshot())
        self._replan = made.more
        nodes = {view.node_id: view for view in self._leases.views()}
        for placement in made.placements:
            job = self._jobs[placement.job_id]
            view = nodes[placement.node_id]
            detail = state_ends.placed(view, job, placement)
            self._lease(at, job, placement, view.name, detail)

    def _lease(self, at: Instant, job: Job, placement: Placement, node: str, detail: str) -> None:
        task = job.take_next()
        task.attempt += 1
        task.node_id, task.node = placement.node_id, node
        task.leased_at_s, task.started_at_s, task.ended_at_s = at.time_s, 0.0, 0.0
        task.committed = False
        granted = self._leases.add(job, task, placement.ahead).granted
        task.granted = granted
        self._move(at, job, task, LEASED, records.CAUSE_LEASED, node, detail)
        self._queue.put(job)
        start = agent_pb2.StartAttempt(
            attempt=f"{job.job_id}.{task.index}.{task.attempt}",
            spec=job.spec,
            task_index=task.index,
            task_count=job.record.count,
            user=job.record.user,
            parallel=granted if job.record.parallel else 0,
        )
        self._direct(placement.node_id, agent_pb2.Directive(start=start))


def _stop_directive(job: Job, task: TaskRecord, signal: int, cancels: bool) -> agent_pb2.Directive:
    grace_s = job.spec.grace_s if cancels and signal != KILL_SIGNAL else 0.0
    stop = agent_pb2.StopAttempt(
        attempt=f"{job.job_id}.{task.index}.{task.attempt}",
        signal=signal,
        grace_s=grace_s,
        cancel=cancels,
    )
    return agent_pb2.Directive(stop=stop)
