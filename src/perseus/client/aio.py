"""The same API for asyncio: ``await perseus.connect_async()`` or ``perseus.aio.connect()``.

Names, arguments and words are those of ``perseus.client.cluster``, from which the
methods are made (``awaited``, ``iterated``); what waits is
awaited, also a property that asks the cluster (``await task.exit_code``), and what
iterates is iterated with ``async for``. The calls run on threads of the cluster's own,
at most THREADS_MAXIMUM at once. A call that is cancelled gives up what it waits for and
leaves its thread; only the one that reads a running task's stream for all who wait for
that task keeps it until something comes, and up to LEFT_MAXIMUM of these cost nobody else.
"""

import asyncio
import contextlib
import functools
import os
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, Unpack

from perseus.client import cluster as sync
from perseus.client import giving_up
from perseus.client.cluster import RunOptions, SubmitOptions
from perseus.client.context import Context
from perseus.client.files import AnyPath, File, Files
from perseus.client.jobs import Job, Task
from perseus.client.messages import Ending
from perseus.client.output import Output

THREADS_MAXIMUM = 64
# Threads of cancelled calls that are still waiting, beside those.
LEFT_MAXIMUM = 192

Result = TypeVar("Result")
# The blocking side's class, and what a method of it is given.
Blocking = TypeVar("Blocking")
Given = ParamSpec("Given")
Wrapper = TypeVar("Wrapper", bound=Callable[..., Any])


async def connect(
    context: "str | os.PathLike[str] | Context | None" = None,
) -> "AsyncCluster":
    """The cluster of ``context``, as ``perseus.connect`` finds it."""
    return AsyncCluster(await asyncio.to_thread(sync.connect, context))


connect_async = connect


class _Pool:
    """The threads that one AsyncCluster's calls run on."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS_MAXIMUM + LEFT_MAXIMUM, "perseus-aio")
        # Calls that somebody waits for.
        self._room = asyncio.Semaphore(THREADS_MAXIMUM)

    async def call(self, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
        """Runs a blocking call beside the event loop; when cancelled, it is given up."""
        call = giving_up.Call()

        def run() -> Result:
            with giving_up.running(call):
                return function(*args, **options)

        async with self._room:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, run)
            except asyncio.CancelledError:
                call.give_up()
                raise

    async def iterate(self, begin: Callable[[], Iterator[Result]]) -> AsyncIterator[Result]:
        """Takes the items of an iterator one by one; leaving early closes it."""
        items = await self.call(begin)
        end = object()
        try:
            while (item := await self.call(next, items, end)) is not end:
                yield item
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                # A generator that waits in its thread cannot be closed; it ends by itself.
                with contextlib.suppress(ValueError):
                    close()

    def close(self) -> None:
        """Takes no more calls."""
        self._threads.shutdown(wait=False)


class _Beside(Generic[Blocking]):
    """An object of the blocking side, and the threads that its calls run on."""

    def __init__(self, blocking: Blocking, pool: _Pool) -> None:
        self._blocking = blocking
        self._pool = pool


def awaited(
    method: Callable[Concatenate[Blocking, Given], Result],
) -> Callable[Concatenate[_Beside[Blocking], Given], Coroutine[Any, Any, Result]]:
    """A method of the blocking side to be awaited, with its arguments and its words."""

    @_named_after(method)
    async def call(
        self: _Beside[Blocking], /, *arguments: Given.args, **options: Given.kwargs
    ) -> Result:
        return await self._pool.call(method, self._blocking, *arguments, **options)

    return call


def iterated(
    method: Callable[Concatenate[Blocking, Given], Iterator[Result]],
) -> Callable[Concatenate[_Beside[Blocking], Given], AsyncIterator[Result]]:
    """One that iterates, for ``async for``; it begins with the first item."""

    @_named_after(method)
    async def iterate(
        self: _Beside[Blocking], /, *arguments: Given.args, **options: Given.kwargs
    ) -> AsyncIterator[Result]:
        begin = functools.partial(method, self._blocking, *arguments, **options)
        async for item in self._pool.iterate(begin):
            yield item

    return iterate


def _named_after(method: Callable[..., Any]) -> Callable[[Wrapper], Wrapper]:
    """What ``functools.wraps`` does, but for where it stands: in the class Async... of here."""

    def name(wrapper: Wrapper) -> Wrapper:
        functools.update_wrapper(wrapper, method, ("__name__", "__doc__", "__annotations__"))
        wrapper.__qualname__ = f"Async{method.__qualname__}"
        return wrapper

    return name


class AsyncCluster(_Beside[sync.Cluster]):
    """``Cluster`` for asyncio; use it in an ``async with`` block."""

    def __init__(self, cluster: sync.Cluster) -> None:
        super().__init__(cluster, _Pool())
        self.context = cluster.context
        self.fs = AsyncFiles(cluster.fs, self._pool)

    async def __aenter__(self) -> "AsyncCluster":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """As ``Cluster.close``: whatever still waits ends with UnavailableError."""
        # Not on the pool: calls that wait may have all its threads.
        await asyncio.to_thread(self._blocking.close)
        self._pool.close()

    async def run(self, argv: Sequence[str], **options: Unpack[RunOptions]) -> "AsyncTask":
        """As ``Cluster.run``."""
        given = _unwrapped_options(options)
        return AsyncTask(await self._pool.call(self._blocking.run, argv, **given), self._pool)

    async def submit(self, argv: Sequence[str], **options: Unpack[SubmitOptions]) -> "AsyncJob":
        """As ``Cluster.submit``."""
        given = _unwrapped_options(options)
        return AsyncJob(await self._pool.call(self._blocking.submit, argv, **given), self._pool)

    async def job(self, job_id: str) -> "AsyncJob":
        """As ``Cluster.job``."""
        return AsyncJob(await self._pool.call(self._blocking.job, job_id), self._pool)

    jobs = awaited(sync.Cluster.jobs)

    async def open(self, path: AnyPath, mode: str = "r") -> "AsyncFile":
        """As ``Cluster.open``; use it in an ``async with`` block."""
        return await self.fs.open(path, mode)

    info = awaited(sync.Cluster.info)
    nodes = awaited(sync.Cluster.nodes)
    update_node = awaited(sync.Cluster.update_node)
    remove_node = awaited(sync.Cluster.remove_node)
    diagnose = awaited(sync.Cluster.diagnose)
    create_token = awaited(sync.Cluster.create_token)
    tokens = awaited(sync.Cluster.tokens)
    revoke_token = awaited(sync.Cluster.revoke_token)


class AsyncJob(_Beside[Job]):
    """``Job`` for asyncio."""

    def __init__(self, job: Job, pool: _Pool) -> None:
        super().__init__(job, pool)
        self.job_id = job.job_id

    @property
    def state(self) -> Coroutine[Any, Any, str]:
        """As ``Job.state``, awaited."""
        return self._pool.call(lambda: self._blocking.state)

    @property
    def exit_code(self) -> Coroutine[Any, Any, int | None]:
        """As ``Job.exit_code``, awaited."""
        return self._pool.call(lambda: self._blocking.exit_code)

    info = awaited(Job.info)
    wait = awaited(Job.wait)

    async def task(self, index: int) -> "AsyncTask":
        """As ``Job.task``."""
        return AsyncTask(await self._pool.call(self._blocking.task, index), self._pool)

    async def tasks(self) -> "AsyncIterator[AsyncTask]":
        """As ``Job.tasks``, for ``async for``."""
        async for task in self._pool.iterate(self._blocking.tasks):
            yield AsyncTask(task, self._pool)

    follow = iterated(Job.follow)
    kill = awaited(Job.kill)
    retry = awaited(Job.retry)
    why = awaited(Job.why)


class AsyncOutput(_Beside[Output]):
    """``Output`` for asyncio."""

    def __init__(self, output: Output, pool: _Pool) -> None:
        super().__init__(output, pool)
        self.path = output.path

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.lines()

    lines = iterated(Output.lines)
    chunks = iterated(Output.chunks)
    read = awaited(Output.read)
    text = awaited(Output.text)


class AsyncTask(_Beside[Task]):
    """``Task`` for asyncio."""

    def __init__(self, task: Task, pool: _Pool) -> None:
        super().__init__(task, pool)
        self.job_id = task.job_id
        self.index = task.index
        self.stdout = AsyncOutput(task.stdout, pool)
        self.stderr = AsyncOutput(task.stderr, pool)

    async def __aenter__(self) -> "AsyncTask":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def job(self) -> AsyncJob:
        """As ``Task.job``."""
        return AsyncJob(self._blocking.job, self._pool)

    @property
    def exit_code(self) -> Coroutine[Any, Any, int | None]:
        """As ``Task.exit_code``, awaited."""
        return self._pool.call(lambda: self._blocking.exit_code)

    @property
    def ending(self) -> Coroutine[Any, Any, Ending | None]:
        """As ``Task.ending``, awaited."""
        return self._pool.call(lambda: self._blocking.ending)

    @property
    def messages(self) -> list[str]:
        """As ``Task.messages``."""
        return self._blocking.messages

    wait = awaited(Task.wait)
    info = awaited(Task.info)
    kill = awaited(Task.kill)
    retry = awaited(Task.retry)
    why = awaited(Task.why)

    async def close(self) -> None:
        """As ``Task.close``."""
        # Not on the pool: calls that wait may have all its threads.
        await asyncio.to_thread(self._blocking.close)


class AsyncFile(_Beside[File]):
    """``File`` for asyncio: a binary file whose calls are awaited. Leaving its ``async
    with`` block by an exception leaves no half-written file behind."""

    def __init__(self, file: File, pool: _Pool) -> None:
        super().__init__(file, pool)
        self.path = file.path
        self.name = file.name
        self.mode = file.mode

    async def __aenter__(self) -> "AsyncFile":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await (self.close() if kind is None else self.abandon())

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pool.iterate(lambda: iter(self._blocking))

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._blocking.closed

    async def read(self, size: int = -1) -> bytes:
        """As ``File.read``: up to ``size`` bytes, all with -1."""
        return await self._pool.call(self._blocking.read, size) or b""

    write = awaited(File.write)
    flush = awaited(File.flush)
    seek = awaited(File.seek)

    def tell(self) -> int:
        """As ``File.tell``."""
        return self._blocking.tell()

    close = awaited(File.close)
    abandon = awaited(File.abandon)


def _unwrapped_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``run`` with our files and outputs as those of the blocking side."""
    given = dict(options)
    if "stdin" in given:
        given["stdin"] = _unwrapped(given["stdin"])
    if given.get("files"):
        given["files"] = {name: _unwrapped(file) for name, file in given["files"].items()}
    return given


def _unwrapped(value: Any) -> Any:
    if isinstance(value, AsyncFile):
        return value._blocking
    return value._blocking if isinstance(value, AsyncOutput) else value


class AsyncFiles(_Beside[Files]):
    """``Files`` for asyncio. ``progress`` and ``pieces`` are called, and taken, in a thread."""

    stat = awaited(Files.stat)
    exists = awaited(Files.exists)
    ls = awaited(Files.ls)
    mkdir = awaited(Files.mkdir)
    mv = awaited(Files.mv)
    rm = awaited(Files.rm)
    df = awaited(Files.df)
    iterate = iterated(Files.iterate)

    async def open(self, path: AnyPath, mode: str = "r") -> AsyncFile:
        """As ``Files.open``; use it in an ``async with`` block."""
        return AsyncFile(await self._pool.call(self._blocking.open, path, mode), self._pool)

    cat = iterated(Files.cat)
    tail = iterated(Files.tail)

    read_bytes = awaited(Files.read_bytes)
    write_bytes = awaited(Files.write_bytes)
    append = awaited(Files.append)
    write_stream = awaited(Files.write_stream)
    put = awaited(Files.put)
    get = awaited(Files.get)

    async def close(self) -> None:
        """As ``Files.close``."""
        await asyncio.to_thread(self._blocking.close)
