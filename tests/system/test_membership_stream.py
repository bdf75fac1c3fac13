"""The agents' streams to the master: real TLS, real sockets, real stops."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from membership_harness import (
    QUICK,
    Agent,
    Master,
    Wire,
    call_of,
    child_environment,
    end,
    running_link,
    running_master,
    until,
)

from perseus.errors import IncompatibleError, LeaseLostError, PerseusError, RefusedError
from perseus.membership import sessions
from perseus.membership.commands import AddNode, RemoveNode
from perseus.membership.events import AcknowledgeAttempts, Direct, NodeUp, Replica
from perseus.membership.link import AgentLink
from perseus.membership.local_link import local_dialer
from perseus.proto.v1 import agent_pb2
from perseus.runtime.machine import Tick, Write
from perseus.settings import Settings
from perseus.store.sqlite import SqliteStore

# A lease that no test outlasts, however busy the machine.
SLOW = Settings(lease_s=600.0, heartbeat_s=0.1)


def with_master(
    folder: Path, act: Callable[[Master], Awaitable[None]], settings: Settings = QUICK
) -> None:
    async def whole() -> None:
        async with running_master(folder, settings) as master:
            await act(master)

    asyncio.run(whole())


def discard(attempt: str) -> agent_pb2.Directive:
    return agent_pb2.Directive(discard=agent_pb2.DiscardAttempt(attempt=attempt))


async def _welcomed(agent: Agent, times: int) -> None:
    await until(lambda: len(agent.welcomes) == times)


async def _converse(master: Master, agent: Agent, link: AgentLink) -> None:
    """Both sides say all they can say; node n1."""
    await until(lambda: agent.welcomes)
    assert agent.welcomes[0].session == 1 and agent.welcomes[0].grant_key == b"grant key"
    assert link.connected and link.holds_lease() and link.trouble is None
    node = master.membership.node("kitchen")
    assert node.accepts_attempts and node.chunk_address == "kitchen:2"
    replica = Replica(7, 2, 9, True)
    assert master.witness.ups() == [NodeUp("n1", "kitchen", 1, ("j.0.1",), (replica,))]

    directives = [discard(str(number)) for number in range(3000)]
    for directive in directives:
        master.sessions.deliver(Direct("n1", directive))
    master.sessions.deliver(AcknowledgeAttempts("n1", ("b", "c")))
    await until(lambda: len(agent.directives) == 3000 and agent.acknowledged)
    assert agent.directives == directives and agent.acknowledged == ["b", "c"]

    events = [agent_pb2.AttemptEvent(attempt=str(number)) for number in range(3000)]
    link.post(attempt_events=events)
    link.post(chunk_events=[agent_pb2.ChunkEvent(deleted=7)])
    await until(lambda: len(master.reports) == 3001)
    assert master.reports[:3000] == [("n1", 1, event) for event in events]
    assert master.reports[3000] == ("n1", 1, agent_pb2.ChunkEvent(deleted=7))

    first_s = link.lease_ends_at_s
    await until(lambda: link.lease_ends_at_s > first_s + QUICK.lease_s)
    assert agent.may_act_until_s <= link.lease_ends_at_s - 0.2 * QUICK.lease_s + 1e-6
    assert not agent.lost_at_s and not master.witness.downs()


def test_an_agent_in_the_masters_process(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        await master.driver.do(AddNode("n1", "kitchen", is_master=True))
        agent = Agent(attempts=["j.0.1"])
        link = agent.link(local_dialer(master.agents.connect, call_of("n1")))
        running = asyncio.ensure_future(link.run())
        await _converse(master, agent, link)
        await end(running)
        await until(lambda: not master.membership.node("n1").connected)
        assert master.membership.node("n1").alive

    with_master(short_folder, act)


def test_an_agent_over_tls(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        agent = Agent(attempts=["j.0.1"])
        async with running_link(agent, identity, master.address) as link:
            await _converse(master, agent, link)
        await until(lambda: not master.membership.node("n1").connected)
        assert master.membership.node("n1").alive
        await until(lambda: master.witness.downs())
        assert master.witness.downs()[0].reason.startswith("silent for ")

    with_master(short_folder, act)


def test_a_broken_stream_is_made_anew_within_the_lease(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        agent = Agent()
        wire = Wire(master.address)
        async with running_link(agent, identity, await wire.start()) as link:
            for number in (1, 2, 3):
                await _welcomed(agent, number)
                assert link.connected
                wire.drop()
            await until(lambda: len(agent.welcomes) == 4)
        await wire.stop()
        assert [welcome.session for welcome in agent.welcomes] == [1, 2, 3, 4]
        assert not agent.lost_at_s and not master.witness.downs()

    with_master(short_folder, act)


def test_a_cut_off_node_stops_before_the_master_gives_it_up(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        agent = Agent()
        wire = Wire(master.address)
        async with running_link(agent, identity, await wire.start()) as link:
            await until(lambda: agent.welcomes and link.connected)
            wire.cut()
            await until(lambda: agent.lost_at_s)
            assert not link.holds_lease() and not master.witness.downs()
            await until(lambda: master.witness.downs())
            lost_at_s = next(
                at_s for at_s, event in master.witness.seen if event in master.witness.downs()
            )
            assert agent.lost_at_s[0] < lost_at_s
            wire.mend()
            await until(lambda: len(agent.welcomes) == 2)
            assert master.membership.node("n1").accepts_attempts and link.holds_lease()
            assert len(agent.lost_at_s) == 1
        await wire.stop()

    with_master(short_folder, act)


def test_a_disk_that_takes_longer_than_the_lease_loses_no_node(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        disk = HeldDisk(master.store)
        master.driver._committer = disk
        agent = Agent()
        async with running_link(agent, identity, master.address) as link:
            await until(lambda: master.membership.node("n1").session == 1)
            # Ticks go on as they do in a daemon, which does not wait for them.
            waited_until_s = master.clock.now_s() + 2 * QUICK.lease_s
            while master.clock.now_s() < waited_until_s:
                master.driver.begin(Tick())
                await asyncio.sleep(0.05)
            disk.free.set()
            await _welcomed(agent, 1)
            await until(link.holds_lease)
            assert link.session == 1
        assert not master.witness.downs() and not agent.lost_at_s

    with_master(short_folder, act)


class HeldDisk:
    """Keeps what it is given only once it is ``free``."""

    def __init__(self, store: SqliteStore) -> None:
        self.free = asyncio.Event()
        self._store = store

    async def commit(self, writes: Sequence[Write]) -> None:
        await self.free.wait()
        await self._store.commit(writes)

    def shortage(self) -> PerseusError | None:
        return self._store.shortage()


def test_a_newer_stream_of_a_node_ends_the_older(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        first, second = Agent(), Agent()
        async with running_link(first, identity, master.address, SLOW) as link:
            await until(lambda: first.welcomes)
            local = second.link(local_dialer(master.agents.connect, call_of("n1")), SLOW)
            running = asyncio.ensure_future(local.run())
            await until(lambda: second.welcomes and link.trouble is not None)
            assert isinstance(link.trouble, LeaseLostError)
            assert "newer stream" in link.trouble.message
            await end(running)

    with_master(short_folder, act, SLOW)


def test_an_older_stream_hears_why_it_ends_before_the_newer_is_durable(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        disk = HeldDisk(master.store)
        disk.free.set()
        master.driver._committer = disk
        first, second = Agent(), Agent()
        async with running_link(first, identity, master.address, SLOW) as link:
            await until(lambda: first.welcomes)
            disk.free.clear()
            local = second.link(local_dialer(master.agents.connect, call_of("n1")), SLOW)
            running = asyncio.ensure_future(local.run())
            try:
                await until(lambda: link.trouble is not None)
                assert not second.welcomes
                assert isinstance(link.trouble, LeaseLostError)
                assert "newer stream" in link.trouble.message
            finally:
                disk.free.set()
            await end(running)

    with_master(short_folder, act, SLOW)


def test_a_removed_node_is_told_and_stays_away(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        agent = Agent()
        async with running_link(agent, identity, master.address) as link:
            await until(lambda: agent.welcomes)
            await master.driver.do(RemoveNode("kitchen"))
            await until(lambda: agent.refusals)
            assert isinstance(link.trouble, RefusedError)
            assert "no longer" in link.trouble.message and "token" in link.trouble.hint
            assert len(agent.lost_at_s) == 1 and not link.holds_lease()

    with_master(short_folder, act)


def test_a_node_of_another_version_is_refused_for_good(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        agent = Agent(protocol=9)
        async with running_link(agent, identity, master.address):
            await until(lambda: agent.refusals)
        assert isinstance(agent.refusals[0], IncompatibleError)
        assert "versions 9 to 9" in agent.refusals[0].message
        assert agent.refusals[0].hint == "upgrade Perseus on the master"

    with_master(short_folder, act)


def test_a_restarted_master_takes_its_nodes_back(short_folder: Path) -> None:
    async def whole() -> None:
        async with running_master(short_folder) as master:
            identity = await master.add("n1", "kitchen")
            await master.add("n2", "attic")
            for node_id in ("n1", "n2"):
                dial = local_dialer(master.agents.connect, call_of(node_id))
                gone = Agent()
                running = asyncio.ensure_future(gone.link(dial).run())
                await _welcomed(gone, 1)
                await end(running)
        async with running_master(short_folder) as master:
            assert master.membership.node("n1").alive and master.membership.node("n2").alive
            agent = Agent()
            async with running_link(agent, identity, master.address):
                await until(lambda: agent.welcomes)
                assert agent.welcomes[0].session == 2
                await until(lambda: master.witness.downs())
                assert [down.name for down in master.witness.downs()] == ["attic"]
                assert "did not come back" in master.witness.downs()[0].reason

    asyncio.run(whole())


def test_a_node_with_news_says_hello_again(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        agent = Agent()
        async with running_link(agent, identity, master.address) as link:
            await _welcomed(agent, 1)
            agent.name = "elsewhere"
            link.say_hello_again()
            await _welcomed(agent, 2)
            assert master.membership.node("n1").chunk_address == "elsewhere:2"
            assert not agent.lost_at_s

    with_master(short_folder, act)


def test_too_much_waiting_for_a_node_ends_its_stream(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "OUTBOX_MAXIMUM", 10)

    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        agent = Agent()
        async with running_link(agent, identity, master.address):
            await until(lambda: agent.welcomes)
            for number in range(11):
                master.sessions.deliver(Direct("n1", discard(str(number))))
            await until(lambda: len(agent.welcomes) == 2)
            assert not agent.directives and not agent.lost_at_s

    with_master(short_folder, act)


def test_a_stream_that_breaks_the_rules_is_refused(short_folder: Path) -> None:
    async def first_answer(master: Master, *messages: agent_pb2.AgentMessage) -> Any:
        async def requests() -> Any:
            for message in messages:
                yield message

        answers = master.agents.connect(requests(), call_of("n1"))
        return [answer async for answer in answers]

    async def act(master: Master) -> None:
        await master.add("n1", "kitchen")
        hello = agent_pb2.AgentMessage(hello=Agent().hello())
        for messages in ((), (agent_pb2.AgentMessage(),), (hello, hello)):
            with pytest.raises(Exception, match="Hello"):
                await first_answer(master, *messages)
        # A node that ends its stream in order leaves no error behind.
        assert len(await first_answer(master, hello)) == 1
        await until(lambda: not master.membership.node("n1").connected)

    with_master(short_folder, act)


CHILD = """
import asyncio, sys
from pathlib import Path
from membership_harness import Agent, running_link
from perseus.identity.files import Identity

class Printer(Agent):
    def on_welcome(self, welcome): print("welcome", welcome.session, flush=True)
    def on_directives(self, directives): print("directives", len(directives), flush=True)
    def on_lease_lost(self): print("lost", flush=True)

async def main():
    async with running_link(Printer(), Identity.load(Path(sys.argv[1])), sys.argv[2]):
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_an_agent_stopped_past_its_lease_stops_its_attempts_before_all_else(
    short_folder: Path,
) -> None:
    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CHILD,
            str(identity.folder),
            master.address,
            stdout=asyncio.subprocess.PIPE,
            env=child_environment(),
        )
        assert child.stdout is not None
        try:
            assert await child.stdout.readline() == b"welcome 1\n"
            os.kill(child.pid, signal.SIGSTOP)
            # It lies in the child's socket when the child wakes.
            master.sessions.deliver(Direct("n1", discard("j.0.1")))
            await until(lambda: master.witness.downs())
            os.kill(child.pid, signal.SIGCONT)
            assert await child.stdout.readline() == b"lost\n"
            assert await child.stdout.readline() == b"welcome 2\n"
            assert master.membership.node("n1").accepts_attempts
        finally:
            child.kill()
            await child.wait()

    with_master(short_folder, act)
