"""The service Jobs over the toy world: a real driver, and outputs that tests write by hand."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from perseus.errors import NotFoundError, UnavailableError
from perseus.identity import roles
from perseus.jobs.service import JobsService
from perseus.jobs.state_events import JobChanged
from perseus.proto.v1 import jobs_pb2
from perseus.rpc.call import Call, Caller
from perseus.runtime.machine import Driver, Effect, Write
from perseus.runtime.real import RealRandom
from perseus.settings import Settings
from tests.unit.jobs_harness import Toy, World, ended_event, running_event

LIMIT_S = 20.0
Result = TypeVar("Result")


class Text:
    """What an attempt writes to one stream, as it comes."""

    def __init__(self) -> None:
        self.content = b""
        self.done = False
        self.changed = asyncio.Event()

    def write(self, more: bytes) -> None:
        self.content += more
        self.changed.set()

    def end(self) -> None:
        self.done = True
        self.changed.set()


class Texts:
    """Stands where nodes and the filestore are read."""

    def __init__(self) -> None:
        self.live: dict[tuple[str, bool], Text] = {}
        self.files: dict[str, bytes] = {}
        self.dialled: list[str] = []
        self.pieces_read = 0
        self.piece_bytes = 1000

    def text(self, attempt: str, stderr: bool = False) -> Text:
        return self.live.setdefault((attempt, stderr), Text())

    async def read_output(
        self, node_id: str, attempt: str, stderr: bool, offset_bytes: int, follow: bool
    ) -> AsyncIterator[bytes]:
        self.dialled.append(attempt)
        text = self.live.get((attempt, stderr))
        if text is None:
            raise UnavailableError(f"{node_id} does not answer")
        while True:
            text.changed.clear()
            while offset_bytes < len(text.content):
                piece = text.content[offset_bytes : offset_bytes + self.piece_bytes]
                offset_bytes += len(piece)
                self.pieces_read += 1
                yield piece
            if text.done or not follow:
                return
            await text.changed.wait()

    async def read_file(self, path: str, offset_bytes: int) -> AsyncIterator[bytes]:
        if path not in self.files:
            raise NotFoundError(f"there is no {path}")
        content = self.files[path][offset_bytes:]
        for begin in range(0, len(content), self.piece_bytes):
            self.pieces_read += 1
            yield content[begin : begin + self.piece_bytes]


class Stage:
    """A world, its driver and the service; to be made inside a running loop."""

    def __init__(self, nodes: int = 1, cores: int = 2, settings: Settings | None = None) -> None:
        self.world = World(nodes, cores, settings)
        self.texts = Texts()
        # A commit waits while this is closed.
        self.gate = asyncio.Event()
        self.gate.set()
        self._deliver = self.world.deliver
        self.world.deliver = self.deliver  # type: ignore[method-assign]
        self.driver = Driver(self.world.machine, self, self, self.deliver, self._fail)
        self.service = JobsService(
            self.driver,
            self.world.jobs,
            self.world.membership,
            self.world.outputs,
            self.texts,
            RealRandom(),
            self.world.settings,
        )

    # Clock, committer and delivery.

    def now_s(self) -> float:
        self.world.now_s += 0.001
        return self.world.now_s

    def time_s(self) -> float:
        return 1.7e9 + self.world.now_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def shortage(self) -> None:
        """There is always room."""

    async def commit(self, writes: Sequence[Write]) -> None:
        await self.gate.wait()
        await asyncio.sleep(0)
        for write in writes:
            if write.value is None:
                self.world.table.pop(write.key, None)
            else:
                self.world.table[write.key] = write.value

    def deliver(self, effect: Effect) -> None:
        if isinstance(effect, JobChanged):
            self.service.job_changed(effect.job_id)
        else:
            self._deliver(effect)

    def _fail(self, failure: BaseException) -> None:
        raise failure

    # Short words for tests.

    async def submit(self, **fields: Any) -> str:
        request = submit_request(**fields)
        return (await self.service.submit(request, call())).job_id

    def toy(self, number: int = 0) -> Toy:
        return self.world.toys[f"id-{number}"]

    async def running(self, attempt: str) -> Toy:
        """The attempt runs, and may write."""
        toy = self.world.holder(attempt)
        toy.attempts[attempt] = "running"
        self.texts.text(attempt, False)
        self.texts.text(attempt, True)
        await self.report(toy, running_event(attempt))
        return toy

    async def end(self, attempt: str, code: int = 0, keep: bool = True) -> None:
        """The attempt ends; what it wrote is its output."""
        toy = self.world.holder(attempt)
        del toy.attempts[attempt]
        out, error = self.texts.text(attempt, False), self.texts.text(attempt, True)
        event = ended_event(attempt, code, stdout=out.content)
        event.ended.stderr.size_bytes = len(error.content)
        job_id, index, _ = attempt.split(".")
        if keep:
            self.texts.files[f"/jobs/{job_id}/{index}/stdout"] = out.content
            self.texts.files[f"/jobs/{job_id}/{index}/stderr"] = error.content
        out.end()
        error.end()
        await self.report(toy, event)

    async def report(self, toy: Toy, *events: Any) -> None:
        await self.service.on_attempt_events(toy.node_id, toy.session, events)

    def follow(self, job_id: str, **fields: Any) -> "Viewer":
        request = jobs_pb2.FollowRequest(job_id=job_id, **({"follow": True} | fields))
        return Viewer(self.service.follow(request, call()))


class Viewer:
    """Somebody who watches a stream of events."""

    def __init__(self, events: Any) -> None:
        self.events = events
        self.all: list[jobs_pb2.FollowEvent] = []

    @property
    def stdout(self) -> bytes:
        return b"".join(event.stdout for event in self.all)

    @property
    def stderr(self) -> bytes:
        return b"".join(event.stderr for event in self.all)

    @property
    def messages(self) -> list[str]:
        return [event.message for event in self.all if event.message]

    async def until(self, check: Any) -> None:
        """Reads until ``check`` of this viewer holds."""
        while not check(self):
            self.all.append(await asyncio.wait_for(anext(self.events), LIMIT_S))

    async def rest(self) -> jobs_pb2.FollowEvent:
        """Reads to the end; the last event."""
        async with asyncio.timeout(LIMIT_S):
            async for event in self.events:
                self.all.append(event)
        return self.all[-1]


def call(name: str = "ann") -> Call:
    return Call(Caller(name, roles.USER, "user"), "/perseus.v1.Jobs/Test")


def submit_request(argv: Sequence[str] = ("true",), **fields: Any) -> jobs_pb2.SubmitRequest:
    names = {field.name for field in jobs_pb2.TaskSpec.DESCRIPTOR.fields}
    spec = {key: fields.pop(key) for key in list(fields) if key in names}
    return jobs_pb2.SubmitRequest(spec=jobs_pb2.TaskSpec(argv=argv, **spec), **fields)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    async def limited() -> Result:
        async with asyncio.timeout(LIMIT_S):
            return await work

    return asyncio.run(limited())
