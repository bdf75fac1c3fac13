"""Whether others reach a node: dials by the master, and what follows from them."""

import asyncio
import socket

import pytest

from perseus.jobs.state_leases import _view
from perseus.membership import dialing
from perseus.membership.commands import AddNode, Connect, Disconnected, NodeDialled
from perseus.membership.diagnosis import diagnose_node
from perseus.membership.dialing import Dialer
from perseus.membership.events import NodeChanged
from perseus.membership.state import Membership
from perseus.membership.values import Capacity, NodeInfo
from perseus.runtime.machine import Driver, Event, Instant, Step
from perseus.runtime.real import RealClock

AT = Instant(1000.0, 5e8)
ERROR = "10.50.0.3:7700 did not answer within 3 s"


class World:
    """A membership with one node, and a dialer that is told how its dials ended."""

    def __init__(self) -> None:
        self.machine = Membership(10.0)
        self.do(AddNode("n1", "hall"))
        self.connect()
        driver = Driver.__new__(Driver)
        self.dialer = Dialer(driver, self.machine.nodes, "other", RealClock())

    def do(self, event: Event) -> Step:
        return self.machine.step(AT, event)

    def connect(self) -> None:
        capacity = Capacity(cpu=2)
        self.do(Connect("n1", 1, 1, "0.1", "10.50.0.3:7700", "10.50.0.3:7701", capacity))

    @property
    def node(self) -> NodeInfo:
        return self.machine.node("n1")

    def ends(self, error: str, now_s: float) -> NodeDialled | None:
        """A dial of all that are due at that time."""
        assert [node.node_id for node in self.dialer.due(now_s)] == ["n1"]
        told = self.dialer.judge(self.node, error, now_s)
        if told is not None:
            self.do(told)
        return told


def test_two_dials_in_a_row_that_fail_are_told_and_one_that_does_not() -> None:
    world = World()
    assert world.ends(ERROR, 100.0) is None
    assert not world.dialer.due(100.1)
    assert world.ends(ERROR, 100.0 + dialing.ROUND_S) == NodeDialled("n1", 1, ERROR)
    later_s = 103.0 + dialing.FAILED_AGAIN_S
    assert world.ends(ERROR, later_s) is None
    assert world.ends("", later_s + dialing.FAILED_AGAIN_S) == NodeDialled("n1", 1, "")
    assert not world.dialer.due(later_s + dialing.AGAIN_S)


def test_one_failure_is_chance() -> None:
    world = World()
    assert world.ends(ERROR, 100.0) is None
    assert world.ends("", 103.0) is None
    assert world.ends(ERROR, 200.0) is None


def test_a_node_that_connects_anew_is_dialled_at_once() -> None:
    world = World()
    world.ends("", 100.0)
    world.connect()
    assert world.ends("", 100.1) is None
    world.do(Disconnected("n1", 2))
    assert not world.dialer.due(1000.0)
    assert world.dialer.judge(world.node, ERROR, 1000.0) is None


def test_a_node_that_nobody_reaches_gets_no_attempts_until_it_is_reached() -> None:
    world = World()
    assert world.do(NodeDialled("n1", 1, ERROR)).effects == [NodeChanged("n1")]
    assert world.node.alive and not world.node.accepts_attempts
    assert ERROR in _view(world.node).refusal
    (finding,) = (each for each in diagnose_node(world.node, AT, "0.1", 1e9) if ERROR in str(each))
    assert finding.severity == "error"
    assert "ports 7700 and 7701" in finding.command and "--advertise" in finding.command
    world.do(NodeDialled("n1", 1, ""))
    assert world.node.accepts_attempts


def test_what_is_told_of_an_older_session_is_void() -> None:
    world = World()
    world.do(NodeDialled("n1", 1, ERROR))
    world.connect()
    assert world.node.accepts_attempts
    assert world.do(NodeDialled("n1", 1, ERROR)) == Step()
    assert world.do(NodeDialled("gone", 1, ERROR)) == Step()
    assert world.node.accepts_attempts


def test_a_dial_tells_in_words_why_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        assert asyncio.run(dialing.dial(f"{host}:{port}")) == ""
    assert "refused" in asyncio.run(dialing.dial(f"{host}:{port}"))


def test_a_dial_that_fails_for_this_machine_says_nothing_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio, "open_connection", fail)
    assert asyncio.run(dialing.dial("127.0.0.1:1")) == ""
