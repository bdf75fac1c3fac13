"""The master: the real machines of membership, filestore and jobs, as one process.

What a step writes is durable by the process's own rule; what it has for effects leaves
after that, as with ``runtime.machine.Driver``.
"""

from typing import Any

from perseus.algo import Id, Process, durable, on
from perseus.errors import PerseusError
from perseus.filestore.namespace import Namespace
from perseus.filestore.replication import Replication
from perseus.filestore.replication_events import ChunkEvents
from perseus.filestore.service_layout import FileLocality
from perseus.jobs.state import Jobs
from perseus.jobs.state_events import AttemptsReported, JobChanged
from perseus.membership.commands import (
    AddNode,
    Connect,
    Connected,
    HeartbeatReceived,
    Welcomed,
)
from perseus.membership.events import AcknowledgeAttempts, Direct, EndSession, OpenSession
from perseus.membership.state import Membership
from perseus.membership.values import Load
from perseus.proto.v1 import agent_pb2
from perseus.runtime.machine import Composite, Effect, Event, Instant, Machine, Tick
from tests.sim.cluster.messages import (
    EPOCH_S,
    SETTINGS,
    Answer,
    Call,
    Dial,
    Down,
    Opened,
    Ordered,
    Up,
)

TICK_S = 0.2
GIB = 1 << 30


class _Stream:
    """A stream of one agent, as the master has it."""

    def __init__(self, stream: int) -> None:
        self.incoming = Ordered(stream)
        self.session = 0
        # Number 0 is the welcome, which comes before what follows from it.
        self.sent = 1


class Master(Process):
    """See the module."""

    rows: dict[bytes, bytes] = durable({})

    def start(self) -> None:
        self.membership = Membership(SETTINGS.lease_s)
        self.replication = Replication(SETTINGS, self.membership)
        self.namespace = Namespace(SETTINGS, self.replication)
        locality = FileLocality(self.namespace, self.replication)
        self.jobs = Jobs(SETTINGS, self.membership, locality)
        machines: list[Machine] = [self.membership, self.replication, self.namespace, self.jobs]
        self.machine = Composite(machines)
        self.machine.load(sorted(self.rows.items()))
        self.streams: dict[Id, _Stream] = {}
        # Jobs that the last step changed, for the properties.
        self.changed: set[str] = set()
        for node in self.group("node"):
            if self.membership.find(node) is None:
                self.do(AddNode(node, node))
        self.tick()

    def tick(self) -> None:
        self.do(Tick())
        self.after(TICK_S, self.tick)

    def do(self, event: Event) -> Any:
        """One transaction of the machines."""
        step = self.machine.step(Instant(self.now, EPOCH_S + self.now), event)
        for write in step.writes:
            if write.value is not None:
                self.rows[write.key] = write.value
            else:
                self.rows.pop(write.key, None)
        for effect in step.effects:
            assert isinstance(effect, Effect)
            self._take_effect(effect)
        return step.reply

    def _take_effect(self, effect: Effect) -> None:
        match effect:
            case Direct():
                self._send_down(effect.node_id, effect.directive)
            case AcknowledgeAttempts():
                self._send_down(effect.node_id, effect.attempts)
            case OpenSession():
                self.streams[effect.node_id].session = effect.session
            case EndSession():
                self.streams.pop(effect.node_id, None)
            case JobChanged():
                self.changed.add(effect.job_id)

    def _send_down(self, node: Id, what: Any) -> None:
        stream = self.streams.get(node)
        # What is directed to a session that is not open yet has nowhere to go.
        if stream is not None and stream.session:
            self.send(node, Down(stream.incoming.stream, stream.sent, what))
            stream.sent += 1

    # Agents.

    @on(Dial)
    def dial(self, sender: Id, message: Dial) -> None:
        before = self.streams.get(sender)
        if before is None or before.incoming.stream < message.stream:
            self.streams[sender] = _Stream(message.stream)
            self.reply(Opened(message.stream))

    @on(Up)
    def up(self, sender: Id, message: Up) -> None:
        self.changed.clear()
        stream = self.streams.get(sender)
        if stream is None or stream.incoming.stream != message.stream:
            return
        for what in stream.incoming.take(message.number, message.what):
            try:
                self._take_in(sender, what)
            except PerseusError:
                # The stream ends with an error; the agent will find it silent.
                self.streams.pop(sender, None)
                return

    def _take_in(self, node: Id, what: Any) -> None:
        if isinstance(what, Connect):
            connected: Connected = self.do(what)
            self.do(Welcomed(node, connected.session))
            self.send(node, Down(self.streams[node].incoming.stream, 0, connected))
            return
        stream = self.streams.get(node)
        if stream is None or not stream.session:
            return
        self.membership.check_session(node, stream.session)
        if isinstance(what, float):
            load = Load(disk_free_bytes=100 * GIB, memory_available_bytes=GIB)
            self.do(HeartbeatReceived(node, stream.session, load, EPOCH_S + self.now))
            self._send_down(node, what)
        elif isinstance(what[0], agent_pb2.AttemptEvent):
            self.do(AttemptsReported(node, stream.session, what))
        else:
            self.do(ChunkEvents(node, stream.session, what))

    # Clients.

    @on(Call)
    def call(self, sender: Id, message: Call) -> None:
        self.changed.clear()
        try:
            self.reply(Answer(self.do(message.event)))
        except PerseusError as error:
            self.reply(Answer(None, error.code))
