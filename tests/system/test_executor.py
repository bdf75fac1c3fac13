"""The executor on the real spawner: attempts from directive to acknowledgement."""

import asyncio
import os
import shutil
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import crc32c
import psutil
import pytest

from perseus.errors import NotFoundError, UnavailableError
from perseus.filestore.control import Shipped
from perseus.jobs import executor as executor_module
from perseus.jobs import spool as spool_module
from perseus.jobs.executor import Executor
from perseus.jobs.outputs import OutputsService
from perseus.proto.v1 import agent_pb2, jobs_pb2
from perseus.runtime.real import RealClock, RealDisk
from perseus.runtime.spawner import RealSpawner, fork_spawner
from perseus.runtime.spawner_journal import process_start
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

    async def finish(self, size_bytes: int) -> Shipped:
        if self.movers.failures:
            self.movers.failures -= 1
            raise UnavailableError("no chunkserver has room")
        content = read_bytes(self.source)
        assert len(content) == size_bytes
        inode = len(self.movers.shipped) + 1
        self.movers.shipped[inode] = content
        return Shipped(inode, crc32c.crc32c(content), size_bytes)

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
            disk=RealDisk(),
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


def with_executor(folder: Path, body: Callable[[Bench], Awaitable[None]], **options: Any) -> None:
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
        assert deaths == []

    asyncio.run(main())


def is_gone(pid: int) -> bool:
    return process_start(pid) is None


@pytest.mark.parametrize(
    ("script", "kind", "code", "number"),
    [
        ("exit 0", jobs_pb2.ENDING_EXITED, 0, 0),
        ("exit 3", jobs_pb2.ENDING_EXITED, 3, 0),
        ("kill -9 $$", jobs_pb2.ENDING_SIGNALED, 137, 9),
        ("exec no-such-program", jobs_pb2.ENDING_EXITED, 127, 0),
    ],
)
def test_endings(tmp_path: Path, script: str, kind: int, code: int, number: int) -> None:
    async def body(bench: Bench) -> None:
        ending = (await bench.shell(script)).ending
        assert (ending.kind, ending.exit_code, ending.signal) == (kind, code, number)

    with_executor(tmp_path, body)


def test_what_does_not_start(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        missing = (await bench.run("no-such-program", task=0)).ending
        assert (missing.kind, missing.exit_code) == (jobs_pb2.ENDING_NOT_STARTED, 127)
        assert "no-such-program: command not found" in missing.message
        plain = (await bench.run("/etc/passwd", task=1)).ending
        assert (plain.kind, plain.exit_code) == (jobs_pb2.ENDING_NOT_STARTED, 126)
        long = (await bench.run("true", "x" * 200_000, task=2)).ending
        assert (long.kind, long.exit_code) == (jobs_pb2.ENDING_NOT_STARTED, 126)
        assert "argument list too long" in long.message
        folder = (await bench.run("true", working_directory="/no/such", task=3)).ending
        assert (folder.kind, folder.exit_code) == (jobs_pb2.ENDING_NODE_FAILURE, 125)
        assert "/no/such" in folder.message
        file = jobs_pb2.PlacedFile(name="in.txt", path="/none.txt")
        placed = (await bench.run("true", files=[file], task=4)).ending
        assert (placed.kind, placed.exit_code) == (jobs_pb2.ENDING_NODE_FAILURE, 125)
        assert "/none.txt" in placed.message
        bad = jobs_pb2.PlacedFile(name="../out.txt", path="/none.txt")
        escaped = (await bench.run("true", files=[bad], task=5)).ending
        assert escaped.kind == jobs_pb2.ENDING_NODE_FAILURE
        assert ".." in escaped.message
        stdin = (await bench.run("cat", stdin_path="/none.txt", task=6)).ending
        assert stdin.kind == jobs_pb2.ENDING_NODE_FAILURE
        assert "/none.txt: no such file" in stdin.message

    with_executor(tmp_path, body)


def test_what_a_task_finds(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        (bench.files / "a.txt").write_text("placed")
        ended = await bench.shell(
            "pwd; cat sub/in.txt; echo; env; cat; ls -d $TMPDIR; mktemp; echo oops >&2",
            task=3,
            count=7,
            environment={"COLOUR": "red", "LANG": "C"},
            files=[jobs_pb2.PlacedFile(name="sub/in.txt", path="/a.txt")],
        )
        lines = ended.stdout.inline.decode().splitlines()
        attempt = f"{bench.folder}/{JOB}.3.1"
        assert lines[0] == f"{attempt}/work"
        assert lines[1] == "placed"
        variables = dict(line.split("=", 1) for line in lines if "=" in line)
        expected = {
            "COLOUR": "red",
            "LANG": "C",
            "PERSEUS_JOB_ID": JOB,
            "PERSEUS_TASK_ID": f"{JOB}.3",
            "PERSEUS_TASK_INDEX": "3",
            "PERSEUS_TASK_COUNT": "7",
            "PERSEUS_ATTEMPT": "1",
            "PERSEUS_NODE": "kitchen-pc",
            "PERSEUS_USER": "ada",
            "TMPDIR": f"{attempt}/tmp",
        }
        assert expected.items() <= variables.items()
        assert {"PATH", "HOME", "USER"} <= variables.keys()
        assert lines[-2] == f"{attempt}/tmp"
        assert ended.stderr.inline == b"oops\n"

    with_executor(tmp_path, body)


def test_stdin_of_each_kind(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        assert (await bench.run("cat", task=0)).stdout.size_bytes == 0
        inline = await bench.run("cat", stdin_inline=b"\0\xff inline", task=1)
        assert inline.stdout.inline == b"\0\xff inline"
        big = os.urandom(3 << 20)
        (bench.files / "big").write_bytes(big)
        fed = await bench.run("cat", stdin_path="/big", task=2)
        assert bench.whole(fed.stdout) == big
        (bench.files / "small").write_bytes(b"1\n2\n")
        counted = await bench.run("wc", "-l", stdin_path="/small", task=3)
        assert counted.stdout.inline.strip() == b"2"
        head = await bench.run("head", "-c1", stdin_path="/big", task=4)
        assert head.ending.exit_code == 0
        (bench.files / "empty").write_bytes(b"")
        empty = await bench.run("cat", stdin_path="/empty", task=5)
        assert empty.ending.exit_code == 0

    with_executor(tmp_path, body)


def test_outputs_small_and_large_and_binary(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        data = bytes(range(256)) * 4000
        (bench.files / "data").write_bytes(data)
        ended = await bench.shell("cat; head -c 4096 /dev/zero >&2", stdin_path="/data", task=0)
        assert ended.stdout.inode and not ended.stdout.inline
        assert ended.stdout.size_bytes == len(data)
        assert bench.whole(ended.stdout) == data
        assert ended.stderr.inline == bytes(4096) and not ended.stderr.inode
        ended = await bench.shell("head -c 4097 /dev/zero", task=1)
        assert ended.stdout.inode and ended.stdout.size_bytes == 4097

    with_executor(tmp_path, body)


def test_shipping_begins_behind_the_running_task(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        attempt = bench.start("sh", "-c", "head -c 100000 /dev/zero; exec sleep 1000")
        await bench.until(lambda: bench.movers.ships)
        assert bench.ended_or_none(attempt) is None
        bench.stop(attempt, signal.SIGTERM, cancel=True)
        ended = await bench.ended(attempt)
        assert len(bench.movers.ships) == 1
        assert ended.stdout.size_bytes == 100_000

    with_executor(tmp_path, body)


def test_shipping_is_tried_again_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SHIP_PAUSES_S", (0.01, 0.01, 0.01))

    async def body(bench: Bench) -> None:
        bench.movers.failures = 2
        ended = await bench.shell("head -c 5000 /dev/zero", task=0)
        assert ended.ending.exit_code == 0 and ended.stdout.inode
        bench.movers.failures = 100
        ended = await bench.shell("head -c 5000 /dev/zero", task=1)
        assert ended.ending.kind == jobs_pb2.ENDING_NODE_FAILURE
        assert ended.ending.exit_code == 125
        assert "no chunkserver has room" in ended.ending.message
        assert bench.movers.failures == 96
        assert [ship.is_abandoned for ship in bench.movers.ships] == [True] * 2 + [False] + (
            [True] * 4
        )

    with_executor(tmp_path, body)


def test_the_output_limit(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        limit = 3_000_001
        ended = await bench.run("yes", output_limit_bytes=limit, task=0)
        assert ended.ending.kind == jobs_pb2.ENDING_OUTPUT_LIMIT
        assert "stdout" in ended.ending.message and str(limit) in ended.ending.message
        assert ended.stdout.truncated and ended.stdout.size_bytes == limit
        assert bench.whole(ended.stdout) == (b"y\n" * limit)[:limit]
        quick = await bench.shell("head -c 1000 /dev/zero >&2", output_limit_bytes=999, task=1)
        assert quick.ending.kind == jobs_pb2.ENDING_OUTPUT_LIMIT
        assert quick.stderr.truncated and quick.stderr.inline == bytes(999)
        exact = await bench.shell("head -c 1000 /dev/zero", output_limit_bytes=1000, task=2)
        assert exact.ending.exit_code == 0 and not exact.stdout.truncated

    with_executor(tmp_path, body)


def test_a_disk_near_full_ends_who_fills_it(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        ended = await bench.run("yes", task=0)
        assert ended.ending.kind == jobs_pb2.ENDING_NODE_FAILURE
        assert ended.ending.exit_code == 125
        assert "kitchen-pc is nearly full" in ended.ending.message
        quiet = await bench.shell("sleep 0.2; echo well", task=1)
        assert quiet.ending.exit_code == 0

    with_executor(tmp_path, body, settings=Settings(disk_reserve_bytes=1 << 60))


def test_a_hundred_thousand_lines_a_second(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        attempt = bench.start("seq", "300000")
        pieces = [piece async for piece in bench.outputs.read(attempt, False, 0, True)]
        assert max(map(len, pieces)) <= 256 << 10
        ended = await bench.ended(attempt)
        expected = b"".join(b"%d\n" % n for n in range(1, 300_001))
        assert b"".join(pieces) == expected == bench.whole(ended.stdout)

    with_executor(tmp_path, body)


def test_the_time_limit(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        ended = await bench.run("sleep", "1000", time_limit_s=0.1)
        assert ended.ending.kind == jobs_pb2.ENDING_TIME_LIMIT
        assert ended.ending.exit_code == 124
        assert 0.1 <= ended.wall_s < 5

    with_executor(tmp_path, body)


def test_cancel_of_a_task_that_ignores_sigterm_or_is_stopped(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        pids = bench.files / "pids"
        script = f"trap '' TERM; (sleep 1000 & wait) & echo $$ $! > {pids}; wait; wait; sleep 1000"
        attempt = bench.start("sh", "-c", script, task=0)
        group = await bench.pids("pids", 2)
        bench.stop(attempt, signal.SIGTERM, grace_s=0.1, cancel=True)
        ended = await bench.ended(attempt)
        assert ended.ending.kind == jobs_pb2.ENDING_CANCELLED
        assert (ended.ending.exit_code, ended.ending.signal) == (143, 15)
        await bench.until(lambda: all(map(is_gone, group)))

        attempt = bench.start("sh", "-c", f"echo $$ > {pids}2; kill -STOP $$; sleep 1000", task=1)
        (pid,) = await bench.pids("pids2")
        await bench.until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        bench.stop(attempt, signal.SIGTERM, cancel=True)
        assert (await bench.ended(attempt)).ending.kind == jobs_pb2.ENDING_CANCELLED

    with_executor(tmp_path, body)


def test_a_signal_only_arrives(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        script = f"trap 'echo caught; exit 5' USR1; echo $$ > {bench.files}/pid; sleep 1000 & wait"
        attempt = bench.start("sh", "-c", script)
        await bench.pids("pid")
        bench.stop(attempt, signal.SIGUSR1)
        ended = await bench.ended(attempt)
        assert ended.ending.kind == jobs_pb2.ENDING_EXITED
        assert ended.ending.exit_code == 5
        assert ended.stdout.inline == b"caught\n"

    with_executor(tmp_path, body)


def test_grandchildren_that_hold_stdout_do_not_hold_up_the_end(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        script = f"echo first; sleep 1000 & echo $! > {bench.files}/pid"
        ended = await bench.shell(script)
        assert ended.ending.exit_code == 0
        assert ended.stdout.inline == b"first\n"
        (pid,) = await bench.pids("pid")
        await bench.until(lambda: is_gone(pid))

    with_executor(tmp_path, body)


def test_cores_are_a_limit_and_order_is_kept(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        log = bench.files / "log"
        for task in range(6):
            script = f"echo + {task} >> {log}; sleep 0.02; echo - >> {log}"
            bench.start("sh", "-c", script, task=task)
        cancelled = f"{JOB}.5.1"
        bench.stop(cancelled, signal.SIGINT, cancel=True)
        ended = await bench.ended(cancelled)
        assert ended.ending.exit_code == 130
        for task in range(5):
            assert (await bench.ended(f"{JOB}.{task}.1")).ending.exit_code == 0
        running = most = 0
        lines = log.read_text().splitlines()
        for line in lines:
            running += 1 if line.startswith("+") else -1
            most = max(most, running)
        assert most == 2
        started = [int(line[2:]) for line in lines if line.startswith("+")]
        assert sorted(started) == list(range(5)) and set(started[:2]) == {0, 1}

    with_executor(tmp_path, body, cores=2)


def test_a_jobs_limit_holds_up_no_other_job(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        log = bench.files / "log"
        script = f"echo + >> {log}; sleep 0.02; echo - >> {log}"
        limited = [bench.start("sh", "-c", script, task=n, parallel=1) for n in range(4)]
        other = bench.start("sleep", "1000", job="zzzzzzzz")
        await bench.until(lambda: any(event.attempt == other for event in bench.events))
        for attempt in limited:
            assert (await bench.ended(attempt)).ending.exit_code == 0
        assert log.read_text().split() == ["+", "-"] * 4
        assert bench.executor.counts() == (0, 1)

    with_executor(tmp_path, body, cores=4)


def test_an_output_that_the_task_cut_is_shipped_as_it_is_at_the_end(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        gate = bench.files / "gate"
        os.mkfifo(gate)
        script = f"head -c 200000 /dev/zero; read x < {gate}; : > /dev/stdout; read x < {gate}; "
        attempt = bench.start("sh", "-c", script + "yes | head -c 100000")
        await bench.until(lambda: bench.movers.ships)
        held = bench.executor.find(attempt)
        for condition in (lambda: held.stdout.size_bytes == 200_000, lambda: held.stdout.was_cut):
            await bench.until(condition)
            writer = os.open(gate, os.O_WRONLY)
            os.write(writer, b"on\n")
            os.close(writer)
        ended = await bench.ended(attempt)
        assert bench.whole(ended.stdout) == b"y\n" * 50_000
        assert [ship.is_abandoned for ship in bench.movers.ships] == [True, False]

    with_executor(tmp_path, body)


def test_a_backlog_of_outputs_holds_up_the_start_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "KEEPING_MAXIMUM", 2)
    monkeypatch.setattr(spool_module, "SHIP_PAUSES_S", (LIMIT_S,))

    async def body(bench: Bench) -> None:
        bench.movers.failures = 2
        for task in range(2):
            bench.start("head", "-c", "5000", "/dev/zero", task=task)
        await bench.until(lambda: bench.movers.failures == 0)
        bench.start("true", task=2)
        assert bench.executor.counts() == (1, 0)
        discard = agent_pb2.DiscardAttempt(attempt=f"{JOB}.0.1")
        bench.executor.handle(agent_pb2.Directive(discard=discard))
        assert (await bench.ended(f"{JOB}.2.1")).ending.exit_code == 0

    with_executor(tmp_path, body)


def test_more_outputs_than_may_be_shipped_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "FINAL_SHIPS_MAXIMUM", 2)

    async def body(bench: Bench) -> None:
        attempts = [bench.start("head", "-c", "5000", "/dev/zero", task=n) for n in range(20)]
        for attempt in attempts:
            assert (await bench.ended(attempt)).stdout.inode
        assert len(bench.movers.shipped) == 20

    with_executor(tmp_path, body)


def test_duplicates_acknowledgement_and_new_sessions(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        script = f"echo $$ >> {bench.files}/runs"
        attempt = bench.start("sh", "-c", script)
        bench.start("sh", "-c", script)
        await bench.ended(attempt)
        assert bench.executor.held() == [attempt]
        bench.events.clear()
        bench.start("sh", "-c", script)
        await bench.ended(attempt)
        bench.events.clear()
        waiting = bench.start("sleep", "1000", task=1)
        await bench.until(lambda: bench.events)
        bench.events.clear()
        bench.executor.on_welcome()
        await bench.until(lambda: len(bench.events) == 2)
        assert {e.attempt: e.WhichOneof("what") for e in bench.events} == {
            attempt: "ended",
            waiting: "running",
        }
        bench.executor.acknowledged([attempt, waiting, "unknown1.0.1"])
        assert bench.executor.held() == [waiting]
        # A late duplicate of what was acknowledged must not run again.
        bench.start("sh", "-c", script)
        assert bench.executor.held() == [waiting]
        await bench.until(lambda: not (bench.folder / attempt).exists())
        assert len((bench.files / "runs").read_text().split()) == 1

    with_executor(tmp_path, body)


def test_a_lost_lease_kills_all_and_tells_nothing(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        attempts = [
            bench.start("sh", "-c", f"echo $$ >> {bench.files}/pids; exec sleep 1000", task=task)
            for task in range(3)
        ]
        big = bench.start("sh", "-c", "head -c 100000 /dev/zero; exec sleep 1000", task=3)
        bench.start("sleep", "1000", task=4)
        pids = await bench.pids("pids", 3)
        await bench.until(lambda: bench.movers.ships)
        reading = asyncio.create_task(_drain(bench, big))
        await asyncio.sleep(0)
        bench.events.clear()
        bench.executor.on_lease_lost()
        assert bench.executor.held() == []
        await bench.until(lambda: all(map(is_gone, pids)))
        await bench.until(lambda: bench.movers.ships[0].is_abandoned)
        with pytest.raises(NotFoundError):
            await reading
        await bench.until(lambda: bench.attempt_folders() == [])
        assert bench.events == []
        with pytest.raises(NotFoundError):
            bench.executor.find(attempts[0])
        assert (await bench.shell("echo next", task=9)).stdout.inline == b"next\n"

    with_executor(tmp_path, body)


async def _drain(bench: Bench, attempt: str) -> int:
    return sum([len(piece) async for piece in bench.outputs.read(attempt, False, 0, True)])


def test_what_the_spawner_killed_for_the_lease_is_no_end(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        bench.start("sleep", "1000")
        await bench.until(lambda: bench.events)
        bench.events.clear()
        bench.executor.on_lease(RealClock().now_s() + 0.1)
        await bench.until(lambda: not bench.executor.held())
        await bench.until(lambda: bench.attempt_folders() == [])
        assert bench.events == []
        bench.executor.on_lease(RealClock().now_s() + LIMIT_S)
        assert (await bench.shell("exit 4", task=1)).ending.exit_code == 4

    with_executor(tmp_path, body)


def test_discard_leaves_nothing(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        running = bench.start(
            "sh", "-c", f"mkdir -p a/b; chmod 0 a; echo $$ > {bench.files}/pid; sleep 1000"
        )
        (pid,) = await bench.pids("pid")
        bench.events.clear()
        bench.executor.handle(
            agent_pb2.Directive(discard=agent_pb2.DiscardAttempt(attempt=running))
        )
        await bench.until(lambda: is_gone(pid))
        await bench.until(lambda: not (bench.folder / running).exists())
        assert bench.events == [] and bench.executor.held() == []

    with_executor(tmp_path, body)


def test_reading_outputs(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        script = f"echo one; echo err >&2; echo $$ > {bench.files}/pid; read x; echo two"
        fifo = bench.files / "gate"
        os.mkfifo(fifo)
        attempt = bench.start("sh", "-c", f"exec < {fifo}; {script}")
        following = asyncio.create_task(_pieces(bench, attempt, 0, True))
        gate = os.open(fifo, os.O_RDWR)
        await bench.pids("pid")
        assert await _pieces(bench, attempt, 0, False) == b"one\n"
        assert await _pieces(bench, attempt, 2, False) == b"e\n"
        assert not following.done()
        os.write(gate, b"go\n")
        os.close(gate)
        assert await following == b"one\ntwo\n"
        await bench.ended(attempt)
        request = agent_pb2.ReadOutputRequest(attempt=attempt, stderr=True, offset_bytes=1)
        pieces = [piece async for piece in bench.outputs.read_output(request, None)]
        assert [(piece.data, piece.offset_bytes) for piece in pieces] == [(b"rr\n", 1)]
        assert await _pieces(bench, attempt, 100, True) == b""
        bench.executor.acknowledged([attempt])
        with pytest.raises(NotFoundError, match="not on node kitchen-pc"):
            await _pieces(bench, attempt, 0, False)

    with_executor(tmp_path, body)


async def _pieces(bench: Bench, attempt: str, offset: int, follow: bool) -> bytes:
    return b"".join([p async for p in bench.outputs.read(attempt, False, offset, follow)])


def test_many_at_once(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        count = 300
        for task in range(count):
            bench.start("sh", "-c", f"echo {task}; exit {task % 3}", task=task, count=count)
        assert len(bench.executor.held()) == count
        for task in range(count):
            ended = await bench.ended(f"{JOB}.{task}.1")
            assert ended.ending.exit_code == task % 3
            assert ended.stdout.inline == b"%d\n" % task
        assert bench.posts < 2 * count
        bench.executor.acknowledged(bench.executor.held())
        assert bench.executor.held() == []

    with_executor(tmp_path, body, cores=3)


def test_an_earlier_agents_folders_are_removed(tmp_path: Path) -> None:
    old = tmp_path / "attempts" / f"{JOB}.0.1" / "work" / "deep"

    async def body(bench: Bench) -> None:
        old.mkdir(parents=True)
        (old / "file").write_text("left")
        await bench.executor.start()
        assert os.listdir(bench.folder) == ["journal"]

    with_executor(tmp_path, body)
