"""Drives the processes of one node for real: timers of an asyncio loop, a journal, a network.

The rule of the simulator holds here too: what a step made durable is in the journal
before anything that it sent leaves; commits keep their order; a handler that raises ends
the node. ``maelstrom`` and the cluster's service stand on this.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from perseus.algo.durability import GONE, Changes, Key
from perseus.algo.process import Envelope, Handler, Id, Place, Process
from perseus.errors import NotFoundError

# Steps whose commits are under way; a process that outruns its disk waits for it.
COMMITS_MAXIMUM = 10_000


class Journal(Protocol):
    """Durable state of the processes of one node."""

    def load(self, process_id: Id) -> Mapping[Key, Any]:
        """What was committed; GONE keys are not there."""

    def commit(self, process_id: Id, changes: Changes) -> Awaitable[None]:
        """Durable when it returns, after every commit before it; no changes: a barrier."""


class MemoryJournal:
    """Keeps nothing past the end of the program."""

    def __init__(self) -> None:
        self._disks: dict[Id, dict[Key, Any]] = {}

    def load(self, process_id: Id) -> Mapping[Key, Any]:
        """What was committed in this program."""
        return self._disks.get(process_id, {})

    async def commit(self, process_id: Id, changes: Changes) -> None:
        """At once."""
        disk = self._disks.setdefault(process_id, {})
        for key, value in changes.items():
            if value is GONE:
                disk.pop(key, None)
            else:
                disk[key] = value


class _Chance:
    """A process's chance, from the operating system."""

    def __init__(self) -> None:
        source = random.SystemRandom()
        self.random = source.random
        self.uniform = source.uniform

    def below(self, count: int) -> int:
        """From 0 up to but not including ``count``."""
        return int(self.random() * count)


class _Timer:
    def __init__(self) -> None:
        self.handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """It does not fire."""
        if self.handle is not None:
            self.handle.cancel()


class Driver:
    """The processes of one node; ``failed`` is told of the exception that ends it."""

    def __init__(
        self,
        journal: Journal,
        transmit: Callable[[Id, Envelope], None],
        failed: Callable[[Process, BaseException], None],
        stepped: Callable[[Process], None] | None = None,
    ) -> None:
        self._journal = journal
        self._transmit = transmit
        self._failed = failed
        self._stepped = stepped
        self._processes: dict[Id, Process] = {}
        self._commits: asyncio.Queue[tuple[Process, Changes, list[Any], list[Any]]] = (
            asyncio.Queue()
        )
        self._writing: asyncio.Task[None] | None = None
        self.is_over = False

    @property
    def processes(self) -> list[Process]:
        """Those that run."""
        return list(self._processes.values())

    def start(
        self, kind: type[Process], place: Place, options: Mapping[str, Any] | None = None
    ) -> Process:
        """Begins a process with what the journal has of it."""
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
        disk = self._journal.load(place.id)
        process = kind._host_create(place, self, _Chance(), disk, options or {})
        self._processes[place.id] = process
        self._step(process, process.start)
        return process

    def deliver(self, to: Id, sender: Id, message: Any, number: int = 0, answers: int = 0) -> None:
        """A message has come; raises NotFoundError when its process is not here."""
        process = self._processes.get(to)
        if process is None:
            raise NotFoundError(f"there is no process {to} here")
        self._step(process, process._host_deliver, sender, message, number, answers)

    async def close(self) -> None:
        """Ends all processes, as a crash does: what is not committed is lost."""
        self.is_over = True
        self._processes.clear()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    # The host's half.

    def now_s(self, process: Process) -> float:
        """Monotonic seconds of this machine."""
        return asyncio.get_running_loop().time()

    def after(
        self, process: Process, seconds: float, handler: Handler, arguments: tuple[Any, ...]
    ) -> _Timer:
        """Fires as a step of its own while the process lives."""
        timer = _Timer()
        loop = asyncio.get_running_loop()
        timer.handle = loop.call_later(seconds, self._fire, process, handler, arguments)
        return timer

    def _fire(self, process: Process, handler: Handler, arguments: tuple[Any, ...]) -> None:
        if self._processes.get(process.id) is process:
            self._step(process, handler, *arguments)

    # Steps.

    def _step(self, process: Process, handler: Handler, *arguments: Any) -> None:
        if self.is_over:
            return
        try:
            handler(*arguments)
        except Exception as error:
            self._end_all(process, error)
            return
        changes = dict(process._changes)
        process._changes.clear()
        sends, process._outbox = process._outbox, []
        spawned, process._spawned = process._spawned, []
        if changes or sends or spawned:
            self._commits.put_nowait((process, changes, sends, spawned))
        if process._is_over:
            self._processes.pop(process.id, None)
        if self._stepped is not None:
            self._stepped(process)

    async def _write(self) -> None:
        """Commits in the order of the steps; many that wait go together."""
        while True:
            batch = [await self._commits.get()]
            while not self._commits.empty():
                batch.append(self._commits.get_nowait())
            try:
                for process, changes, _, _ in batch:
                    if changes:
                        waited = self._journal.commit(process.id, changes)
                        await waited
            except Exception as error:
                self._end_all(batch[0][0], error)
                return
            for process, _, sends, spawned in batch:
                self._let_out(process, sends, spawned)

    def _let_out(self, process: Process, sends: list[Any], spawned: list[Any]) -> None:
        for kind, name, options in spawned:
            self.start(kind, process._place._replace(id=name, group=name), options)
        for to, message, number, answers in sends:
            if to in self._processes:
                loop = asyncio.get_running_loop()
                loop.call_soon(self._local, to, process.id, message, number, answers)
            else:
                self._transmit(process.id, Envelope(to, message, number, answers))

    def _local(self, to: Id, sender: Id, message: Any, number: int, answers: int) -> None:
        if to in self._processes:
            self.deliver(to, sender, message, number, answers)

    def _end_all(self, process: Process, error: BaseException) -> None:
        if not self.is_over:
            self.is_over = True
            self._processes.clear()
            self._failed(process, error)
