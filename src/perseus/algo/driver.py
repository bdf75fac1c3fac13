"""Drives the processes of one node for real: timers of an asyncio loop, a journal, a network.

The rule of the simulator holds here too: what a step made durable is in the journal
before anything that it sent leaves; commits keep their order, and many that wait go to the
disk together; a handler that raises ends the node. ``maelstrom`` and ``hosting`` stand on this.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from perseus.algo.durability import Changes, Key, apply
from perseus.algo.kept import Kept, opened
from perseus.algo.process import Envelope, Handler, Id, Place, Process
from perseus.algo.values import Values
from perseus.errors import FullError, NotFoundError

# Steps whose commits are under way; a node that outruns its disk by more has failed.
COMMITS_MAXIMUM = 100_000


@dataclass(slots=True)
class Step:
    """One step of a process: all that it was given, and all that it did."""

    process: Process
    # "start", "receive" or "timer".
    kind: str
    # What it was given: (sender, message, number, answers, mark), (number of the timer, name),
    # or (what was durable,). Messages and values as they came, copies where they could change.
    given: tuple[Any, ...]
    # The time in it, all along.
    now_s: float
    # What chance gave it, in order.
    drawn: list[Any] = field(default_factory=list)
    # As they were when it ended, and was sent: copies where they could change.
    changes: Changes = field(default_factory=dict)
    sends: list[tuple[Id, Any, int, int]] = field(default_factory=list)
    spawned: list[tuple[type[Process], Id, dict[str, Any]]] = field(default_factory=list)
    # Of what it sends: the mark of the first; the others follow.
    first_mark: int = 0


class Journal(Protocol):
    """Durable state of the processes of one node."""

    def load(self, process_id: Id) -> Mapping[Key, Any]:
        """What was committed, made anew; GONE keys are not there."""

    async def commit(self, batch: Sequence[tuple[Id, Changes]]) -> None:
        """All of them durable when it returns, in their order; called once at a time."""


class MemoryJournal:
    """Keeps nothing past the end of the program."""

    def __init__(self) -> None:
        self._disks: dict[Id, dict[Key, Any]] = {}

    def load(self, process_id: Id) -> Mapping[Key, Any]:
        """What was committed in this program."""
        return {key: opened(value) for key, value in self._disks.get(process_id, {}).items()}

    async def commit(self, batch: Sequence[tuple[Id, Changes]]) -> None:
        """At once."""
        for process_id, changes in batch:
            apply(self._disks.setdefault(process_id, {}), changes)


class _Chance:
    """A process's chance, from the operating system; ``drawn`` is what it gave."""

    def __init__(self) -> None:
        self._source = random.SystemRandom()
        self.drawn: list[Any] = []

    def random(self) -> float:
        """From 0 up to but not including 1."""
        return self._keep(self._source.random())

    def uniform(self, low: float, high: float) -> float:
        """Between ``low`` and ``high``."""
        return self._keep(self._source.uniform(low, high))

    def below(self, count: int) -> int:
        """From 0 up to but not including ``count``."""
        value = self._source.randrange(count)
        self.drawn.append(value)
        return value

    def _keep(self, value: float) -> float:
        self.drawn.append(value)
        return value


class _Timer:
    def __init__(self, number: int) -> None:
        self.number = number
        self.handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """It does not fire."""
        if self.handle is not None:
            self.handle.cancel()


def _unnoted(now_s: float) -> None:
    """For whom nobody looks."""


class Driver:
    """The processes of one node; ``failed`` is told of the exception that ends it."""

    def __init__(
        self,
        journal: Journal,
        transmit: Callable[[Id, Envelope, int], None],
        failed: Callable[[Process, BaseException], None],
        values: Values,
        settled: Callable[[Sequence[Step]], None] | None = None,
        stepping: Callable[[float], None] | None = None,
        knows: Callable[[Id], bool] = lambda to: False,
    ) -> None:
        """``values`` takes what is sent and kept. ``transmit`` gets a sender, what it sends and
        its mark, which no other message of this driver has. ``settled`` is told of steps, in
        their order, when they are durable and before anything that they sent leaves.
        ``stepping`` is told the time when a handler is called, and 0 when it has returned.
        ``knows`` says whether there is somebody who is in no group of the layout."""
        self._journal = journal
        self._transmit = transmit
        self._failed = failed
        self._settled = settled
        self._stepping = stepping or _unnoted
        self.taken = values.taken
        self.knows = knows
        self._processes: dict[Id, Process] = {}
        self._commits: asyncio.Queue[Step] = asyncio.Queue()
        self._writing: asyncio.Task[None] | None = None
        self._marks = 0
        # Timers are known by their numbers, which each process counts from its start.
        self._timers: dict[Id, int] = {}
        # The time of the step that is being taken: within it no time passes.
        self._now_s: float | None = None
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
        found = self._journal.load(place.id)
        disk = {key: self.taken(value) for key, value in found.items()}
        process = kind._host_create(place, self, _Chance(), disk, options or {})
        self._processes[place.id] = process
        self._timers[place.id] = 0
        self._step(process, "start", (disk,), process._host_start)
        return process

    def deliver(
        self,
        to: Id,
        sender: Id,
        message: Any,
        number: int = 0,
        answers: int = 0,
        mark: tuple[int, int] = (0, 0),
    ) -> None:
        """A message has come; raises NotFoundError when its process is not here. ``mark`` is
        the life of its sender and the message's mark in it."""
        process = self._processes.get(to)
        if process is None:
            raise NotFoundError(f"there is no process {to} here")
        if message.__class__ is not Kept:
            message = self.taken(message)
        given = (sender, message, number, answers, mark)
        arguments = (sender, opened(message), number, answers)
        self._step(process, "receive", given, process._host_deliver, *arguments)

    async def close(self) -> None:
        """Ends all processes, as a crash does: what is not committed is lost."""
        self.is_over = True
        self._processes.clear()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    # The host's half.

    def now_s(self, process: Process) -> float:
        """Monotonic seconds of this machine (on Linux since it was switched on, less the time
        that it slept); within a step no time passes."""
        return asyncio.get_running_loop().time() if self._now_s is None else self._now_s

    def after(
        self, process: Process, seconds: float, handler: Handler, arguments: tuple[Any, ...]
    ) -> _Timer:
        """Fires as a step of its own while the process lives."""
        timer = _Timer(self._timers.get(process.id, 0))
        self._timers[process.id] = timer.number + 1
        loop = asyncio.get_running_loop()
        timer.handle = loop.call_later(seconds, self._fire, process, timer, handler, arguments)
        return timer

    def _fire(
        self, process: Process, timer: _Timer, handler: Handler, arguments: tuple[Any, ...]
    ) -> None:
        if self._processes.get(process.id) is process:
            given = (timer.number, getattr(handler, "__name__", ""))
            self._step(process, "timer", given, handler, *arguments)

    # Steps.

    def _step(
        self,
        process: Process,
        kind: str,
        given: tuple[Any, ...],
        handler: Handler,
        *arguments: Any,
    ) -> None:
        if self.is_over:
            return
        self._now_s = asyncio.get_running_loop().time()
        self._stepping(self._now_s)
        step = Step(process, kind, given, self._now_s)
        try:
            handler(*arguments)
            step.changes = process._host_changes()
        except Exception as error:
            self._end_all(process, error)
            return
        finally:
            self._now_s = None
            self._stepping(0.0)
        chance = process.random
        assert isinstance(chance, _Chance)
        step.drawn, chance.drawn = chance.drawn, []
        step.sends, process._outbox = process._outbox, []
        step.spawned, process._spawned = process._spawned, []
        if process._is_over:
            self._processes.pop(process.id, None)
        if self._settled is not None or step.changes or step.sends or step.spawned:
            self._commits.put_nowait(step)
        if self._commits.qsize() > COMMITS_MAXIMUM:
            self._end_all(process, FullError(f"{COMMITS_MAXIMUM} steps wait for the disk"))

    async def _write(self) -> None:
        """Commits in the order of the steps; many that wait go together."""
        while True:
            batch = [await self._commits.get()]
            while not self._commits.empty():
                batch.append(self._commits.get_nowait())
            try:
                changed = [(step.process.id, step.changes) for step in batch if step.changes]
                if changed:
                    await self._journal.commit(changed)
                self._mark(batch)
                if self._settled is not None:
                    self._settled(batch)
                for step in batch:
                    self._let_out(step)
            except Exception as error:
                self._end_all(batch[0].process, error)
                return

    def _mark(self, batch: Sequence[Step]) -> None:
        for step in batch:
            step.first_mark = self._marks + 1
            self._marks += len(step.sends)

    def _let_out(self, step: Step) -> None:
        process = step.process
        for kind, name, options in step.spawned:
            self.start(kind, process._place._replace(id=name, group=name), options)
        for mark, (to, message, number, answers) in enumerate(step.sends, step.first_mark):
            if to in self._processes:
                loop = asyncio.get_running_loop()
                arguments = (message, number, answers, (process.restarts, mark))
                loop.call_soon(self._local, to, process.id, *arguments)
            else:
                self._transmit(process.id, Envelope(to, message, number, answers), mark)

    def _local(
        self,
        to: Id,
        sender: Id,
        message: Any,
        number: int,
        answers: int,
        mark: tuple[int, int],
    ) -> None:
        if to in self._processes:
            self.deliver(to, sender, message, number, answers, mark)

    def _end_all(self, process: Process, error: BaseException) -> None:
        if not self.is_over:
            self.is_over = True
            self._processes.clear()
            self._failed(process, error)
