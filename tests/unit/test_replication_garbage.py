"""Deletions of replicas: of what is gone, old, damaged or too many, at a pace."""

import pytest

from perseus.errors import RefusedError
from perseus.filestore import namespace_events as files
from perseus.membership.commands import MasterStarted
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


def _put(cluster: Cluster, path: str) -> int:
    cluster.put(path)
    cluster.deliver()
    (chunk,) = cluster.chunks_of(path)
    return chunk


def _replaced_by(cluster: Cluster, rows: dict[bytes, bytes], accept: bool = False) -> Cluster:
    """The master begins a new run from those rows, an old copy of its state."""
    cluster.rows = dict(rows)
    for node in cluster.nodes.values():
        node.up = False
    cluster.restart()
    cluster.membership.guards = (cluster.replication.check_hello,)
    cluster.do(MasterStarted(run=0, chance=1000, accept_old_state=accept))
    return cluster


def test_an_old_copy_of_the_state_deletes_no_chunk_that_came_after_it() -> None:
    cluster = Cluster(2)
    cluster.do(MasterStarted(run=10**6, chance=0))
    known = _put(cluster, "/known")
    copy = dict(cluster.rows)
    newer = _put(cluster, "/newer")
    assert newer > known >= 10**6
    held = {name: dict(node.held) for name, node in cluster.nodes.items()}
    _replaced_by(cluster, copy)
    for node in cluster.nodes.values():
        with pytest.raises(RefusedError, match=f"a replica of chunk {newer:016x}"):
            cluster.connect(node)
        node.up = False
    cluster.advance(30.0)
    assert {name: node.held for name, node in cluster.nodes.items()} == held


def test_an_old_copy_that_is_accepted_uses_no_id_again_and_lets_the_rest_go() -> None:
    cluster = Cluster(2)
    cluster.do(MasterStarted(run=10**6, chance=0))
    copy = dict(cluster.rows)
    newer = _put(cluster, "/newer")
    _replaced_by(cluster, copy, accept=True)
    for node in cluster.nodes.values():
        cluster.connect(node)
    cluster.advance(5.0)
    assert all(newer not in node.held for node in cluster.nodes.values())
    assert _put(cluster, "/other") > newer


def test_which_ids_were_used_is_known_over_all_runs() -> None:
    cluster = Cluster(2)
    for run in (10**6, 10**7):
        cluster.do(MasterStarted(run=run, chance=0))
        assert _put(cluster, f"/{run}") == run
    state = cluster.replication._state
    assert state.was_used(10**6) and state.was_used(10**7)
    assert not any(map(state.was_used, (5, 10**6 - 1, 10**6 + 1, 10**7 + 1)))
    cluster.restart()
    assert cluster.replication._state.gaps == state.gaps
    assert cluster.replication._state.next_id == state.next_id == 10**7 + 1
