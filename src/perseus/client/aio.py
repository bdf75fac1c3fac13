"""The same API for asyncio: ``await perseus.connect_async()`` or ``perseus.aio.connect()``.

Names and arguments are those of ``perseus.client.cluster``; what waits is
awaited, also a property that asks the cluster (``await task.exit_code``), and what
iterates is iterated with ``async for``. The calls run on threads of the cluster's own,
at most THREADS_MAXIMUM at once. A call that is cancelled gives up what it waits for and
leaves its thread; only the one that reads a running task's stream for all who wait for
that task keeps it until something comes, and up to LEFT_MAXIMUM of these cost nobody else.
"""

import asyncio
import contextlib
import os
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar, Unpack

from perseus.client import cluster as sync
from perseus.client import giving_up
from perseus.client.cluster import RunOptions, SubmitOptions
from perseus.client.context import Context
from perseus.client.files import AnyPath, File, Files, Progress
from perseus.client.jobs import Job, Task
from perseus.client.messages import (
    ClusterInfo,
    DiskUsage,
    Ending,
    FileInfo,
    Finding,
    FollowEvent,
    JobInfo,
    NewToken,
    NodeInfo,
    TaskInfo,
    TokenInfo,
)
from perseus.client.output import Output

THREADS_MAXIMUM = 64
# Threads of cancelled calls that are still waiting, beside those.
LEFT_MAXIMUM = 192

Result = TypeVar("Result")


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

    async def iterate(self, items: Iterator[Result]) -> AsyncIterator[Result]:
        """Takes items one by one; leaving early closes the iterator."""
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


class AsyncCluster:
    """``Cluster`` for asyncio; use it in an ``async with`` block."""

    def __init__(self, cluster: sync.Cluster) -> None:
        self._cluster = cluster
        self._pool = _Pool()
        self.context = cluster.context
        self.fs = AsyncFiles(cluster.fs, self._pool)

    async def __aenter__(self) -> "AsyncCluster":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """As ``Cluster.close``: whatever still waits ends with UnavailableError."""
        # Not on the pool: calls that wait may have all its threads.
        await asyncio.to_thread(self._cluster.close)
        self._pool.close()

    async def run(self, argv: Sequence[str], **options: Unpack[RunOptions]) -> "AsyncTask":
        """As ``Cluster.run``."""
        given = _blocking(options)
        return AsyncTask(await self._pool.call(self._cluster.run, argv, **given), self._pool)

    async def submit(self, argv: Sequence[str], **options: Unpack[SubmitOptions]) -> "AsyncJob":
        """As ``Cluster.submit``."""
        given = _blocking(options)
        return AsyncJob(await self._pool.call(self._cluster.submit, argv, **given), self._pool)

    async def job(self, job_id: str) -> "AsyncJob":
        """As ``Cluster.job``."""
        return AsyncJob(await self._pool.call(self._cluster.job, job_id), self._pool)

    async def jobs(self, *, active: bool = False, limit: int = 100) -> list[JobInfo]:
        """As ``Cluster.jobs``."""
        return await self._pool.call(self._cluster.jobs, active=active, limit=limit)

    async def open(self, path: AnyPath, mode: str = "r") -> "AsyncFile":
        """As ``Cluster.open``; use it in an ``async with`` block."""
        return await self.fs.open(path, mode)

    async def info(self) -> ClusterInfo:
        """As ``Cluster.info``."""
        return await self._pool.call(self._cluster.info)

    async def nodes(self) -> list[NodeInfo]:
        """As ``Cluster.nodes``."""
        return await self._pool.call(self._cluster.nodes)

    async def update_node(
        self,
        node: str,
        *,
        labels: Mapping[str, str] | None = None,
        draining: bool | None = None,
    ) -> NodeInfo:
        """As ``Cluster.update_node``."""
        return await self._pool.call(
            self._cluster.update_node, node, labels=labels, draining=draining
        )

    async def remove_node(self, node: str, *, force: bool = False) -> None:
        """As ``Cluster.remove_node``."""
        await self._pool.call(self._cluster.remove_node, node, force=force)

    async def diagnose(self) -> list[Finding]:
        """As ``Cluster.diagnose``."""
        return await self._pool.call(self._cluster.diagnose)

    async def create_token(self, role: str = "node", ttl_s: float = 0.0) -> NewToken:
        """As ``Cluster.create_token``."""
        return await self._pool.call(self._cluster.create_token, role, ttl_s)

    async def tokens(self) -> list[TokenInfo]:
        """As ``Cluster.tokens``."""
        return await self._pool.call(self._cluster.tokens)

    async def revoke_token(self, token_id: str) -> None:
        """As ``Cluster.revoke_token``."""
        await self._pool.call(self._cluster.revoke_token, token_id)


class AsyncJob:
    """``Job`` for asyncio."""

    def __init__(self, job: Job, pool: _Pool) -> None:
        self._job = job
        self._pool = pool
        self.job_id = job.job_id

    @property
    def state(self) -> Coroutine[Any, Any, str]:
        """As ``Job.state``, awaited."""
        return self._pool.call(lambda: self._job.state)

    @property
    def exit_code(self) -> Coroutine[Any, Any, int | None]:
        """As ``Job.exit_code``, awaited."""
        return self._pool.call(lambda: self._job.exit_code)

    async def info(self, first_task: int = 0) -> JobInfo:
        """As ``Job.info``."""
        return await self._pool.call(self._job.info, first_task)

    async def wait(self, timeout_s: float | None = None) -> JobInfo:
        """As ``Job.wait``."""
        return await self._pool.call(self._job.wait, timeout_s)

    async def task(self, index: int) -> "AsyncTask":
        """As ``Job.task``."""
        return AsyncTask(await self._pool.call(self._job.task, index), self._pool)

    async def tasks(self) -> "AsyncIterator[AsyncTask]":
        """As ``Job.tasks``, for ``async for``."""
        async for task in self._pool.iterate(self._job.tasks()):
            yield AsyncTask(task, self._pool)

    def follow(
        self,
        *,
        task: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
        follow: bool = True,
    ) -> AsyncIterator[FollowEvent]:
        """As ``Job.follow``, for ``async for``."""
        events = self._job.follow(task=task, stdout=stdout, stderr=stderr, follow=follow)
        return self._pool.iterate(events)

    async def kill(self, signal: int | str = 15) -> int:
        """As ``Job.kill``."""
        return await self._pool.call(self._job.kill, signal)

    async def retry(self) -> JobInfo:
        """As ``Job.retry``."""
        return await self._pool.call(self._job.retry)

    async def why(self) -> list[str]:
        """As ``Job.why``."""
        return await self._pool.call(self._job.why)


class AsyncOutput:
    """``Output`` for asyncio."""

    def __init__(self, output: Output, pool: _Pool) -> None:
        self._output = output
        self._pool = pool
        self.path = output.path

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.lines()

    def lines(self) -> AsyncIterator[bytes]:
        """As ``Output.lines``, for ``async for``."""
        return self._pool.iterate(self._output.lines())

    def chunks(self) -> AsyncIterator[bytes]:
        """As ``Output.chunks``, for ``async for``."""
        return self._pool.iterate(self._output.chunks())

    async def read(self) -> bytes:
        """As ``Output.read``."""
        return await self._pool.call(self._output.read)

    async def text(self, encoding: str = "utf-8") -> str:
        """As ``Output.text``."""
        return await self._pool.call(self._output.text, encoding)


class AsyncTask:
    """``Task`` for asyncio."""

    def __init__(self, task: Task, pool: _Pool) -> None:
        self._task = task
        self._pool = pool
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
        return AsyncJob(self._task.job, self._pool)

    @property
    def exit_code(self) -> Coroutine[Any, Any, int | None]:
        """As ``Task.exit_code``, awaited."""
        return self._pool.call(lambda: self._task.exit_code)

    @property
    def ending(self) -> Coroutine[Any, Any, Ending | None]:
        """As ``Task.ending``, awaited."""
        return self._pool.call(lambda: self._task.ending)

    @property
    def messages(self) -> list[str]:
        """As ``Task.messages``."""
        return self._task.messages

    async def wait(self, timeout_s: float | None = None) -> int:
        """As ``Task.wait``."""
        return await self._pool.call(self._task.wait, timeout_s)

    async def info(self) -> TaskInfo:
        """As ``Task.info``."""
        return await self._pool.call(self._task.info)

    async def kill(self, signal: int | str = 15) -> None:
        """As ``Task.kill``."""
        await self._pool.call(self._task.kill, signal)

    async def retry(self) -> JobInfo:
        """As ``Task.retry``."""
        return await self._pool.call(self._task.retry)

    async def why(self) -> list[str]:
        """As ``Task.why``."""
        return await self._pool.call(self._task.why)

    async def close(self) -> None:
        """As ``Task.close``."""
        # Not on the pool: calls that wait may have all its threads.
        await asyncio.to_thread(self._task.close)


class AsyncFile:
    """``File`` for asyncio: a binary file whose calls are awaited. Leaving its ``async
    with`` block by an exception leaves no half-written file behind."""

    def __init__(self, file: File, pool: _Pool) -> None:
        self._file = file
        self._pool = pool
        self.path = file.path
        self.name = file.name
        self.mode = file.mode

    async def __aenter__(self) -> "AsyncFile":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await (self.close() if kind is None else self.abandon())

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pool.iterate(iter(self._file))

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._file.closed

    async def read(self, size: int = -1) -> bytes:
        """As ``File.read``: up to ``size`` bytes, all with -1."""
        return await self._pool.call(self._file.read, size) or b""

    async def write(self, content: Any) -> int:
        """As ``File.write``."""
        return await self._pool.call(self._file.write, content)

    async def flush(self) -> None:
        """As ``File.flush``."""
        await self._pool.call(self._file.flush)

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As ``File.seek``."""
        return await self._pool.call(self._file.seek, offset, whence)

    def tell(self) -> int:
        """As ``File.tell``."""
        return self._file.tell()

    async def close(self) -> None:
        """As ``File.close``."""
        await self._pool.call(self._file.close)

    async def abandon(self) -> None:
        """As ``File.abandon``."""
        await self._pool.call(self._file.abandon)


def _blocking(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``run`` with our files and outputs as those of the blocking side."""
    given = dict(options)
    if "stdin" in given:
        given["stdin"] = _unwrapped(given["stdin"])
    if given.get("files"):
        given["files"] = {name: _unwrapped(file) for name, file in given["files"].items()}
    return given


def _unwrapped(value: Any) -> Any:
    if isinstance(value, AsyncFile):
        return value._file
    return value._output if isinstance(value, AsyncOutput) else value


class AsyncFiles:
    """``Files`` for asyncio."""

    def __init__(self, files: Files, pool: _Pool) -> None:
        self._files = files
        self._pool = pool

    async def stat(self, path: AnyPath) -> FileInfo:
        """As ``Files.stat``."""
        return await self._pool.call(self._files.stat, path)

    async def exists(self, path: AnyPath) -> bool:
        """As ``Files.exists``."""
        return await self._pool.call(self._files.exists, path)

    async def ls(self, path: AnyPath = "/") -> list[FileInfo]:
        """As ``Files.ls``."""
        return await self._pool.call(self._files.ls, path)

    async def mkdir(self, path: AnyPath, *, parents: bool = False) -> FileInfo:
        """As ``Files.mkdir``."""
        return await self._pool.call(self._files.mkdir, path, parents=parents)

    async def mv(self, source: AnyPath, target: AnyPath, *, replace: bool = False) -> FileInfo:
        """As ``Files.mv``."""
        return await self._pool.call(self._files.mv, source, target, replace=replace)

    async def rm(self, path: AnyPath, *, recursive: bool = False) -> int:
        """As ``Files.rm``."""
        return await self._pool.call(self._files.rm, path, recursive=recursive)

    async def df(self, path: AnyPath = "/") -> DiskUsage:
        """As ``Files.df``."""
        return await self._pool.call(self._files.df, path)

    def iterate(self, path: AnyPath = "/") -> AsyncIterator[FileInfo]:
        """As ``Files.iterate``, for ``async for``."""
        return self._pool.iterate(self._files.iterate(path))

    async def open(self, path: AnyPath, mode: str = "r") -> AsyncFile:
        """As ``Files.open``; use it in an ``async with`` block."""
        return AsyncFile(await self._pool.call(self._files.open, path, mode), self._pool)

    def cat(
        self, path: AnyPath, *, offset: int = 0, length: int = 0, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """As ``Files.cat``, for ``async for``."""
        return self._lazily(
            lambda: self._files.cat(path, offset=offset, length=length, follow=follow)
        )

    def tail(
        self, path: AnyPath, size_bytes: int = 10 << 10, *, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """As ``Files.tail``, for ``async for``."""
        return self._lazily(lambda: self._files.tail(path, size_bytes, follow=follow))

    async def _lazily(self, begin: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
        async for piece in self._pool.iterate(await self._pool.call(begin)):
            yield piece

    async def read_bytes(self, path: AnyPath) -> bytes:
        """As ``Files.read_bytes``."""
        return await self._pool.call(self._files.read_bytes, path)

    async def write_bytes(
        self, path: AnyPath, content: bytes, *, replace: bool = True, parents: bool = False
    ) -> FileInfo:
        """As ``Files.write_bytes``."""
        return await self._pool.call(
            self._files.write_bytes, path, content, replace=replace, parents=parents
        )

    async def append(self, path: AnyPath, content: bytes, *, parents: bool = False) -> FileInfo:
        """As ``Files.append``."""
        return await self._pool.call(self._files.append, path, content, parents=parents)

    async def write_stream(
        self,
        path: AnyPath,
        pieces: Iterable[bytes],
        *,
        replace: bool = False,
        append: bool = False,
        parents: bool = False,
        replicas: int = 0,
        visible: bool = False,
        bulk: bool = False,
    ) -> FileInfo:
        """As ``Files.write_stream``; ``pieces`` are taken in a thread."""
        return await self._pool.call(
            self._files.write_stream,
            path,
            pieces,
            replace=replace,
            append=append,
            parents=parents,
            replicas=replicas,
            visible=visible,
            bulk=bulk,
        )

    async def put(
        self,
        source: AnyPath | BinaryIO,
        path: AnyPath,
        *,
        replace: bool = True,
        parents: bool = False,
        replicas: int = 0,
        progress: Progress | None = None,
    ) -> FileInfo:
        """As ``Files.put``; ``progress`` is called in a thread."""
        return await self._pool.call(
            self._files.put,
            source,
            path,
            replace=replace,
            parents=parents,
            replicas=replicas,
            progress=progress,
        )

    async def get(
        self,
        path: AnyPath,
        target: AnyPath | BinaryIO,
        *,
        progress: Progress | None = None,
    ) -> int:
        """As ``Files.get``; ``progress`` is called in a thread."""
        return await self._pool.call(self._files.get, path, target, progress=progress)

    async def close(self) -> None:
        """As ``Files.close``."""
        await asyncio.to_thread(self._files.close)
