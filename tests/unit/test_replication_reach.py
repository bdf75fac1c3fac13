"""Nodes that others may not reach get new replicas last, and are read from last."""

from perseus.filestore.replication import SUSPECT_S
from perseus.filestore.replication_events import ChunkSealed
from perseus.membership.commands import NodeDialled
from tests.unit.replication_harness import Cluster


def test_a_node_that_nobody_reaches_is_taken_only_when_there_is_no_other() -> None:
    cluster = Cluster(3)
    cluster.do(NodeDialled("n1", 1, "n1:1 did not answer"))
    for _ in range(20):
        lease = cluster.open("/a", replace=True)
        chain = cluster.replication.plan(2, "n1", ()).nodes
        assert set(chain) == {"n0", "n2"}
        assert cluster.replication.plan(3, "n1", ()).nodes[2] == "n1"
        cluster.allocate(lease)
    cluster.do(NodeDialled("n1", 1, ""))
    assert cluster.replication.plan(2, "n1", ()).nodes[0] == "n1"


def test_a_node_that_failed_a_writer_is_avoided_for_a_while() -> None:
    cluster = Cluster(3)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease, near="n1")
    assert "n1" in allocation.nodes
    cluster.do(ChunkSealed(allocation.chunk, 0, ("n1",)))
    assert "n1" not in cluster.replication.plan(2, "n1", ()).nodes
    cluster.advance(SUSPECT_S + 2)
    assert cluster.replication.plan(2, "n1", ()).nodes[0] == "n1"


def test_it_is_read_from_last() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease)
    first, second = allocation.nodes
    cluster.do(NodeDialled(first, 1, "nobody answers"))
    located = cluster.replication.located(allocation.chunk)
    assert located is not None and located.nodes == (second, first)
