"""The agent's link and the master's service against each other, on a real store."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from perseus.errors import PerseusError
from perseus.identity import roles
from perseus.membership.commands import AddNode
from perseus.membership.events import AcknowledgeAttempts, Direct, NodeChanged, NodeDown, NodeUp
from perseus.membership.link import AgentLink
from perseus.membership.local_link import local_dialer
from perseus.membership.service import AgentsService
from perseus.membership.sessions import Sessions
from perseus.membership.state import Membership
from perseus.membership.stream import MasterLink
from perseus.proto.v1 import agent_pb2, cluster_pb2
from perseus.rpc.call import Call, Caller
from perseus.runtime.machine import Composite, Driver, Event, Instant, Step, Tick
from perseus.runtime.real import RealClock, RealRandom
from perseus.settings import Settings
from perseus.store.sqlite import SqliteStore

LIMIT_S = 30.0
QUICK = Settings(lease_s=1.0, heartbeat_s=0.1)


class Witness:
    """A sibling machine that remembers what membership tells those above it."""

    prefixes: Sequence[bytes] = ()
    events: Sequence[type[Event]] = (NodeUp, NodeDown, NodeChanged)

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        assert not list(items)

    def step(self, at: Instant, event: Event) -> Step:
        self.seen.append(event)
        return Step()


class Master:
    """Membership over a real store, as the daemon will build it."""

    def __init__(self, path: Path, settings: Settings = QUICK) -> None:
        self.membership = Membership(settings.lease_s)
        self.store = SqliteStore(path, "cluster")
        self.membership.load(self.store.items(b"node/"))
        self.witness = Witness()
        self.sessions = Sessions()
        self.clock = RealClock()
        self.driver = Driver(
            Composite([self.membership, self.witness]),
            self.store,
            self.clock,
            lambda effect: None if self.sessions.deliver(effect) else pytest.fail(str(effect)),
            lambda failure: pytest.fail(str(failure)),
        )
        self.events: list[tuple[str, int, object]] = []
        self.service = AgentsService(
            self.driver,
            self.membership,
            self.sessions,
            self.clock,
            b"grant key",
            self._on_events,
            self._on_events,
        )

    async def _on_events(self, node_id: str, session: int, events: Sequence[object]) -> None:
        self.events.extend((node_id, session, event) for event in events)

    async def ticking(self) -> None:
        while True:
            await self.driver.do(Tick())
            await asyncio.sleep(0.05)

    def close(self) -> None:
        self.sessions.close_all()
        self.store.close()


@dataclass
class Agent:
    """Handlers that remember what they were told."""

    name: str = "kitchen"
    protocol: int = 1
    attempts: list[str] = field(default_factory=list)
    welcomes: list[agent_pb2.Welcome] = field(default_factory=list)
    directives: list[agent_pb2.Directive] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    lost: int = 0
    refusals: list[PerseusError] = field(default_factory=list)

    def link(
        self, dial: Callable[[], Awaitable[MasterLink]], settings: Settings = QUICK
    ) -> AgentLink:
        return AgentLink(
            dial, RealClock(), RealRandom(), self.hello, cluster_pb2.Load, self, settings
        )

    def hello(self) -> agent_pb2.Hello:
        return agent_pb2.Hello(
            protocol_minimum=self.protocol,
            protocol_maximum=self.protocol,
            version="0.1",
            address=f"{self.name}:1",
            chunk_address=f"{self.name}:2",
            attempts=self.attempts,
        )

    def on_welcome(self, welcome: agent_pb2.Welcome) -> None:
        self.welcomes.append(welcome)

    def on_directives(self, directives: Sequence[agent_pb2.Directive]) -> None:
        self.directives.extend(directives)

    def on_acknowledged(self, attempts: Sequence[str]) -> None:
        self.acknowledged.extend(attempts)

    def on_lease_lost(self) -> None:
        self.lost += 1

    def on_refused(self, error: PerseusError) -> None:
        self.refusals.append(error)


def call_of(node_id: str) -> Call:
    return Call(Caller(node_id, roles.NODE, "node", node_id), "/perseus.v1.Agents/Connect")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.01)


def run(path: Path, act: Callable[[Master], Awaitable[None]], settings: Settings = QUICK) -> None:
    async def bounded() -> None:
        master = Master(path / "state.db", settings)
        ticking = asyncio.ensure_future(master.ticking())
        try:
            async with asyncio.timeout(LIMIT_S):
                await act(master)
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            master.close()

    asyncio.run(bounded())


def test_a_local_agent_gets_directives_and_reports(tmp_path: Path) -> None:
    async def act(master: Master) -> None:
        await master.driver.do(AddNode("n1", "kitchen", {"room": "kitchen"}))
        agent = Agent()
        link = agent.link(local_dialer(master.service.connect, call_of("n1")))
        running = asyncio.ensure_future(link.run())
        await until(lambda: agent.welcomes)
        assert agent.welcomes[0].session == 1 and agent.welcomes[0].grant_key == b"grant key"
        assert link.connected and link.holds_lease()
        node = master.membership.node("kitchen")
        assert node.alive and node.accepts_attempts and node.chunk_address == "kitchen:2"

        directive = agent_pb2.Directive(discard=agent_pb2.DiscardAttempt(attempt="a"))
        master.sessions.deliver(Direct("n1", directive))
        master.sessions.deliver(AcknowledgeAttempts("n1", ("b", "c")))
        await until(lambda: agent.directives and agent.acknowledged)
        assert agent.directives == [directive] and agent.acknowledged == ["b", "c"]

        events = [agent_pb2.AttemptEvent(attempt=str(n)) for n in range(5000)]
        link.post(attempt_events=events)
        link.post(chunk_events=[agent_pb2.ChunkEvent(deleted=7)])
        await until(lambda: len(master.events) == 5001)
        assert [event for _, _, event in master.events][:5000] == events

        first = link.lease_ends_at_s
        await until(lambda: link.lease_ends_at_s > first + 0.5)
        assert agent.lost == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await until(lambda: not master.membership.node("n1").connected)
        assert master.membership.node("n1").alive
        await until(lambda: not master.membership.node("n1").alive)

    run(tmp_path, act)
