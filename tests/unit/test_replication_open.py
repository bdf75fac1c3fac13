"""Open replicas whose writer and whose master do not hear of each other."""

from perseus.filestore import namespace_events as files
from tests.unit.replication_harness import Cluster, Held


def test_what_a_hello_says_of_an_open_replica_is_not_its_end() -> None:
    """The writer goes on while the Hello is under way: only a fenced replica's length counts."""
    cluster = Cluster(2)
    lease = cluster.do(files.Append("/log", "me", create=True, parents=True))
    allocation = cluster.allocate(lease)
    assert cluster.write(allocation, 100)
    # The master is cut off from everybody for longer than the writer's lease.
    for node in cluster.nodes.values():
        node.up = False
        node.inbox.clear()
    cluster.advance(40)
    for node in cluster.nodes.values():
        cluster.connect(node)
        # Acknowledged by both before they hear of anything.
        for other in cluster.nodes.values():
            other.up = True
        assert cluster.write(allocation, 50)
    cluster.advance(20)
    assert cluster.namespace.info(cluster.namespace.inode_at("/log")).size_bytes == 200


def test_a_replica_that_crashed_before_its_first_sync_is_no_alarm() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/log")
    allocation = cluster.allocate(lease)
    assert cluster.write(allocation, 10)
    # Its log has a name and no content: there is no version, and no length.
    cluster.nodes["n0"].held[allocation.chunk] = Held(0, 0, found=True)
    cluster.connect(cluster.nodes["n0"])
    assert cluster.replication.notes == []
    cluster.advance(cluster.settings.write_lease_s + 20)
    info = cluster.namespace.info(cluster.namespace.inode_at("/log"))
    assert (info.size_bytes, info.open) == (10, False)
    assert cluster.copies(allocation.chunk)
