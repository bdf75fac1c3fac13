"""The agent's end of jobs: runs the attempts that are leased to this node.

Directives come in, attempt events go out, many at once. An end is kept, and
told again to each new session, until the master has acknowledged it; then the
attempt and its folder are forgotten. Attempts beyond the node's cores wait
here in the order in which they came.

Everything runs on one event loop; only the removal of folders leaves it.
"""

import asyncio
import logging
import os
import pwd
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from perseus.errors import InvalidError, NotFoundError, PerseusError
from perseus.ids import parse_attempt
from perseus.jobs.attempt_endings import cancelled, node_failure
from perseus.jobs.attempt_turn import FOLLOW_MAXIMUM_S
from perseus.jobs.attempts import Attempt, Host, Phase
from perseus.jobs.disk_guard import DiskGuard
from perseus.jobs.executor_folders import Folders
from perseus.jobs.executor_gate import Gate
from perseus.jobs.pauses import Pauses
from perseus.jobs.spool import Movers, ShipRoom
from perseus.proto.v1 import agent_pb2
from perseus.runtime.ports import Clock, Disk, Spawner
from perseus.settings import Settings

# Attempts held at once; what is sent beyond is told as failed.
ATTEMPTS_MAXIMUM = 100_000
# Forgotten attempts that are remembered by id, so that a late duplicate does not run again.
FORGOTTEN_MAXIMUM = 20_000
# Attempts whose outputs are on their way at once; beyond, no other one starts, so that
# the node's disk does not fill with what waits to be shipped.
KEEPING_MAXIMUM = 256
# How long attempts stand still for a master that does not come back; then they are ended.
FROZEN_MAXIMUM_S = 86400.0
# How long `close` waits for processes that the kernel does not let go.
CLOSE_TIMEOUT_S = 10.0
# While attempts wait here for cores there is no haste to tell of others' ends: those of
# this long share a message, a step and a commit.
_LINGER_S = 0.005
_PATH = (
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    ":/run/wrappers/bin:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin"
)

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
        socket: str = "",
    ) -> None:
        """``socket`` is where the node's daemon answers tasks.

        ``folder`` is the data folder's ``attempts``; ``post`` hands events to the
        session, or drops them when there is none: ``on_welcome`` repeats them."""
        self.cores = cores
        root = os.path.abspath(folder)
        self._host = Host(
            spawner,
            movers,
            ShipRoom(),
            Folders(root),
            clock,
            DiskGuard(root, node, settings.disk_reserve_bytes, disk, clock),
            node,
            base_environment(),
            socket,
            settings.output_limit_bytes,
            Pauses(clock),
        )
        self._post_events = post
        self._attempts: dict[str, Attempt] = {}
        self._gate = Gate[Attempt](cores)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._forgotten: OrderedDict[str, None] = OrderedDict()
        self._events: list[agent_pb2.AttemptEvent] = []
        self._posting = False
        self._lease_ends_s = float("inf")
        # The spawner was not told of the latest lease.
        self._guard_is_stale = False
        # Attempts whose outputs are on their way.
        self._keeping = 0
        # Set while attempts stand still; ends them when that lasts too long.
        self._frozen: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Makes the folder, and empties it of what an earlier agent left. Call it after
        ``spawner_journal.sweep`` and before the first directive."""
        await self._host.folders.start()

    async def close(self) -> None:
        """Kills all attempts; returns when their folders are gone, soon in any case."""
        self.end_all()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=CLOSE_TIMEOUT_S)
        self._host.guard.close()
        await self._host.folders.close()

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
        elif kind == "thaw":
            self.thaw(directive.thaw.attempts)
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
        if self._guard_is_stale:
            self._guard_is_stale = False
            self._host.spawner.guard(self._lease_ends_s)
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
            # After its first step, without which nothing of it would be cleared away.
            asyncio.get_running_loop().call_soon(task.cancel)

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
            news = (attempt.ended,) if attempt.ended else (attempt.running, attempt.keeping)
            for event in news:
                if event is not None:
                    self._post(event)

    def on_lease(self, until_s: float) -> None:
        """The node may act until ``until_s`` by the clock's ``now_s``. Should the agent hang
        then, the spawner freezes the tasks by itself."""
        self._lease_ends_s = until_s
        self._host.pauses.on_lease(until_s)
        self._host.ships.note_master()
        if self._attempts:
            self._host.spawner.guard(until_s)
        else:
            # An idle spawner is not woken for it.
            self._guard_is_stale = True
        self._launch()

    @property
    def is_frozen(self) -> bool:
        """Whether attempts stand still, for the next Hello to say so."""
        return self._frozen is not None

    def on_lease_lost(self) -> None:
        """Every attempt stops where it is: whether it may go on is for the master to say,
        who may have leased it to another node by then. Ends are kept, and none starts."""
        self._events.clear()
        if not self._attempts:
            return
        self._host.spawner.freeze()
        if self._frozen is None:
            self._host.pauses.begin()
            loop = asyncio.get_running_loop()
            self._frozen = loop.call_later(FROZEN_MAXIMUM_S, self.end_all)

    def thaw(self, attempt_ids: Iterable[str]) -> None:
        """The lease is there again, and with it these attempts; of others nothing is left."""
        leased = set(attempt_ids)
        for attempt_id in [each for each in self._attempts if each not in leased]:
            self.discard_attempt(attempt_id)
        running = [each for each in self._attempts.values() if each.phase is Phase.RUNNING]
        self._end_freeze(attempt.pid for attempt in running)
        self._launch()

    def _end_freeze(self, pids: Iterable[int]) -> None:
        if self._frozen is not None:
            self._frozen.cancel()
            self._frozen = None
            self._host.pauses.end()
            self._host.spawner.thaw(pids)

    def end_all(self) -> None:
        """Kills every attempt and forgets them; nothing of theirs will appear."""
        self._host.spawner.kill_all()
        self._end_freeze(())
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

    @property
    def _may_launch(self) -> bool:
        # What the spawner would refuse, as the lease is over, goes on waiting.
        return not (self.is_frozen or self._is_lease_over) and self._keeping < KEEPING_MAXIMUM

    def _launch(self) -> None:
        while self._may_launch:
            attempt = self._gate.next()
            if attempt is None:
                return
            self._start_or_go_on(attempt)

    def _start_or_go_on(self, attempt: Attempt) -> None:
        if attempt.id in self._tasks:
            # It was sent back.
            attempt.turn.take()
            return
        attempt.phase = Phase.PREPARING
        self._tasks[attempt.id] = asyncio.create_task(self._run(attempt))

    def _line_up(self, attempt: Attempt) -> None:
        """``attempt`` runs: the next is prepared, and the spawner starts it at the former's end.
        So what was leased ahead, which is short, does not wait for words between the two."""
        if not self._may_launch:
            return
        heir = self._gate.line_up(attempt)
        if heir is not None:
            heir.turn.follow(attempt.pid)
            self._start_or_go_on(heir)
            loop = asyncio.get_running_loop()
            loop.call_later(FOLLOW_MAXIMUM_S, self._send_back, heir)

    def _send_back(self, heir: Attempt) -> None:
        """Another runs for longer than was thought: ``heir`` takes any place."""
        if self._gate.send_back(heir):
            heir.turn.send_back()
            self._launch()

    async def _run(self, attempt: Attempt) -> None:
        try:
            await attempt.run(self._tell, self._on_exit)
        except asyncio.CancelledError:
            if not attempt.is_discarded:
                raise
            await attempt.abandon()
        except Exception as error:
            _log.exception("attempt %s", attempt.id)
            attempt.end(node_failure(_words(error)))
        finally:
            self._tasks.pop(attempt.id, None)
            if attempt.has_left_the_gate:
                self._keeping -= 1
                self._launch()
            if attempt.is_discarded:
                self._attempts.pop(attempt.id, None)
                self._remember(attempt.id)
                self._remove(attempt)
        if attempt.ended is not None and not attempt.is_discarded:
            self._post(attempt.ended)

    def _tell(self, attempt: Attempt, event: agent_pb2.AttemptEvent) -> None:
        if attempt.is_discarded:
            return
        self._post(event)
        if event is attempt.running:
            self._gate.take(attempt)
            self._line_up(attempt)

    @property
    def _is_lease_over(self) -> bool:
        return self._host.clock.now_s() >= self._lease_ends_s

    def _on_exit(self, attempt: Attempt) -> None:
        self._gate.release(attempt)
        self._keeping += 1
        attempt.has_left_the_gate = True
        self._launch()

    def _end_unstarted(self, attempt: Attempt, ending: Any) -> None:
        attempt.end(ending)
        assert attempt.ended is not None
        self._post(attempt.ended)

    def _post(self, event: agent_pb2.AttemptEvent) -> None:
        self._events.append(event)
        if self._posting:
            return
        self._posting = True
        loop = asyncio.get_running_loop()
        if self._gate.waiting:
            loop.call_later(_LINGER_S, self._flush)
        else:
            loop.call_soon(self._flush)

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
        """Whatever is small and was left clean is used again."""
        if attempt.left_nothing:
            self._host.folders.recycle(attempt.folder)
        else:
            self._host.folders.remove([attempt.folder])


def _words(error: Exception) -> str:
    if isinstance(error, PerseusError | InvalidError):
        return error.message
    return f"a defect of Perseus: {type(error).__name__}: {error}"
