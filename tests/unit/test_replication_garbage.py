"""Deletions of replicas: of what is gone, old, damaged or too many, at a pace."""

import pytest

from perseus.filestore import namespace_events as files
from perseus.runtime.machine import Tick
from tests.unit.replication_harness import Cluster, Held


def test_garbage_is_deleted_also_on_nodes_that_were_away() -> None:
    cluster = Cluster(2)
    cluster.put("/a")
    (chunk,) = cluster.chunks_of("/a")
    cluster.deliver()
    cluster.lose("n1")
    cluster.do(files.Remove("/a", recursive=False))
    cluster.deliver()
    assert chunk not in cluster.nodes["n0"].held
    assert chunk in cluster.nodes["n1"].held
    cluster.connect(cluster.nodes["n1"])
    cluster.deliver()
    assert chunk not in cluster.nodes["n1"].held


def test_a_big_removal_does_not_fill_the_outbox_of_a_node() -> None:
    cluster = Cluster(1)
    for number in range(700):
        cluster.put(f"/big/{number}", replicas=1)
    cluster.deliver()
    cluster.do(files.Remove("/big", recursive=True))
    cluster.do(Tick())
    assert len(cluster.nodes["n0"].inbox) <= 200
    cluster.advance(1)
    # A new session says again what is there.
    cluster.connect(cluster.nodes["n0"])
    assert len(cluster.nodes["n0"].inbox) <= 200
    cluster.advance(5)
    assert not cluster.nodes["n0"].held


@pytest.mark.parametrize("what", ["extra", "corrupt", "old"])
def test_what_a_node_brings_back_too_much_is_deleted_at_a_pace(what: str) -> None:
    cluster = Cluster(3)
    for number in range(700):
        cluster.put(f"/{number}")
    cluster.deliver()
    chunks = [cluster.chunks_of(f"/{number}")[0] for number in range(700)]
    node = cluster.add_node("n3")
    for chunk in chunks:
        node.held[chunk] = Held(0 if what == "old" else 1, 1000, sealed=True)
        if what == "corrupt":
            node.held[chunk].rotten.add(0)
            node.held[chunk].found = True
    cluster.connect(node)
    for _ in range(10):
        for told in cluster.nodes.values():
            assert len(told.inbox) <= 200
        cluster.deliver()
        cluster.now_s += 0.2
        cluster.do(Tick())
    cluster.deliver()
    assert {len(cluster.copies(chunk)) for chunk in chunks} == {2}
    assert sum(len(each.held) for each in cluster.nodes.values()) == 1400
    if what != "extra":
        assert not node.held


def test_a_replica_too_many_is_kept_when_it_is_needed_before_its_turn() -> None:
    cluster = Cluster(2)
    for number in range(400):
        cluster.put(f"/{number}", replicas=1)
    cluster.deliver()
    chunks = [cluster.chunks_of(f"/{number}")[0] for number in range(400)]
    node = cluster.add_node("n2")
    for chunk in chunks:
        node.held[chunk] = Held(1, 1000, sealed=True)
    cluster.connect(node)
    cluster.deliver()
    waiting = [chunk for chunk in chunks if len(cluster.copies(chunk)) == 2]
    assert waiting
    for other in ("n0", "n1"):
        cluster.remove(other)
    cluster.advance(5)
    assert all(cluster.copies(chunk) == ["n2"] for chunk in waiting)
