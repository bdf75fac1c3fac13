"""One attempt on this node: from its directive to its end.

The course: prepare (folder, stdin, placed files), spawn, watch (time limit,
output limit, disk), end, keep the outputs (``keeping``). Why an attempt ends other than by
itself is decided once, by the first cause; later ones change nothing.

An attempt that is discarded is killed and says nothing more.
"""

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial

from perseus.errors import (
    FullError,
    InvalidError,
    LeaseLostError,
    PerseusError,
)
from perseus.ids import AttemptId
from perseus.jobs.attempt_endings import (
    by_itself,
    cancelled,
    cut_short,
    limit_passed,
    node_failure,
    not_started,
    output_limit,
    output_taken,
    time_over,
    with_own_code,
)
from perseus.jobs.attempt_timers import Timers
from perseus.jobs.attempt_turn import Turn
from perseus.jobs.disk_guard import DiskGuard
from perseus.jobs.executor_folders import Folders, empty
from perseus.jobs.keeping import CANCELLED_KEEPING_S, TOLD_AFTER_S, Keeping, inline_output
from perseus.jobs.pauses import Pauses
from perseus.jobs.spool import SHIP_EARLY_BYTES, Movers, Shipment, ShipRoom, Spool, in_background
from perseus.proto.v1 import agent_pb2, jobs_pb2
from perseus.runtime.ports import Clock, Exit, Spawner, SpawnRequest
from perseus.settings import INLINE_MAXIMUM_BYTES

# Time until SIGKILL for a task that passed its time limit.
TIME_LIMIT_GRACE_S = 5.0
# How soon it is looked at again after a time in which it stood still.
TIME_LIMIT_LOOK_S = 0.05
# A pipe's buffer for stdin, where the kernel allows it.
_PIPE_BYTES = 1 << 20
# Signals that come before the program has started; more are dropped.
_EARLY_SIGNALS_MAXIMUM = 16


class Phase(Enum):
    """Where an attempt is in its course."""

    WAITING = "waiting for a core"
    PREPARING = "preparing"
    RUNNING = "running"
    KEEPING = "ended, its outputs are on their way"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Host:
    """What all attempts of this node share."""

    spawner: Spawner
    movers: Movers
    ships: ShipRoom
    folders: Folders
    clock: Clock
    guard: DiskGuard
    # Of the node.
    node: str
    base_environment: dict[str, str]
    # Where the node's daemon answers.
    socket: str
    output_limit_bytes: int
    pauses: Pauses


# Takes what the master is to know of an attempt before its end.
Tell = Callable[["Attempt", agent_pb2.AttemptEvent], None]


@dataclass(slots=True)
class _Usage:
    """What the attempt used."""

    started_s: float = 0.0
    # What ``Pauses.total_s`` was then.
    paused_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_peak_bytes: int = 0


@dataclass(slots=True)
class _Feed:
    """A FIFO for stdin. Our own end keeps it open until all is fed, so that neither
    side sees the other missing before it has come."""

    descriptor: int
    task: asyncio.Task[int] | None = None

    def close(self) -> None:
        """The task reads to the end of what was fed; a feeder that still writes is stopped."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Attempt:
    """One try at a task, here."""

    def __init__(self, attempt: AttemptId, start: agent_pb2.StartAttempt, host: Host) -> None:
        self.id = str(attempt)
        self.job_id = attempt.job_id
        self.start = start
        self.folder = os.path.join(host.folders.root, self.id)
        self.phase = Phase.WAITING
        self.pid = 0
        # What tells its end, once it has ended; posted until acknowledged.
        self.ended: agent_pb2.AttemptEvent | None = None
        # What tells that it runs.
        self.running: agent_pb2.AttemptEvent | None = None
        # What tells that its program has ended and its outputs are on their way.
        self.keeping: agent_pb2.AttemptEvent | None = None
        self.is_discarded = False
        # The executor's note that its cores are free and its outputs are on their way.
        self.has_left_the_gate = False
        # Its processes are all gone for certain, and its outputs are small.
        self.left_nothing = False
        # The most that its folders work and tmp may hold; 0: no limit.
        self.disk_limit_bytes = start.spec.resources.disk_bytes
        limit_bytes = start.spec.output_limit_bytes or host.output_limit_bytes
        self.stdout = Spool(os.path.join(self.folder, "stdout"), "stdout", limit_bytes)
        self.stderr = Spool(os.path.join(self.folder, "stderr"), "stderr", limit_bytes)
        self._host = host
        self._number = attempt.number
        self._task_number = attempt.task
        self._ships = [
            Shipment(host.movers, host.ships, self.id, index == 1, spool.path)
            for index, spool in enumerate((self.stdout, self.stderr))
        ]
        self._keeping = Keeping(self.spools, self._ships)
        # What cancelled it, once it was.
        self._cancel: agent_pb2.StopAttempt | None = None
        self._exited_s = 0.0
        # Why it ends, when not by itself; the first cause counts.
        self._cause: jobs_pb2.Ending | None = None
        self._early: list[agent_pb2.StopAttempt] = []
        self.turn = Turn(host.spawner)
        self._placing: asyncio.Future[None] | None = None
        self._placed_bytes = 0
        self._feed: _Feed | None = None
        self._timers = Timers()
        self._usage = _Usage()
        self._waiters: set[asyncio.Future[None]] = set()

    # --- from the executor

    async def run(self, tell: Tell, on_exit: Callable[["Attempt"], None]) -> None:
        """The whole course; sets ``ended`` unless discarded.

        ``tell`` takes what the master is to know before the end, ``on_exit`` is told when
        the attempt's cores are free.
        """
        try:
            await self._run(tell, on_exit)
        finally:
            for spool in self.spools:
                spool.close()

    async def _run(self, tell: Tell, on_exit: Callable[["Attempt"], None]) -> None:
        self.phase = Phase.PREPARING
        ending = jobs_pb2.Ending()
        try:
            ending = await self._execute(tell)
        except LeaseLostError:
            # Nothing may run here any more: that is no end of the task's own.
            self.is_discarded = True
        finally:
            self._clear()
            self.phase = Phase.KEEPING
            self._exited_s = self._host.clock.now_s()
            on_exit(self)
        if self.is_discarded:
            await self.abandon()
            return
        for spool in self.spools:
            spool.settle()
        if self._is_output_broken():
            ending = self._cause or ending
        self.notify()
        if ending.kind == jobs_pb2.ENDING_DISK_LIMIT or self._host.guard.is_low():
            ending = await self._make_room(ending)
        try:
            outputs = await self._keep(ending, tell)
        except PerseusError as error:
            await self.abandon()
            ending, outputs = self._not_kept(ending, error)
        if self._cancel is not None and (words := self._keeping.said_of_cut):
            ending = cut_short(ending, self._cancel, words)
        if not self.is_discarded:
            self.end(ending, outputs)

    def end(self, ending: jobs_pb2.Ending, outputs: list[agent_pb2.Output] | None = None) -> None:
        """Fixes how it ended."""
        stdout, stderr = outputs or (None, None)
        self.phase = Phase.ENDED
        self._timers.cancel()
        for spool in self.spools:
            spool.is_final = True
        self.ended = agent_pb2.AttemptEvent(
            attempt=self.id,
            ended=agent_pb2.AttemptEnded(
                at_s=self._host.clock.time_s(),
                ending=ending,
                stdout=stdout,
                stderr=stderr,
                cpu_s=self._usage.cpu_s,
                memory_peak_bytes=self._usage.memory_peak_bytes,
                wall_s=self._usage.wall_s,
            ),
        )
        self.notify()

    def stop(self, stop: agent_pb2.StopAttempt) -> None:
        """Signals it, or cancels it; nothing when it has ended. One whose outputs are on
        their way is cancelled too: what of them is not there soon is not kept."""
        if stop.cancel and self._cancel is None:
            self._cancel = stop
            if self.phase is Phase.KEEPING:
                self._cut_soon()
        if self.phase is Phase.RUNNING:
            self._deliver(stop)
        elif self.phase is Phase.PREPARING and len(self._early) < _EARLY_SIGNALS_MAXIMUM:
            self._early.append(stop)
            if stop.cancel:
                self._set_cause(cancelled(stop))
                if self._placing is not None:
                    self._placing.cancel()
                self.turn.give_up()

    def discard(self) -> None:
        """Ends it at once; it says nothing more. Readers are told."""
        self.is_discarded = True
        self.turn.leave()
        self.kill()
        self.notify()

    def end_for_disk(self, message: str) -> None:
        """Ends it because of what it holds on this node's disk."""
        if self._set_cause(limit_passed(jobs_pb2.ENDING_DISK_LIMIT, message)):
            self.kill()

    def kill(self) -> None:
        """SIGKILL to its process group."""
        if self.pid and self.phase is Phase.RUNNING:
            self._host.spawner.send_signal(self.pid, signal.SIGKILL)

    # --- for readers of its outputs

    @property
    def spools(self) -> tuple[Spool, Spool]:
        """stdout and stderr."""
        return self.stdout, self.stderr

    async def changed(self, timeout_s: float) -> None:
        """Returns when it ends or is discarded, at the latest after ``timeout_s``."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        timer = asyncio.get_running_loop().call_later(timeout_s, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiters.discard(waiter)

    def notify(self) -> None:
        """Wakes those who wait in ``changed``."""
        for waiter in self._waiters:
            _wake(waiter)

    # --- prepare and start

    async def _execute(self, tell: Tell) -> jobs_pb2.Ending:
        try:
            try:
                request = await self._prepare()
            except (PerseusError, OSError) as error:
                return node_failure(f"it could not be prepared: {error}")
            while not self.pid:
                if self._cause is None:
                    await self.turn.come()
                if self._cause is not None:
                    return self._cause
                self.pid = await self._try_spawn(request)
            self.turn.after = 0
        except asyncio.CancelledError:
            # Of the placing, by a cancel; else of this whole course.
            if self._cause is None or self.is_discarded:
                raise
            return self._cause
        except LeaseLostError:
            raise
        except PerseusError as error:
            return not_started(error)
        self._begin()
        assert self.running is not None
        tell(self, self.running)
        ended = await self._host.spawner.wait(self.pid)
        self._account(ended)
        self.left_nothing = ended.left_nothing
        return with_own_code(self._cause, ended) if self._cause else by_itself(ended)

    async def _try_spawn(self, request: SpawnRequest) -> int:
        """Its process; 0 when nothing may start now, after a wait for that to change."""
        try:
            return await self._host.spawner.spawn(request, self.turn.after)
        except LeaseLostError:
            if self._host.spawner.is_dead:
                raise
            if not self.turn.is_awaited:
                await self._host.pauses.over()
            return 0

    async def _prepare(self) -> SpawnRequest:
        spec = self.start.spec
        work = os.path.join(self.folder, "work")
        self._host.folders.make(self.folder)
        for spool in self.spools:
            spool.open()
        if spec.files:
            self._placing = asyncio.ensure_future(self._place_files(work))
            await self._placing
        return SpawnRequest(
            spec.argv,
            self._environment(),
            spec.working_directory or work,
            self._open_stdin(),
            self.stdout.path,
            self.stderr.path,
        )

    async def _place_files(self, work: str) -> None:
        for file in self.start.spec.files:
            parts = file.name.split("/")
            if file.name.startswith("/") or ".." in parts or "\0" in file.name or not parts[-1]:
                raise InvalidError(
                    f"{file.name!r} cannot be placed in the working folder",
                    hint="give a relative name without '..': --file NAME=/path",
                )
            target = os.path.join(work, file.name)
            os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
            self._placed_bytes += await self._host.movers.place(file.path, target)
            # The filestore knows no modes, and it may be the program itself.
            os.chmod(target, 0o700)

    def _environment(self) -> dict[str, str]:
        start = self.start
        environment = dict(self._host.base_environment)
        environment["TMPDIR"] = os.path.join(self.folder, "tmp")
        environment.update(start.spec.environment)
        # Not for the task to choose: a program relies on them to know which task it is.
        environment.update(
            PERSEUS_JOB_ID=self.job_id,
            PERSEUS_TASK_ID=f"{self.job_id}.{self._task_number}",
            PERSEUS_TASK_INDEX=str(start.task_index),
            PERSEUS_TASK_COUNT=str(start.task_count or 1),
            PERSEUS_ATTEMPT=str(self._number),
            PERSEUS_NODE=self._host.node,
            PERSEUS_USER=start.user,
            # Left-overs are known by it (runtime.spawner_journal).
            PERSEUS_ATTEMPT_FOLDER=self.folder,
            # By which a task that is a program of Perseus finds it, and its node's daemon.
            PERSEUS_PYTHON=sys.executable,
            PERSEUS_SOCKET=self._host.socket,
        )
        return environment

    def _open_stdin(self) -> str:
        spec = self.start.spec
        kind = spec.WhichOneof("stdin")
        if kind is None or (kind == "stdin_inline" and not spec.stdin_inline):
            return os.devnull
        path = os.path.join(self.folder, "stdin")
        if kind == "stdin_inline":
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb", buffering=0) as file:
                file.write(spec.stdin_inline)
            return path
        os.mkfifo(path, 0o600)
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._feed = _Feed(descriptor)
        self._feed.task = in_background(self._host.movers.feed(spec.stdin_path, path))
        return path

    # --- while it runs

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self.phase = Phase.RUNNING
        self._usage.started_s = self._host.clock.now_s()
        self._usage.paused_s = self._host.pauses.total_s()
        self.running = agent_pb2.AttemptEvent(
            attempt=self.id,
            running=agent_pb2.AttemptRunning(at_s=self._host.clock.time_s(), pid=self.pid),
        )
        self._timers.check = loop.call_later(0.02, self._check)
        self._host.guard.add(self, self._placed_bytes)
        if self.start.spec.time_limit_s > 0:
            self._later(self.start.spec.time_limit_s, self._on_time_limit)
        if self._feed is not None and self._feed.task is not None:
            self._feed.task.add_done_callback(self._on_fed)
        if self.is_discarded:
            self.kill()
        for stop in self._early:
            self._deliver(stop)
        self.notify()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._timers.handles.append(loop.call_later(seconds, call))

    def _deliver(self, stop: agent_pb2.StopAttempt) -> None:
        number = stop.signal or signal.SIGTERM
        if stop.cancel:
            self._set_cause(cancelled(stop))
        self._host.spawner.send_signal(self.pid, number)
        if stop.cancel and number != signal.SIGKILL:
            # A stopped process takes the signal only when it goes on.
            self._host.spawner.send_signal(self.pid, signal.SIGCONT)
        if stop.grace_s > 0 and number != signal.SIGKILL:
            self._later(stop.grace_s, self.kill)

    def _set_cause(self, ending: jobs_pb2.Ending) -> bool:
        if self._cause is None:
            self._cause = ending
            return True
        return False

    def _ran_s(self) -> float:
        """How long it has run, without what it stood still."""
        paused_s = self._host.pauses.total_s() - self._usage.paused_s
        return self._host.clock.now_s() - self._usage.started_s - paused_s

    def _on_time_limit(self) -> None:
        limit_s = self.start.spec.time_limit_s
        left_s = limit_s - self._ran_s()
        if self._host.pauses.is_on or left_s > 0:
            self._later(max(left_s, TIME_LIMIT_LOOK_S), self._on_time_limit)
            return
        if self._set_cause(time_over(limit_s)):
            self._host.spawner.send_signal(self.pid, signal.SIGTERM)
            self._host.spawner.send_signal(self.pid, signal.SIGCONT)
            self._later(TIME_LIMIT_GRACE_S, self.kill)

    def _on_fed(self, task: asyncio.Task[int]) -> None:
        """All of stdin is in the pipe, or will never be: then the task must not take what
        it got for all there is."""
        if self.phase is not Phase.RUNNING or self._feed is None:
            return
        error = None if task.cancelled() else task.exception()
        if error is not None:
            words = error.message if isinstance(error, PerseusError) else str(error)
            self._set_cause(node_failure(f"its stdin could not be read: {words}"))
            self.kill()
            return
        self._feed.close()

    def _check(self) -> None:
        """Looks at the outputs, and plans the next look."""
        if self.phase is not Phase.RUNNING:
            return
        now_s = self._host.clock.now_s()
        pause_s = min(spool.check(now_s) for spool in self.spools)
        if self._is_output_broken():
            self.kill()
            return
        for spool, ship in zip(self.spools, self._ships, strict=True):
            if spool.size_bytes >= SHIP_EARLY_BYTES:
                ship.begin_early()
        self._timers.check = asyncio.get_running_loop().call_later(pause_s, self._check)

    def _is_output_broken(self) -> bool:
        """Whether an output passed its limit, or was taken away; then that is the cause."""
        for spool in self.spools:
            if spool.was_taken or spool.truncated:
                self._set_cause(output_taken(spool) if spool.was_taken else output_limit(spool))
                return True
        return False

    # --- after its end

    def _account(self, ended: Exit) -> None:
        self._usage.wall_s = self._ran_s()
        self._usage.cpu_s = ended.cpu_s
        self._usage.memory_peak_bytes = ended.memory_peak_bytes

    def _clear(self) -> None:
        """Ends what only a running task needs."""
        self._timers.cancel()
        self._host.guard.drop(self)
        if self._feed is None:
            return
        if self._feed.task is not None:
            self._feed.task.cancel()
        self._feed.close()

    async def _keep(self, ending: jobs_pb2.Ending, tell: Tell) -> list[agent_pb2.Output]:
        """Both outputs as the end's message tells them; raises PerseusError."""
        if not self._keeping.is_inline:
            self.left_nothing = False
            self._later(TOLD_AFTER_S, partial(self._tell_keeping, ending, tell))
            if self._cancel is not None:
                self._cut_soon()
        return await self._keeping.outputs()

    def _tell_keeping(self, ending: jobs_pb2.Ending, tell: Tell) -> None:
        self.keeping = agent_pb2.AttemptEvent(
            attempt=self.id,
            keeping=agent_pb2.AttemptKeeping(
                at_s=self._host.clock.time_s(),
                ending=ending,
                output_bytes=self._keeping.size_bytes,
            ),
        )
        tell(self, self.keeping)

    def _cut_soon(self) -> None:
        """It was cancelled: its outputs are shipped a moment longer, and then cut."""
        left_s = self._exited_s + CANCELLED_KEEPING_S - self._host.clock.now_s()
        self._later(max(0.0, left_s), self._keeping.cut)

    def _not_kept(
        self, ending: jobs_pb2.Ending, error: PerseusError
    ) -> tuple[jobs_pb2.Ending, list[agent_pb2.Output]]:
        """How it ends when its outputs found no place, and what is kept of them."""
        is_ours = ending.kind == jobs_pb2.ENDING_DISK_LIMIT
        if not is_ours and not isinstance(error, FullError):
            said = f"its output could not be kept: {error.message}"
            return node_failure(said), [agent_pb2.Output(), agent_pb2.Output()]
        # Another try would find as little room, and fill it again: it is no node's failure.
        said = ending.message if is_ours else f"there is no room for its output: {error.message}"
        return self._cut(said), [inline_output(spool) for spool in self.spools]

    async def _make_room(self, ending: jobs_pb2.Ending) -> jobs_pb2.Ending:
        """The disk is low, or was: gives back what the task left, and what it wrote if it was ended
        for that. Not only once the master has the end: that may wait for this very space."""
        ending = await asyncio.to_thread(self._host.guard.at_end, self, ending)
        await asyncio.to_thread(empty, self.folder)
        if ending.kind != jobs_pb2.ENDING_DISK_LIMIT or not self._host.guard.is_low():
            return ending
        # To keep its outputs would take as much of the disk again.
        if not all(spool.is_inline for spool in self.spools):
            ending = self._cut(ending.message)
            await self.abandon()
        return ending

    def _cut(self, said: str) -> jobs_pb2.Ending:
        """Keeps of the outputs what needs no place of its own."""
        for spool in self.spools:
            spool.cut(INLINE_MAXIMUM_BYTES)
        said = f"{said}; only the first {INLINE_MAXIMUM_BYTES} bytes of its output are kept"
        return limit_passed(jobs_pb2.ENDING_DISK_LIMIT, said)

    async def abandon(self) -> None:
        """What was shipped of its outputs becomes garbage."""
        for ship in self._ships:
            await ship.abandon()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
