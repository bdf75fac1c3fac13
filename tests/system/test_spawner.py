"""The spawner process: real programs, real signals, real deaths."""

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from perseus.errors import (
    InvalidError,
    LeaseLostError,
    NotFoundError,
    PerseusError,
    RefusedError,
    TooLargeError,
    UnavailableError,
)
from perseus.runtime.ports import Exit, SpawnRequest
from perseus.runtime.processes import stat as stat_of
from perseus.runtime.spawner import RealSpawner, fork_spawner
from perseus.runtime.spawner_journal import sweep

LIMIT_S = 30.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PERSEUS_TEST_SESSION": ""}


def echo(connection: socket.socket) -> None:
    """A child for ``fork_child``: answers each message, until the agent is gone."""
    while data := connection.recv(1024):
        connection.sendall(data.upper())


class Bench:
    """A spawner and a folder to run programs in."""

    def __init__(self, spawner: RealSpawner, folder: Path) -> None:
        self.spawner = spawner
        self.folder = folder
        self.deaths: list[str] = []

    def request(self, *argv: str, stdin: str = os.devnull, cwd: str = "") -> SpawnRequest:
        environment = ENVIRONMENT | {
            "PERSEUS_TEST_SESSION": os.environ.get("PERSEUS_TEST_SESSION", ""),
            "PERSEUS_ATTEMPT_FOLDER": f"{self.folder}/one",
        }
        out, err = f"{self.folder}/out", f"{self.folder}/err"
        return SpawnRequest(argv, environment, cwd or str(self.folder), stdin, out, err)

    async def run(self, *argv: str, stdin: str = os.devnull) -> Exit:
        pid = await self.spawner.spawn(self.request(*argv, stdin=stdin))
        return await self.spawner.wait(pid)

    def out(self) -> str:
        return (self.folder / "out").read_text()


def with_spawner(folder: Path, body: Callable[[Bench], Awaitable[None]]) -> None:
    spawner = fork_spawner({"echo": echo}, str(folder / "journal"))

    async def main() -> None:
        bench = Bench(spawner, folder)
        spawner.start(bench.deaths.append)
        try:
            await asyncio.wait_for(body(bench), LIMIT_S)
        finally:
            await spawner.close()

    asyncio.run(main())
    assert not psutil.pid_exists(spawner.pid)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what no event tells, such as a process of others being gone."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.005)


def is_gone(pid: int) -> bool:
    return stat_of(pid) is None


def append(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def pids_in(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()] if path.exists() else []


async def read_pids(path: Path, count: int) -> list[int]:
    await until(lambda: len(pids_in(path)) >= count)
    return pids_in(path)


@pytest.mark.parametrize(
    ("script", "expected"),
    [("exit 0", (0, 0)), ("exit 3", (3, 0)), ("kill -9 $$", (0, 9)), ("kill -15 $$", (0, 15))],
)
def test_exit_codes_and_signals(tmp_path: Path, script: str, expected: tuple[int, int]) -> None:
    async def body(bench: Bench) -> None:
        ended = await bench.run("sh", "-c", script)
        assert (ended.exit_code, ended.signal) == expected

    with_spawner(tmp_path, body)


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x00\x01\x02\x03")
    binary.chmod(0o700)
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o700)
    cases: list[tuple[list[str], type[PerseusError], str]] = [
        (["no-such-program"], NotFoundError, "command not found"),
        (["/no/such/program"], NotFoundError, "command not found"),
        # It is looked for in the task's folder, not where the daemon stands.
        (["./no-such-program"], NotFoundError, "not found in the task's working folder"),
        (["./script"], RefusedError, "interpreter"),
        ([str(plain)], RefusedError, "Permission denied"),
        ([str(binary)], RefusedError, "wrong format"),
        ([str(script)], RefusedError, "interpreter"),
        (["true", "x" * 200_000], TooLargeError, "argument list too long"),
        (["true", "a\0b"], InvalidError, "null byte"),
        (["true", "\ud800"], InvalidError, "cannot start"),
    ]

    async def body(bench: Bench) -> None:
        for argv, kind, words in cases:
            with pytest.raises(kind, match=words) as caught:
                await bench.spawner.spawn(bench.request(*argv))
            # What may be the program's fault says what to look at.
            assert caught.value.hint or kind is InvalidError, argv
        with pytest.raises(UnavailableError, match="working directory /no/such: no such folder"):
            await bench.spawner.spawn(bench.request("true", cwd="/no/such"))
        with pytest.raises(UnavailableError, match="/no/such/stdin"):
            await bench.spawner.spawn(bench.request("true", stdin="/no/such/stdin"))
        with pytest.raises(InvalidError):
            await bench.spawner.spawn(bench.request())
        big = [bench.request("true", *["x" * 100_000] * 10) for _ in range(80)]
        results = await asyncio.gather(*map(bench.spawner.spawn, big), return_exceptions=True)
        assert all(isinstance(result, int) for result in results)
        assert (await bench.run("true")).exit_code == 0

    with_spawner(tmp_path, body)


def test_a_program_starts_clean(tmp_path: Path) -> None:
    """Signals as by default, no foreign descriptors, a session of its own, a usual umask."""
    script = """
import json, os, signal
handled = [int(n) for n in signal.valid_signals()
           if n not in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)
           and signal.getsignal(n) != signal.SIG_DFL]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
mask = os.umask(0)
# Python ignores two by itself. The C library keeps two more from every program, so what
# this run itself was started with stays for them.
looked_at = sum(1 << int(n) - 1 for n in signal.valid_signals()
                if n not in (signal.SIGPIPE, signal.SIGXFSZ))
print(json.dumps({"ignored": int(status["SigIgn"], 16) & looked_at,
    "blocked": int(status["SigBlk"], 16), "handled": handled, "umask": mask,
    "descriptors": [n for n in os.listdir("/proc/self/fd") if int(n) > 2],
    "session": os.getsid(0) == os.getpid(), "group": os.getpgrp() == os.getpid()}))
"""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    extra = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(extra, True)
    try:

        async def body(bench: Bench) -> None:
            assert (await bench.run(sys.executable, "-S", "-c", script)).exit_code == 0
            said = json.loads(bench.out())
            # The listing of the folder is itself a descriptor.
            assert len(said.pop("descriptors")) <= 1
            assert said == {
                "ignored": 0,
                "blocked": 0,
                "handled": [],
                "umask": 0o022,
                "session": True,
                "group": True,
            }
            assert (bench.folder / "out").stat().st_mode & 0o777 == 0o600
            await bench.run("sh", "-c", "yes | head -1; grep SigIgn /proc/self/status")
            ignored = int(bench.out().rpartition("SigIgn:")[2], 16)
            assert [n for n in signal.valid_signals() if ignored >> (n - 1) & 1] == []

        with_spawner(tmp_path, body)
    finally:
        os.close(extra)
        signal.signal(signal.SIGUSR1, before)


def test_signals_reach_the_whole_group(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        script = "sleep 1000 & sleep 1000 & echo $$ $! > pids; wait"
        pid = await bench.spawner.spawn(bench.request("sh", "-c", script))
        pids = await read_pids(tmp_path / "pids", 2)
        await bench.spawner.signal(pid, signal.SIGTERM)
        assert (await bench.spawner.wait(pid)).signal == signal.SIGTERM
        await until(lambda: all(map(is_gone, pids)))
        await bench.spawner.signal(pid, signal.SIGTERM)

    with_spawner(tmp_path, body)


def test_a_stray_without_its_environment_ends_with_the_tasks_that_it_may_be_of(
    tmp_path: Path,
) -> None:
    async def body(bench: Bench) -> None:
        empties = "env -i PATH=$PATH setsid sh -c 'echo $$ >> pids; exec sleep 1000' &"
        wait = f"{empties} while ! test -s pids; do sleep 0.01; done"
        await bench.run("sh", "-c", wait)
        (alone,) = await read_pids(tmp_path / "pids", 1)
        await until(lambda: is_gone(alone))
        # One that runs still may be the one it comes from; one that began later is not.
        (tmp_path / "pids").unlink()
        elder = await bench.spawner.spawn(bench.request("sleep", "1000"))
        await bench.run("sh", "-c", wait)
        (stray,) = await read_pids(tmp_path / "pids", 1)
        await bench.run("sleep", "0.05")
        assert not is_gone(stray)
        younger = await bench.spawner.spawn(bench.request("sleep", "1000"))
        await bench.spawner.signal(elder, signal.SIGKILL)
        await bench.spawner.wait(elder)
        await until(lambda: is_gone(stray))
        assert not is_gone(younger)
        await bench.spawner.signal(younger, signal.SIGKILL)
        await bench.spawner.wait(younger)

    with_spawner(tmp_path, body)


def test_the_end_of_a_task_ends_its_group_and_its_strays(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        script = "sleep 1000 & echo $! >> pids; (setsid sh -c 'echo $$ >> pids; sleep 1000') & "
        script += "while [ $(wc -l < pids) -lt 2 ]; do sleep 0.01; done; echo done"
        assert (await bench.run("sh", "-c", script)).exit_code == 0
        pids = await read_pids(tmp_path / "pids", 2)
        await until(lambda: all(map(is_gone, pids)))
        assert bench.out() == "done\n"

    with_spawner(tmp_path, body)


def test_a_daemon_of_a_live_task_is_left_alone(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        script = "(setsid sh -c 'echo $$ >> pids; exec sleep 1000' &) ; exec sleep 1000"
        pid = await bench.spawner.spawn(bench.request("sh", "-c", script))
        (stray,) = await read_pids(tmp_path / "pids", 1)
        # Others come and go, which makes the spawner look for strays.
        for _ in range(3):
            other = bench.request("true")
            environment = {**other.environment, "PERSEUS_ATTEMPT_FOLDER": "/elsewhere"}
            other = SpawnRequest(
                ["true"], environment, "/", os.devnull, other.stdout_path, other.stderr_path
            )
            await bench.spawner.wait(await bench.spawner.spawn(other))
        assert not is_gone(stray)
        await bench.spawner.signal(pid, signal.SIGKILL)
        await bench.spawner.wait(pid)
        await until(lambda: is_gone(stray))

    with_spawner(tmp_path, body)


def test_a_fifo_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def body(bench: Bench) -> None:
        writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        pid = await bench.spawner.spawn(bench.request("cat", stdin=str(fifo)))
        assert (await bench.run("true")).exit_code == 0
        os.write(writer, b"from the pipe")
        os.close(writer)
        assert (await bench.spawner.wait(pid)).exit_code == 0
        assert bench.out() == "from the pipe"

    with_spawner(tmp_path, body)


def test_usage_is_told(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        # More than the spawner can have, which was forked from this very process.
        size_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) + (64 << 20)
        script = f"x = bytearray({size_bytes})\nfor i in range(3000000): pass"
        ended = await bench.run(sys.executable, "-S", "-c", script)
        assert ended.memory_peak_bytes > size_bytes
        assert ended.cpu_s > 0.02
        assert (await bench.run("true")).memory_peak_bytes == 0

    with_spawner(tmp_path, body)


def test_many_at_once(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        ends = await asyncio.gather(*(bench.run("sh", "-c", f"exit {n}") for n in range(100)))
        assert [end.exit_code for end in ends] == list(range(100))
        failures = await asyncio.gather(
            *(bench.run("no-such-program") for _ in range(50)), return_exceptions=True
        )
        assert all(isinstance(failure, NotFoundError) for failure in failures)

    with_spawner(tmp_path, body)


def test_a_start_that_nobody_awaits_does_not_run_on(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        request = bench.request("sh", "-c", "echo $$ > pids; exec sleep 1000")
        asking = asyncio.create_task(bench.spawner.spawn(request))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert (await bench.run("true")).exit_code == 0
        own = psutil.Process(bench.spawner.pid)
        await until(lambda: not own.children())

    with_spawner(tmp_path, body)


def test_kill_all_also_forgets_what_waits(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        pid = await bench.spawner.spawn(bench.request("sleep", "1000"))
        starts = [
            asyncio.create_task(bench.spawner.spawn(bench.request("sleep", "1000")))
            for _ in range(20)
        ]
        await asyncio.sleep(0)
        bench.spawner.kill_all()
        assert (await bench.spawner.wait(pid)).signal == signal.SIGKILL
        results = await asyncio.gather(*starts, return_exceptions=True)
        for result in results:
            if isinstance(result, int):
                assert (await bench.spawner.wait(result)).signal == signal.SIGKILL
            else:
                assert isinstance(result, LeaseLostError)

    with_spawner(tmp_path, body)


def state_of(pid: int) -> str:
    found = stat_of(pid)
    return "" if found is None else found.state


def test_the_guard_freezes_in_time_and_lets_nothing_start_after(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        pid = await bench.spawner.spawn(bench.request("sleep", "1000"))
        bench.spawner.guard(time.clock_gettime(time.CLOCK_BOOTTIME) + 0.2)
        await until(lambda: state_of(pid) == "T")
        with pytest.raises(LeaseLostError, match="lease"):
            await bench.spawner.spawn(bench.request("true"))
        # Not by a signal of the agent's, for then it would run without a lease.
        bench.spawner.send_signal(pid, signal.SIGCONT)
        with pytest.raises(LeaseLostError, match="lease"):
            await bench.spawner.spawn(bench.request("true"))
        assert state_of(pid) == "T"
        bench.spawner.guard(time.clock_gettime(time.CLOCK_BOOTTIME) + LIMIT_S)
        assert (await bench.run("true")).exit_code == 0
        await until(lambda: state_of(pid) == "S")
        bench.spawner.send_signal(pid, signal.SIGKILL)
        assert (await bench.spawner.wait(pid)).signal == signal.SIGKILL

    with_spawner(tmp_path, body)


def test_what_left_its_group_is_frozen_too_and_thawed_with_its_task(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        # A child in a session of its own, an orphan in one, and one that a person stopped.
        script = (
            "setsid sleep 1001 & echo $! >> {0}; (setsid sleep 1002 & echo $! >> {0}); "
            "sleep 1003 & kill -STOP $!; echo $! > {0}.stopped; exec sleep 1000"
        )
        tasks: list[list[int]] = []
        for name in ("one", "two"):
            request = bench.request("sh", "-c", script.format(tmp_path / name))
            environment = {**request.environment, "PERSEUS_ATTEMPT_FOLDER": f"{tmp_path}/{name}"}
            pid = await bench.spawner.spawn(replace(request, environment=environment))
            tasks.append([pid, *(await read_pids(tmp_path / name, 2))])
            (stopped,) = await read_pids(tmp_path / f"{name}.stopped", 1)
            tasks[-1].append(stopped)
        await until(lambda: all(state_of(task[-1]) == "T" for task in tasks))
        bench.spawner.freeze()
        await until(lambda: all(state_of(pid) == "T" for task in tasks for pid in task))
        with pytest.raises(LeaseLostError, match="lease"):
            await bench.spawner.spawn(bench.request("true"))
        # A lease alone lets none of them go on.
        bench.spawner.guard(time.clock_gettime(time.CLOCK_BOOTTIME) + LIMIT_S)
        bench.spawner.thaw([tasks[1][0]])
        await until(lambda: all(state_of(pid) == "S" for pid in tasks[1][:-1]))
        assert [state_of(pid) for pid in (*tasks[0], tasks[1][-1])] == ["T"] * 5
        for pid in (tasks[0][0], tasks[1][0]):
            bench.spawner.send_signal(pid, signal.SIGKILL)
        await until(lambda: all(is_gone(pid) for task in tasks for pid in task))

    with_spawner(tmp_path, body)


def test_forked_children(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        child = await bench.spawner.fork_child("echo")
        loop = asyncio.get_running_loop()
        child.socket.setblocking(False)
        await loop.sock_sendall(child.socket, b"hello")
        assert await loop.sock_recv(child.socket, 100) == b"HELLO"
        child.socket.close()
        assert (await bench.spawner.wait(child.pid)).exit_code == 0
        again = await bench.spawner.fork_child("echo")
        os.kill(again.pid, signal.SIGKILL)
        assert (await bench.spawner.wait(again.pid)).signal == signal.SIGKILL
        again.socket.close()
        with pytest.raises(PerseusError, match="no child named"):
            await bench.spawner.fork_child("nobody")
        last = await bench.spawner.fork_child("echo")
        last.socket.close()

    with_spawner(tmp_path, body)


def test_a_forked_child_logs_and_holds_nothing_else_of_its_parent(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "log")
    logging.getLogger().addHandler(handler)
    secret = os.open(tmp_path / "secret", os.O_WRONLY | os.O_CREAT)

    def child(connection: socket.socket) -> None:
        logging.getLogger("perseus.test").error("from the child")
        os.write(secret, b"must not arrive")
        connection.sendall(b"done")

    try:
        spawner = fork_spawner({"child": child})

        async def main() -> None:
            spawner.start(lambda reason: None)
            forked = await spawner.fork_child("child")
            forked.socket.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(forked.socket, 100) == b"done"
            assert (await spawner.wait(forked.pid)).exit_code == 0
            forked.socket.close()
            await spawner.close()

        asyncio.run(asyncio.wait_for(main(), LIMIT_S))
        assert (tmp_path / "log").read_text() == "from the child\n"
        assert (tmp_path / "secret").read_bytes() == b""
    finally:
        os.close(secret)
        logging.getLogger().removeHandler(handler)
        handler.close()


def test_a_dead_spawner_is_told_and_fails_all_calls(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        pid = await bench.spawner.spawn(bench.request("sleep", "1000"))
        child = await bench.spawner.fork_child("echo")
        os.kill(bench.spawner.pid, signal.SIGKILL)
        with pytest.raises(LeaseLostError):
            await bench.spawner.wait(pid)
        with pytest.raises(LeaseLostError):
            await bench.spawner.spawn(bench.request("true"))
        assert len(bench.deaths) == 1
        child.socket.close()
        # The forked child goes with it, the task stays behind: for the sweep.
        await until(lambda: is_gone(child.pid))
        assert not is_gone(pid)
        assert sweep(str(tmp_path)) == [pid]
        await until(lambda: is_gone(pid))

    with_spawner(tmp_path, body)


def test_the_sweep_hits_left_overs_and_nothing_else(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:

        async def body(bench: Bench) -> None:
            script = "sleep 1000 & setsid sleep 1000 & echo $$ $! > pids; exec env -i sleep 1000"
            pid = await bench.spawner.spawn(bench.request("sh", "-c", script))
            await read_pids(tmp_path / "pids", 2)
            ours = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
            assert len(ours) == 3
            os.kill(bench.spawner.pid, signal.SIGKILL)
            await until(lambda: bool(bench.deaths))
            # As if the bystander's pid had been a task's before.
            append(tmp_path / "journal", f"{bystander.pid} 1 1\n{os.getpid()} 1 1\n77 torn")
            assert sorted(sweep(str(tmp_path))) == sorted(ours)
            await until(lambda: all(map(is_gone, ours)))

        with_spawner(tmp_path, body)
        assert bystander.poll() is None
        assert sweep(str(tmp_path)) == []
    finally:
        bystander.kill()
        bystander.wait()


AGENT = """
import asyncio, os, sys
from perseus.runtime.ports import SpawnRequest
from perseus.runtime.spawner import fork_spawner
folder = sys.argv[1]

def service(connection):
    print(os.getpid(), flush=True)
    connection.recv(1)
    import time
    time.sleep(1000)

spawner = fork_spawner({"service": service}, folder + "/journal")
async def main():
    spawner.start(print)
    await spawner.fork_child("service")
    environment = dict(os.environ)
    script = "trap '' TERM HUP; sleep 1000 & (setsid sleep 1000) & echo $!; wait"
    for n in range(3):
        out = f"{folder}/{n}"
        request = SpawnRequest(["sh", "-c", script], environment, "/", "/dev/null", out, out)
        print(await spawner.spawn(request), flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


def test_an_agent_killed_takes_all_with_it(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[2] / "src"
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    try:
        assert agent.stdout is not None
        for _ in range(4):
            agent.stdout.readline()
        outs = [tmp_path / str(n) for n in range(3)]
        asyncio.run(until(lambda: all(out.exists() and out.read_text() for out in outs)))
        (spawner,) = psutil.Process(agent.pid).children()
        family = [spawner, *spawner.children(recursive=True)]
        assert len(family) >= 1 + 1 + 3 * 3
    finally:
        agent.kill()
        agent.communicate()
    _, alive = psutil.wait_procs(family, LIMIT_S)
    assert not alive


def test_it_is_small(tmp_path: Path) -> None:
    """The spawner shares its memory with the agent; its own is a few MiB."""

    async def body(bench: Bench) -> None:
        for _ in range(20):
            await bench.run("true")
        private = psutil.Process(bench.spawner.pid).memory_full_info().uss
        print(f"private memory of the spawner: {private >> 10} KiB")
        assert private < 16 << 20

    with_spawner(tmp_path, body)


def test_descriptors_do_not_leak(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        own = psutil.Process(bench.spawner.pid)
        await bench.run("true")
        before = own.num_fds()
        for _ in range(20):
            await bench.run("true")
            with pytest.raises(NotFoundError):
                await bench.run("no-such-program")
        assert own.num_fds() == before

    with_spawner(tmp_path, body)
