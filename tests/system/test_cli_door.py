"""The command line and the client against the real JSON door, with small services behind it.

The services run tasks as plain processes and keep files in memory, in a process
of their own (this file, run as a program), so that what is tested is the way
between a person and the door: descriptors, signals, breaks, latency.
"""

import asyncio
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PERSEUS = SOURCE / "perseus" / "cli" / "bin" / "perseus"
LIMIT_S = 30.0


class Files:
    """A filestore in memory; files under way can be followed."""

    def __init__(self) -> None:
        self.content: dict[str, bytearray] = {}
        self.open: set[str] = set()
        self.folders = {"/"}
        self.changed = asyncio.Condition()

    def _info(self, path: str) -> Any:
        from perseus.errors import NotFoundError
        from perseus.proto.v1 import filestore_pb2 as pb

        if path in self.content:
            size = len(self.content[path])
            is_open = path in self.open
            return pb.FileInfo(
                path=path, kind=pb.FILE_KIND_FILE, size_bytes=size, open=is_open, replicas=2
            )
        if path in self.folders:
            return pb.FileInfo(path=path, kind=pb.FILE_KIND_DIRECTORY)
        raise NotFoundError(f"{path} does not exist", hint="perseus fs ls")

    async def stat(self, request: Any, call: Any) -> Any:
        return self._info(request.path)

    async def list(self, request: Any, call: Any) -> Any:
        from perseus.proto.v1 import filestore_pb2 as pb

        names = sorted(p for p in [*self.content, *self.folders] if p != "/")
        base = request.path.rstrip("/")
        here = [p for p in names if p.rpartition("/")[0] == base]
        here = [p for p in here if p.rpartition("/")[2] > request.after]
        shown = here[: request.limit or 1000]
        return pb.ListResponse(entries=[self._info(p) for p in shown], more=len(here) > len(shown))

    async def make_directory(self, request: Any, call: Any) -> Any:
        self.folders.add(request.path)
        return self._info(request.path)

    async def rename(self, request: Any, call: Any) -> Any:
        self.content[request.target] = self.content.pop(request.source)
        return self._info(request.target)

    async def remove(self, request: Any, call: Any) -> Any:
        from perseus.proto.v1 import filestore_pb2 as pb

        self._info(request.path)
        self.content.pop(request.path, None)
        return pb.RemoveResponse(removed=1)

    async def disk_usage(self, request: Any, call: Any) -> Any:
        from perseus.proto.v1 import filestore_pb2 as pb

        return pb.DiskUsageResponse(files=len(self.content), free_bytes=5 << 30)

    async def read(self, request: Any, call: Any) -> AsyncIterator[Any]:
        from perseus.proto.v1 import filestore_pb2 as pb

        self._info(request.path)
        async for piece in self.follow(request.path, request.offset_bytes, request.follow):
            yield pb.ReadPiece(data=piece)
        if request.length_bytes:
            raise AssertionError("not needed by these tests")

    async def follow(self, path: str, offset: int, follow: bool) -> AsyncIterator[bytes]:
        content = self.content[path]
        while True:
            piece = bytes(content[offset : offset + (256 << 10)])
            if piece:
                offset += len(piece)
                yield piece
            elif not follow or path not in self.open:
                return
            else:
                async with self.changed:
                    while len(content) <= offset and path in self.open:
                        await self.changed.wait()

    async def write(self, requests: Any, call: Any) -> Any:
        path = ""
        whole = False
        staged = bytearray()
        target = staged
        try:
            async for request in requests:
                if not path:
                    path = request.path
                    if request.append:
                        target = self.content.setdefault(path, bytearray())
                    elif request.visible:
                        self.content[path] = target
                        self.open.add(path)
                target += request.data
                async with self.changed:
                    self.changed.notify_all()
            whole = True
        finally:
            self.open.discard(path)
            async with self.changed:
                self.changed.notify_all()
        if whole:
            self.content[path] = target
        return self._info(path)

    async def create(self, request: Any, call: Any) -> Any: ...
    async def append(self, request: Any, call: Any) -> Any: ...
    async def allocate_chunk(self, request: Any, call: Any) -> Any: ...
    async def seal_chunk(self, request: Any, call: Any) -> Any: ...
    async def renew_write_lease(self, request: Any, call: Any) -> Any: ...
    async def close(self, request: Any, call: Any) -> Any: ...
    async def abandon(self, request: Any, call: Any) -> Any: ...
    async def locate(self, request: Any, call: Any) -> Any: ...
    async def report_replica(self, request: Any, call: Any) -> Any: ...


class Jobs:
    """Tasks as processes of this machine. ``cut`` breaks the Run stream of jobs so named."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.jobs: dict[str, dict[str, Any]] = {}

    async def _start(self, submit: Any) -> dict[str, Any]:
        job_id = f"j{len(self.jobs):07d}"
        spec = submit.spec
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **spec.environment},
                start_new_session=True,
            )
        except FileNotFoundError:
            process = None
        job: dict[str, Any] = {
            "id": job_id,
            "submit": submit,
            "process": process,
            "code": None if process else 127,
            "stdout": bytearray(),
            "stderr": bytearray(),
            "changed": asyncio.Condition(),
            "signals": [],
        }
        self.jobs[job_id] = job
        if process:
            job["tasks"] = [
                asyncio.create_task(self._feed(job)),
                asyncio.create_task(self._end(job)),
            ]
        return job

    async def _feed(self, job: dict[str, Any]) -> None:
        spec, stdin = job["submit"].spec, job["process"].stdin
        try:
            stdin.write(spec.stdin_inline)
            if spec.stdin_path:
                async for piece in self.files.follow(spec.stdin_path, 0, True):
                    stdin.write(piece)
                    await stdin.drain()
            stdin.close()
        except ConnectionError:
            pass

    async def _end(self, job: dict[str, Any]) -> None:
        process = job["process"]
        readers = [self._keep(job, "stdout"), self._keep(job, "stderr")]
        await asyncio.gather(*readers)
        code = await process.wait()
        job["code"] = code if code >= 0 else 128 - code
        async with job["changed"]:
            job["changed"].notify_all()

    async def _keep(self, job: dict[str, Any], which: str) -> None:
        reader = getattr(job["process"], which)
        while piece := await reader.read(256 << 10):
            job[which] += piece
            async with job["changed"]:
                job["changed"].notify_all()

    def _find(self, name: str) -> dict[str, Any]:
        from perseus.errors import NotFoundError

        if name == "@last" and self.jobs:
            return list(self.jobs.values())[-1]
        if name not in self.jobs:
            raise NotFoundError(f"there is no job {name!r}", hint="perseus ps")
        return self.jobs[name]

    async def submit(self, request: Any, call: Any) -> Any:
        from perseus.proto.v1 import jobs_pb2 as pb

        return pb.SubmitResponse(job_id=(await self._start(request))["id"])

    async def run(self, request: Any, call: Any) -> AsyncIterator[Any]:
        job = await self._start(request.submit)
        ended = False
        try:
            async for event in self._events(job, 0, 0, True, True, True):
                yield event
                ended = event.HasField("ending")
                if request.submit.name == "cut" and event.stdout:
                    call.caller.__class__.cut(job)
        finally:
            if not ended and not request.detach and job["process"]:
                job["process"].kill()

    async def _events(
        self, job: dict[str, Any], out: int, err: int, stdout: bool, stderr: bool, follow: bool
    ) -> AsyncIterator[Any]:
        from perseus.proto.v1 import jobs_pb2 as pb

        yield pb.FollowEvent(job_id=job["id"], state=pb.TASK_STATE_RUNNING, node="here", attempt=1)
        while True:
            new_out = bytes(job["stdout"][out : out + (256 << 10)]) if stdout else b""
            new_err = bytes(job["stderr"][err : err + (256 << 10)]) if stderr else b""
            out, err = out + len(new_out), err + len(new_err)
            if new_out or new_err:
                yield pb.FollowEvent(job_id=job["id"], stdout=new_out, stderr=new_err)
            elif job["code"] is not None:
                yield pb.FollowEvent(job_id=job["id"], ending=_ending(job["code"]))
                return
            elif not follow:
                return
            else:
                async with job["changed"]:
                    while job["code"] is None and not (
                        (stdout and len(job["stdout"]) > out)
                        or (stderr and len(job["stderr"]) > err)
                    ):
                        await job["changed"].wait()

    def _info(self, job: dict[str, Any]) -> Any:
        from perseus.proto.v1 import jobs_pb2 as pb

        code = job["code"]
        ended = pb.TASK_STATE_FAILED if code else pb.TASK_STATE_FINISHED
        state = pb.TASK_STATE_RUNNING if code is None else ended
        task = pb.Task(state=state, attempt=1, node="here")
        if code is not None:
            task.ending.CopyFrom(_ending(code))
        return pb.Job(
            job_id=job["id"], name=job["submit"].spec.argv[0], user="me", state=state, count=1,
            exit_code=code or 0, tasks=[task], submitted_at_s=time.time(), task_counts={state: 1},
        )  # fmt: skip

    async def get_job(self, request: Any, call: Any) -> Any:
        return self._info(self._find(request.job_id))

    async def list_jobs(self, request: Any, call: Any) -> Any:
        from perseus.proto.v1 import jobs_pb2 as pb

        return pb.ListJobsResponse(jobs=[self._info(job) for job in self.jobs.values()][::-1])

    async def wait(self, request: Any, call: Any) -> Any:
        job = self._find(request.job_id)
        try:
            async with asyncio.timeout(request.timeout_s), job["changed"]:
                await job["changed"].wait_for(lambda: job["code"] is not None)
        except TimeoutError:
            pass
        return self._info(job)

    async def follow(self, request: Any, call: Any) -> AsyncIterator[Any]:
        job = self._find(request.job_id)
        both = request.stdout == request.stderr
        offsets = (request.stdout_offset_bytes, request.stderr_offset_bytes)
        which = (both or request.stdout, both or request.stderr)
        async for event in self._events(job, *offsets, *which, request.follow):
            yield event

    async def kill(self, request: Any, call: Any) -> Any:
        from perseus.proto.v1 import jobs_pb2 as pb

        job = self._find(request.job_id)
        job["signals"].append(request.signal)
        if job["code"] is None:
            os.killpg(job["process"].pid, request.signal)
        return pb.KillResponse(tasks=1)

    async def retry(self, request: Any, call: Any) -> Any:
        return self._info(self._find(request.job_id))

    async def why(self, request: Any, call: Any) -> Any:
        from perseus.proto.v1 import jobs_pb2 as pb

        self._find(request.job_id)
        return pb.WhyResponse(sentences=["It ran here, for here is all there is."])


def _ending(code: int) -> Any:
    from perseus.proto.v1 import jobs_pb2 as pb

    if code == 127:
        return pb.Ending(
            kind=pb.ENDING_NOT_STARTED,
            exit_code=127,
            message="there is no such program on node here",
        )
    return pb.Ending(kind=pb.ENDING_EXITED, exit_code=code)


async def serve(socket_path: str) -> None:
    """The JSON door on a Unix socket, until the process is ended."""
    from perseus.identity import roles
    from perseus.rpc.call import Caller
    from perseus.rpc.http_connection import HttpConnection
    from perseus.rpc.json_door import JsonDoor
    from perseus.rpc.registry import Registry

    connections: set[HttpConnection] = set()

    class CuttingCaller(Caller):
        """A caller whose connections can be cut, as a dying daemon would."""

        @staticmethod
        def cut(job: dict[str, Any]) -> None:
            job["submit"].name = "was cut"
            for connection in list(connections):
                connection.close()

    files = Files()
    registry = Registry()
    registry.add("Files", files)
    registry.add("Jobs", Jobs(files))
    door = JsonDoor(registry, b"", "pfake")
    caller = CuttingCaller("me", roles.ADMIN, "local")

    def connect() -> HttpConnection:
        made = HttpConnection(lambda c, r: door.answer(c, r, caller), connections.discard)
        connections.add(made)
        return made

    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(connect, socket_path, backlog=64)
    print("ready", flush=True)
    await server.serve_forever()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which a command finds the door."""
    folder = tmp_path_factory.mktemp("door")
    path = folder / "door.sock"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "HOME": str(folder)}
    process = subprocess.Popen(
        [sys.executable, __file__, str(path)], stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    context = folder / "context.json"
    context.write_text(json.dumps({"name": "fake", "socket": str(path)}))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "NO_COLOR"):
        environment.pop(name, None)
    environment |= {"PERSEUS_CONTEXT": str(context), "PERSEUS_PYTHON": sys.executable}
    try:
        yield environment
    finally:
        process.kill()
        process.wait()


def perseus(
    door: dict[str, str], *arguments: str, stdin: bytes = b"", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(PERSEUS), *arguments],
        input=stdin,
        capture_output=True,
        env=door,
        timeout=LIMIT_S,
        check=False,
        **options,
    )


def start(
    door: dict[str, str], *arguments: str, stdin: Any = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(PERSEUS), *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=door,
    )


def test_output_and_exit_code_pass_through(door: dict[str, str]) -> None:
    done = perseus(door, "run", "--", "sh", "-c", "printf 'a\\0b'; echo oops >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"a\0b", b"oops\n", 7)


def test_what_is_not_there_is_127_and_said(door: dict[str, str]) -> None:
    done = perseus(door, "run", "--", "no-such-program")
    assert done.returncode == 127
    assert b"no such program on node here" in done.stderr


def test_small_stdin_rides_along(door: dict[str, str]) -> None:
    assert perseus(door, "run", "--", "cat", stdin=b"\xff\x00hi").stdout == b"\xff\x00hi"


def test_long_stdin_is_streamed_and_removed(door: dict[str, str]) -> None:
    content = os.urandom(1 << 20) * 3
    done = perseus(door, "run", "--", "cat", stdin=content)
    assert done.stdout == content
    assert done.returncode == 0
    left = perseus(door, "fs", "ls", "/.perseus/stdin")
    assert left.stdout == b""


def test_stdin_from_a_file(door: dict[str, str], tmp_path: Path) -> None:
    local = tmp_path / "input"
    local.write_bytes(b"x" * 200_000)
    with local.open("rb") as opened:
        process = start(door, "run", "--", "wc", "-c", stdin=opened)
        out, _ = process.communicate(timeout=LIMIT_S)
    assert out.strip() == b"200000"


def test_stdin_that_comes_slowly_is_seen_at_once(door: dict[str, str]) -> None:
    process = start(door, "run", "--", "cat", stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    for line in (b"one\n", b"two\n"):
        process.stdin.write(line)
        process.stdin.flush()
        assert process.stdout.readline() == line
    process.stdin.close()
    assert process.wait(LIMIT_S) == 0


def test_a_signal_reaches_the_task(door: dict[str, str]) -> None:
    script = "trap 'echo got; exit 9' INT; echo ready; while :; do sleep 0.02; done"
    process = start(door, "run", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=LIMIT_S)
    assert out == b"got\n"
    assert process.returncode == 9


def test_a_second_interrupt_cancels(door: dict[str, str]) -> None:
    script = "trap 'echo no' INT; echo ready; while :; do sleep 0.02; done"
    process = start(door, "run", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"no\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert b"is cancelled" in error


def test_a_closed_pipe_ends_it_quietly(door: dict[str, str]) -> None:
    process = start(door, "run", "--", "yes")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(LIMIT_S) == 141
    assert process.stderr.read() == b""


def test_a_break_of_the_daemon_is_bridged(door: dict[str, str]) -> None:
    script = "echo first; sleep 0.3; echo second; exit 3"
    done = perseus(door, "run", "--name", "cut", "--", "sh", "-c", script)
    # The fake kills what was cut, as a daemon does that loses its caller.
    assert done.stdout.startswith(b"first\n")
    assert done.stdout.count(b"first") == 1
    assert b"waiting for it to come back" in done.stderr


def test_no_daemon_is_said(door: dict[str, str], tmp_path: Path) -> None:
    context = tmp_path / "gone.json"
    context.write_text(json.dumps({"name": "gone", "socket": str(tmp_path / "none.sock")}))
    done = perseus(door | {"PERSEUS_CONTEXT": str(context)}, "run", "--", "true")
    assert done.returncode == 125
    assert b"perseus doctor" in done.stderr


def test_submit_prints_the_id_alone_and_the_rest_follows(door: dict[str, str]) -> None:
    job_id = perseus(door, "submit", "--", "sh", "-c", "echo x; exit 4").stdout.decode().strip()
    assert job_id.startswith("j")
    assert perseus(door, "wait", job_id).returncode == 4
    assert perseus(door, "logs", job_id).stdout == b"x\n"
    assert perseus(door, "attach", "@last").returncode == 4
    assert job_id in perseus(door, "ps").stdout.decode()
    first = json.loads(perseus(door, "--json", "ps").stdout)[0]
    assert (first["job_id"], first["state"]) == (job_id, "TASK_STATE_FAILED")
    assert b"all there is" in perseus(door, "why", job_id).stdout
    assert perseus(door, "logs", "nothing").returncode == 125


def test_files_go_both_ways(door: dict[str, str], tmp_path: Path) -> None:
    local = tmp_path / "a.bin"
    local.write_bytes(os.urandom(300_000))
    assert perseus(door, "fs", "put", str(local), "/a.bin").returncode == 0
    assert perseus(door, "fs", "get", "/a.bin", str(tmp_path / "b.bin")).returncode == 0
    assert (tmp_path / "b.bin").read_bytes() == local.read_bytes()
    assert perseus(door, "fs", "append", "/log", stdin=b"1\n2\n3\n").returncode == 0
    assert perseus(door, "fs", "cat", "/log").stdout == b"1\n2\n3\n"
    assert b"/a.bin" in perseus(door, "fs", "stat", "/a.bin").stdout
    assert perseus(door, "fs", "rm", "/none").returncode == 125
    assert perseus(door, "fs", "rm", "-f", "/none").returncode == 0


def test_a_terminal_is_forwarded_and_submit_leaves_it_alone(door: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    with open(ours, "r+b", buffering=0) as typed, open(theirs, "rb", buffering=0) as terminal:
        process = start(door, "run", "--", "head", "-n", "1", stdin=terminal)
        typed.write(b"hello\n")
        out, error = process.communicate(timeout=LIMIT_S)
        assert (out, error, process.returncode) == (b"hello\n", b"", 0)
        process = start(door, "submit", "--", "true", stdin=terminal)
        out, _ = process.communicate(timeout=LIMIT_S)
        assert out.startswith(b"j")


def test_the_command_works_through_links_and_installed(
    door: dict[str, str], tmp_path: Path
) -> None:
    def ask(command: Path, **extra: str) -> str:
        environment = {k: v for k, v in door.items() if k not in ("PERSEUS_PYTHON", "PYTHONPATH")}
        done = subprocess.run(
            [str(command), "run", "echo", "x"],
            env=environment | extra,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return done.stdout + done.stderr

    link = tmp_path / "link"
    link.symlink_to(PERSEUS)
    assert ask(link, PERSEUS_PYTHON=sys.executable) == "x\n"
    for name, editable in (("regular", False), ("editable", True)):
        binaries = tmp_path / name / "bin"
        packages = tmp_path / name / "lib" / "python3.11" / "site-packages"
        binaries.mkdir(parents=True)
        packages.mkdir(parents=True)
        (tmp_path / name / "pyvenv.cfg").write_text(f"home = {sys.base_prefix}/bin\n")
        (binaries / "python3").symlink_to(sys.executable)
        shutil.copy(PERSEUS, binaries / "perseus")
        if editable:
            (packages / "__editable__.perseus-0.1.0.pth").write_text(f"{SOURCE}\n")
        else:
            (packages / "perseus").symlink_to(SOURCE / "perseus")
        assert ask(binaries / "perseus") == "x\n"
        other = tmp_path / f"link-{name}"
        other.symlink_to(binaries / "perseus")
        assert ask(other) == "x\n"


def test_many_bytes_come_fast(door: dict[str, str]) -> None:
    size = 200 << 20
    began = time.perf_counter()
    process = start(door, "run", "--", "head", "-c", str(size), "/dev/zero")
    assert process.stdout is not None
    count = 0
    while piece := process.stdout.read1(1 << 20):  # type: ignore[attr-defined]
        count += len(piece)
    elapsed = time.perf_counter() - began
    assert process.wait(LIMIT_S) == 0
    assert count == size
    print(f"run's output through the door: {size / elapsed / 1e6:.0f} MB/s")


def test_latency_of_a_whole_command(door: dict[str, str]) -> None:
    times = []
    for _ in range(15):
        began = time.perf_counter()
        assert perseus(door, "run", "true").returncode == 0
        times.append(time.perf_counter() - began)
    median_ms = sorted(times)[len(times) // 2] * 1e3
    print(f"perseus run true, whole command, against a plain process: {median_ms:.1f} ms")
    assert median_ms < 1000


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
