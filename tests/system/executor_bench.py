"""An executor on the real spawner, its filestore a folder, for the tests of attempts."""

import asyncio
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import crc32c

from perseus.errors import NotFoundError, PerseusError, UnavailableError
from perseus.filestore.control import Shipped
from perseus.jobs.executor import Executor
from perseus.jobs.outputs import OutputsService
from perseus.proto.v1 import agent_pb2, jobs_pb2
from perseus.runtime.processes import stat as stat_of
from perseus.runtime.real import RealClock, RealDisk
from perseus.runtime.spawner import RealSpawner, fork_spawner
from perseus.settings import Settings

LIMIT_S = 60.0
JOB = "abcdefgh"


def settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def read_bytes(path: str) -> bytes:
    return Path(path).read_bytes()


class FolderShip:
    """A spool shipped into a folder; reads behind the writer, as the chunkserver does."""

    def __init__(self, movers: "FolderMovers", source: str) -> None:
        self.movers = movers
        self.source = source
        self.is_abandoned = False
        self.is_cut = asyncio.Event()

    def cut(self) -> None:
        self.is_cut.set()

    async def finish(self, size_bytes: int) -> Shipped:
        if self.movers.failures:
            self.movers.failures -= 1
            raise self.movers.failure
        content = read_bytes(self.source)
        assert len(content) == size_bytes
        if self.movers.slow_bytes is not None:
            await self.is_cut.wait()
            content = content[: self.movers.slow_bytes]
        inode = len(self.movers.shipped) + 1
        self.movers.shipped[inode] = content
        return Shipped(inode, crc32c.crc32c(content), len(content))

    async def abandon(self) -> None:
        self.is_abandoned = True


class FolderMovers:
    """Movers whose filestore is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shipped: dict[int, bytes] = {}
        self.ships: list[FolderShip] = []
        # Tries to ship that fail before one works.
        self.failures = 0
        self.failure: PerseusError = UnavailableError("no chunkserver has room")
        # How much a ship has brought by the time it is cut, and it ends no sooner.
        self.slow_bytes: int | None = None
        # Placing takes for ever; how many wait in it.
        self.places_forever = False
        self.placing = 0

    async def feed(self, path: str, fifo_path: str) -> int:
        source = self._find(path)
        done = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def work() -> None:
            try:
                with open(source, "rb") as reader, open(fifo_path, "wb") as writer:
                    shutil.copyfileobj(reader, writer)
            except BrokenPipeError:
                pass
            loop.call_soon_threadsafe(settle, done)

        thread = threading.Thread(target=work)
        thread.start()
        await done
        return source.stat().st_size

    async def place(self, path: str, target_path: str) -> int:
        if self.places_forever:
            self.placing += 1
            await asyncio.Event().wait()
        shutil.copyfile(self._find(path), target_path)
        return os.stat(target_path).st_size

    async def ship(self, attempt: str, stderr: bool, source_path: str) -> FolderShip:
        assert source_path.endswith(f"{attempt}/{'stderr' if stderr else 'stdout'}")
        self.ships.append(FolderShip(self, source_path))
        return self.ships[-1]

    def _find(self, path: str) -> Path:
        if not (self.folder / path[1:]).exists():
            raise NotFoundError(f"{path}: no such file")
        return self.folder / path[1:]


class Bench:
    """An executor, what it posts, and directives for it."""

    def __init__(self, folder: Path, spawner: RealSpawner, options: dict[str, Any]) -> None:
        self.folder = folder / "attempts"
        self.files = folder / "files"
        self.files.mkdir()
        self.movers = FolderMovers(self.files)
        self.spawner = spawner
        self.events: list[agent_pb2.AttemptEvent] = []
        self.posts = 0
        self.changed = asyncio.Event()
        settings = options.pop("settings", Settings(disk_reserve_bytes=0))
        self.executor = Executor(
            folder=str(self.folder),
            node="kitchen-pc",
            cores=options.pop("cores", 4),
            spawner=spawner,
            movers=self.movers,
            clock=RealClock(),
            disk=options.pop("disk", RealDisk()),
            settings=settings,
            post=self.post,
        )
        self.outputs = OutputsService(self.executor)

    def post(self, events: Sequence[agent_pb2.AttemptEvent]) -> None:
        self.events += events
        self.posts += 1
        self.changed.set()

    def start(
        self,
        *argv: str,
        task: int = 0,
        count: int = 1,
        parallel: int = 0,
        job: str = JOB,
        **spec: Any,
    ) -> str:
        attempt = f"{job}.{task}.1"
        spec["environment"] = {
            "PERSEUS_TEST_SESSION": os.environ.get("PERSEUS_TEST_SESSION", ""),
            **spec.get("environment", {}),
        }
        self.executor.handle(
            agent_pb2.Directive(
                start=agent_pb2.StartAttempt(
                    attempt=attempt,
                    spec=jobs_pb2.TaskSpec(argv=argv, **spec),
                    task_index=task,
                    task_count=count,
                    user="ada",
                    parallel=parallel,
                )
            )
        )
        return attempt

    def stop(self, attempt: str, number: int, grace_s: float = 0, cancel: bool = False) -> None:
        stop = agent_pb2.StopAttempt(attempt=attempt, signal=number, grace_s=grace_s, cancel=cancel)
        self.executor.handle(agent_pb2.Directive(stop=stop))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                self.changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), 0.01)

    def ended_or_none(self, attempt: str) -> agent_pb2.AttemptEnded | None:
        found = [e.ended for e in self.events if e.attempt == attempt and e.HasField("ended")]
        return found[-1] if found else None

    async def ended(self, attempt: str) -> agent_pb2.AttemptEnded:
        await self.until(lambda: self.ended_or_none(attempt))
        ended = self.ended_or_none(attempt)
        assert ended is not None
        return ended

    async def run(self, *argv: str, **spec: Any) -> agent_pb2.AttemptEnded:
        return await self.ended(self.start(*argv, **spec))

    async def shell(self, script: str, **spec: Any) -> agent_pb2.AttemptEnded:
        return await self.run("sh", "-c", script, **spec)

    async def pids(self, name: str, count: int = 1) -> list[int]:
        path = self.files / name
        await self.until(lambda: path.exists() and len(path.read_text().split()) >= count)
        return [int(word) for word in path.read_text().split()]

    def attempt_folders(self) -> list[str]:
        return [name for name in os.listdir(self.folder) if name.startswith(JOB)]

    def whole(self, output: agent_pb2.Output) -> bytes:
        return self.movers.shipped[output.inode] if output.inode else output.inline


def with_executor(
    folder: Path, body: Callable[[Bench], Awaitable[None]], dies: bool = False, **options: Any
) -> None:
    (folder / "attempts").mkdir()
    spawner = fork_spawner({}, str(folder / "attempts" / "journal"))

    async def main() -> None:
        bench = Bench(folder, spawner, options)
        deaths: list[str] = []
        spawner.start(deaths.append)
        try:
            await bench.executor.start()
            await asyncio.wait_for(body(bench), LIMIT_S)
            await bench.executor.close()
            assert os.listdir(bench.folder) == ["journal"]
        finally:
            await spawner.close()
        assert len(deaths) == dies

    asyncio.run(main())


def is_gone(pid: int) -> bool:
    return stat_of(pid) is None
