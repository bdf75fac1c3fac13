"""The state machine of membership: leases, sessions, names."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from perseus.errors import (
    AlreadyExistsError,
    IncompatibleError,
    InvalidError,
    LeaseLostError,
    NotFoundError,
    PerseusError,
    RefusedError,
    TooLargeError,
)
from perseus.membership import state
from perseus.membership.commands import (
    AddNode,
    Connect,
    Connected,
    Disconnected,
    HeartbeatReceived,
    RemoveNode,
    UpdateNode,
    Welcomed,
)
from perseus.membership.events import EndSession, NodeChanged, NodeDown, NodeUp, OpenSession
from perseus.membership.state import Membership
from perseus.membership.values import Capacity, Load, NodeInfo, NodeState
from perseus.runtime.machine import Event, Instant, Step, Tick

LEASE_S = 10.0


class World:
    """A machine, its durable keys and a clock."""

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self.lease_s = lease_s
        self.pairs: dict[bytes, bytes] = {}
        self.now_s = 1000.0
        self.machine = Membership(lease_s)

    def do(self, event: Event) -> Step:
        step = self.machine.step(Instant(self.now_s, 5e8 + self.now_s), event)
        for write in step.writes:
            if write.value is None:
                self.pairs.pop(write.key, None)
            else:
                self.pairs[write.key] = write.value
        return step

    def add(self, node_id: str, name: str) -> Step:
        return self.do(AddNode(node_id, name))

    def connect(self, node_id: str, minimum: int = 1, maximum: int = 1) -> Connected:
        reply = self.do(_hello(node_id, minimum, maximum)).reply
        assert isinstance(reply, Connected)
        return reply

    def beat(self, node_id: str, session: int, load: Load = Load()) -> Step:  # noqa: B008
        return self.do(HeartbeatReceived(node_id, session, load, 5e8 + self.now_s + 3.0))

    def pass_time(self, seconds: float, each: Callable[[], object] = lambda: None) -> list[Event]:
        """Ticks ten times a second; the events that the machine told its siblings."""
        told: list[Event] = []
        for _ in range(round(seconds * 10)):
            self.now_s += 0.1
            told += [e for e in self.do(Tick()).effects if isinstance(e, Event)]
            each()
        return told

    def restart(self) -> None:
        self.machine = Membership(self.lease_s)
        self.machine.load(sorted(self.pairs.items()))


def _hello(node_id: str, minimum: int = 1, maximum: int = 1) -> Connect:
    capacity = Capacity(4, 8 << 30, 100 << 30, 1.5, "x86_64", "Debian")
    return Connect(node_id, minimum, maximum, "0.1", "a:1", "a:2", capacity, ("j.0.1",), ())


def test_a_node_joins_connects_and_is_told_to_siblings() -> None:
    world = World()
    assert world.add("n1", "kitchen").reply.state is NodeState.JOINED
    step = world.do(_hello("n1"))
    assert step.reply == Connected("n1", "kitchen", 1, 1, LEASE_S)
    assert step.effects == [OpenSession("n1", 1), NodeUp("n1", "kitchen", 1, ("j.0.1",), ())]
    node = world.machine.node("kitchen")
    assert node == world.machine.node("n1")
    assert node.state is NodeState.ALIVE and node.accepts_attempts
    assert (node.address, node.chunk_address, node.capacity.cpu) == ("a:1", "a:2", 4)


def test_a_silent_node_is_lost_after_its_lease_and_not_before() -> None:
    world = World()
    world.add("n1", "kitchen")
    session = world.connect("n1").session
    world.now_s += 1.0
    world.beat("n1", session)
    assert world.pass_time(LEASE_S - 0.1) == []
    world.now_s += 0.2
    step = world.do(Tick())
    assert step.effects == [
        EndSession("n1", "silent for 10 s"),
        NodeDown("n1", "kitchen", "silent for 10 s"),
    ]
    assert world.machine.node("n1").state is NodeState.LOST
    assert world.pass_time(LEASE_S) == []
    with pytest.raises(LeaseLostError):
        world.beat("n1", session)
    assert world.connect("n1").session == session + 1


def test_the_lease_of_a_new_session_runs_from_its_welcome() -> None:
    world = World()
    world.add("n1", "kitchen")
    session = world.connect("n1").session
    # The disk takes longer than the lease to keep the session.
    assert world.pass_time(2 * LEASE_S) == []
    world.do(Welcomed("n1", session))
    world.do(Welcomed("n1", session + 1))
    assert world.pass_time(LEASE_S - 0.1) == []
    assert [type(event) for event in world.pass_time(0.3)] == [NodeDown]


def test_a_node_that_leaves_before_its_welcome_has_one_lease_time() -> None:
    world = World()
    world.add("n1", "kitchen")
    session = world.connect("n1").session
    assert world.pass_time(2 * LEASE_S) == []
    world.do(Disconnected("n1", session))
    world.do(Welcomed("n1", session))
    assert world.pass_time(LEASE_S - 0.1) == []
    assert [type(event) for event in world.pass_time(0.3)] == [NodeDown]


def test_a_newer_stream_fences_the_older() -> None:
    world = World()
    world.add("n1", "kitchen")
    first, second = world.connect("n1"), world.connect("n1")
    assert second.session == first.session + 1
    with pytest.raises(LeaseLostError, match="session 1 of node kitchen is over"):
        world.beat("n1", first.session)
    world.do(Disconnected("n1", first.session))
    assert world.machine.node("n1").connected
    world.beat("n1", second.session)


def test_a_disconnected_node_keeps_its_lease_but_gets_no_attempts() -> None:
    world = World()
    world.add("n1", "kitchen")
    session = world.connect("n1").session
    assert world.do(Disconnected("n1", session)).effects == [NodeChanged("n1")]
    node = world.machine.node("n1")
    assert node.alive and not node.accepts_attempts
    with pytest.raises(LeaseLostError):
        world.beat("n1", session)
    world.pass_time(5)
    world.connect("n1")
    assert world.pass_time(LEASE_S - 0.2) == []


def test_sessions_are_counted_across_restarts() -> None:
    world = World()
    world.add("n1", "kitchen")
    world.connect("n1")
    world.restart()
    with pytest.raises(LeaseLostError):
        world.beat("n1", 1)
    assert world.connect("n1").session == 2


def test_after_a_restart_nodes_have_one_lease_to_come_back() -> None:
    world = World()
    for node_id, name in (("n1", "kitchen"), ("n2", "attic"), ("n3", "cellar")):
        world.add(node_id, name)
    world.connect("n1")
    world.connect("n2")
    world.now_s += 3600
    world.restart()
    assert world.machine.node("n1").alive and not world.machine.node("n1").connected
    assert world.pass_time(LEASE_S / 2) == []
    world.connect("n1")
    told = world.pass_time(LEASE_S / 2 + 0.2)
    assert told == [NodeDown("n2", "attic", "did not come back within 10 s of the master's start")]
    assert world.machine.node("n3").state is NodeState.JOINED
    world.now_s += 60
    world.restart()
    assert world.machine.node("n2").state is NodeState.LOST
    silent_s = world.machine.node("n2").silent_s(Instant(world.now_s, 5e8 + world.now_s))
    assert silent_s == pytest.approx(70, abs=0.5)


def test_a_master_restarted_with_a_shorter_lease_keeps_its_word() -> None:
    world = World(lease_s=60.0)
    world.add("n1", "kitchen")
    world.connect("n1")
    world.lease_s = LEASE_S
    world.restart()
    assert world.pass_time(59.0) == []
    assert [type(event) for event in world.pass_time(2.0)] == [NodeDown]
    assert world.connect("n1").lease_s == LEASE_S
    world.restart()
    assert [type(event) for event in world.pass_time(LEASE_S + 1)] == [NodeDown]


def test_a_master_that_stood_still_does_not_count_it_against_the_nodes() -> None:
    world = World()
    world.add("n1", "kitchen")
    session = world.connect("n1").session
    world.now_s += 3600
    assert world.do(Tick()).effects == []
    world.beat("n1", session)
    world.now_s += 3600
    assert world.do(Tick()).effects == []
    assert world.pass_time(LEASE_S - 0.2) == []
    assert [type(event) for event in world.pass_time(0.5)] == [NodeDown]


def test_a_taken_name_is_refused_while_its_node_is_alive_and_given_on_after() -> None:
    world = World()
    world.add("n1", "kitchen")
    session = world.connect("n1").session
    with pytest.raises(AlreadyExistsError, match="alive"):
        world.add("n2", "kitchen")
    world.now_s += 2
    world.do(Disconnected("n1", session))
    with pytest.raises(AlreadyExistsError, match="2 s ago") as caught:
        world.add("n2", "kitchen")
    assert "try again in 8 s" in caught.value.hint
    world.pass_time(LEASE_S)
    step = world.add("n2", "kitchen")
    assert NodeDown("n1", "kitchen", "another machine joined under its name", True) in step.effects
    assert [node.node_id for node in world.machine.nodes()] == ["n2"]
    with pytest.raises(RefusedError, match="no longer"):
        world.connect("n1")
    assert world.connect("n2").session == 1


def test_a_node_that_never_connected_makes_way_for_its_name() -> None:
    world = World()
    world.add("n1", "kitchen")
    world.add("n2", "kitchen")
    assert world.machine.node("kitchen").node_id == "n2"


@pytest.mark.parametrize(
    ("minimum", "maximum", "older"), [(2, 3, "the master"), (0, 0, "node kitchen")]
)
def test_versions_that_do_not_meet_are_refused_by_name(
    minimum: int, maximum: int, older: str
) -> None:
    world = World()
    world.add("n1", "kitchen")
    with pytest.raises(IncompatibleError, match=f"versions {minimum} to {maximum}.*1 to 1") as c:
        world.connect("n1", minimum, maximum)
    assert c.value.hint == f"upgrade Perseus on {older}"
    assert world.machine.node("n1").session == 0


def test_the_highest_common_version_is_spoken() -> None:
    machine = Membership(LEASE_S, 2, 5)
    machine.step(Instant(0, 0), AddNode("n1", "kitchen"))
    assert machine.step(Instant(0, 0), _hello("n1", 1, 4)).reply.protocol == 4


def test_labels_and_draining_are_kept() -> None:
    world = World()
    world.do(AddNode("n1", "kitchen", {"room": "kitchen", "gpu": "yes"}))
    world.connect("n1")
    step = world.do(UpdateNode("kitchen", {"gpu": "", "fast": "no"}, draining=True))
    assert step.effects == [NodeChanged("n1")]
    world.restart()
    node = world.machine.node("n1")
    assert node.labels == {"room": "kitchen", "fast": "no"}
    assert node.state is NodeState.DRAINING and not node.accepts_attempts
    world.do(UpdateNode("kitchen", draining=False))
    assert world.machine.node("n1").state is NodeState.ALIVE
    with pytest.raises(NotFoundError):
        world.do(UpdateNode("attic"))
    with pytest.raises(InvalidError):
        world.do(UpdateNode("kitchen", {"": "x"}))
    for key, value in (("a=b", "x"), ("a\n", "x"), ("a", "x\n")):
        with pytest.raises(InvalidError, match="cannot be printed"):
            world.do(UpdateNode("kitchen", {key: value}))
    with pytest.raises(TooLargeError):
        world.do(UpdateNode("kitchen", {f"l{n}": "x" for n in range(state.LABELS_MAXIMUM + 1)}))


def test_the_master_cannot_leave_and_others_can() -> None:
    world = World()
    world.do(AddNode("n1", "kitchen", is_master=True))
    world.add("n2", "attic")
    world.connect("n2")
    with pytest.raises(InvalidError, match="is the master"):
        world.do(RemoveNode("kitchen"))
    step = world.do(RemoveNode("attic"))
    assert step.effects == [
        EndSession("n2", "left the cluster"),
        NodeDown("n2", "attic", "left the cluster", removed=True),
    ]
    assert world.machine.find("n2") is None and len(world.pairs) == 1
    with pytest.raises(RefusedError):
        world.connect("n2")


def test_heartbeats_write_nothing_and_tell_only_changes_that_matter() -> None:
    world = World()
    world.add("n1", "kitchen")
    session = world.connect("n1").session
    first = world.beat("n1", session, Load(0.1, 0.1, 4 << 30, 50 << 30))
    assert first.writes == [] and first.effects == [NodeChanged("n1")]
    for cpu in (0.12, 0.15, 0.19):
        assert world.beat("n1", session, Load(cpu, 0.1, 4 << 30, 50 << 30)).effects == []
    assert world.beat("n1", session, Load(0.5, 0.1, 4 << 30, 50 << 30)).effects
    assert world.beat("n1", session, Load(0.5, 0.1, 3 << 30, 50 << 30)).effects
    node = world.machine.node("n1")
    assert node.load.cpu == 0.5 and node.clock_skew_s == pytest.approx(3.0)


def test_a_clock_that_is_behind_the_others_certificates() -> None:
    world = World()
    for node_id, name in (("n1", "kitchen"), ("n2", "attic"), ("n3", "cellar")):
        world.do(AddNode(node_id, name, is_master=node_id == "n1"))
    sessions = {}
    time_s = 5e8 + world.now_s
    for node_id, begins_s in (("n1", time_s - 7200), ("n2", time_s), ("n3", time_s - 400)):
        hello = replace(_hello(node_id, 1, 1), certificate_begins_at_s=begins_s)
        sessions[node_id] = world.do(hello).reply.session

    def beat(behind_s: float) -> tuple[NodeInfo, bool]:
        load = Load(0.1, 0.1, 4 << 30, 50 << 30)
        step = world.do(HeartbeatReceived("n2", sessions["n2"], load, time_s - behind_s))
        return world.machine.node("n2"), NodeChanged("n2") in step.effects

    beat(0.0)
    # Certificates begin five minutes before they are made.
    node, _ = beat(250.0)
    assert node.distrusts == () and node.accepts_attempts
    node, changed = beat(1000.0)
    assert (node.distrusts, changed, node.accepts_attempts) == (("cellar",), True, True)
    assert beat(1000.0)[1] is False
    node, changed = beat(10_000.0)
    assert node.distrusts == ("kitchen", "cellar") and changed and not node.accepts_attempts
    node, changed = beat(0.0)
    assert node.distrusts == () and changed and node.accepts_attempts


def test_bad_names_are_refused() -> None:
    for name in ("", "Kitchen", "a b", "../x", "a" * 64):
        with pytest.raises(InvalidError):
            World().add("n1", name)


def test_a_record_of_a_newer_version_is_refused() -> None:
    with pytest.raises(IncompatibleError, match="newer"):
        Membership(LEASE_S).load([(b"node/n1", b"\x02rest")])


class MembershipRules(RuleBasedStateMachine):
    """Random lives of three machines under two names, beside a model of what they may do."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        # When the node was last heard of, for nodes with a session that stands.
        self.live: dict[str, int] = {}
        self.heard_at_s: dict[str, float] = {}
        self.sessions: dict[str, int] = {}

    nodes = st.sampled_from(["n1", "n2", "n3"])

    @rule(node=nodes, name=st.sampled_from(["kitchen", "attic"]))
    def join(self, node: str, name: str) -> None:
        holder = self.world.machine.find(name)
        try:
            self.world.add(node, name)
        except AlreadyExistsError:
            assert (holder is not None and holder.alive) or self.world.machine.find(node)
        else:
            assert holder is None or not holder.alive
            if holder is not None:
                self._forget(holder.node_id)
            self.sessions[node] = 0

    @rule(node=nodes)
    def connect(self, node: str) -> None:
        try:
            session = self.world.connect(node).session
        except RefusedError:
            assert self.world.machine.find(node) is None
            return
        assert session > self.sessions[node]
        self.sessions[node] = self.live[node] = session
        self.heard_at_s[node] = self.world.now_s

    @rule(node=nodes, back=st.integers(0, 2))
    def beat(self, node: str, back: int) -> None:
        session = self.sessions.get(node, 0) - back
        try:
            self.world.beat(node, session)
        except LeaseLostError:
            assert self.live.get(node) != session
        else:
            assert self.live[node] == session
            self.heard_at_s[node] = self.world.now_s

    @rule(node=nodes, back=st.integers(0, 1))
    def disconnect(self, node: str, back: int) -> None:
        session = self.sessions.get(node, 0) - back
        self.world.do(Disconnected(node, session))
        if self.live.get(node) == session:
            del self.live[node]

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 9.9, 11.0]))
    def tick(self, seconds: float) -> None:
        for event in self.world.pass_time(seconds):
            assert isinstance(event, NodeDown) and not event.removed
            since = self.heard_at_s.pop(event.node_id)
            assert self.world.now_s - since > LEASE_S - 1e-6
            self.live.pop(event.node_id, None)

    @rule(seconds=st.sampled_from([5.0, 1000.0]))
    def stand_still(self, seconds: float) -> None:
        self.world.now_s += seconds
        assert not self.world.do(Tick()).effects

    @rule(node=nodes)
    def remove(self, node: str) -> None:
        try:
            self.world.do(RemoveNode(node))
        except NotFoundError:
            return
        self._forget(node)

    @rule()
    def restart(self) -> None:
        self.world.restart()
        self.live.clear()

    def _forget(self, node: str) -> None:
        self.sessions.pop(node, None)
        self.live.pop(node, None)
        self.heard_at_s.pop(node, None)

    @invariant()
    def agrees(self) -> None:
        known = {node.node_id: node for node in self.world.machine.nodes()}
        assert set(known) == set(self.sessions)
        assert len({node.name for node in known.values()}) == len(known)
        for node_id, node in known.items():
            assert node.session == self.sessions[node_id]
            assert node.connected == (node_id in self.live)
            assert node.alive == (node_id in self.heard_at_s)
            assert node.alive or not node.connected
            for session in range(node.session + 2):
                assert self._takes(node_id, session) == (self.live.get(node_id) == session)

    @invariant()
    def memory_is_what_disk_says(self) -> None:
        again = Membership(LEASE_S)
        again.load(sorted(self.world.pairs.items()))
        durable = [(n.node_id, n.name, n.alive, n.session, n.draining) for n in again.nodes()]
        now = self.world.machine.nodes()
        assert durable == [(n.node_id, n.name, n.alive, n.session, n.draining) for n in now]

    def _takes(self, node_id: str, session: int) -> bool:
        try:
            self.world.machine.check_session(node_id, session)
        except PerseusError:
            return False
        return True


MembershipRules.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestMembershipRules = MembershipRules.TestCase
