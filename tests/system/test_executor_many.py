"""Many attempts, sessions, leases and readers on the real spawner."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from executor_bench import JOB, LIMIT_S, Bench, is_gone, with_executor

from perseus.errors import NotFoundError, PerseusError
from perseus.jobs import executor as executor_module
from perseus.jobs import spool as spool_module
from perseus.jobs.attempts import Phase
from perseus.proto.v1 import agent_pb2, jobs_pb2
from perseus.runtime.processes import stat
from perseus.runtime.real import RealClock
from perseus.runtime.spawner_journal import sweep


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


def test_who_waits_for_a_long_one_takes_the_first_place_that_is_free(tmp_path: Path) -> None:
    """The first two run; each has the next lined up behind it."""

    async def body(bench: Bench) -> None:
        gate = bench.files / "gate"
        long = f"while ! test -e {gate}; do sleep 0.01; done"
        first = bench.start("sh", "-c", long, task=0)
        for task in range(1, 9):
            bench.start("true", task=task)
        for task in range(1, 9):
            assert (await bench.ended(f"{JOB}.{task}.1")).ending.exit_code == 0
        assert bench.executor.counts() == (0, 1)
        gate.touch()
        assert (await bench.ended(first)).ending.exit_code == 0
        assert bench.executor.counts() == (0, 0)

    with_executor(tmp_path, body, cores=2)


@pytest.mark.parametrize("how", ["stop", "discard"])
def test_one_that_is_lined_up_can_be_ended_before_its_turn(tmp_path: Path, how: str) -> None:
    async def body(bench: Bench) -> None:
        gate = bench.files / "gate"
        first = bench.start("sh", "-c", f"while ! test -e {gate}; do sleep 0.01; done", task=0)
        second = bench.start("touch", str(bench.files / "no"), task=1)
        third = bench.start("true", task=2)
        await bench.until(lambda: bench.executor.find(second).phase is not Phase.WAITING)
        if how == "stop":
            bench.stop(second, signal.SIGTERM, cancel=True)
            assert (await bench.ended(second)).ending.kind == jobs_pb2.ENDING_CANCELLED
        else:
            bench.executor.discard_attempt(second)
        gate.touch()
        for each in (first, third):
            assert (await bench.ended(each)).ending.exit_code == 0
        assert bench.executor.counts() == (0, 0)
        assert not (bench.files / "no").exists()

    with_executor(tmp_path, body, cores=1)


@pytest.mark.parametrize("how", ["stop", "discard"])
def test_one_that_is_ended_in_the_breath_it_came_in_holds_no_core(tmp_path: Path, how: str) -> None:
    async def body(bench: Bench) -> None:
        first = bench.start("sleep", "1000", task=0)
        if how == "stop":
            bench.stop(first, signal.SIGTERM, cancel=True)
            assert (await bench.ended(first)).ending.kind == jobs_pb2.ENDING_CANCELLED
        else:
            bench.executor.discard_attempt(first)
        second = bench.start("true", task=1)
        assert (await bench.ended(second)).ending.exit_code == 0
        assert bench.executor.counts() == (0, 0)
        assert sum(event.attempt == first for event in bench.events) == (how == "stop")

    with_executor(tmp_path, body, cores=1)


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
        gates = [bench.files / "cut", bench.files / "end"]
        cut, end = (f"while ! test -e {gate}; do sleep 0.01; done; " for gate in gates)
        script = f"head -c 200000 /dev/zero; {cut} : > /dev/stdout; {end}"
        attempt = bench.start("sh", "-c", script + "yes | head -c 100000")
        await bench.until(lambda: bench.movers.ships)
        held = bench.executor.find(attempt)
        conditions = (lambda: held.stdout.size_bytes == 200_000, lambda: held.stdout.was_cut)
        for gate, condition in zip(gates, conditions, strict=True):
            await bench.until(condition)
            gate.touch()
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


def test_ending_all_kills_and_tells_nothing(tmp_path: Path) -> None:
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
        bench.executor.end_all()
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


def is_stopped(pid: int) -> bool:
    """In T; a shell that was stopped while it begins a program (vfork) waits for that one in D."""
    found = stat(pid)
    return found is not None and found.state in "TD"


def thaw(bench: Bench, *attempts: str) -> None:
    bench.executor.handle(agent_pb2.Directive(thaw=agent_pb2.ThawAttempts(attempts=attempts)))


def test_what_a_lost_lease_froze_goes_on_when_it_is_leased_still(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        gate = bench.files / "gate"
        script = f"echo $$ >> {bench.files}/pids; while [ ! -e {gate} ]; do sleep 0.02; done"
        ended = bench.start("echo", "before", task=0)
        await bench.ended(ended)
        kept, lost = (bench.start("sh", "-c", f"{script}; echo on", task=task) for task in (1, 2))
        pids = await bench.pids("pids", 2)
        waiting = bench.start("echo", "waited", task=3)
        bench.executor.on_lease_lost()
        bench.executor.on_lease_lost()
        await bench.until(lambda: all(map(is_stopped, pids)))
        gate.touch()
        assert bench.executor.is_frozen
        assert bench.executor.held() == [ended, kept, lost, waiting]
        bench.events.clear()
        # A lease alone is not enough: the master may have given them to others.
        bench.executor.on_lease(RealClock().now_s() + LIMIT_S)
        bench.executor.on_welcome()
        bench.executor.discard_attempt(lost)
        await bench.until(lambda: sum(map(is_gone, pids)) == 1)
        assert sum(map(is_stopped, pids)) == 1
        thaw(bench, ended, kept, waiting)
        assert not bench.executor.is_frozen
        for attempt, said in ((ended, b"before\n"), (kept, b"on\n"), (waiting, b"waited\n")):
            assert (await bench.ended(attempt)).stdout.inline == said
        assert bench.ended_or_none(lost) is None
        await bench.until(lambda: not (bench.folder / lost).exists())

    with_executor(tmp_path, body, cores=2)


def test_what_is_not_leased_any_more_does_not_outlive_the_thaw(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        bench.start("sh", "-c", f"echo $$ > {bench.files}/pid; exec sleep 1000")
        (pid,) = await bench.pids("pid")
        bench.executor.on_lease_lost()
        thaw(bench)
        await bench.until(lambda: is_gone(pid))
        assert bench.executor.held() == []

    with_executor(tmp_path, body)


def test_a_start_that_meets_the_end_of_the_lease_waits(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        bench.executor.on_lease(RealClock().now_s() + LIMIT_S)
        attempt = bench.start("echo", "here")
        # The directive is on its way to the spawner, which will refuse it.
        await asyncio.sleep(0)
        bench.spawner.freeze()
        bench.executor.on_lease_lost()
        await asyncio.sleep(0)
        assert bench.executor.held() == [attempt]
        # Answered in order: after this the start was refused.
        with pytest.raises(PerseusError, match="no child"):
            await bench.spawner.fork_child("none")
        assert bench.executor.held() == [attempt] and not bench.events
        thaw(bench, attempt)
        assert (await bench.ended(attempt)).stdout.inline == b"here\n"

    with_executor(tmp_path, body)


def test_a_time_limit_does_not_count_what_stood_still(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        gate, limit_s = bench.files / "gate", 2.0
        script = f"echo $$ > {bench.files}/pid; while [ ! -e {gate} ]; do sleep 0.02; done"
        begun_s = RealClock().now_s()
        attempt = bench.start("sh", "-c", script, time_limit_s=limit_s)
        await bench.pids("pid")
        bench.executor.on_lease_lost()
        await bench.until(lambda: RealClock().now_s() > begun_s + 1.5 * limit_s)
        gate.touch()
        thaw(bench, attempt)
        assert (await bench.ended(attempt)).ending.kind == jobs_pb2.ENDING_EXITED
        gate.unlink()
        attempt = bench.start("sh", "-c", script, task=1, time_limit_s=0.2)
        assert (await bench.ended(attempt)).ending.kind == jobs_pb2.ENDING_TIME_LIMIT

    with_executor(tmp_path, body)


def stand_still(for_s: float) -> None:
    """As an agent does that is stopped from outside: nothing of its loop runs."""
    time.sleep(for_s)


def test_a_time_limit_does_not_count_what_the_whole_node_stood_still(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        gate, limit_s = bench.files / "gate", 2.0
        script = f"echo $$ > {bench.files}/pid; while [ ! -e {gate} ]; do sleep 0.02; done"
        bench.executor.on_lease(RealClock().now_s() + limit_s / 2)
        attempt = bench.start("sh", "-c", script, time_limit_s=limit_s)
        (pid,) = await bench.pids("pid")
        # The agent stands still too; then its timer may be the first to go off.
        stand_still(1.5 * limit_s)
        for _ in range(3):
            await asyncio.sleep(0)
        assert is_stopped(pid)
        bench.executor.on_lease_lost()
        bench.executor.on_lease(RealClock().now_s() + LIMIT_S)
        gate.touch()
        thaw(bench, attempt)
        assert (await bench.ended(attempt)).ending.kind == jobs_pb2.ENDING_EXITED

    with_executor(tmp_path, body)


def test_attempts_stand_still_for_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "FROZEN_MAXIMUM_S", 0.2)

    async def body(bench: Bench) -> None:
        bench.start("sh", "-c", f"echo $$ > {bench.files}/pid; exec sleep 1000")
        (pid,) = await bench.pids("pid")
        bench.executor.on_lease_lost()
        await bench.until(lambda: is_gone(pid))
        assert bench.executor.held() == [] and not bench.executor.is_frozen
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


def test_a_dead_spawner_ends_nothing_in_the_tasks_name(tmp_path: Path) -> None:
    """The agent will end; what ran and what waited is lost, not failed."""

    async def body(bench: Bench) -> None:
        for task in range(4):
            bench.start("sleep", "1000", task=task)
        await bench.until(lambda: len(bench.events) == 2)
        pids = [event.running.pid for event in bench.events]
        bench.events.clear()
        os.kill(bench.spawner.pid, signal.SIGKILL)
        await bench.until(lambda: not bench.executor.held())
        assert bench.events == []
        assert sorted(sweep(str(bench.folder))) == sorted(pids)
        (bench.folder / "journal").touch()

    with_executor(tmp_path, body, cores=2, dies=True)
