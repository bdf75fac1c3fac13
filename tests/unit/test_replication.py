"""The replication: placement, seals, recovery, repair, and what is never deleted."""

import pytest

from perseus.errors import FullError, UnavailableError
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


def test_a_node_that_cannot_tell_its_replicas_keeps_them_for_a_while() -> None:
    cluster = Cluster(3)
    cluster.put("/a")
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    holders = cluster.replication.holders(chunk)
    silent = cluster.nodes[holders[0]]
    cluster.connect(silent, knows=False)
    delay_s = cluster.settings.replication_delay_s
    cluster.advance(delay_s - 1)
    # Sessions that follow one another do not put it off.
    cluster.connect(silent, knows=False)
    assert cluster.replication.holders(chunk) == holders
    assert not cluster.replication.under_replicated and not cluster.replication.notes
    cluster.advance(2, step_s=0.5)
    assert any("has lost its replica" in note.message for note in cluster.replication.notes)
    assert len(cluster.copies(chunk)) == len(cluster.replication.holders(chunk)) == 2
    # It can tell again: one of three is too many.
    cluster.connect(silent)
    cluster.advance(2)
    assert len(cluster.copies(chunk)) == len(cluster.replication.holders(chunk)) == 2


def test_a_node_that_can_tell_its_replicas_in_time_keeps_them() -> None:
    cluster = Cluster(3)
    cluster.put("/a")
    cluster.put("/b")
    first, second = (cluster.chunks_of(path)[0] for path in ("/a", "/b"))
    cluster.deliver()
    node = next(n for n in cluster.nodes.values() if first in n.held and second in n.held)
    cluster.connect(node, knows=False)
    del node.held[second]
    cluster.connect(node)
    cluster.advance(2 * cluster.settings.replication_delay_s)
    assert node.node_id in cluster.replication.holders(first)
    assert len(cluster.copies(second)) == 2


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
