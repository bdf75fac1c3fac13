"""Chunkservers of their own process under the real master side: machines, store, service."""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import chunkserver_harness
from chunkserver_harness import CLUSTER, Node, make_identity

from perseus.filestore.client import FilestoreClient
from perseus.filestore.gateway import Gateway
from perseus.filestore.namespace import Namespace
from perseus.filestore.namespace_events import InodeChanged
from perseus.filestore.replication import Replication
from perseus.filestore.service import FilesService
from perseus.identity import roles
from perseus.identity.authority import Authority
from perseus.identity.subject import Subject
from perseus.membership.commands import AddNode, Connect, HeartbeatReceived
from perseus.membership.events import Direct, Replica
from perseus.membership.state import Membership
from perseus.membership.values import Capacity, Load
from perseus.proto.v1 import agent_pb2
from perseus.rpc import services
from perseus.rpc.call import Call, Caller
from perseus.runtime.machine import Composite, Driver, Effect, Tick
from perseus.runtime.real import RealClock, RealDisk
from perseus.settings import Settings
from perseus.store.sqlite import SqliteStore

SETTINGS = Settings(
    lease_s=2.0, write_lease_s=2.0, replication_delay_s=0.2, disk_reserve_bytes=1 << 20
)
TICK_S = 0.1


class Master:
    """The master's half of the filestore in an event loop, and the agents' streams to it."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.grant_key = secrets.token_bytes(32)
        # Addresses of chunkservers, which the harness fills in.
        self.nodes: dict[str, str] = {}
        self.agents: dict[str, Agent] = {}
        self.loop = loop
        self.store = SqliteStore(folder / "state.db", CLUSTER, create=True)
        self.membership = Membership(SETTINGS.lease_s)
        self.replication = Replication(SETTINGS, self.membership)
        self.namespace = Namespace(SETTINGS, self.replication)
        machine = Composite([self.membership, self.replication, self.namespace])
        machine.load(self.store.items())
        self.failures: list[BaseException] = []
        self.driver = Driver(machine, self.store, RealClock(), self._deliver, self.failures.append)
        self.service = FilesService(
            self.driver,
            self.namespace,
            self.replication,
            self.membership,
            SETTINGS,
            self.grant_key,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def _deliver(self, effect: Effect) -> None:
        if isinstance(effect, InodeChanged):
            self.service.on_inode_changed(effect)
        elif isinstance(effect, Direct) and effect.node_id in self.agents:
            self._spawn(self.agents[effect.node_id].control.directive(effect.directive))

    def _spawn(self, work: Any) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def begin(self) -> None:
        """Time passes from now on."""
        self._spawn(self._tick())

    async def _tick(self) -> None:
        while True:
            await self.driver.do(Tick())
            for agent in list(self.agents.values()):
                await agent.beat()
            await asyncio.sleep(TICK_S)

    async def end(self) -> None:
        """Time stops."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __call__(self, method: str, request: Any, timeout_s: float) -> Any:
        """A FilesCall, from any thread but the loop's."""
        handler = getattr(self.service, services.methods_of("Files")[method].python_name)
        call = Call(Caller("someone", roles.USER, "user"), method)
        return asyncio.run_coroutine_threadsafe(handler(request, call), self.loop).result(timeout_s)


class Agent(Node):
    """A chunkserver whose agent speaks to the master."""

    cluster: "Cluster"

    def __init__(self, cluster: "Cluster", name: str, folder: Path) -> None:
        super().__init__(cluster, name, folder, 0)
        self.session = 0
        self.is_silent = False

    def _take_events(self, events: list[agent_pb2.ChunkEvent]) -> None:
        super()._take_events(events)
        service = self.cluster.master.service
        self.cluster.master._spawn(service.on_chunk_events(self.name, self.session, events))

    async def join(self) -> None:
        """A new session, with a list of all replicas."""
        master = self.cluster.master
        if master.membership.find(self.name) is None:
            await master.driver.do(AddNode(self.name, f"pc-{self.name}"))
        self.is_silent = False
        master.agents[self.name] = self
        reports = await self.control.reports()
        reply = await master.driver.do(
            Connect(
                node_id=self.name,
                protocol_minimum=1,
                protocol_maximum=1,
                version="",
                address="",
                chunk_address=master.nodes[self.name],
                capacity=Capacity(),
                replicas=tuple(
                    Replica(r.chunk, r.version, r.length_bytes, r.sealed) for r in reports
                ),
            )
        )
        self.session = reply.session
        await self.beat()

    async def beat(self) -> None:
        """A heartbeat, unless the agent is dead."""
        if self.is_silent or not self.session:
            return
        master = self.cluster.master
        load = Load(
            disk_free_bytes=RealDisk().free_bytes(str(self.folder)), memory_available_bytes=1
        )
        await master.driver.do(HeartbeatReceived(self.name, self.session, load, time.time()))


class Cluster(chunkserver_harness.Cluster):
    """Chunkservers under a real master."""

    master: Master  # type: ignore[assignment]

    def __init__(self, folder: Path, count: int) -> None:
        self.authority = Authority.create(CLUSTER, time.time())
        self.folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        (folder / "master").mkdir()
        self.master = Master(folder / "master", self._loop)
        subject = Subject("node", "master", roles.NODE, "master", True)
        identity = make_identity(self.authority, folder / "identity", subject)
        self._server, self.master_address = chunkserver_harness.serve(
            self.master,  # type: ignore[arg-type]
            identity,
        )
        names = [f"n{number}" for number in range(count)]
        self.agents = [Agent(self, name, folder / name) for name in names]
        self.nodes = list(self.agents)
        self.client: FilestoreClient = self.make_client("user")
        self.gateway = Gateway(self.master.service, self.master.namespace, identity, CLUSTER)
        self.master.service.pipe = self.gateway
        self.wait(self.master.begin())

    def lose(self, agent: Agent) -> None:
        """The whole node dies."""
        agent.is_silent = True
        del self.master.agents[agent.name]
        agent.kill()

    def stop(self) -> None:
        self.gateway.close()
        self.wait(self.master.end())
        super().stop()
        self.master.store.close()
        assert not self.master.failures

    def collect(self, pieces: AsyncIterator[bytes]) -> bytes:
        """All of a stream of the gateway."""

        async def gather() -> bytes:
            return b"".join([piece async for piece in pieces])

        return self.wait(gather())


@contextmanager
def cluster(folder: Path, count: int = 2) -> Iterator[Cluster]:
    """A cluster of that many nodes, all joined."""
    made = Cluster(folder, count)
    try:
        for agent in made.agents:
            agent.start()
            made.wait(agent.join())
        yield made
    finally:
        made.stop()
