"""The namespace: names, writers' leases, outputs of attempts, and reloading from writes."""

from typing import Any

import pytest

from perseus.errors import PerseusError
from perseus.filestore import namespace_events as files
from perseus.filestore.events import (
    CommitOutputs,
    DiscardOutputs,
    RemoveFolder,
)
from perseus.filestore.namespace_records import PAGE_PARTS
from perseus.filestore.namespace_tree import Totals
from perseus.runtime.machine import Tick
from tests.unit.namespace_harness import ATTEMPT, check_reload, committed, tree_of
from tests.unit.replication_harness import Cluster


def put_inline(cluster: Cluster, path: str, content: bytes, **options: Any) -> Any:
    """A small file."""
    lease = cluster.open(path, **options)
    return cluster.do(files.Close(lease.inode, lease.epoch, content, len(content)))


def test_a_file_appears_only_at_close_and_whole() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a/b", visible_at_close=True)
    assert cluster.namespace.find("/a/b") is None
    info = cluster.do(files.Close(lease.inode, lease.epoch, b"hello", 5, 7))
    assert (info.path, info.size_bytes, info.open, info.checksum) == ("/a/b", 5, False, 7)


def test_what_lies_in_the_state_has_one_copy_and_what_has_chunks_their_replicas() -> None:
    cluster = Cluster(3)

    def copies(path: str) -> tuple[int, int, bool]:
        info = cluster.namespace.info(cluster.namespace.inode_at(path))
        return info.replicas, info.live_replicas, info.in_master

    put_inline(cluster, "/a/small", b"hello", replicas=3)
    put_inline(cluster, "/a/empty", b"")
    for path in ("/", "/a", "/a/small", "/a/empty"):
        assert copies(path) == (1, 1, True)
    cluster.put("/a/large", (500,), replicas=3)
    assert copies("/a/large") == (3, 3, False)
    lease = cluster.open("/a/growing")
    assert copies("/a/growing") == (1, 1, True)
    cluster.do(files.AllocateChunk(lease.inode, lease.epoch))
    assert copies("/a/growing") == (2, 2, False)


def test_replacing_at_close_removes_what_stood_there() -> None:
    cluster = Cluster(2)
    old = cluster.put("/a", (500,))
    cluster.deliver()
    put_inline(cluster, "/a", b"new", visible_at_close=True, replace=True)
    cluster.deliver()
    assert cluster.namespace.info(cluster.namespace.inode_at("/a")).size_bytes == 3
    assert cluster.namespace.file(old.inode) is None
    assert not any(node.held for node in cluster.nodes.values())


def test_of_two_who_create_the_first_to_close_wins() -> None:
    cluster = Cluster(2)
    one = cluster.open("/a", visible_at_close=True)
    two = cluster.open("/a", visible_at_close=True)
    cluster.do(files.Close(two.inode, two.epoch, b"2", 1))
    error = cluster.refused(files.Close(one.inode, one.epoch, b"1", 1))
    assert error.code == "already_exists"


def test_folders_move_with_all_in_them_in_one_write() -> None:
    cluster = Cluster(2)
    for number in range(20):
        put_inline(cluster, f"/a/b/c/{number}", b"x" * number)
    before = cluster.rows.copy()
    cluster.do(files.MakeDirectory("/z", False, "me"))
    changed = {key for key, value in cluster.rows.items() if before.get(key) != value}
    before = cluster.rows.copy()
    info = cluster.do(files.Rename("/a/b", "/z/y", False))
    moved = {key for key, value in cluster.rows.items() if before.get(key) != value}
    assert info.path == "/z/y" and len(changed) == len(moved) == 1
    assert cluster.namespace.find("/a/b") is None
    assert cluster.namespace.totals("/z") == Totals(20, 2, 190, 190, 0)
    assert cluster.namespace.totals("/a") == Totals()
    check_reload(cluster)


def test_renames_that_cannot_be_meant_so() -> None:
    cluster = Cluster(2)
    put_inline(cluster, "/a/b/file", b"x")
    put_inline(cluster, "/other", b"y")
    refusals = {
        ("/a", "/a/b/c", False): "invalid",
        ("/a", "/a/b", False): "invalid",
        ("/other", "/a/b", True): "already_exists",
        ("/other", "/a/b/file", False): "already_exists",
        ("/a", "/other", True): "already_exists",
        ("/none", "/x", False): "not_found",
        ("/other", "/none/x", False): "not_found",
        ("/other", "/a/b/file/x", False): "invalid",
        ("/", "/x", False): "invalid",
        ("/other", "/", True): "invalid",
        ("/a/../b", "/x", False): "invalid",
    }
    for (source, target, replace), code in refusals.items():
        assert cluster.refused(files.Rename(source, target, replace)).code == code
    cluster.do(files.Rename("/other", "/a/b/file", True))
    assert cluster.do(files.Rename("/a", "/a", False)).path == "/a"
    assert tree_of(cluster) == {"/": None, "/a": None, "/a/b": None, "/a/b/file": 1}


def test_removal_is_one_step_and_collection_is_bounded() -> None:
    cluster = Cluster(2)
    for number in range(2500):
        put_inline(cluster, f"/big/{number % 7}/{number}", b"x")
    cluster.put("/big/chunked", (100,))
    cluster.deliver()
    assert cluster.refused(files.Remove("/big", recursive=False)).code == "conflict"
    assert cluster.do(files.Remove("/big", recursive=True)) == 2500 + 7 + 1 + 1
    assert tree_of(cluster) == {"/": None}
    assert cluster.namespace.totals("/") == Totals()
    left = len(cluster.rows)
    cluster.do(Tick())
    assert left > len(cluster.rows) > left - 1100
    # Begun anew in the middle, it goes on.
    cluster.restart()
    cluster.advance(6)
    assert not [key for key in cluster.rows if key.startswith((b"inode/", b"chunk/\0"))]
    assert not any(node.held for node in cluster.nodes.values())


def test_a_writer_in_a_removed_folder_loses_its_lease() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a/b/file")
    cluster.do(files.Remove("/a", recursive=True))
    error = cluster.refused(files.RenewWriteLease(lease.inode, lease.epoch))
    assert error.code == "lease_lost"
    invisible = cluster.open("/c/file", visible_at_close=True)
    cluster.do(files.Remove("/c", recursive=True))
    error = cluster.refused(files.Close(invisible.inode, invisible.epoch, b"", 0))
    assert error.code == "not_found"


def test_append_is_for_one_writer_at_a_time() -> None:
    cluster = Cluster(2)
    put_inline(cluster, "/log", b"one ")
    first = cluster.do(files.Append("/log", "me"))
    assert (first.inline, first.size_bytes) == (b"one ", 4)
    error = cluster.refused(files.Append("/log", "you"))
    assert error.code == "conflict" and "me" in error.message
    assert "if its writer is gone, that is in about 30 s" in error.hint
    cluster.now_s += 29.5
    assert cluster.refused(files.Append("/log", "you")).hint.endswith("that is in a moment")
    assert cluster.refused(files.Close(first.inode, first.epoch, b"two", 3)).code == "invalid"
    cluster.do(files.Close(first.inode, first.epoch, b"one two", 7))
    second = cluster.do(files.Append("/log", "you"))
    assert second.epoch > first.epoch
    for event in (
        files.Close(first.inode, first.epoch, b"one more", 8),
        files.AllocateChunk(first.inode, first.epoch),
        files.RenewWriteLease(first.inode, first.epoch),
    ):
        assert cluster.refused(event).code == "lease_lost"
    cluster.do(files.Abandon(first.inode, first.epoch))
    assert cluster.do(files.Close(second.inode, second.epoch, b"", 7)).size_bytes == 7


def test_the_first_chunk_takes_the_inline_content() -> None:
    cluster = Cluster(2)
    put_inline(cluster, "/log", b"12345")
    lease = cluster.do(files.Append("/log", "me"))
    allocation = cluster.allocate(lease)
    assert allocation.offset_bytes == 0
    cluster.write(allocation, 9)
    short = files.SealChunk(lease.inode, lease.epoch, allocation.chunk, 3)
    assert cluster.refused(short).code == "invalid"
    cluster.do(files.SealChunk(lease.inode, lease.epoch, allocation.chunk, 9))
    file = cluster.namespace.file_by_id(lease.inode)
    assert (file.inline, file.size_bytes) == (b"", 9)
    assert cluster.allocate(lease).offset_bytes == 9
    check_reload(cluster)


def test_inline_content_survives_a_writer_that_dies_in_its_first_chunk() -> None:
    cluster = Cluster(2)
    put_inline(cluster, "/log", b"12345")
    lease = cluster.do(files.Append("/log", "me"))
    allocation = cluster.allocate(lease)
    cluster.write(allocation, 3)
    cluster.advance(cluster.settings.write_lease_s + 2)
    file = cluster.namespace.file_by_id(lease.inode)
    assert (file.inline, file.size_bytes, file.writer) == (b"12345", 5, None)
    assert not any(node.held for node in cluster.nodes.values())


def test_repeated_calls_answer_the_same() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease)
    assert cluster.allocate(lease) == allocation
    cluster.write(allocation, 10)
    seal = files.SealChunk(lease.inode, lease.epoch, allocation.chunk, 10)
    cluster.do(seal)
    rows = dict(cluster.rows)
    cluster.do(seal)
    close = files.Close(lease.inode, lease.epoch, b"", 10, 99)
    assert cluster.rows == rows
    assert cluster.do(close) == cluster.do(close)
    cluster.do(seal)
    other = files.Close(lease.inode, lease.epoch, b"", 11)
    assert cluster.refused(other).code == "lease_lost"


def test_closing_what_was_not_written_is_refused() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a")
    allocation = cluster.allocate(lease)
    close = files.Close(lease.inode, lease.epoch, b"", 0)
    assert cluster.refused(close).code == "conflict"
    cluster.do(files.SealChunk(lease.inode, lease.epoch, allocation.chunk, 0))
    for event, code in (
        (files.Close(lease.inode, lease.epoch, b"", 10), "invalid"),
        (files.Close(lease.inode, lease.epoch, b"x" * 4097, 4097), "too_large"),
        (files.SealChunk(lease.inode, lease.epoch, 77, 10), "conflict"),
        (files.Close(lease.inode + 99, 1, b"", 0), "lease_lost"),
    ):
        assert cluster.refused(event).code == code
    assert cluster.do(close).size_bytes == 0


def test_silent_writers_are_ended() -> None:
    cluster = Cluster(2)
    visible = cluster.open("/visible")
    cluster.open("/invisible", visible_at_close=True)
    output = cluster.do(files.Create("", "n0", attempt="jjjjjjjj.0.1"))
    renewed = cluster.open("/renewed")
    lease_s = cluster.settings.write_lease_s
    cluster.advance(lease_s - 1, step_s=lease_s)
    cluster.do(files.RenewWriteLease(renewed.inode, renewed.epoch))
    cluster.advance(2)
    assert tree_of(cluster) == {"/": None, "/visible": 0, "/renewed": 0}
    opened = {
        p: cluster.namespace.info(cluster.namespace.inode_at(p)).open for p in tree_of(cluster)
    }
    assert opened == {"/": False, "/visible": False, "/renewed": True}
    assert cluster.namespace.file(output.inode) is None
    assert cluster.refused(files.RenewWriteLease(visible.inode, visible.epoch)).code == "lease_lost"


def test_a_restart_gives_writers_a_whole_lease() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a")
    cluster.advance(cluster.settings.write_lease_s - 1, step_s=60)
    cluster.restart()
    cluster.do(Tick())
    cluster.advance(cluster.settings.write_lease_s - 1, step_s=60)
    cluster.do(files.RenewWriteLease(lease.inode, lease.epoch))
    cluster.restart()
    cluster.do(Tick())
    cluster.advance(cluster.settings.write_lease_s + 1, step_s=5)
    assert not cluster.namespace.info(cluster.namespace.inode_at("/a")).open


def test_many_short_leases_leave_one_entry_each() -> None:
    cluster = Cluster(1)
    put_inline(cluster, "/log", b"")
    for _ in range(50):
        lease = cluster.do(files.Append("/log", "me"))
        cluster.do(files.Close(lease.inode, lease.epoch, b"", 0))
    cluster.do(files.Append("/log", "me"))
    queue = cluster.namespace._state.leases
    for _ in range(10):
        cluster.advance(cluster.settings.write_lease_s / 2, step_s=60)
        writer = cluster.namespace.file_by_id(lease.inode)
        cluster.do(files.RenewWriteLease(lease.inode, writer.epoch))
    assert len(queue) == 1


def test_outputs_appear_by_commit_alone() -> None:
    cluster = Cluster(2)
    lease = cluster.do(files.Create("", "n0", attempt=ATTEMPT))
    allocation = cluster.allocate(lease)
    cluster.write(allocation, 10)
    cluster.do(files.SealChunk(lease.inode, lease.epoch, allocation.chunk, 10))
    info = cluster.do(files.Close(lease.inode, lease.epoch, b"", 10))
    assert info.path == "" and tree_of(cluster) == {"/": None}
    cluster.advance(100, step_s=10)
    cluster.restart()
    assert cluster.namespace.uncommitted_attempts() == [ATTEMPT]
    outputs = (committed("stdout", inode=lease.inode), committed("stderr", b"oh"))
    cluster.do(CommitOutputs(ATTEMPT, "/jobs/j/0", "me", outputs))
    assert tree_of(cluster)["/jobs/j/0/stdout"] == 10
    assert tree_of(cluster)["/jobs/j/0/stderr"] == 2
    assert cluster.namespace.inode_at("/jobs/j/0/stdout").owner == "me"
    assert cluster.namespace.uncommitted_attempts() == []
    # Once committed they are no longer the attempt's to drop.
    cluster.do(DiscardOutputs(ATTEMPT))
    assert tree_of(cluster)["/jobs/j/0/stdout"] == 10
    check_reload(cluster)
    assert cluster.do(RemoveFolder("/jobs/j")) == 4
    assert cluster.do(RemoveFolder("/jobs/j")) == 0


def test_commit_never_raises_and_replaces_what_stands_there() -> None:
    cluster = Cluster(2)
    put_inline(cluster, "/jobs/j", b"in the way")
    other = cluster.do(files.Create("", "n0", attempt="kkkkkkkk.0.1"))
    outputs = (committed("stdout", inode=other.inode), committed("stderr", b"e"))
    cluster.do(CommitOutputs(ATTEMPT, "/jobs/j/0", "me", outputs))
    cluster.do(CommitOutputs(ATTEMPT, "/jobs/j/0", "me", (committed("stderr", b"ee"),)))
    assert tree_of(cluster) == {
        "/": None,
        "/jobs": None,
        "/jobs/j": None,
        "/jobs/j/0": None,
        "/jobs/j/0/stderr": 2,
    }


def test_what_an_attempt_wrote_besides_its_outputs_is_garbage() -> None:
    cluster = Cluster(2)
    leases = [cluster.do(files.Create("", "n0", attempt=ATTEMPT)) for _ in range(2)]
    outputs = (committed("stdout", inode=leases[1].inode),)
    cluster.do(CommitOutputs(ATTEMPT, "/jobs/j/0", "me", outputs))
    assert cluster.namespace.file(leases[0].inode) is None
    assert cluster.namespace.file(leases[1].inode) is not None
    assert cluster.namespace.uncommitted_attempts() == []


def test_an_output_that_is_still_open_is_closed_by_its_commit() -> None:
    cluster = Cluster(2)
    lease = cluster.do(files.Create("", "n0", attempt=ATTEMPT))
    allocation = cluster.allocate(lease)
    cluster.write(allocation, 10)
    outputs = (committed("stdout", inode=lease.inode),)
    cluster.do(CommitOutputs(ATTEMPT, "/jobs/j/0", "me", outputs))
    cluster.advance(2)
    info = cluster.namespace.info(cluster.namespace.inode_at("/jobs/j/0/stdout"))
    assert (info.size_bytes, info.open) == (10, False)


def test_discarded_outputs_leave_nothing() -> None:
    cluster = Cluster(2)
    for stderr in (False, True):
        lease = cluster.do(files.Create("", "n0", attempt=ATTEMPT, stderr=stderr))
        cluster.write(cluster.allocate(lease), 10)
    cluster.do(DiscardOutputs(ATTEMPT))
    cluster.deliver()
    assert not any(node.held for node in cluster.nodes.values())
    assert not [key for key in cluster.rows if key.startswith((b"inode/", b"chunk/\0"))]


def test_long_files_lie_in_pages() -> None:
    cluster = Cluster(2)
    count = 2 * PAGE_PARTS + 3
    cluster.put("/long", tuple(range(1, count + 1)))
    assert len([key for key in cluster.rows if key.startswith(b"extent/")]) == 2
    check_reload(cluster)
    assert [length for _, length in cluster.namespace.file_by_id(2).parts] == list(
        range(1, count + 1)
    )
    cluster.do(files.Remove("/long", recursive=False))
    assert not [key for key in cluster.rows if key.startswith(b"extent/")]


def test_folders_are_listed_in_pages() -> None:
    cluster = Cluster(1)
    names = [f"f{number:03}" for number in range(25)]
    for name in reversed(names):
        put_inline(cluster, f"/d/{name}", b"")
    seen: list[str] = []
    more = True
    while more:
        page = cluster.namespace.listing("/d", seen[-1] if seen else "", 10)
        seen += [entry.path.rpartition("/")[2] for entry in page.entries]
        more = page.more
    assert seen == names
    assert [entry.path for entry in cluster.namespace.listing("/d/f003", "", 0).entries] == [
        "/d/f003"
    ]
    with pytest.raises(PerseusError) as caught:
        cluster.namespace.listing("/none", "", 0)
    assert caught.value.code == "not_found"


def test_time_in_which_the_master_stood_still_is_not_the_writers() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a")
    cluster.advance(3.0)
    # The master is stopped, or its machine sleeps: nobody can renew anything.
    cluster.now_s += 1000.0
    cluster.do(Tick())
    assert cluster.do(files.RenewWriteLease(lease.inode, lease.epoch))
    info = cluster.do(files.Close(lease.inode, lease.epoch, b"kept", 4))
    assert info.size_bytes == 4
    # Silence while it is there still ends a lease.
    gone = cluster.open("/b")
    cluster.advance(2 * gone.lease_s, step_s=0.5)
    with pytest.raises(PerseusError):
        cluster.do(files.RenewWriteLease(gone.inode, gone.epoch))
