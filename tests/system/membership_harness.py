"""A master of membership alone, with real certificates, sockets and disk, and agents for it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perseus.errors import PerseusError
from perseus.identity import roles
from perseus.identity.authority import Authority
from perseus.identity.files import Identity, new_key_and_request
from perseus.identity.subject import Subject
from perseus.identity.tokens import Tokens
from perseus.membership.cluster_service import About, ClusterService
from perseus.membership.commands import AddNode
from perseus.membership.events import NodeChanged, NodeDown, NodeUp
from perseus.membership.grpc_link import grpc_dialer
from perseus.membership.history import Mark
from perseus.membership.link import AgentLink
from perseus.membership.service import AgentsService, caller_check
from perseus.membership.sessions import Sessions
from perseus.membership.state import Membership
from perseus.membership.stream import MasterLink
from perseus.proto.v1 import agent_pb2, cluster_pb2
from perseus.rpc.call import Call, Caller
from perseus.rpc.callers import socket_roles
from perseus.rpc.channels import aio_channel
from perseus.rpc.front import Front, token_check
from perseus.rpc.registry import Registry
from perseus.runtime.machine import Composite, Driver, Effect, Event, Instant, Step, Tick
from perseus.runtime.real import RealClock, RealRandom
from perseus.settings import Settings
from perseus.store.sqlite import SqliteStore

# Generous: a limit is for what hangs, not for what is slow.
LIMIT_S = 60.0
QUICK = Settings(lease_s=1.5, heartbeat_s=0.1)
DAY_S = 86400.0


class Witness:
    """A sibling machine that remembers what membership tells those above it, and when."""

    prefixes: Sequence[bytes] = ()
    events: Sequence[type[Event]] = (NodeUp, NodeDown, NodeChanged)

    def __init__(self) -> None:
        self.seen: list[tuple[float, Event]] = []

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        assert not list(items)

    def step(self, at: Instant, event: Event) -> Step:
        self.seen.append((at.now_s, event))
        return Step()

    def downs(self) -> list[NodeDown]:
        return [event for _, event in self.seen if isinstance(event, NodeDown)]

    def ups(self) -> list[NodeUp]:
        return [event for _, event in self.seen if isinstance(event, NodeUp)]


class Master:
    """Membership and tokens over a real store, behind real doors, built as the daemon does."""

    def __init__(self, folder: Path, settings: Settings = QUICK) -> None:
        self.folder = folder
        self.clock = RealClock()
        self.settings = settings
        self.authority = self._authority()
        self.store = SqliteStore(folder / "state.db", "test", create=True)
        self.membership = Membership(settings.lease_s)
        self.tokens = Tokens()
        self.witness = Witness()
        machine = Composite([self.tokens, self.membership, self.witness])
        machine.load(self.store.items())
        self.sessions = Sessions()
        self.failures: list[BaseException] = []
        self.driver = Driver(machine, self.store, self.clock, self._deliver, self.failures.append)
        self.reports: list[tuple[str, int, object]] = []
        self.agents = AgentsService(
            self.driver,
            self.membership,
            self.sessions,
            self.clock,
            b"grant key",
            self._on_reports,
            self._on_reports,
        )
        self.cluster = ClusterService(
            self.driver,
            self.membership,
            self.tokens,
            self.authority,
            RealRandom(),
            settings,
            About("0.1", "first", "127.0.0.1:1"),
        )
        registry = Registry(caller_check(self.membership))
        registry.add("Agents", self.agents)
        registry.add("Cluster", self.cluster)
        self.front = Front(
            registry,
            self.identity("n0", "first", is_master=True),
            listen="127.0.0.1:0",
            socket_path=str(folder / "s"),
            grpc_socket_path=str(folder / "g"),
            local_role=socket_roles("none"),
            check_token=token_check(self.tokens.judge_server_name),
        )

    def _authority(self) -> Authority:
        if not (self.folder / "ca.key").exists():
            Authority.create("test", self.clock.time_s()).save(self.folder)
        return Authority.load(self.folder)

    def _deliver(self, effect: Effect) -> None:
        assert self.sessions.deliver(effect), effect

    async def _on_reports(self, node_id: str, session: int, events: Sequence[object]) -> None:
        self.reports.extend((node_id, session, event) for event in events)

    def identity(self, node_id: str, name: str, is_master: bool = False) -> Identity:
        """A node's identity, saved in a folder of its own."""
        key_pem, request_pem = new_key_and_request(name)
        subject = Subject("node", name, roles.NODE, node_id, is_master)
        certificate = self.authority.sign(request_pem, subject, DAY_S, self.clock.time_s())
        folder = self.folder / node_id
        identity = Identity.of(folder, self.authority.ca_pem, certificate, key_pem)
        identity.save()
        return identity

    async def add(self, node_id: str, name: str) -> Identity:
        await self.driver.do(AddNode(node_id, name))
        return self.identity(node_id, name)

    async def ticking(self) -> None:
        while True:
            await self.driver.do(Tick())
            await asyncio.sleep(0.05)

    @property
    def address(self) -> str:
        return self.front.address


@contextlib.asynccontextmanager
async def running_master(folder: Path, settings: Settings = QUICK) -> AsyncIterator[Master]:
    """A master that serves until the block ends, within the time limit of a test."""
    master = Master(folder, settings)
    await master.front.start()
    ticking = asyncio.ensure_future(master.ticking())
    try:
        async with asyncio.timeout(LIMIT_S):
            yield master
    finally:
        await end(ticking)
        await master.agents.close()
        await master.front.stop(0.1)
        master.store.close()
    assert not master.failures


@dataclass
class Agent:
    """What an agent is told by its link, and when."""

    name: str = "kitchen"
    protocol: int = 1
    attempts: list[str] = field(default_factory=list)
    welcomes: list[agent_pb2.Welcome] = field(default_factory=list)
    directives: list[agent_pb2.Directive] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    may_act_until_s: float = 0.0
    mark: Mark | None = None
    lost_at_s: list[float] = field(default_factory=list)
    refusals: list[PerseusError] = field(default_factory=list)

    def link(
        self, dial: Callable[[], Awaitable[MasterLink]], settings: Settings = QUICK
    ) -> AgentLink:
        clock, chance = RealClock(), RealRandom()
        return AgentLink(dial, clock, chance, self.hello, cluster_pb2.Load, self, settings)

    def hello(self) -> agent_pb2.Hello:
        return agent_pb2.Hello(
            protocol_minimum=self.protocol,
            protocol_maximum=self.protocol,
            version="0.1",
            address=f"{self.name}:1",
            chunk_address=f"{self.name}:2",
            attempts=self.attempts,
            replicas=[agent_pb2.ReplicaReport(chunk=7, version=2, length_bytes=9, sealed=True)],
        )

    def on_welcome(self, welcome: agent_pb2.Welcome) -> None:
        self.welcomes.append(welcome)

    def on_directives(self, directives: Sequence[agent_pb2.Directive]) -> None:
        self.directives.extend(directives)

    def on_acknowledged(self, attempts: Sequence[str]) -> None:
        self.acknowledged.extend(attempts)

    def on_state_mark(self, mark: Mark) -> None:
        self.mark = mark

    def on_lease_renewed(self, until_s: float) -> None:
        self.may_act_until_s = until_s

    def on_lease_lost(self) -> None:
        self.lost_at_s.append(RealClock().now_s())

    def on_refused(self, error: PerseusError) -> None:
        self.refusals.append(error)


@contextlib.asynccontextmanager
async def running_link(
    agent: Agent, identity: Identity, address: str, settings: Settings = QUICK
) -> AsyncIterator[AgentLink]:
    """An agent's link over gRPC and mutual TLS; ended with the block, however it stands."""
    channel: Any = aio_channel(address, identity, to="master")
    link = agent.link(grpc_dialer(lambda: channel, address), settings)
    running = asyncio.ensure_future(link.run())
    try:
        yield link
    finally:
        await end(running)
        await channel.close()


async def end(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Returns when the condition holds; the test's own limit ends a vain wait."""
    while not condition():
        await asyncio.sleep(0.01)


def call_of(node_id: str) -> Call:
    """The call of a node that TLS has let in."""
    caller = Caller(node_id, roles.NODE, "node", node_id)
    return Call(caller, "/perseus.v1.Agents/Connect")


class Wire:
    """A stretch of network between an agent and the master that can be cut."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._pumps: set[asyncio.Future[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Nothing passes any more, and nobody is told: a pulled cable."""
        self._open.clear()

    def mend(self) -> None:
        """What waits passes again."""
        self._open.set()

    def drop(self) -> None:
        """All connections are reset: a restarted router."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        for pump in list(self._pumps):
            await end(pump)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection(self._host, int(self._port))
        for source, target in ((reader, onward_writer), (onward_reader, writer)):
            self._writers.add(target)
            pump = asyncio.ensure_future(self._pump(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._open.wait()
                target.write(data)
                await target.drain()
        self._writers.discard(target)
        target.close()


def child_environment() -> dict[str, str]:
    """The environment of a child process that finds the package and these helpers."""
    here = Path(__file__).resolve()
    paths = [str(here.parent), str(here.parent.parent.parent / "src")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
