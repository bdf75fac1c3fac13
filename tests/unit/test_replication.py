"""The replication: placement, seals, recovery, repair, and what is never deleted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.errors import FullError, PerseusError, UnavailableError
from perseus.filestore import namespace_events as files
from perseus.filestore.replication_events import ChunkEvents
from perseus.membership.commands import UpdateNode
from perseus.membership.events import Direct
from perseus.proto.v1 import agent_pb2
from perseus.runtime.machine import Tick
from tests.unit.replication_harness import GIB, Cluster, Held, present


def test_replicas_lie_on_distinct_nodes_the_first_with_the_writer() -> None:
    cluster = Cluster(4)
    lease = cluster.open("/a")
    for near in ("n0", "n3", "name-n2"):
        chain = cluster.replication.plan(3, near, ()).nodes
        assert chain[0] == near[-2:]
        assert len(set(chain)) == 3
    assert len(cluster.allocate(lease).nodes) == 2


def test_allocation_avoids_failed_draining_lost_and_full_nodes() -> None:
    cluster = Cluster(5)
    cluster.do(UpdateNode("n1", draining=True))
    cluster.nodes["n2"].free = 300 << 20
    cluster.lose("n3")
    assert set(cluster.replication.plan(5, "n1", ["n4"]).nodes) == {"n0"}
    assert set(cluster.replication.plan(5, "n1", ["n4", "name-n0"]).nodes) == {"n0", "n4"}


def test_a_full_cluster_names_its_full_nodes() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a")
    for node in cluster.nodes.values():
        node.free = 10 << 20
        cluster.beat(node)
    error = cluster.refused(files.AllocateChunk(lease.inode, lease.epoch))
    assert isinstance(error, FullError)
    assert "name-n0 (10 MiB free)" in error.message
    assert cluster.replication.lost == []


def test_without_nodes_a_writer_is_told_to_wait() -> None:
    cluster = Cluster(1)
    lease = cluster.open("/a")
    cluster.lose("n0")
    lease = cluster.open("/b")
    error = cluster.refused(files.AllocateChunk(lease.inode, lease.epoch))
    assert isinstance(error, UnavailableError)


def test_placement_follows_free_space() -> None:
    cluster = Cluster(3)
    cluster.nodes["n0"].free = 1000 * GIB
    cluster.beat(cluster.nodes["n0"])
    first = [cluster.put(f"/{number}").inode for number in range(60)]
    counts = [cluster.replication.held_by(f"n{number}")[0] for number in range(3)]
    assert len(first) == 60 and sum(counts) == 120
    assert counts[0] > max(counts[1:]) > 0


def test_a_lost_node_is_made_good_after_the_delay() -> None:
    cluster = Cluster(3)
    cluster.put("/a")
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    lost = cluster.copies(chunk)[0]
    cluster.lose(lost)
    assert len(cluster.copies(chunk)) == 1
    assert cluster.namespace.info(cluster.namespace.inode_at("/a")).live_replicas == 1
    cluster.advance(cluster.settings.replication_delay_s + 1)
    assert len(cluster.copies(chunk)) == 2
    # The node comes back: one of three is too many.
    cluster.connect(cluster.nodes[lost])
    cluster.advance(2)
    assert len(cluster.copies(chunk)) == 2
    assert len(cluster.replication.holders(chunk)) == 2


def test_a_removed_node_is_made_good_at_once() -> None:
    cluster = Cluster(3)
    cluster.put("/a")
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    gone = cluster.copies(chunk)[0]
    cluster.remove(gone)
    cluster.advance(2)
    assert gone not in cluster.replication.holders(chunk)
    assert len(cluster.copies(chunk)) == 2


def test_fewest_replicas_first_and_copies_in_flight_are_bounded() -> None:
    cluster = Cluster(4)
    for number in range(30):
        cluster.put(f"/three{number}", replicas=3)
    for number in range(10):
        cluster.put(f"/two{number}", replicas=2)
    cluster.deliver()
    cluster.remove("n0")
    cluster.effects.clear()
    cluster.do(Tick())
    fetched = [
        effect.directive.fetch.chunk
        for effect in cluster.effects
        if isinstance(effect, Direct) and effect.directive.HasField("fetch")
    ]
    assert 0 < len(fetched) <= 12
    ranks = [len(cluster.copies(chunk)) for chunk in fetched]
    assert ranks == sorted(ranks)
    cluster.advance(30)
    assert not cluster.replication.under_replicated


def test_a_corrupt_replica_is_replaced_and_told_of() -> None:
    cluster = Cluster(2)
    cluster.put("/a")
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    cluster.rot("n0", chunk)
    located = cluster.replication.located(chunk)
    assert located is not None and located.nodes == ("n1",)
    cluster.advance(3)
    assert sorted(cluster.copies(chunk)) == ["n0", "n1"]
    severities = [note.severity for note in cluster.replication.notes]
    assert severities == ["warning", "note"]


def test_the_only_replica_is_kept_though_it_is_corrupt() -> None:
    cluster = Cluster(2)
    cluster.put("/a", replicas=1)
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    (holder,) = cluster.copies(chunk)
    cluster.rot(holder, chunk)
    cluster.advance(3)
    assert chunk in cluster.nodes[holder].held
    assert cluster.replication.lost == [chunk]
    located = cluster.replication.located(chunk)
    assert located is not None and located.nodes == (holder,)


def test_a_corrupt_replica_is_known_again_after_a_restart_of_all() -> None:
    cluster = Cluster(2)
    cluster.put("/a", replicas=1)
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    (holder,) = cluster.copies(chunk)
    cluster.rot(holder, chunk)
    cluster.lose(holder)
    cluster.restart()
    cluster.connect(cluster.nodes[holder])
    cluster.advance(3)
    assert cluster.replication.holders(chunk) == (holder,)
    assert cluster.replication.lost == [chunk]
    assert cluster.replication.live_replicas(chunk) == 0
    cluster.do(files.Remove("/a", recursive=False))
    cluster.deliver()
    assert chunk not in cluster.nodes[holder].held


def test_a_corrupt_replica_that_was_given_up_is_taken_back() -> None:
    cluster = Cluster(2)
    cluster.put("/a", replicas=1)
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    (holder,) = cluster.copies(chunk)
    node = cluster.nodes[holder]
    gone = node.held.pop(chunk)
    cluster.connect(node)
    assert cluster.replication.holders(chunk) == ()
    node.held[chunk] = gone
    cluster.rot(holder, chunk)
    assert cluster.replication.holders(chunk) == (holder,)
    cluster.advance(3)
    assert chunk in node.held


def test_a_corrupt_replica_of_a_removed_file_is_garbage() -> None:
    cluster = Cluster(2)
    cluster.put("/a", replicas=1)
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    (holder,) = cluster.copies(chunk)
    cluster.rot(holder, chunk)
    cluster.nodes[holder].up = False
    cluster.do(files.Remove("/a", recursive=False))
    cluster.connect(cluster.nodes[holder])
    cluster.deliver()
    assert chunk not in cluster.nodes[holder].held


@pytest.mark.parametrize("nodes", [2, 3])
def test_two_replicas_with_different_bad_blocks_make_a_good_one(nodes: int) -> None:
    cluster = Cluster(nodes)
    cluster.put("/a")
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    first, second = cluster.copies(chunk)
    cluster.rot(first, chunk, block=1, found=False)
    cluster.rot(second, chunk, block=2)
    # The harness sees to it that nothing is deleted before all its blocks stand elsewhere.
    cluster.advance(6)
    assert len(cluster.copies(chunk)) == 2
    assert sum(chunk in node.held for node in cluster.nodes.values()) == 2
    assert cluster.replication.lost == []


def test_what_cannot_be_made_whole_is_seldom_tried() -> None:
    cluster = Cluster(3)
    cluster.put("/a")
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    for node_id in cluster.copies(chunk):
        cluster.rot(node_id, chunk)
    cluster.effects.clear()
    cluster.advance(300)
    fetches = [
        e for e in cluster.effects if isinstance(e, Direct) and e.directive.HasField("fetch")
    ]
    assert 1 <= len(fetches) <= 3
    assert cluster.replication.lost == [chunk]
    assert cluster.replication.under_replicated == []
    assert len(cluster.replication.holders(chunk)) == 2


def test_a_failed_node_is_fenced_by_a_new_version() -> None:
    cluster = Cluster(3)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease)
    assert cluster.write(allocation, 100)
    assert not cluster.write(allocation, 50, reaching=1)
    failed = allocation.nodes[1]
    cluster.do(files.SealChunk(lease.inode, lease.epoch, allocation.chunk, 100, (failed,)))
    located = cluster.replication.located(allocation.chunk)
    # Until the seal is confirmed the old version is asked for, whose bytes are the same.
    assert located is not None and located.version == 1
    cluster.do(files.Close(lease.inode, lease.epoch, b"", 100))
    cluster.advance(2)
    located = cluster.replication.located(allocation.chunk)
    assert located is not None and located.version == 2
    copies = cluster.copies(allocation.chunk)
    assert len(copies) == 2
    assert all(cluster.nodes[node].held[allocation.chunk].length == 100 for node in copies)


def test_when_all_nodes_fail_what_was_acknowledged_stays() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease)
    assert cluster.write(allocation, 100)
    for node_id in allocation.nodes:
        cluster.lose(node_id)
    cluster.do(files.SealChunk(lease.inode, lease.epoch, allocation.chunk, 100, allocation.nodes))
    cluster.do(files.Close(lease.inode, lease.epoch, b"", 100))
    cluster.advance(10)
    assert cluster.replication.lost == [allocation.chunk]
    for node_id in allocation.nodes:
        cluster.connect(cluster.nodes[node_id])
    cluster.advance(2)
    assert cluster.replication.lost == []
    assert len(cluster.copies(allocation.chunk)) == 2


def test_a_silent_writer_is_sealed_at_the_least_length_and_fenced() -> None:
    cluster = Cluster(3)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease)
    assert cluster.write(allocation, 100)
    assert not cluster.write(allocation, 70, reaching=1)
    cluster.advance(cluster.settings.write_lease_s + 1)
    info = cluster.namespace.info(cluster.namespace.inode_at("/a"))
    assert (info.size_bytes, info.open) == (100, False)
    assert not cluster.write(allocation, 5)
    assert {cluster.nodes[n].held[allocation.chunk].length for n in allocation.nodes} == {100}
    error = cluster.refused(files.Close(lease.inode, lease.epoch, b"", 100))
    assert error.code == "lease_lost"


def test_recovery_waits_for_a_holder_and_survives_a_restart() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a", replicas=1)
    allocation = cluster.allocate(lease)
    assert cluster.write(allocation, 100)
    cluster.lose(allocation.nodes[0])
    cluster.advance(cluster.settings.write_lease_s + 20)
    assert cluster.namespace.info(cluster.namespace.inode_at("/a")).open
    cluster.restart()
    cluster.advance(1)
    cluster.connect(cluster.nodes[allocation.nodes[0]])
    cluster.advance(12)
    info = cluster.namespace.info(cluster.namespace.inode_at("/a"))
    assert (info.size_bytes, info.open) == (100, False)


def test_a_writer_that_never_began_leaves_an_empty_file() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease)
    cluster.advance(cluster.settings.write_lease_s + 2)
    info = cluster.namespace.info(cluster.namespace.inode_at("/a"))
    assert (info.size_bytes, info.open) == (0, False)
    assert cluster.replication.located(allocation.chunk) is None


def test_unknown_chunks_are_deleted_only_when_they_are_surely_garbage() -> None:
    cluster = Cluster(1)
    node = cluster.nodes["n0"]
    node.held[999_999] = Held(1, 10, sealed=True)
    cluster.connect(node)
    cluster.deliver()
    assert 999_999 in node.held


def test_what_was_said_in_an_older_session_is_void() -> None:
    cluster = Cluster(2)
    cluster.put("/a")
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    node = cluster.nodes["n0"]
    old = node.session
    cluster.connect(node)
    cluster.do(ChunkEvents("n0", old, (agent_pb2.ChunkEvent(deleted=chunk),)))
    assert "n0" in cluster.replication.holders(chunk)


def test_a_replica_made_after_the_list_was_is_not_given_up() -> None:
    """A node's Hello may be older than a chunk that was written meanwhile."""
    cluster = Cluster(2)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease)
    assert cluster.write(allocation, 100)
    cluster.do(files.SealChunk(lease.inode, lease.epoch, allocation.chunk, 100))
    node = cluster.nodes["n0"]
    held = node.held.pop(allocation.chunk)
    cluster.connect(node)
    node.held[allocation.chunk] = held
    cluster.deliver()
    assert "n0" in cluster.replication.holders(allocation.chunk)
    assert held.sealed


def test_a_disk_that_refuses_a_seal_is_not_pestered() -> None:
    cluster = Cluster(1)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease)
    cluster.write(allocation, 100)
    held = cluster.nodes["n0"].held[allocation.chunk]
    cluster.do(files.SealChunk(lease.inode, lease.epoch, allocation.chunk, 100))
    cluster.nodes["n0"].inbox.clear()
    cluster.effects.clear()
    failure = agent_pb2.ChunkFailure(chunk=allocation.chunk, message="read-only file system")
    for _ in range(50):
        told = (agent_pb2.ChunkEvent(failure=failure), present(allocation.chunk, held))
        cluster.do(ChunkEvents("n0", cluster.nodes["n0"].session, told))
    seals = [e for e in cluster.effects if isinstance(e, Direct) and e.directive.HasField("seal")]
    assert seals == []
    cluster.nodes["n0"].inbox.clear()
    cluster.advance(11)
    assert held.sealed


def test_replicas_that_cannot_be_sealed_are_kept_until_one_is_sure() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease)
    cluster.write(allocation, 100)
    cluster.do(files.SealChunk(lease.inode, lease.epoch, allocation.chunk, 100))
    failure = agent_pb2.ChunkFailure(chunk=allocation.chunk, message="read-only file system")
    for node in cluster.nodes.values():
        node.inbox.clear()
        told = (agent_pb2.ChunkEvent(failure=failure),)
        cluster.do(ChunkEvents(node.node_id, node.session, told))
    assert len(cluster.replication.holders(allocation.chunk)) == 2
    cluster.advance(12)
    assert len(cluster.copies(allocation.chunk)) == 2


def test_a_truncated_replica_is_replaced() -> None:
    cluster = Cluster(2)
    cluster.put("/a")
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    node = cluster.nodes["n0"]
    node.held[chunk].length = 3
    cluster.do(ChunkEvents("n0", node.session, (present(chunk, node.held[chunk]),)))
    cluster.advance(3)
    assert node.held[chunk].length == 1000


# What may happen to a cluster, as data: hypothesis chooses an order and shrinks it.
_OPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "put",
                "begin",
                "half",
                "seal",
                "lose",
                "up",
                "rot",
                "remove",
                "tick",
                "one",
                "restart",
            ]
        ),
        st.integers(0, 7),
    ),
    max_size=40,
)


class _Play:
    """Carries out one sequence, keeping what was acknowledged."""

    def __init__(self) -> None:
        self.cluster = Cluster(4)
        # path -> (lease, allocation, acknowledged bytes) of open files.
        self.open: dict[str, tuple[object, files.Allocation, int]] = {}
        # path -> bytes that must never be fewer.
        self.acknowledged: dict[str, int] = {}
        self.number = 0

    def run(self, kind: str, choice: int) -> None:
        getattr(self, f"do_{kind}")(choice)
        self.check()

    def do_put(self, choice: int) -> None:
        self.do_begin(choice)
        self.do_seal(choice)

    def do_begin(self, choice: int) -> None:
        path = f"/f{self.number}"
        self.number += 1
        lease = self.cluster.open(path, replicas=1 + choice % 3)
        try:
            allocation = self.cluster.allocate(lease)
        except PerseusError:
            return
        acknowledged = 100 if self.cluster.write(allocation, 100) else 0
        self.open[path] = (lease, allocation, acknowledged)
        self.acknowledged[path] = acknowledged

    def do_half(self, choice: int) -> None:
        for _, allocation, _ in self.open.values():
            self.cluster.write(allocation, 7, reaching=1)

    def do_seal(self, choice: int) -> None:
        for path, (lease, allocation, acknowledged) in list(self.open.items())[-1 - choice % 3 :]:
            del self.open[path]
            failed = tuple(n for n in allocation.nodes if not self.cluster.nodes[n].up)
            inode, epoch = lease.inode, lease.epoch  # type: ignore[attr-defined]
            try:
                self.cluster.do(
                    files.SealChunk(inode, epoch, allocation.chunk, acknowledged, failed)
                )
                self.cluster.do(files.Close(inode, epoch, b"", acknowledged))
            except PerseusError as error:
                assert error.code == "lease_lost"

    def do_lose(self, choice: int) -> None:
        self.cluster.lose(f"n{choice % 4}")

    def do_up(self, choice: int) -> None:
        self.cluster.connect(self.cluster.nodes[f"n{choice % 4}"])

    def do_rot(self, choice: int) -> None:
        """A block that is good on another live holder, too; the node may not know at once."""
        replication, block = self.cluster.replication, choice % 3
        for node in self.cluster.nodes.values():
            for chunk in node.held:
                holders = replication.holders(chunk)
                others = [
                    other
                    for other in self.cluster.nodes.values()
                    if other is not node and other.up and other.node_id in holders
                ]
                whole = [n for n in others if chunk in n.held and n.held[chunk].sealed]
                length = node.held[chunk].length
                lost = self.cluster.lost_blocks(chunk, length, whole)
                sealed = node.held[chunk].sealed and node.node_id in holders
                if node.up and sealed and lost is not None and block not in lost:
                    self.cluster.rot(node.node_id, chunk, block, found=choice % 2 == 0)
                    return

    def scrub(self) -> None:
        """Every node finds what is rotten."""
        for node in self.cluster.nodes.values():
            for chunk, held in list(node.held.items()):
                if held.rotten and not held.found:
                    self.cluster.tell_corrupt(node, chunk)

    def do_remove(self, choice: int) -> None:
        path = f"/f{choice}"
        if self.cluster.namespace.find(path) is not None:
            self.cluster.do(files.Remove(path, recursive=False))
            self.acknowledged.pop(path, None)
            self.open.pop(path, None)

    def do_tick(self, choice: int) -> None:
        self.cluster.advance(1 + 5 * choice)

    def do_one(self, choice: int) -> None:
        """One directive alone, so that others are under way."""
        for node in self.cluster.nodes.values():
            if node.inbox:
                self.cluster.carry_out(node)
                return

    def do_restart(self, choice: int) -> None:
        self.cluster.restart()

    def check(self) -> None:
        replication = self.cluster.replication
        for path, least in self.acknowledged.items():
            info = self.cluster.namespace.info(self.cluster.namespace.inode_at(path))
            assert info.open or info.size_bytes >= least
            for chunk in self.cluster.chunks_of(path):
                holders = replication.holders(chunk)
                assert len(set(holders)) == len(holders)
                located = replication.located(chunk)
                assert located is not None
                nodes = list(self.cluster.nodes.values())
                assert self.cluster.lost_blocks(chunk, located.length_bytes, nodes) == set()

    def finish(self) -> None:
        """All nodes live, and time passes: all is whole, and nothing is left over."""
        for node in self.cluster.nodes.values():
            if not node.up:
                self.cluster.connect(node)
        self.scrub()
        self.cluster.advance(200, step_s=2.0)
        if self.cluster.replication.lost:
            # Copying from replicas that are all corrupt has failed, and is tried again later.
            self.cluster.advance(2000, step_s=5.0)
        self.check()
        known: set[int] = set()
        for path in self.acknowledged:
            info = self.cluster.namespace.info(self.cluster.namespace.inode_at(path))
            assert not info.open
            for chunk in self.cluster.chunks_of(path):
                known.add(chunk)
                assert len(self.cluster.copies(chunk)) == info.replicas
        held = {chunk for node in self.cluster.nodes.values() for chunk in node.held}
        assert held <= known
        assert not self.cluster.replication.lost
        assert not self.cluster.replication.under_replicated


@given(_OPS)
def test_whatever_happens_no_acknowledged_byte_is_lost(ops: list[tuple[str, int]]) -> None:
    play = _Play()
    for kind, choice in ops:
        play.run(kind, choice)
    play.finish()
