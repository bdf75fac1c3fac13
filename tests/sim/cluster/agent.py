"""An agent and its chunkserver as the protocol has them, on the real ``HeldLease``."""

from typing import Any

from perseus.algo import Id, Process, Timer, durable, on
from perseus.ids import parse_attempt
from perseus.membership.commands import Connect, Connected
from perseus.membership.events import Replica
from perseus.membership.lease import HeldLease
from perseus.membership.values import Capacity
from perseus.proto.v1 import agent_pb2, jobs_pb2
from tests.sim.cluster.messages import (
    SETTINGS,
    Dial,
    Down,
    Found,
    Frame,
    Held,
    Look,
    Opened,
    Ordered,
    Up,
    Written,
)

CORES = 2
CHECK_S = 0.1
SILENCE_S = SETTINGS.lease_s * 0.4
FETCH_S = 2.0
# A writer that is silent for so long has gone.
STREAM_S = 5.0
CAPACITY = Capacity(float(CORES), 8 << 30, 100 << 30, 1.0, "x86_64", "linux")


class _ClockOf:
    """A process's clock as the port that ``HeldLease`` takes."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def now_s(self) -> float:
        return self._process.now

    def time_s(self) -> float:
        return self._process.now

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the simulation has timers of its own")


class Agent(Process):
    """One node: runs attempts while it holds its lease, and keeps replicas."""

    held: dict[int, Held] = durable({})

    def start(self) -> None:
        self.lease = HeldLease(_ClockOf(self), lambda until_s: None, self.stop_all)
        self.stream = self.restarts << 20
        self.connected = False
        self.queue: dict[str, agent_pb2.StartAttempt] = {}
        self.running: dict[str, Timer] = {}
        # When each attempt that runs ends, and how long those take still that stand still.
        self.due_s: dict[str, float] = {}
        self.left_s: dict[str, float] = {}
        # The lease was over: nothing goes on before the master says so.
        self.frozen = False
        self.thawed = 0
        # Ends that the master has not acknowledged.
        self.ended: dict[str, agent_pb2.AttemptEvent] = {}
        # Attempts that ran to their own end here, for the properties.
        self.finished: list[str] = []
        # When a writer last added to a replica.
        self.written_s: dict[int, float] = {}
        self.dial()
        self.beat()
        self.check()

    # The stream.

    def dial(self) -> None:
        """A new stream, in place of the one before."""
        self.stream += 1
        self.sent = 0
        self.heard_s = self.now
        self.connected = False
        self.incoming = Ordered(self.stream)
        self.losses = self.lease.losses
        self.send(self.group("master")[0], Dial(self.stream))

    @on(Opened)
    def opened(self, sender: Id, message: Opened) -> None:
        """Tells all that is held."""
        if message.stream != self.stream or self.sent:
            return
        self.lease.check()
        self.losses = self.lease.losses
        self.hello_s = self.now
        self.tell(
            Connect(
                node_id=self.id,
                protocol_minimum=1,
                protocol_maximum=1,
                version="1",
                address=f"{self.id}:1",
                chunk_address=f"{self.id}:2",
                capacity=CAPACITY,
                attempts=(*self.queue, *self.running, *self.ended),
                replicas=tuple(
                    Replica(chunk, held.version, len(held.data), held.sealed)
                    for chunk, held in self.held.items()
                ),
                certificate_expires_at_s=1.9e9,
                frozen=self.frozen,
            )
        )

    def tell(self, what: Any) -> None:
        """The next message of the stream."""
        self.send(self.group("master")[0], Up(self.stream, self.sent, what))
        self.sent += 1

    def beat(self) -> None:
        if self.connected:
            self.tell(self.now)
        self.after(SETTINGS.heartbeat_s, self.beat)

    def check(self) -> None:
        """Whoever wakes compares clocks first."""
        self.lease.check()
        # A lease lost since the Hello makes what it said untrue.
        if self.now > self.heard_s + SILENCE_S or self.lease.losses != self.losses:
            self.dial()
        for chunk in [c for c, at_s in self.written_s.items() if self.now > at_s + STREAM_S]:
            # The stream of its writer has ended, and it may be that nobody knows the replica.
            del self.written_s[chunk]
            if chunk in self.held and not self.held[chunk].sealed:
                self.present(chunk)
        self.after(CHECK_S, self.check)

    def stop_all(self) -> None:
        """The lease is over: nothing goes on, nor begins, before the master says so."""
        if self.frozen or not (self.queue or self.running or self.ended):
            return
        self.frozen = True
        for attempt, timer in self.running.items():
            timer.cancel()
            self.left_s[attempt] = max(0.0, self.due_s[attempt] - self.now)

    def thaw(self, leased: set[str]) -> None:
        """What is leased here still goes on; nothing is left of the rest."""
        for attempt in {*self.queue, *self.running, *self.ended} - leased:
            self.drop(attempt)
            self.ended.pop(attempt, None)
        self.frozen = False
        self.thawed += len(self.running)
        for attempt in self.running:
            self.begin(attempt, self.left_s.pop(attempt))
        self.run_some()

    def begin(self, attempt: str, seconds: float) -> None:
        self.due_s[attempt] = self.now + seconds
        self.running[attempt] = self.after(seconds, self.finish, attempt)

    @on(Down)
    def down(self, sender: Id, message: Down) -> None:
        self.lease.check()
        if message.stream != self.stream or self.lease.losses != self.losses:
            return
        for what in self.incoming.take(message.number, message.what):
            self.heard_s = self.now
            self.take_in(what)

    def take_in(self, what: Any) -> None:
        if isinstance(what, Connected):
            self.connected = True
            self.lease.begin(what.lease_s, self.hello_s)
            # What was said on the stream before may be lost.
            events = [running_event(attempt) for attempt in self.running]
            events += self.ended.values()
            if events:
                self.tell(tuple(events))
        elif isinstance(what, float):
            self.lease.renew(what)
        elif isinstance(what, tuple):
            for attempt in what:
                self.ended.pop(attempt, None)
        else:
            self.obey(what)

    def obey(self, directive: agent_pb2.Directive) -> None:
        kind = directive.WhichOneof("what")
        if kind == "start" and self.lease.check():
            self.queue.setdefault(directive.start.attempt, directive.start)
            self.run_some()
        elif kind == "discard":
            self.drop(directive.discard.attempt)
            self.ended.pop(directive.discard.attempt, None)
        elif kind == "thaw" and self.lease.check():
            self.thaw(set(directive.thaw.attempts))
        elif kind == "stop" and directive.stop.cancel:
            if self.drop(directive.stop.attempt):
                self.end(directive.stop.attempt, 143, jobs_pb2.ENDING_CANCELLED)
        elif kind == "fetch":
            self.fetch(directive.fetch)
        elif kind == "delete":
            self.delete(directive.delete)
        elif kind == "seal":
            self.seal(directive.seal)

    # Attempts.

    def run_some(self) -> None:
        while not self.frozen and self.queue and len(self.running) < CORES:
            attempt = next(iter(self.queue))
            start = self.queue.pop(attempt)
            seconds = float(start.spec.argv[1])
            self.begin(attempt, seconds)
            if self.connected:
                self.tell((running_event(attempt),))

    def finish(self, attempt: str) -> None:
        """Its program ended by itself."""
        if self.lease.check() and attempt in self.running:
            del self.running[attempt]
            self.finished.append(attempt)
            self.end(attempt, 0, jobs_pb2.ENDING_EXITED)

    def drop(self, attempt: str) -> bool:
        """Whether it was here."""
        timer = self.running.pop(attempt, None)
        self.left_s.pop(attempt, None)
        if timer is not None:
            timer.cancel()
        return timer is not None or self.queue.pop(attempt, None) is not None

    def end(self, attempt: str, code: int, kind: int) -> None:
        output = f"{attempt} on {self.id}".encode()
        event = agent_pb2.AttemptEvent(attempt=attempt)
        ending = jobs_pb2.Ending(kind=kind, exit_code=code)  # type: ignore[arg-type]
        event.ended.ending.CopyFrom(ending)
        event.ended.wall_s = 0.5
        event.ended.stdout.inline = output
        event.ended.stdout.size_bytes = len(output)
        self.ended[attempt] = event
        if self.connected:
            self.tell((event,))
        self.run_some()

    def acts(self) -> list[str]:
        """The attempts that run here now, as far as this node may act."""
        acts = not self.frozen and self.now < self.lease.stops_at_s
        return list(self.running) if acts else []

    # Replicas.

    def tell_chunk(self, **what: Any) -> None:
        if self.connected:
            self.tell((agent_pb2.ChunkEvent(**what),))

    def present(self, chunk: int, fenced: bool = False) -> None:
        held = self.held[chunk]
        report = agent_pb2.ReplicaReport(
            chunk=chunk,
            version=held.version,
            length_bytes=len(held.data),
            sealed=held.sealed,
            fenced=fenced,
        )
        self.tell_chunk(present=report)

    def fail(self, chunk: int, version: int) -> None:
        failure = agent_pb2.ChunkFailure(chunk=chunk, version=version, message="not here")
        self.tell_chunk(failure=failure)

    @on(Frame)
    def frame(self, sender: Id, message: Frame) -> None:
        held = self.held.get(message.chunk)
        if held is None and message.offset == 0:
            held = Held(message.version, b"")
        if held is None or held.sealed or held.fenced or held.version != message.version:
            return
        self.written_s[message.chunk] = self.now
        end = message.offset + len(message.data)
        if len(held.data) == message.offset:
            self.held[message.chunk] = Held(held.version, held.data + message.data)
        elif held.data[message.offset : end] != message.data:
            return
        if message.chain:
            following = Frame(
                message.chunk,
                message.version,
                message.offset,
                message.data,
                message.chain[1:],
                message.writer,
            )
            self.send(message.chain[0], following)
        else:
            self.send(message.writer, Written(message.chunk, end))

    @on(Look)
    def look(self, sender: Id, message: Look) -> None:
        held = self.held.get(message.chunk)
        fits = held is not None and held.sealed and held.version >= message.version
        self.reply(Found(message.chunk, held if fits else None))

    def fetch(self, fetch: agent_pb2.FetchChunk) -> None:
        sources = [address.split(":")[0] for address in fetch.sources]
        self.try_sources(fetch.chunk, fetch.version, fetch.length_bytes, tuple(sources))

    def try_sources(self, chunk: int, version: int, length: int, sources: tuple[Id, ...]) -> None:
        if not sources:
            self.fail(chunk, version)
            return

        def again() -> None:
            self.try_sources(chunk, version, length, sources[1:])

        def copied(sender: Id, found: Found) -> None:
            if found.held is None or len(found.held.data) < length:
                again()
                return
            self.held[chunk] = Held(version, found.held.data[:length], sealed=True)
            self.present(chunk)

        self.request(
            sources[0], Look(chunk, version), timeout_s=FETCH_S, on_reply=copied, on_timeout=again
        )

    def delete(self, delete: agent_pb2.DeleteChunk) -> None:
        held = self.held.get(delete.chunk)
        if held is not None and delete.below_version and held.version >= delete.below_version:
            self.present(delete.chunk)
            return
        self.held.pop(delete.chunk, None)
        self.tell_chunk(deleted=delete.chunk)

    def seal(self, seal: agent_pb2.SealReplica) -> None:
        held = self.held.get(seal.chunk)
        if held is None:
            self.fail(seal.chunk, 0)
            return
        if seal.probe:
            fenced = held.fenced or seal.version > held.version
            self.held[seal.chunk] = Held(held.version, held.data, held.sealed, fenced)
            self.present(seal.chunk, seal.version > held.version)
            return
        elif len(held.data) < seal.length_bytes or held.version > seal.version:
            self.fail(seal.chunk, seal.version)
            return
        else:
            data = held.data[: seal.length_bytes]
            self.held[seal.chunk] = Held(seal.version, data, sealed=True)
        self.present(seal.chunk)


def running_event(attempt: str) -> agent_pb2.AttemptEvent:
    parse_attempt(attempt)
    return agent_pb2.AttemptEvent(attempt=attempt, running=agent_pb2.AttemptRunning())
