"""The output of a job from the first byte, live while it runs, for any client at any time.

Bytes come from where they are: of an attempt that runs, from its node; of a task
that has ended, from the filestore. A task that ends within LIVE_DELAY_S of
running is read from the filestore at once, and its node is never dialled. Stdout
and stderr are read at the same time; each is shown once and in order.

When an attempt is lost while its output is shown, the next attempt's output is
shown from where the first one's ended, after comparing what comes before by
checksum; when it differs, the stream says so.

Of several tasks, all of the first is shown, then all of the second, and so on;
the states of those that take no longer than LIVE_DELAY_S are not told one by one.
At most QUEUE_EVENTS pieces are held for a client that is slow.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from perseus.errors import PerseusError
from perseus.jobs import records
from perseus.jobs.follow_watch import Watch, Watches
from perseus.jobs.records import ENDED_STATES, FINISHED, PENDING, RUNNING, Entry, TaskRecord
from perseus.jobs.state_ends import thawed
from perseus.jobs.state_job import Job, folder_of
from perseus.jobs.views import ending_message, job_ending
from perseus.proto.v1 import jobs_pb2

LIVE_DELAY_S = 0.025
# A task that waits longer for a node is told of, with the reason.
WAIT_TOLD_S = 1.0
# Between two tries to read from a node that does not answer.
LIVE_RETRY_S = 1.0
QUEUE_EVENTS = 8
PIECE_MAXIMUM_BYTES = 256 << 10
# After so many tasks without a wait others get their turn.
TASKS_PER_TURN = 256
# What a follower is told of besides states.
_TOLD_CAUSES = frozenset(
    (
        records.CAUSE_LOST,
        records.CAUSE_FAILED_AGAIN,
        records.CAUSE_GIVEN_UP,
        records.CAUSE_STOPPED,
        records.CAUSE_THAWED,
    )
)


class Sources(Protocol):
    """Where outputs are read from."""

    def read_output(
        self, node_id: str, attempt: str, stderr: bool, offset_bytes: int, follow: bool
    ) -> AsyncIterator[bytes]:
        """What an attempt has written, from its node; with ``follow`` until it has ended.
        Raises PerseusError when the node does not answer or does not know the attempt."""

    def read_file(self, path: str, offset_bytes: int) -> AsyncIterator[bytes]:
        """A file of the filestore from there to its end; raises PerseusError."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a follower wants to see."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = True
    # One task alone; None for all.
    task: int | None = None
    stdout_offset_bytes: int = 0
    stderr_offset_bytes: int = 0


class _Shown:
    """How far one stream of one task was shown, and the checksum of it."""

    __slots__ = ("attempt", "base", "checksum", "differing", "position", "stderr")

    def __init__(self, stderr: bool, base: int) -> None:
        self.stderr = stderr
        # Where showing began; what is before it the client has from elsewhere.
        self.base = base
        self.position = base
        self.checksum = 0
        # Whose output was shown; 0 before any.
        self.attempt = 0
        # The attempt whose output was found to differ from what was shown, once told.
        self.differing = 0

    @property
    def name(self) -> str:
        return "stderr" if self.stderr else "stdout"

    def event(self, job_id: str, index: int, piece: bytes) -> jobs_pb2.FollowEvent:
        if self.stderr:
            return jobs_pb2.FollowEvent(job_id=job_id, task=index, stderr=piece)
        return jobs_pb2.FollowEvent(job_id=job_id, task=index, stdout=piece)

    def add(self, piece: bytes) -> None:
        self.checksum = zlib.crc32(piece, self.checksum)
        self.position += len(piece)


class Follower:
    """One client's view of one job; ``events`` is what it is sent. ``why`` says in a
    sentence why the job waits, or nothing."""

    def __init__(
        self,
        job: Job,
        wanted: Wanted,
        sources: Sources,
        watches: Watches,
        why: Callable[[], str],
    ) -> None:
        self._job = job
        self._wanted = wanted
        self._sources = sources
        self._watches = watches
        self._why = why
        # Why it waits, as it was told last.
        self._told_why = ""
        # What is still to be skipped of each stream, counted over all tasks.
        self._offsets = [wanted.stdout_offset_bytes, wanted.stderr_offset_bytes]
        # Of the task being shown: what was told last, and which entries of its history.
        self._told: tuple[int, str, int] | None = None
        self._told_entries: set[Entry] = set()

    async def events(self) -> AsyncGenerator[jobs_pb2.FollowEvent, None]:
        """The events; the first comes at once. To be closed with ``aclose`` when done early."""
        job, wanted = self._job, self._wanted
        yield jobs_pb2.FollowEvent(
            job_id=job.job_id,
            state=job.state,  # type: ignore[arg-type]
        )
        one = wanted.task
        indexes = range(job.record.count) if one is None else range(one, one + 1)
        for index in indexes:
            if index % TASKS_PER_TURN == TASKS_PER_TURN - 1:
                await asyncio.sleep(0)
            if self._nothing_to_show(index):
                self._pass(job.task(index))
                continue
            async with aclosing(self._task(index)) as events:
                async for event in events:
                    yield event
            self._pass(job.task(index))
        last = self._last()
        if last is not None:
            yield last

    def _nothing_to_show(self, index: int) -> bool:
        """Of a job of several tasks, those that ended well without a word."""
        task = self._job.task(index)
        return (
            task.state == FINISHED
            and not task.stdout_bytes
            and not task.stderr_bytes
            and self._job.record.count > 1
            and self._wanted.task is None
        )

    def _pass(self, task: TaskRecord) -> None:
        """Counts a task as shown."""
        self._offsets[0] = max(0, self._offsets[0] - task.stdout_bytes)
        self._offsets[1] = max(0, self._offsets[1] - task.stderr_bytes)

    def _last(self) -> jobs_pb2.FollowEvent | None:
        job, one = self._job, self._wanted.task
        event = jobs_pb2.FollowEvent(job_id=job.job_id)
        if one is not None:
            task = job.task(one)
            if task.state not in ENDED_STATES:
                return None
            event.task = one
            event.state = task.state  # type: ignore[assignment]
            event.ending.CopyFrom(
                jobs_pb2.Ending() if task.ending is None else ending_message(task.ending)
            )
            return event
        if job.active:
            return None
        event.state = job.state  # type: ignore[assignment]
        event.ending.CopyFrom(job_ending(job))
        return event

    # One task.

    async def _task(self, index: int) -> AsyncGenerator[jobs_pb2.FollowEvent, None]:
        self._told = None
        self._told_entries = set(self._job.task(index).history)
        streams = [
            _Shown(stderr, self._offsets[stderr])
            for stderr, wanted in ((False, self._wanted.stdout), (True, self._wanted.stderr))
            if wanted
        ]
        async with aclosing(self._await_output(index)) as waiting:
            async for event in waiting:
                yield event
        task = self._job.task(index)
        if task.state in ENDED_STATES:
            source = self._committed(index, streams)
        elif task.state == RUNNING or self._wanted.follow:
            source = self._live(index, streams)
        else:
            return
        async with aclosing(source) as events:
            async for event in events:
                yield event

    async def _await_output(self, index: int) -> AsyncGenerator[jobs_pb2.FollowEvent, None]:
        """Until the task has ended, or has run for a moment."""
        with self._watches.watch(self._job.job_id) as watch:
            while True:
                for event in self._news(index, states=self._job.record.count == 1):
                    yield event
                state = self._job.task(index).state
                if state in ENDED_STATES or not self._wanted.follow:
                    return
                if state == PENDING and not await watch.changed(WAIT_TOLD_S):
                    for event in self._waits(index):
                        yield event
                    await watch.changed()
                elif state == PENDING:
                    continue
                elif state != RUNNING:
                    await watch.changed()
                elif not await watch.changed(LIVE_DELAY_S):
                    return

    def _news(self, index: int, states: bool = True) -> list[jobs_pb2.FollowEvent]:
        """What is to be told of the task since the last time."""
        events = []
        task = self._job.task(index)
        job_id = self._job.job_id
        for entry in task.history:
            if entry.cause in _TOLD_CAUSES and entry not in self._told_entries:
                self._told_entries.add(entry)
                events.append(self._message(index, _sentence(entry)))
        now = (task.state, task.node, task.attempt)
        if states and now != self._told:
            self._told = now
            events.append(
                jobs_pb2.FollowEvent(
                    job_id=job_id,
                    task=index,
                    state=task.state,  # type: ignore[arg-type]
                    node=task.node,
                    attempt=task.attempt,
                )
            )
        return events

    def _waits(self, index: int) -> list[jobs_pb2.FollowEvent]:
        """Why a task still waits, when that was not told yet."""
        why = self._why()
        if not why or why == self._told_why:
            return []
        self._told_why = why
        return [self._message(index, why)]

    def _message(self, index: int, sentence: str) -> jobs_pb2.FollowEvent:
        prefix = f"task {index}: " if self._job.record.count > 1 else ""
        return jobs_pb2.FollowEvent(
            job_id=self._job.job_id, task=index, message=f"{prefix}{sentence}"
        )

    async def _committed(
        self, index: int, streams: list[_Shown]
    ) -> AsyncGenerator[jobs_pb2.FollowEvent, None]:
        """The rest of a task that has ended, one stream after the other."""
        for shown in streams:
            async with aclosing(self._rest(index, shown)) as events:
                async for event in events:
                    yield event

    async def _rest(self, index: int, shown: _Shown) -> AsyncGenerator[jobs_pb2.FollowEvent, None]:
        """What is kept of a stream and was not shown yet."""
        task = self._job.task(index)
        same = shown.attempt in (0, task.attempt)
        if not task.committed:
            if shown.position > shown.base:
                yield self._message(index, f"what was shown of its {shown.name} is not kept")
            return
        size_bytes = task.stderr_bytes if shown.stderr else task.stdout_bytes
        if same and size_bytes <= shown.position:
            return
        path = f"{folder_of(self._job.job_id)}/{index}/{shown.name}"
        pieces = self._sources.read_file(path, shown.position if same else shown.base)
        try:
            async with aclosing(self._beyond(index, shown, pieces, task.attempt)) as events:
                async for event in events:
                    yield event
        except PerseusError as error:
            said = f"the rest of its {shown.name} is missing: {error.message}"
            told = self._message(index, said)
            told.missing = True
            yield told

    async def _beyond(
        self, index: int, shown: _Shown, pieces: AsyncIterator[bytes], attempt: int
    ) -> AsyncGenerator[jobs_pb2.FollowEvent, None]:
        """Of an attempt's output what was not shown: all of ``pieces`` for the attempt that is
        being shown, else ``pieces`` begin at the base, and what was shown is compared."""
        to_compare = 0 if shown.attempt in (0, attempt) else shown.position - shown.base
        comparing, checksum = to_compare > 0, 0
        async with aclosing(_closable(pieces)) as closable:
            async for piece in closable:
                if comparing:
                    begin, piece = piece[:to_compare], piece[to_compare:]
                    checksum = zlib.crc32(begin, checksum)
                    to_compare -= len(begin)
                    if to_compare:
                        continue
                    comparing = False
                    if checksum != shown.checksum and shown.differing != attempt:
                        yield self._differs(index, shown, attempt)
                shown.attempt = attempt
                for offset in range(0, len(piece), PIECE_MAXIMUM_BYTES):
                    part = bytes(piece[offset : offset + PIECE_MAXIMUM_BYTES])
                    yield shown.event(self._job.job_id, index, part)
                    # Only now is it taken: whoever is cancelled before will show it again.
                    shown.add(part)
        if comparing and shown.differing != attempt and self._ended(index):
            yield self._differs(index, shown, attempt)

    def _ended(self, index: int) -> bool:
        return self._job.task(index).state in ENDED_STATES

    def _differs(self, index: int, shown: _Shown, attempt: int) -> jobs_pb2.FollowEvent:
        shown.differing = attempt
        return self._message(
            index,
            f"the {shown.name} shown so far came from an attempt that was lost, and differs from "
            f"what is kept; to see that: perseus logs {self._job.job_id}",
        )

    # Live.

    async def _live(
        self, index: int, streams: list[_Shown]
    ) -> AsyncGenerator[jobs_pb2.FollowEvent, None]:
        """Both streams at once, through one bounded queue."""
        queue: asyncio.Queue[Any] = asyncio.Queue(QUEUE_EVENTS)
        work = [self._pump(index, shown, queue) for shown in streams]
        if self._wanted.follow:
            work.append(self._narrate(index, queue))
        tasks = [asyncio.create_task(_into(queue, part)) for part in work]
        left = len(tasks)
        try:
            while left:
                item = await queue.get()
                if isinstance(item, jobs_pb2.FollowEvent):
                    yield item
                elif item is None:
                    left -= 1
                else:
                    raise item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _narrate(self, index: int, queue: "asyncio.Queue[Any]") -> None:
        with self._watches.watch(self._job.job_id) as watch:
            while True:
                for event in self._news(index):
                    await queue.put(event)
                if self._job.task(index).state in ENDED_STATES:
                    return
                await watch.changed()

    async def _pump(self, index: int, shown: _Shown, queue: "asyncio.Queue[Any]") -> None:
        """Shows one stream until its task has ended."""
        with self._watches.watch(self._job.job_id) as watch:
            while True:
                for event in self._news(index):
                    await queue.put(event)
                task = self._job.task(index)
                if task.state in ENDED_STATES:
                    await _put_all(queue, self._rest(index, shown))
                    return
                if task.state == RUNNING:
                    attempt = task.attempt
                    copy = self._copy(index, shown, queue)
                    is_whole = await self._while_it_runs(index, attempt, copy)
                    if self._wanted.follow:
                        await self._until_over(index, attempt, watch)
                    elif not is_whole:
                        await self._tell_unread(index, shown, queue, task.node)
                elif self._wanted.follow:
                    await watch.changed()
                if not self._wanted.follow:
                    return

    def _runs(self, index: int, attempt: int) -> bool:
        task = self._job.task(index)
        return task.state == RUNNING and task.attempt == attempt

    async def _until_over(self, index: int, attempt: int, watch: Watch) -> None:
        """Until the attempt is over, or it is time to ask its node again: other tasks of the
        job that change are no reason to."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + LIVE_RETRY_S
        while self._runs(index, attempt) and (left_s := ends_s - loop.time()) > 0:
            await watch.changed(left_s)

    async def _tell_unread(
        self, index: int, shown: _Shown, queue: "asyncio.Queue[Any]", node: str
    ) -> None:
        """Of an output that could not be read to where it is now, when nobody looks again."""
        if self._ended(index):
            await _put_all(queue, self._rest(index, shown))
            return
        told = self._message(
            index,
            f"node {node} does not give its {shown.name} just now, so what is shown may not be all "
            f"of it; once more, and on as it comes: perseus logs -f {self._job.job_id}",
        )
        told.missing = True
        await queue.put(told)

    async def _while_it_runs(
        self, index: int, attempt: int, copy: Coroutine[Any, Any, bool]
    ) -> bool:
        """Copies until the attempt's stream ends, or the master knows that the attempt is over:
        a node that is gone may leave a stream without an end. Whether the stream came to its
        end."""
        copying = asyncio.create_task(copy)
        with self._watches.watch(self._job.job_id) as watch:
            try:
                while self._runs(index, attempt):
                    change = asyncio.create_task(watch.changed())
                    try:
                        await asyncio.wait((copying, change), return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        change.cancel()
                    if copying.done():
                        return copying.result()
                return False
            finally:
                copying.cancel()
                await asyncio.gather(copying, return_exceptions=True)

    async def _copy(self, index: int, shown: _Shown, queue: "asyncio.Queue[Any]") -> bool:
        """What the attempt that runs has written, from its node; whether all of it came."""
        task = self._job.task(index)
        attempt = f"{self._job.job_id}.{index}.{task.attempt}"
        same = shown.attempt in (0, task.attempt)
        offset_bytes = shown.position if same else shown.base
        pieces = self._sources.read_output(
            task.node_id, attempt, shown.stderr, offset_bytes, self._wanted.follow
        )
        try:
            await _put_all(queue, self._beyond(index, shown, pieces, task.attempt))
        except PerseusError:
            # The node does not answer just now, or the attempt has just ended: the caller
            # looks again, and what the node's loss means the master says.
            return False
        return True


async def _into(queue: "asyncio.Queue[Any]", work: Coroutine[Any, Any, None]) -> None:
    """Does the work; its end or its error comes through the queue."""
    try:
        await work
    except Exception as error:
        await queue.put(error)
    else:
        await queue.put(None)


async def _put_all(
    queue: "asyncio.Queue[Any]", events: AsyncGenerator[jobs_pb2.FollowEvent, None]
) -> None:
    async with aclosing(events):
        async for event in events:
            await queue.put(event)


async def _closable(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """A generator around any iterator, closing it when it is one itself."""
    try:
        async for piece in pieces:
            yield piece
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()


def _sentence(entry: Entry) -> str:
    if entry.cause == records.CAUSE_STOPPED:
        return f"attempt {entry.attempt} on {entry.who} {entry.detail}"
    if entry.cause == records.CAUSE_THAWED:
        return f"attempt {entry.attempt} {thawed(entry.who)}"
    what = {
        records.CAUSE_LOST: "was lost with",
        records.CAUSE_FAILED_AGAIN: "failed on",
        records.CAUSE_GIVEN_UP: "was given up on",
    }[entry.cause]
    reason = f": {entry.detail}" if entry.detail else ""
    return f"attempt {entry.attempt} {what} {entry.who}{reason}"
