"""``import perseus`` against a real cluster: tasks, outputs, files, asyncio, latency."""

import asyncio
import io
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from harness import Cluster, cluster, until

import perseus
from perseus.errors import AlreadyExistsError, DeadlineError, NotFoundError, UnavailableError


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("client"), nodes=2) as made:
        yield made


@pytest.fixture
def client(lab: Cluster) -> Iterator[perseus.Cluster]:
    with perseus.connect(lab.context) as made:
        yield made


def test_a_task_from_start_to_end(client: perseus.Cluster) -> None:
    task = client.run(["sh", "-c", "cat; echo oops >&2; exit 3"], stdin=b"a\nb\n")
    assert list(task.stdout) == [b"a\n", b"b\n"]
    assert task.stderr.read() == b"oops\n"
    assert task.wait() == 3
    assert task.exit_code == 3
    assert task.info().state == "failed"
    assert task.stdout.read() == b"a\nb\n"
    assert client.job(task.job_id).task(0).stdout.read() == b"a\nb\n"
    assert task.why()


def test_output_comes_live_and_a_signal_ends_it(client: perseus.Cluster) -> None:
    task = client.run(["sh", "-c", "echo first; exec sleep 600"])
    assert next(iter(task.stdout)) == b"first\n"
    with pytest.raises(DeadlineError):
        task.wait(timeout_s=0.05)
    task.kill("TERM")
    assert task.wait(timeout_s=60) == 128 + 15
    assert client.job(task.job_id).state == "cancelled"


def test_every_kind_of_stdin(client: perseus.Cluster) -> None:
    client.fs.write_bytes("/in/a", b"1\n2\n", parents=True)
    big = os.urandom(300_000)
    first = client.run(["cat"], stdin=client.open("/in/a"))
    first.wait()
    for stdin, expected in (
        (b"x", b"x"),
        ("/in/a", b"1\n2\n"),
        (client.open("/in/a"), b"1\n2\n"),
        (first.stdout, b"1\n2\n"),
        (io.BytesIO(b"y" * 10), b"y" * 10),
        (io.BytesIO(big), big),
    ):
        assert client.run(["cat"], stdin=stdin).stdout.read() == expected
    until(lambda: not client.fs.ls("/.perseus/stdin"), "streams of stdin are removed")


def test_more_output_than_the_buffer_holds(client: perseus.Cluster) -> None:
    task = client.run(["head", "-c", str(12 << 20), "/dev/zero"])
    assert task.wait() == 0
    assert task.stdout.read() == bytes(12 << 20)


def test_many_tasks_of_one_job(client: perseus.Cluster) -> None:
    job = client.submit(["sh", "-c", "echo $PERSEUS_TASK_INDEX"], count=5)
    assert job.wait(60).task_counts == {"finished": 5}
    outputs = [task.stdout.read() for task in job.tasks()]
    assert outputs == [b"%d\n" % number for number in range(5)]


def test_a_run_ends_with_its_cluster_unless_detached(lab: Cluster, client: perseus.Cluster) -> None:
    other = perseus.connect(lab.context)
    bound = other.run(["sleep", "600"]).job_id
    free = other.run(["sleep", "600"], detach=True).job_id
    other.close()
    assert client.job(bound).wait(60).state == "cancelled"
    assert not client.job(free).info().has_ended
    client.job(free).kill("KILL")


def test_files(client: perseus.Cluster) -> None:
    client.fs.mkdir("/f")
    with client.open("/f/new", "w") as file:
        file.write(b"one\n")
    with client.open("/f/new", "a") as file:
        file.write(b"two\n")
    with pytest.raises(AlreadyExistsError), client.open("/f/new", "x") as file:
        file.write(b"never")
    assert io.TextIOWrapper(io.BufferedReader(client.open("/f/new"))).readlines() == [
        "one\n",
        "two\n",
    ]
    file = client.open("/f/new")
    file.seek(4)
    assert file.read() == b"two\n"
    with pytest.raises(NotFoundError):
        client.open("/f/none")


def test_paths_may_be_objects(client: perseus.Cluster, tmp_path: Path) -> None:
    there = PurePosixPath("/objects/a")
    client.fs.write_bytes(there, b"abc", parents=True)
    client.fs.append(there, b"d")
    assert client.fs.read_bytes(there) == b"abcd"
    assert b"".join(client.fs.tail(there, 2)) == b"cd"
    assert client.fs.get(there, tmp_path / "a") == 4
    client.fs.put(tmp_path / "a", there.with_name("b"))
    with client.open(there.with_name("b")) as file:
        assert file.read() == b"abcd"
    big = there.with_name("big")
    client.fs.write_bytes(big, bytes(5 << 20))
    assert client.fs.read_bytes(big) == bytes(5 << 20)


@pytest.mark.parametrize("way", ["direct", "daemon"])
def test_what_is_flushed_is_seen_before_the_end(
    client: perseus.Cluster, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "daemon":
        monkeypatch.setattr(perseus.Files, "has_direct_way", False)
    path = f"/flushed-{way}"
    with client.open(path, "a") as file:
        file.write(b"one\n")
        file.flush()
        until(lambda: client.fs.exists(path), "the file is there")
        if way == "direct":
            assert next(client.fs.cat(path, follow=True)) == b"one\n"
        file.write(b"two\n")
        file.flush()
    assert client.fs.read_bytes(path) == b"one\ntwo\n"
    with client.open(path, "w") as file:
        file.write(b"new")
        file.flush()
        if way == "direct":
            assert client.fs.read_bytes(path) == b"one\ntwo\n"
    assert client.fs.read_bytes(path) == b"new"
    with pytest.raises(AlreadyExistsError):
        client.open(path, "x")


def test_a_big_file_and_one_given_up(client: perseus.Cluster) -> None:
    content = os.urandom(1 << 20) * 9
    client.fs.mkdir("/big", parents=True)
    with client.open("/big/a", "w") as file:
        for start in range(0, len(content), 700_000):
            file.write(content[start : start + 700_000])
    assert client.fs.read_bytes("/big/a") == content
    with pytest.raises(ZeroDivisionError), client.open("/big/b", "w") as file:
        file.write(content)
        raise ZeroDivisionError
    assert not client.fs.exists("/big/b")


def test_asyncio(lab: Cluster) -> None:
    async def session() -> tuple[list[bytes], int, bytes]:
        async with await perseus.aio.connect(str(lab.context)) as other:
            tasks = await asyncio.gather(*(other.run(["seq", "3"]) for _ in range(4)))
            lines = [line async for line in tasks[0].stdout]
            codes = await asyncio.gather(*(task.wait() for task in tasks))
            await other.fs.write_bytes("/aio", b"abc")
            content = b"".join([piece async for piece in other.fs.cat("/aio")])
            return lines, sum(codes), content

    assert asyncio.run(session()) == ([b"1\n", b"2\n", b"3\n"], 0, b"abc")


WAITS: list[Callable[[perseus.Task], object]] = [
    lambda task: task.wait(),
    lambda task: task.wait(timeout_s=100),
    lambda task: task.stdout.read(),
    lambda task: list(task.job.follow()),
]


def _waiting(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """``call`` under way in a thread, and what came of it."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


def _until_it_waits(thread: threading.Thread) -> None:
    def waits() -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        return frame is not None and frame.f_code.co_name == "_receive"

    until(waits, "the thread waits for the daemon")


@pytest.mark.parametrize("wait", WAITS)
def test_a_cluster_is_closed_while_a_thread_waits(
    lab: Cluster, client: perseus.Cluster, wait: Callable[[perseus.Task], object]
) -> None:
    other = perseus.connect(lab.context)
    task = other.run(["sleep", "600"])
    thread, outcome = _waiting(lambda: wait(task))
    _until_it_waits(thread)
    other.close()
    thread.join(30)
    assert [type(one) for one in outcome] == [UnavailableError]
    assert client.job(task.job_id).wait(60).state == "cancelled"
    with pytest.raises(UnavailableError, match="closed"):
        other.info()


@pytest.mark.parametrize("wait", WAITS[::2])
def test_a_task_is_closed_while_a_thread_waits(
    client: perseus.Cluster, wait: Callable[[perseus.Task], object]
) -> None:
    task = client.run(["sleep", "600"])
    thread, outcome = _waiting(lambda: wait(task))
    _until_it_waits(thread)
    task.close()
    thread.join(60)
    assert outcome in ([b""], [128 + 15])
    assert client.job(task.job_id).state == "cancelled"


def test_asyncio_is_left_while_calls_wait(lab: Cluster, client: perseus.Cluster) -> None:
    async def session() -> str:
        async with await perseus.connect_async(str(lab.context)) as other:
            task = await other.run(["sleep", "600"])
            waits: list[asyncio.Task[Any]] = []
            waits += [asyncio.create_task(task.wait()) for _ in range(80)]
            waits.append(asyncio.create_task(task.stdout.read()))
            waits.append(asyncio.create_task(other.run(["sleep", "600"])))
            await asyncio.sleep(0)
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return task.job_id

    job_id = asyncio.run(session())
    assert client.job(job_id).wait(60).state == "cancelled"


async def _followed(task: perseus.aio.AsyncTask) -> int:
    return len([event async for event in task.job.follow()])


ASYNC_WAITS: list[Callable[[perseus.aio.AsyncTask], Coroutine[Any, Any, object]]] = [
    lambda task: task.job.wait(),
    lambda task: _followed(task),
    # One of these reads for all of them, and keeps its thread.
    lambda task: task.wait(),
]


@pytest.mark.parametrize("wait", ASYNC_WAITS)
def test_asyncio_calls_that_are_cancelled_leave_their_threads(
    lab: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    wait: Callable[[perseus.aio.AsyncTask], Coroutine[Any, Any, object]],
) -> None:
    monkeypatch.setattr(perseus.aio, "THREADS_MAXIMUM", 3)
    monkeypatch.setattr(perseus.aio, "LEFT_MAXIMUM", 1)

    def waiting() -> int:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        frames = sys._current_frames().items()
        # In a socket, or in a condition for the one that reads.
        places = [f.f_code.co_name for i, f in frames if "perseus-aio" in names.get(i, "")]
        return sum(place in ("_receive", "wait") for place in places)

    async def session() -> None:
        async with (
            await perseus.connect_async(str(lab.context)) as other,
            await other.run(["sleep", "600"]) as task,
        ):
            for _ in range(4):
                waits = [asyncio.create_task(wait(task)) for _ in range(3)]
                await asyncio.to_thread(until, lambda: waiting() >= 3, "three calls wait")
                for one in waits:
                    one.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
            async with asyncio.timeout(60):
                assert (await other.info()).cluster_id
                # Its stream is whole: what was given up was the waiting alone.
                assert (await task.job.info()).state == "running"

    asyncio.run(session())


def test_a_group_of_asyncio_tasks_fails_as_it_would(lab: Cluster) -> None:
    async def session() -> None:
        async with await perseus.connect_async(str(lab.context)) as other:
            task = await other.run(["sh", "-c", "echo; exec sleep 600"])
            async with asyncio.TaskGroup() as group:
                group.create_task(task.wait())
                group.create_task(_fail(task))

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(session())
    assert caught.group_contains(ZeroDivisionError)


async def _fail(task: perseus.aio.AsyncTask) -> None:
    await anext(task.stdout.lines())
    raise ZeroDivisionError


def test_asyncio_has_what_the_blocking_side_has(lab: Cluster) -> None:
    async def session() -> None:
        async with await perseus.connect_async(str(lab.context)) as other:
            async with await other.open("/aio-file", "w") as file:
                await file.write(b"one\ntwo\n")
            assert [line async for line in await other.open("/aio-file")] == [b"one\n", b"two\n"]
            assert "aio-file" in [info.name async for info in other.fs.iterate("/")]
            async with await other.run(["cat"], stdin=await other.open("/aio-file")) as task:
                assert await task.wait() == 0
            ending = await task.ending
            assert (await task.exit_code, ending and ending.kind) == (0, "exited")
            assert task.messages == []
            copy = await other.run(["cat", "in"], files={"in": task.stdout})
            assert await copy.stdout.text() == "one\ntwo\n"
            assert [one.index async for one in copy.job.tasks()] == [0]
            assert (await copy.job.state, await copy.job.exit_code) == ("finished", 0)

    asyncio.run(session())


def test_latency_of_submit_to_result(client: perseus.Cluster) -> None:
    times = []
    for _ in range(40):
        began = time.perf_counter()
        assert client.run(["true"]).wait() == 0
        times.append(1000 * (time.perf_counter() - began))
    print(f"submit to result: median {statistics.median(times):.1f} ms, least {min(times):.1f} ms")
    assert min(times) < 200
