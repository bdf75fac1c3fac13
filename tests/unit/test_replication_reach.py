"""Nodes that others may not reach get new replicas last, and are read from last."""

from perseus.filestore.namespace import Namespace
from perseus.filestore.namespace_events import SealChunk
from perseus.filestore.replication import SUSPECT_S, Replication
from perseus.filestore.replication_events import LinkBroken
from perseus.filestore.replication_links import LINKS_MAXIMUM, TOLD_S
from perseus.filestore.service_layout import findings
from perseus.membership.commands import NodeDialled
from perseus.membership.state import Membership
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
    # Nothing was acknowledged, so the chunk goes; that the node failed stays known.
    cluster.do(SealChunk(lease.inode, lease.epoch, allocation.chunk, 0, ("n1",), "n0", "silence"))
    assert "n1" not in cluster.replication.plan(2, "n1", ()).nodes
    cluster.advance(SUSPECT_S + 2)
    assert cluster.replication.plan(2, "n1", ()).nodes[0] == "n1"


def test_a_link_that_failed_is_told_of_for_a_while_and_not_beyond_the_nodes_loss() -> None:
    cluster = Cluster(3)
    cluster.do(LinkBroken("n0", ("n1",), "silence"))
    cluster.do(LinkBroken("", ("n2", "gone"), "refused"))
    links = cluster.replication.links
    assert [link[:3] for link in links.broken] == [("n0", "n1", "silence"), ("", "n2", "refused")]
    found = {each.subject: each for each in findings(*_parts(cluster))}
    assert found["name-n1"].message.startswith("name-n0 could not bring bytes to name-n1")
    assert "(silence); the writer went on through others" in found["name-n1"].message
    assert found["name-n1"].command == "ping n1  # on name-n0"
    assert found["name-n2"].message.startswith("a client could not bring bytes to name-n2")
    cluster.lose("n1")
    assert [link.target for link in links.broken] == ["n2"]
    cluster.advance(TOLD_S + 2)
    assert links.broken == []
    for number in range(LINKS_MAXIMUM + 5):
        cluster.do(LinkBroken(f"s{number}", ("n1",), ""))
    assert len(links.broken) == LINKS_MAXIMUM


def _parts(cluster: Cluster) -> tuple[Namespace, Replication, Membership, int]:
    return cluster.namespace, cluster.replication, cluster.membership, 0


def test_it_is_read_from_last() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease)
    first, second = allocation.nodes
    cluster.do(NodeDialled(first, 1, "nobody answers"))
    located = cluster.replication.located(allocation.chunk)
    assert located is not None and located.nodes == (second, first)
