"""The agent's end of jobs: runs the attempts that are leased to this node.

Directives come in, attempt events go out, many at once. An end is kept, and
told again to each new session, until the master has acknowledged it; then the
attempt and its folder are forgotten. Attempts beyond the node's cores wait
here in the order in which they came.

Everything runs on one event loop; nothing but the removal of folders leaves it.
"""

import asyncio
import logging
import os
import pwd
import shutil
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from perseus.errors import InvalidError, NotFoundError, PerseusError
from perseus.ids import parse_attempt
from perseus.jobs.attempts import Attempt, Host, Phase, cancelled, node_failure
from perseus.jobs.spool import Movers, ShipRoom
from perseus.proto.v1 import agent_pb2
from perseus.runtime.ports import Clock, Disk, Spawner
from perseus.settings import Settings

# Attempts held at once; what is sent beyond is told as failed.
ATTEMPTS_MAXIMUM = 100_000
# Forgotten attempts that are remembered by id, so that a late duplicate does not run again.
FORGOTTEN_MAXIMUM = 20_000
# Between two batches: what ends meanwhile shares the thread's start.
_REMOVE_PAUSE_S = 0.1
# Folders are removed in batches of at most this many, by one thread.
_REMOVE_BATCH_MAXIMUM = 1000
_PATH = (
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    ":/run/wrappers/bin:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin"
)
# Sums of fractions of cores are compared with this much slack.
_CPU_SLACK = 1e-6

_log = logging.getLogger("perseus.jobs.executor")

Post = Callable[[Sequence[agent_pb2.AttemptEvent]], None]


def base_environment() -> dict[str, str]:
    """What every task finds in its environment besides its own variables."""
    try:
        user = pwd.getpwuid(os.getuid())
        name, home = user.pw_name, user.pw_dir
    except KeyError:
        name, home = f"uid-{os.getuid()}", "/"
    return {
        "PATH": _PATH,
        "HOME": home,
        "USER": name,
        "LOGNAME": name,
        "LANG": "C.UTF-8",
    }


class Executor:
    """Runs attempts on this node; belongs to one event loop."""

    def __init__(
        self,
        *,
        folder: str,
        node: str,
        cores: float,
        spawner: Spawner,
        movers: Movers,
        clock: Clock,
        disk: Disk,
        settings: Settings,
        post: Post,
    ) -> None:
        """``folder`` is the data folder's ``attempts``; ``post`` hands events to the
        session, or drops them when there is none: ``on_welcome`` repeats them."""
        self.cores = cores
        self._host = Host(
            spawner,
            movers,
            ShipRoom(),
            clock,
            disk,
            node,
            base_environment(),
            os.path.abspath(folder),
            settings.output_limit_bytes,
            settings.disk_reserve_bytes,
        )
        self._post_events = post
        self._attempts: dict[str, Attempt] = {}
        self._gate = _Gate(cores)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._forgotten: OrderedDict[str, None] = OrderedDict()
        self._events: list[agent_pb2.AttemptEvent] = []
        self._posting = False
        self._remover = _Remover()
        self._lease_ends_s = float("inf")

    async def start(self) -> None:
        """Makes the folder, and empties it of what an earlier agent left. Call it after
        ``spawner_journal.sweep`` and before the first directive."""
        folder = self._host.folder
        os.makedirs(folder, 0o700, exist_ok=True)
        old = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        self._remover.remove(old)
        await self._remover.wait()

    async def close(self) -> None:
        """Kills all attempts; returns when their folders are gone."""
        self.on_lease_lost()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))
        await self._remover.wait()

    # --- what the master says

    def handle(self, directive: agent_pb2.Directive) -> bool:
        """Acts on a directive about attempts; False for one of another kind."""
        kind = directive.WhichOneof("what")
        if kind == "start":
            self.start_attempt(directive.start)
        elif kind == "stop":
            self.stop_attempt(directive.stop)
        elif kind == "discard":
            self.discard_attempt(directive.discard.attempt)
        else:
            return False
        return True

    def start_attempt(self, start: agent_pb2.StartAttempt) -> None:
        """Takes an attempt, to be run as soon as its cores are free. A duplicate is harmless.

        Raises InvalidError when the id is none.
        """
        name = parse_attempt(start.attempt)
        held = self._attempts.get(start.attempt)
        if held is not None:
            if held.ended is not None:
                self._post(held.ended)
            return
        if start.attempt in self._forgotten:
            return
        attempt = Attempt(name, start, self._host)
        self._attempts[attempt.id] = attempt
        if len(self._attempts) > ATTEMPTS_MAXIMUM:
            self._end_unstarted(attempt, node_failure(f"{ATTEMPTS_MAXIMUM} attempts wait here"))
            return
        self._gate.add(attempt)
        self._launch()

    def stop_attempt(self, stop: agent_pb2.StopAttempt) -> None:
        """Signals or cancels an attempt; quiet when it is not here or has ended."""
        attempt = self._attempts.get(stop.attempt)
        if attempt is None:
            return
        if attempt.phase is not Phase.WAITING:
            attempt.stop(stop)
        elif stop.cancel:
            self._gate.drop(attempt)
            self._end_unstarted(attempt, cancelled(stop))

    def discard_attempt(self, attempt_id: str) -> None:
        """Ends an attempt and leaves nothing of it; it says nothing more."""
        attempt = self._attempts.pop(attempt_id, None)
        self._remember(attempt_id)
        if attempt is None:
            return
        if attempt.phase is Phase.WAITING:
            self._gate.drop(attempt)
        was_running = attempt.phase is Phase.RUNNING
        attempt.discard()
        task = self._tasks.get(attempt_id)
        if task is None:
            self._remove(attempt)
        elif not was_running:
            task.cancel()

    def acknowledged(self, attempt_ids: Iterable[str]) -> None:
        """The master has these ends: forgets them."""
        for attempt_id in attempt_ids:
            attempt = self._attempts.get(attempt_id)
            if attempt is None or attempt.ended is None:
                continue
            del self._attempts[attempt_id]
            self._remember(attempt_id)
            self._remove(attempt)

    # --- sessions and the lease

    def held(self) -> list[str]:
        """Ids of attempts waiting, running, or ended and not acknowledged: for Hello."""
        return list(self._attempts)

    def on_welcome(self) -> None:
        """A new session: tells again what an older one may have lost."""
        self._events.clear()
        for attempt in self._attempts.values():
            event = attempt.ended or attempt.running
            if event is not None:
                self._post(event)

    def on_lease(self, until_s: float) -> None:
        """The node may act until ``until_s`` by the clock's ``now_s``. Should the agent hang
        then, the spawner kills the tasks by itself."""
        self._lease_ends_s = until_s
        self._host.spawner.guard(until_s)

    def on_lease_lost(self) -> None:
        """Kills every attempt and forgets them; nothing of theirs will appear."""
        self._host.spawner.kill_all()
        for attempt_id in list(self._attempts):
            self.discard_attempt(attempt_id)
        self._events.clear()

    # --- for readers

    def find(self, attempt_id: str) -> Attempt:
        """An attempt that is held here; raises NotFoundError."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            raise NotFoundError(f"attempt {attempt_id} is not on node {self._host.node}")
        return attempt

    def counts(self) -> tuple[int, int]:
        """(attempts waiting for a core, attempts using one)."""
        return self._gate.waiting, self._gate.running

    # --- inside

    def _launch(self) -> None:
        while (attempt := self._gate.next()) is not None:
            self._tasks[attempt.id] = asyncio.create_task(self._run(attempt))

    async def _run(self, attempt: Attempt) -> None:
        try:
            await attempt.run(self._on_running, self._on_exit)
        except asyncio.CancelledError:
            if not attempt.is_discarded:
                raise
            await attempt.abandon()
        except Exception as error:
            _log.exception("attempt %s", attempt.id)
            attempt.end(node_failure(_words(error)))
        finally:
            self._tasks.pop(attempt.id, None)
            if attempt.is_discarded:
                self._remove(attempt)
        if attempt.ended is not None and not attempt.is_discarded:
            self._post(attempt.ended)

    def _on_running(self, attempt: Attempt) -> None:
        if attempt.running is not None and not attempt.is_discarded:
            self._post(attempt.running)

    def _on_exit(self, attempt: Attempt) -> None:
        if self._host.clock.now_s() >= self._lease_ends_s:
            # The spawner may have killed it for the lease: that is no end of the task's own.
            self.on_lease_lost()
        self._gate.release(attempt)
        self._launch()

    def _end_unstarted(self, attempt: Attempt, ending: Any) -> None:
        attempt.end(ending)
        assert attempt.ended is not None
        self._post(attempt.ended)

    def _post(self, event: agent_pb2.AttemptEvent) -> None:
        self._events.append(event)
        if not self._posting:
            self._posting = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._posting = False
        events, self._events = self._events, []
        if events:
            self._post_events(events)

    def _remember(self, attempt_id: str) -> None:
        self._forgotten[attempt_id] = None
        if len(self._forgotten) > FORGOTTEN_MAXIMUM:
            self._forgotten.popitem(last=False)

    def _remove(self, attempt: Attempt) -> None:
        self._remover.remove([attempt.folder])


class _Gate:
    """Which waiting attempt may use cores next: the oldest that its job's limit allows.

    When the oldest does not fit, younger ones wait as well, so that none starves.
    """

    def __init__(self, cores: float) -> None:
        self._cores = cores
        self._used = 0.0
        self._sequence = 0
        # Waiting attempts of each job, oldest first, by the order of their coming.
        self._waiting: dict[str, OrderedDict[str, tuple[int, Attempt]]] = {}
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

    def add(self, attempt: Attempt) -> None:
        """Queues it."""
        self._sequence += 1
        queue = self._waiting.setdefault(attempt.job_id, OrderedDict())
        queue[attempt.id] = (self._sequence, attempt)
        self._parallel[attempt.job_id] = attempt.start.parallel

    def drop(self, attempt: Attempt) -> None:
        """Takes a waiting attempt out."""
        queue = self._waiting.get(attempt.job_id)
        if queue is not None and queue.pop(attempt.id, None) is not None and not queue:
            del self._waiting[attempt.job_id]
            self._forget(attempt.job_id)

    def next(self) -> Attempt | None:
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

    def release(self, attempt: Attempt) -> None:
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

    def _cpu(self, attempt: Attempt) -> float:
        # More than the node has: then it runs alone.
        return min(attempt.start.spec.resources.cpu or 1.0, self._cores)


class _Remover:
    """Removes folders by one thread, many at a time: a big one must not stall control."""

    def __init__(self) -> None:
        self._folders: deque[str] = deque()
        self._task: asyncio.Task[None] | None = None

    def remove(self, folders: Iterable[str]) -> None:
        """Soon; quiet about what is not there."""
        self._folders.extend(folders)
        if self._folders and self._task is None:
            self._task = asyncio.create_task(self._work())

    async def wait(self) -> None:
        """Returns when all are removed."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while self._folders:
                count = min(len(self._folders), _REMOVE_BATCH_MAXIMUM)
                batch = [self._folders.popleft() for _ in range(count)]
                await asyncio.to_thread(_remove_all, batch)
                await asyncio.sleep(_REMOVE_PAUSE_S)
        finally:
            self._task = None


def _remove_all(folders: Sequence[str]) -> None:
    for folder in folders:
        if not _remove_small(folder):
            shutil.rmtree(folder, onerror=_make_writable)


def _remove_small(folder: str) -> bool:
    """Removes a folder in which the task left nothing of its own: a handful of calls."""
    try:
        for name in ("stdout", "stderr", "stdin"):
            with suppress(FileNotFoundError):
                os.unlink(f"{folder}/{name}")
        for name in ("/work", "/tmp", ""):
            os.rmdir(folder + name)
    except FileNotFoundError:
        return not os.path.exists(folder)
    except OSError:
        return False
    return True


def _make_writable(function: Callable[[str], Any], path: str, failure: Any) -> None:
    """A task may have left folders that it made read-only."""
    with suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)
        os.chmod(path, 0o700)
        function(path)


def _words(error: Exception) -> str:
    if isinstance(error, PerseusError | InvalidError):
        return error.message
    return f"a defect of Perseus: {type(error).__name__}: {error}"
