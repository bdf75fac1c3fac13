"""Who uses the simulated cluster: one submits jobs, others write files. They remember what
they were promised."""

from typing import Any

from perseus.algo import Id, Process, on
from perseus.algo.process import Handler
from perseus.filestore import namespace_events as files
from perseus.jobs.state_events import Kill, Submit
from perseus.proto.v1 import jobs_pb2
from tests.sim.cluster.messages import SETTINGS, Answer, Call, Found, Frame, Look, Written

PATIENCE_S = 2.0
FRAME_S = 1.0
FRAMES_MAXIMUM = 6
CHUNKS_MAXIMUM = 3


class Caller(Process):
    """Asks the master until it answers, and begins nothing new after ``stop_s``."""

    pause_s = (0.2, 3.0)
    stop_s = 60.0

    def later(self, begin: Handler) -> None:
        """The next thing, after a pause."""
        if self.now < self.stop_s:
            self.after(self.pause_s, begin)

    def ask(self, event: Any, done: Handler, *arguments: Any) -> None:
        def answered(sender: Id, message: Answer) -> None:
            done(message, *arguments)

        def again() -> None:
            self.ask(event, done, *arguments)

        master = self.group("master")[0]
        self.request(master, Call(event), timeout_s=PATIENCE_S, on_reply=answered, on_timeout=again)


class Submitter(Caller):
    """Submits jobs, each twice now and then, and kills a few."""

    def start(self) -> None:
        self.jobs: dict[str, int] = {}
        self.number = 0
        self.later(self.submit)

    def submit(self) -> None:
        self.number += 1
        count = (1, 1, 2, 5)[self.random.below(4)]
        seconds = self.random.uniform(0.05, 4.0)
        spec = jobs_pb2.TaskSpec(argv=["work", f"{seconds:.3f}"], retries=50, grace_s=5.0)
        spec.resources.cpu = 1.0
        request = f"r{self.number}"
        event = Submit(f"job{self.number:05}", self.id, spec, count, 0, "", request)
        self.ask(event, self.submitted, count)

    def submitted(self, answer: Answer, count: int) -> None:
        if not answer.error:
            self.jobs[answer.value] = count
            if self.random.below(10) == 0:
                self.ask(Kill(answer.value, 15, self.id), self.killed)
        self.later(self.submit)

    def killed(self, answer: Answer) -> None:
        """Whatever came of it."""


class Writer(Caller):
    """Writes one file after the other through chains, and remembers what was acknowledged.

    A byte of a file is its offset and the file's number, so that each is in its place.
    """

    pause_s = (0.1, 2.0)

    def start(self) -> None:
        self.number = 0
        # By path: the bytes acknowledged, and whether the file was closed, given up or removed.
        self.acknowledged: dict[str, int] = {}
        self.state: dict[str, str] = {}
        self.lease: Any = None
        self.later(self.create)
        self.after(SETTINGS.write_lease_s / 3, self.renew)

    def byte(self, offset: int) -> bytes:
        return bytes([(offset * 7 + self.number) % 251])

    def create(self) -> None:
        self.number += 1
        self.path = f"/w/{self.id}/{self.number}"
        self.acknowledged[self.path], self.state[self.path] = 0, "open"
        self.size = 0
        self.chunks = 1 + self.random.below(CHUNKS_MAXIMUM)
        self.avoid: tuple[str, ...] = ()
        self.ask(files.Create(self.path, self.id, parents=True), self.created)

    def created(self, answer: Answer) -> None:
        if answer.error:
            # Perhaps it was made by a call whose answer was lost.
            self.lose()
            return
        self.lease = answer.value
        self.allocate()

    def renew(self) -> None:
        if self.lease is not None:
            event = files.RenewWriteLease(self.lease.inode, self.lease.epoch)
            self.send(self.group("master")[0], Call(event))
        self.after(SETTINGS.write_lease_s / 3, self.renew)

    @on(Answer)
    def unasked(self, sender: Id, message: Answer) -> None:
        """What a renewal is told; a call that matters finds out by itself."""

    def allocate(self) -> None:
        event = files.AllocateChunk(self.lease.inode, self.lease.epoch, "", self.avoid)
        self.ask(event, self.allocated)

    def allocated(self, answer: Answer) -> None:
        if answer.error == "unavailable":
            self.avoid = ()
            self.after(1.0, self.allocate)
        elif answer.error:
            self.lose()
        else:
            self.chunk: files.Allocation = answer.value
            self.begun = self.size
            self.left = 1 + self.random.below(FRAMES_MAXIMUM)
            self.write()

    def write(self) -> None:
        """The next byte, until the chunk has enough."""
        if self.left == 0:
            self.seal(())
            return
        offset = self.size - self.begun
        first, *rest = self.chunk.nodes
        data = self.byte(self.size)
        self.send(
            first, Frame(self.chunk.chunk, self.chunk.version, offset, data, (*rest,), self.id)
        )
        self.impatience = self.after(FRAME_S, self.find_broken, offset)

    @on(Written)
    def written(self, sender: Id, message: Written) -> None:
        is_awaited = message.length == self.size - self.begun + 1 and self.left > 0
        if self.lease is None or message.chunk != self.chunk.chunk or not is_awaited:
            return
        self.impatience.cancel()
        self.size += 1
        self.left -= 1
        self.acknowledged[self.path] = self.size
        if self.random.below(200) == 0:
            # It dies here, with the file open.
            self.lose()
        else:
            self.write()

    def find_broken(self, offset: int) -> None:
        """The chain does not answer: whoever does not say anything is left out."""
        silent = set(self.chunk.nodes)

        def heard(sender: Id, message: Found) -> None:
            silent.discard(sender)

        for node in self.chunk.nodes:
            look = Look(self.chunk.chunk, self.chunk.version)
            self.request(node, look, timeout_s=0.5, on_reply=heard)
        self.left = 0
        self.after(0.6, self.seal_without, silent)

    def seal_without(self, silent: set[str]) -> None:
        if self.lease is not None:
            self.seal(tuple(sorted(silent)))

    def seal(self, failed: tuple[str, ...]) -> None:
        self.left = 0
        self.avoid = failed
        length = self.size - self.begun
        lease = self.lease
        event = files.SealChunk(lease.inode, lease.epoch, self.chunk.chunk, length, failed)
        self.ask(event, self.sealed, lease)

    def sealed(self, answer: Answer, lease: Any) -> None:
        if lease is not self.lease:
            return
        if answer.error:
            self.lose()
            return
        self.chunks -= 1
        if self.chunks > 0:
            self.allocate()
            return
        event = files.Close(lease.inode, lease.epoch, b"", self.size)
        self.ask(event, self.closed, lease)

    def closed(self, answer: Answer, lease: Any) -> None:
        if lease is not self.lease:
            return
        if answer.error:
            self.lose()
            return
        self.state[self.path] = "closed"
        self.lease = None
        if self.random.below(4) == 0:
            self.state[self.path] = "removed"
            self.ask(files.Remove(self.path, False), self.removed)
        else:
            self.later(self.create)

    def removed(self, answer: Answer) -> None:
        self.later(self.create)

    def lose(self) -> None:
        """Gives the file up as it is: its lease is somebody else's, or runs out."""
        self.state[self.path] = "given up"
        self.lease = None
        self.left = 0
        self.later(self.create)
