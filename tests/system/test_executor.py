"""One attempt on the real spawner: how it starts, what it finds, how it ends."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from executor_bench import JOB, Bench, is_gone, with_executor

from perseus.errors import FullError
from perseus.jobs import spool as spool_module
from perseus.jobs.disk_guard import held
from perseus.proto.v1 import common_pb2, jobs_pb2
from perseus.runtime.real import RealDisk
from perseus.settings import Settings


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


def test_a_placed_file_can_be_the_program(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        (bench.files / "work.sh").write_text("#!/bin/sh\necho $0 works\n")
        file = jobs_pb2.PlacedFile(name="work.sh", path="/work.sh")
        ended = await bench.run("./work.sh", files=[file])
        assert ended.stdout.inline == b"./work.sh works\n"

    with_executor(tmp_path, body)


def test_what_a_task_finds(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        (bench.files / "a.txt").write_text("placed")
        ended = await bench.shell(
            "pwd; cat sub/in.txt; echo; env; cat; ls -d $TMPDIR; mktemp; echo oops >&2",
            task=3,
            count=7,
            environment={"COLOUR": "red", "LANG": "C", "PERSEUS_TASK_INDEX": "77"},
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


@pytest.mark.parametrize("program", ["exit 0", "exit 3", "kill -9 $$"])
def test_an_output_on_its_way_is_told_and_cut_by_a_cancel(tmp_path: Path, program: str) -> None:
    async def body(bench: Bench) -> None:
        bench.movers.slow_bytes = 70_000
        attempt = bench.start("sh", "-c", f"head -c 100000 /dev/zero; {program}")
        await bench.until(lambda: any(e.HasField("keeping") for e in bench.events))
        told = bench.events[-1].keeping
        assert told.output_bytes == 100_000
        # A new session hears it again, in order.
        bench.events.clear()
        bench.executor.on_welcome()
        await bench.until(lambda: len(bench.events) == 2)
        assert bench.events[0].HasField("running") and bench.events[1].keeping == told
        bench.stop(attempt, signal.SIGINT)
        bench.stop(attempt, signal.SIGTERM, grace_s=5, cancel=True)
        ended = await bench.ended(attempt)
        assert ended.ending.kind == jobs_pb2.ENDING_CANCELLED
        assert ended.ending.exit_code == {"exit 0": 143, "exit 3": 3, "kill -9 $$": 137}[program]
        assert "only the first 68.4 kB of 97.7 kB of its stdout are kept" in ended.ending.message
        assert ended.stdout.size_bytes == 70_000 and ended.stdout.truncated
        assert bench.whole(ended.stdout) == bytes(70_000)

    with_executor(tmp_path, body)


def test_a_cancelled_program_is_given_a_moment_for_its_output(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        bench.movers.slow_bytes = 5_000
        attempt = bench.start("sh", "-c", "head -c 100000 /dev/zero; exec sleep 1000")
        await bench.until(lambda: bench.movers.ships)
        bench.stop(attempt, signal.SIGTERM, cancel=True)
        ended = await bench.ended(attempt)
        assert (ended.ending.kind, ended.ending.exit_code) == (jobs_pb2.ENDING_CANCELLED, 143)
        assert ended.ending.message.startswith("cancelled by SIGTERM; cut while its output")
        assert ended.stdout.size_bytes == 5_000

    with_executor(tmp_path, body)


def test_an_attempt_on_its_way_that_is_taken_away_says_nothing_more(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        bench.movers.slow_bytes = 5_000
        attempt = bench.start("head", "-c", "100000", "/dev/zero")
        await bench.until(lambda: any(e.HasField("keeping") for e in bench.events))
        bench.executor.discard_attempt(attempt)
        await bench.until(lambda: not bench.attempt_folders())
        assert bench.ended_or_none(attempt) is None
        assert all(ship.is_abandoned for ship in bench.movers.ships)

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


@pytest.mark.parametrize(
    "takes",
    [
        "rm $out",
        "mv $out $TMPDIR/aside",
        "rm $out; : > $out",
        "ln -sf /etc/passwd $out",
        "rm $out; mkfifo $out",
    ],
)
def test_who_takes_its_output_away_is_ended(tmp_path: Path, takes: str) -> None:
    async def body(bench: Bench) -> None:
        # More than is kept: it may be ended before it writes again.
        before = "out=$PERSEUS_ATTEMPT_FOLDER/stdout; echo kept; yes | head -c 8000; "
        # The first goes on for ever, without a byte in the place it took away.
        for task, after in enumerate(("; exec yes", "; yes | head -c 100000")):
            ended = await bench.shell(before + takes + after, task=task)
            assert ended.ending.kind == jobs_pb2.ENDING_OUTPUT_LIMIT
            assert ended.ending.exit_code == 128 + signal.SIGXFSZ
            assert "removed, moved or replaced its own stdout" in ended.ending.message
            assert ended.stdout.truncated and len(ended.stdout.inline) == 4096
            assert ended.stdout.inline.startswith(b"kept\ny\n")

    with_executor(tmp_path, body)


def test_a_disk_near_full_ends_who_fills_it(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        ended = await bench.run("yes", task=0)
        assert ended.ending.kind == jobs_pb2.ENDING_DISK_LIMIT
        assert ended.ending.exit_code == 128 + signal.SIGXFSZ
        for word in (f"task {JOB}.0 was ended", "kitchen-pc", f"{JOB}.0.1 holds", "--disk"):
            assert word in ended.ending.message
        # To keep it would take as much again.
        assert ended.stdout.truncated and ended.stdout.inline == b"y\n" * 2048
        quiet = await bench.shell("sleep 0.2; echo well", task=1)
        assert quiet.ending.exit_code == 0

    with_executor(tmp_path, body, settings=Settings(disk_reserve_bytes=1 << 60))


class FolderDisk(RealDisk):
    """A disk of ``size_bytes`` that holds nothing but the attempts."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def free_bytes(self, path: str) -> int:
        folders = [entry.path for entry in os.scandir(path) if entry.is_dir()]
        return self.size_bytes - sum(held(folder).bytes for folder in folders)


def test_files_in_the_folder_fill_the_disk(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        waits = f"while ! test -e {bench.files}/go; do sleep 0.02; done"
        quiet = bench.start("sh", "-c", f"head -c 1000000 /dev/zero > a; {waits}", task=0)
        await bench.until((bench.folder / f"{JOB}.0.1" / "work" / "a").exists)
        ended = await bench.shell("cd $TMPDIR; head -c 20000000 /dev/zero > b; sleep 60", task=1)
        assert ended.ending.kind == jobs_pb2.ENDING_DISK_LIMIT
        assert f"task {JOB}.1 was ended" in ended.ending.message
        # Before the master has acknowledged the end.
        assert not (bench.folder / f"{JOB}.1.1" / "tmp").exists()
        (bench.files / "go").touch()
        assert (await bench.ended(quiet)).ending.exit_code == 0

    settings = Settings(disk_reserve_bytes=16 << 20)
    with_executor(tmp_path, body, settings=settings, disk=FolderDisk(32 << 20))


def test_a_task_may_hold_what_it_asked_for(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        asked = common_pb2.Resources(disk_bytes=2 << 20)
        script = "head -c %d /dev/zero > a; sleep %s"
        ended = await bench.shell(script % (3 << 20, 60), resources=asked, task=0)
        assert ended.ending.kind == jobs_pb2.ENDING_DISK_LIMIT
        assert f"{JOB}.0.1 on node kitchen-pc, hold " in ended.ending.message
        assert "it asked for 2 MB" in ended.ending.message
        within = await bench.shell(script % (1 << 20, 0.3), resources=asked, task=1)
        assert within.ending.exit_code == 0

    with_executor(tmp_path, body)


def test_no_room_for_an_output_is_no_failure_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SHIP_PAUSES_S", (0.01, 0.01, 0.01))

    async def body(bench: Bench) -> None:
        bench.movers.failures, bench.movers.failure = 10, FullError("3 nodes are full")
        ended = await bench.run("seq", "5000")
        assert ended.ending.kind == jobs_pb2.ENDING_DISK_LIMIT
        assert "3 nodes are full" in ended.ending.message
        assert ended.stdout.size_bytes == 4096 and ended.stdout.truncated

    with_executor(tmp_path, body)


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


@pytest.mark.parametrize(("own", "code"), [(5, 5), (0, 143)])
def test_a_cancelled_program_keeps_the_exit_code_it_chose(
    tmp_path: Path, own: int, code: int
) -> None:
    async def body(bench: Bench) -> None:
        script = f"trap 'exit {own}' TERM; echo $$ > {bench.files}/pid; sleep 1000 & wait"
        attempt = bench.start("sh", "-c", script)
        await bench.pids("pid")
        bench.stop(attempt, signal.SIGTERM, cancel=True)
        ended = (await bench.ended(attempt)).ending
        assert (ended.kind, ended.exit_code) == (jobs_pb2.ENDING_CANCELLED, code)

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


def test_a_cancel_while_files_are_placed(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        (bench.files / "slow").touch()
        bench.movers.places_forever = True
        file = jobs_pb2.PlacedFile(name="in.txt", path="/slow")
        attempt = bench.start("true", files=[file])
        await bench.until(lambda: bench.movers.placing)
        bench.stop(attempt, signal.SIGINT, cancel=True)
        ended = await bench.ended(attempt)
        assert ended.ending.kind == jobs_pb2.ENDING_CANCELLED
        assert ended.ending.exit_code == 130
        assert bench.executor.counts() == (0, 0)

    with_executor(tmp_path, body)
