"""The real Spawner port: programs are started by a small process of their own.

``fork_spawner`` forks that process early, before gRPC or threads start, so that
it stays small and shares its memory; it starts programs at vfork speed whatever
the agent's size. When the agent goes away it kills every process group it
started. When the spawner goes away the agent must end: ``on_death`` says so, and the
daemon begins anew (``daemon.anew``).

Left-overs of a spawner that was itself killed are swept by
``spawner_journal.sweep(attempts_folder)``, before the next one is forked.
"""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from perseus.errors import InvalidError, LeaseLostError, PerseusError, UnavailableError, from_code
from perseus.runtime import spawner_process
from perseus.runtime.ports import Exit, SpawnRequest
from perseus.runtime.spawner_wire import (
    Ended,
    Failed,
    Fork,
    Forked,
    Free,
    Freeze,
    FromSpawner,
    Guard,
    KillAll,
    Signal,
    Start,
    Started,
    Thaw,
    ToSpawner,
    Wire,
)

# How long `close` waits for the spawner to have ended everything.
CLOSE_TIMEOUT_S = 10.0
# Requests that may wait for the spawner at once; more are refused.
PENDING_MAXIMUM = 100_000


@dataclass(slots=True)
class ForkedChild:
    """A Python child of the spawner and the agent's end of the socket to it."""

    pid: int
    socket: socket.socket


def fork_spawner(children: spawner_process.Children, journal: str | None = None) -> "RealSpawner":
    """Forks the spawner; call it after imports, with one thread and no event loop.

    ``children`` are what ``fork_child`` can start: each gets its end of a socket
    pair and its process ends when it returns. ``journal`` is the path of the file
    that ``spawner_journal.sweep`` reads. Of the descriptors only the standard three
    and those of the log's handlers are of use there.
    """
    ours, theirs = socket.socketpair()
    # For good: the collector writes to what it goes through, and so ends the sharing of it.
    gc.collect()
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        ours.close()
        spawner_process.run(theirs, children, journal)
    theirs.close()
    return RealSpawner(pid, ours)


class RealSpawner:
    """The agent's end; belongs to one event loop, bound by ``start``."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._wire: Wire[FromSpawner] = Wire(connection, list[FromSpawner])
        self._outgoing: list[ToSpawner] = []
        self._flushing = False
        self._writing = False
        self._number = 0
        # Answers awaited, by the request's number.
        self._pending: dict[int, asyncio.Future[int]] = {}
        # Ends of live or not yet awaited processes, by pid.
        self._ends: dict[int, asyncio.Future[Exit]] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._on_death: Callable[[str], None] | None = None
        self._dead = ""
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, on_death: Callable[[str], None]) -> None:
        """Begins to serve on the running loop. ``on_death`` gets a sentence, once."""
        self._loop = asyncio.get_running_loop()
        self._on_death = on_death
        self._loop.add_reader(self._wire.connection, self._on_readable)
        self._flush()

    @property
    def is_dead(self) -> bool:
        """The spawner is gone."""
        return bool(self._dead)

    async def spawn(self, request: SpawnRequest, after: int = 0) -> int:
        """Starts a program in a session of its own; its process id. With ``after``, as soon as
        that task has ended, without a word to the agent and back.

        Raises NotFoundError (no such program: 127), RefusedError (not executable: 126),
        TooLargeError (argument list too long), InvalidError (a NUL in it), or
        UnavailableError (working directory, files, memory), or LeaseLostError when
        nothing may run here now: tasks are frozen, ``after`` was freed of what follows it,
        or the spawner is gone.
        """
        return await self._ask(
            lambda number: Start(
                number,
                list(request.argv),
                dict(request.environment),
                request.working_directory,
                request.stdin_path,
                request.stdout_path,
                request.stderr_path,
                after,
            )
        )

    def free(self, pid: int) -> None:
        """What is to start after that task does not (LeaseLostError), unless it did already."""
        self._send(Free(pid))

    async def wait(self, pid: int) -> Exit:
        """Returns when it has ended; at most once for each pid. LeaseLostError as ``spawn``."""
        try:
            return await self._ends[pid]
        finally:
            self._ends.pop(pid, None)

    async def signal(self, pid: int, number: int) -> None:
        """Signals the whole process group; quiet when it is gone."""
        self.send_signal(pid, number)

    def send_signal(self, pid: int, number: int) -> None:
        """As ``signal``, without await; delivered in the order of the calls."""
        self._send(Signal(pid, number))

    def kill_all(self) -> None:
        """SIGKILL to every task's process group."""
        self._send(KillAll())

    def guard(self, until_s: float) -> None:
        """The spawner freezes all tasks by itself at ``until_s`` (CLOCK_BOOTTIME seconds),
        unless told a later time; 0 means never. So a stalled agent's tasks stop in time.
        What it froze by itself goes on when a later time is told after all."""
        self._send(Guard(until_s))

    def freeze(self) -> None:
        """All tasks stop where they are, and none starts (LeaseLostError), until ``thaw``.
        SIGCONT reaches none of them; SIGKILL does."""
        self._send(Freeze())

    def thaw(self, pids: Iterable[int]) -> None:
        """These tasks go on, and others may start again."""
        self._send(Thaw(list(pids)))

    async def fork_child(self, name: str) -> ForkedChild:
        """Forks the child of that name; ``wait(pid)`` tells its end."""
        pid = await self._ask(lambda number: Fork(number, name))
        return ForkedChild(pid, self._sockets.pop(pid))

    async def close(self) -> None:
        """Ends the spawner and all it started; returns when they are gone."""
        self._on_death = None
        if not self._dead:
            self._die("the agent is ending")
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            await _readable(descriptor, CLOSE_TIMEOUT_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            await _readable(descriptor, CLOSE_TIMEOUT_S)
        finally:
            os.close(descriptor)
        _reap(self.pid)

    async def _ask(self, make: Callable[[int], ToSpawner]) -> int:
        if self._dead:
            raise LeaseLostError(self._dead)
        if len(self._pending) >= PENDING_MAXIMUM:
            raise UnavailableError(f"{PENDING_MAXIMUM} starts wait already on this node")
        self._number += 1
        number = self._number
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        self._send(make(number))
        return await answer

    def _send(self, message: ToSpawner) -> None:
        self._outgoing.append(message)
        if not self._flushing and self._loop is not None:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Sends what one turn of the loop gathered, in one frame."""
        self._flushing = False
        if self._dead:
            return
        messages, self._outgoing = self._outgoing, []
        try:
            if messages:
                self._queue(messages)
            sent = self._wire.flush()
        except OSError as error:
            self._die(f"the spawner is gone: {error}")
            return
        self._watch_writable(not sent)

    def _queue(self, messages: list[ToSpawner]) -> None:
        try:
            self._wire.queue(list(messages), [])
        except ValueError:
            # Too many for a frame, or one is not Unicode: the others must not suffer.
            for message in messages:
                try:
                    self._wire.queue([message], [])
                except ValueError as error:
                    self._fail(message, InvalidError(f"cannot start this program: {error}"))

    def _fail(self, message: ToSpawner, error: PerseusError) -> None:
        if isinstance(message, Start | Fork):
            answer = self._pending.pop(message.number)
            if not answer.done():
                answer.set_exception(error)

    def _watch_writable(self, wanted: bool) -> None:
        assert self._loop is not None
        if wanted and not self._writing:
            self._loop.add_writer(self._wire.connection, self._flush)
        elif not wanted and self._writing:
            self._loop.remove_writer(self._wire.connection)
        self._writing = wanted

    def _on_readable(self) -> None:
        try:
            for message in self._wire.receive():
                self._take(message)
        except (EOFError, OSError) as error:
            self._die(f"the spawner (process {self.pid}) ended: {error}")

    def _take(self, message: FromSpawner) -> None:
        match message:
            case Started():
                self._begin(message.number, message.pid)
            case Ended():
                self._end(message)
            case Forked():
                self._sockets[message.pid] = socket.socket(fileno=self._wire.descriptors.popleft())
                self._begin(message.number, message.pid)
            case Failed():
                answer = self._pending.pop(message.number)
                if not answer.done():
                    answer.set_exception(
                        from_code(message.code, message.message, hint=message.hint)
                    )

    def _begin(self, number: int, pid: int) -> None:
        answer = self._pending.pop(number)
        self._ends[pid] = asyncio.get_running_loop().create_future()
        if not answer.done():
            answer.set_result(pid)
            return
        # Nobody waits for it any more: it must not run on unknown.
        del self._ends[pid]
        self._send(Signal(pid, signal.SIGKILL))
        if pid in self._sockets:
            self._sockets.pop(pid).close()

    def _end(self, message: Ended) -> None:
        end = self._ends.get(message.pid)
        if end is None or end.done():
            return
        exit_code, number = max(message.code, 0), max(-message.code, 0)
        end.set_result(
            Exit(
                exit_code,
                number,
                message.cpu_s,
                message.memory_peak_bytes,
                message.left_nothing,
            )
        )

    def _die(self, reason: str) -> None:
        """Fails all that is awaited; closing the socket makes the spawner end its tasks."""
        if self._dead:
            return
        self._dead = reason
        if self._loop is not None:
            self._watch_writable(False)
            self._loop.remove_reader(self._wire.connection)
        self._wire.connection.close()
        waiting: list[asyncio.Future[Any]] = [*self._pending.values(), *self._ends.values()]
        self._pending.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(LeaseLostError(reason))
                # An end that nobody awaits is no defect worth a log line.
                future.exception()
        if self._on_death is not None:
            self._on_death(reason)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


async def _readable(descriptor: int, timeout_s: float) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await asyncio.wait_for(ready.wait(), timeout_s)
    finally:
        loop.remove_reader(descriptor)
