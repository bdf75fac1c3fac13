"""The real JSON door on a Unix socket, with small services behind it; run as a program.

The services run tasks as plain processes and keep files in memory, so that
tests see the way between a person and the door alone.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any


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
        if request.length_bytes:
            end = request.offset_bytes + request.length_bytes
            yield pb.ReadPiece(data=bytes(self.content[request.path][request.offset_bytes : end]))
            return
        async for piece in self.follow(request.path, request.offset_bytes, request.follow):
            yield pb.ReadPiece(data=piece)

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
        made = HttpConnection(
            lambda c, r: door.answer(c, r, caller), door.broken, connections.discard
        )
        connections.add(made)
        return made

    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(connect, socket_path, backlog=64)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    # In the background of a script it was ignored, and tasks would ignore it from then on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asyncio.run(serve(sys.argv[1]))
