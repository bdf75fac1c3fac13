"""The namespace: names, writers' leases, outputs of attempts, and reloading from writes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.errors import PerseusError
from perseus.filestore import namespace_events as files
from perseus.filestore.events import (
    CommitOutputs,
    CommittedOutput,
    DiscardOutputs,
    RemoveFolder,
)
from perseus.filestore.namespace_records import PAGE_PARTS
from perseus.filestore.namespace_tree import File, Folder, Inode, Totals, weight
from perseus.runtime.machine import Tick
from tests.unit.replication_harness import Cluster


def put_inline(cluster: Cluster, path: str, content: bytes, **options: Any) -> Any:
    """A small file."""
    lease = cluster.open(path, **options)
    return cluster.do(files.Close(lease.inode, lease.epoch, content, len(content)))


def tree_of(cluster: Cluster) -> dict[str, object]:
    """All that can be reached: path to size, or None for folders."""
    found: dict[str, object] = {}
    waiting: list[Inode] = [cluster.namespace.inode_at("/")]
    while waiting:
        inode = waiting.pop()
        path = cluster.namespace.path_of(inode.id)
        found[path] = inode.size_bytes if isinstance(inode, File) else None
        if isinstance(inode, Folder):
            waiting.extend(inode.children.values())
    return found


def state_of(cluster: Cluster) -> dict[object, object]:
    """All that must be the same after a restart."""
    state = cluster.namespace._state
    snapshot: dict[object, object] = {}
    for inode in state.tree.inodes.values():
        parent = inode.parent.id if inode.parent else 0
        common = (parent, inode.name, inode.owner, inode.created_at_s, inode.modified_at_s)
        if isinstance(inode, Folder):
            names = () if not state.tree.is_live(inode) else tuple(sorted(inode.children))
            totals = inode.totals if state.tree.is_live(inode) else None
            snapshot[inode.id] = (*common, inode.replicas, names, inode.removed, totals)
        elif isinstance(inode, File):
            writer = inode.writer
            snapshot[inode.id] = (
                *(*common, inode.replicas, inode.size_bytes, tuple(inode.parts), inode.inline),
                *(inode.checksum, inode.epoch, inode.attempt),
                writer
                and (
                    *(writer.who, writer.chunk, writer.ending),
                    *(writer.target, writer.target_name, writer.replace),
                ),
            )
    snapshot["attempts"] = {key: set(value) for key, value in state.by_attempt.items()}
    for chunk in cluster.replication._state.chunks.values():
        snapshot["chunk", chunk.id] = chunk.record()
    return snapshot


def check_reload(cluster: Cluster) -> None:
    """What is durable is all there is."""
    before = state_of(cluster)
    ids = cluster.namespace._state.next_id, cluster.replication._state.next_id
    fresh = Cluster(0)
    fresh.rows = dict(cluster.rows)
    fresh._build()
    assert state_of(fresh) == before
    assert fresh.namespace._state.next_id >= ids[0]
    assert fresh.replication._state.next_id >= ids[1]


def test_a_file_appears_only_at_close_and_whole() -> None:
    cluster = Cluster(2)
    lease = cluster.open("/a/b", visible_at_close=True)
    assert cluster.namespace.find("/a/b") is None
    info = cluster.do(files.Close(lease.inode, lease.epoch, b"hello", 5, 7))
    assert (info.path, info.size_bytes, info.open, info.checksum) == ("/a/b", 5, False, 7)


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


ATTEMPT = "jjjjjjjj.0.1"


def committed(name: str, inline: bytes = b"", inode: int = 0) -> CommittedOutput:
    """An output of an attempt."""
    return CommittedOutput(name, len(inline), inline, inode)


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


# A model to play against: path -> content, None for folders.
_NAMES = st.sampled_from(["a", "b", "c"])
_PATHS = st.lists(_NAMES, max_size=3).map(lambda names: "/" + "/".join(names))
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("mkdir"), _PATHS, st.booleans()),
        st.tuples(st.just("put"), _PATHS, st.booleans(), st.booleans(), st.booleans()),
        st.tuples(st.just("append"), _PATHS),
        st.tuples(st.just("chunk"), _PATHS),
        st.tuples(st.just("leave"), _PATHS, st.booleans()),
        st.tuples(st.just("rename"), _PATHS, _PATHS, st.booleans()),
        st.tuples(st.just("remove"), _PATHS, st.booleans()),
        st.tuples(st.just("commit"), _PATHS),
        st.tuples(st.just("tick")),
    ),
    max_size=30,
)


class Model:
    """What a filestore is, said as simply as can be; methods tell whether it is allowed."""

    def __init__(self) -> None:
        self.tree: dict[str, int | None] = {"/": None}

    def parent(self, path: str) -> str:
        return path.rpartition("/")[0] or "/"

    def above(self, path: str) -> list[str]:
        return [] if path == "/" else [*self.above(self.parent(path)), self.parent(path)]

    def below(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        return [other for other in self.tree if other.startswith(prefix) and other != "/"]

    def is_folder(self, path: str) -> bool:
        return path in self.tree and self.tree[path] is None

    def room(self, path: str, parents: bool) -> bool:
        above = self.above(path)
        if any(other in self.tree and not self.is_folder(other) for other in above):
            return False
        return parents or all(other in self.tree for other in above)

    def mkdir(self, path: str, parents: bool) -> bool:
        if self.is_folder(path):
            return parents or path == "/"
        if path in self.tree or not self.room(path, parents):
            return False
        for other in [*self.above(path), path]:
            self.tree[other] = None
        return True

    def put(self, path: str, size: int, replace: bool, parents: bool) -> bool:
        if self.is_folder(path) or (path in self.tree and not replace):
            return False
        if path == "/" or not self.room(path, parents):
            return False
        for other in self.above(path):
            self.tree[other] = None
        self.tree[path] = size
        return True

    def rename(self, source: str, target: str, replace: bool) -> bool:
        if source not in self.tree or source == "/" or target == "/":
            return False
        if source == target:
            return True
        if not self.room(target, False) or source in self.above(target):
            return False
        if target in self.tree and (self.is_folder(target) or not replace):
            return False
        if target in self.tree and self.is_folder(source):
            return False
        moved = {other: self.tree.pop(other) for other in [source, *self.below(source)]}
        for other, size in moved.items():
            self.tree[target + other[len(source) :]] = size
        return True

    def remove(self, path: str, recursive: bool) -> int:
        if path not in self.tree or path == "/" or (self.below(path) and not recursive):
            return 0
        gone = [path, *self.below(path)]
        for other in gone:
            del self.tree[other]
        return len(gone)


class Game:
    """One sequence of steps, carried out in both."""

    def __init__(self) -> None:
        self.cluster = Cluster(2)
        self.model = Model()
        self.size = 0

    def attempt(self, event: Any) -> Any:
        before = dict(self.cluster.rows)
        try:
            return self.cluster.do(event)
        except PerseusError:
            assert self.cluster.rows == before
            return None

    def mkdir(self, path: str, parents: bool) -> None:
        allowed = self.model.mkdir(path, parents)
        assert bool(self.attempt(files.MakeDirectory(path, parents, "me"))) == allowed

    def put(self, path: str, replace: bool, parents: bool, late: bool) -> None:
        self.size += 1
        allowed = self.model.put(path, self.size, replace, parents)
        create = files.Create(path, "me", replace, late, parents=parents)
        lease = self.attempt(create)
        assert bool(lease) == allowed
        if lease:
            content = b"x" * self.size
            self.cluster.do(files.Close(lease.inode, lease.epoch, content, self.size))

    def append(self, path: str) -> None:
        lease = self.attempt(files.Append(path, "me"))
        size = self.model.tree.get(path)
        assert bool(lease) == (size is not None)
        if lease and lease.inline == b"x" * lease.size_bytes:
            content = lease.inline + b"x"
            self.cluster.do(files.Close(lease.inode, lease.epoch, content, len(content)))
            self.model.tree[path] = len(content)
        elif lease:
            self.cluster.do(files.Abandon(lease.inode, lease.epoch))

    def chunk(self, path: str) -> None:
        lease = self.attempt(files.Append(path, "me"))
        if not lease:
            return
        allocation = self.cluster.allocate(lease)
        length = len(lease.inline) + 1
        self.cluster.write(allocation, length)
        seal = files.SealChunk(lease.inode, lease.epoch, allocation.chunk, length)
        self.cluster.do(seal)
        size = allocation.offset_bytes + length
        self.cluster.do(files.Close(lease.inode, lease.epoch, b"", size))
        self.model.tree[path] = size

    def leave(self, path: str, late: bool) -> None:
        """A writer that does not come back."""
        allowed = self.model.put(path, 0, replace=False, parents=False)
        lease = self.attempt(files.Create(path, "me", False, late))
        assert bool(lease) == allowed
        if lease and late:
            del self.model.tree[path]
        if lease:
            self.cluster.allocate(lease)
            self.cluster.advance(100, step_s=25)

    def rename(self, source: str, target: str, replace: bool) -> None:
        allowed = self.model.rename(source, target, replace)
        assert bool(self.attempt(files.Rename(source, target, replace))) == allowed

    def remove(self, path: str, recursive: bool) -> None:
        count = self.model.remove(path, recursive)
        assert (self.attempt(files.Remove(path, recursive)) or 0) == count

    def commit(self, path: str) -> None:
        """Never refused: files in the way go."""
        if path == "/":
            return
        for other in [*self.model.above(path), path]:
            self.model.tree[other] = None
        output = path + "/out"
        self.model.remove(output, recursive=True)
        self.model.tree[output] = 3
        self.cluster.do(CommitOutputs(ATTEMPT, path, "me", (committed("out", b"xxx"),)))

    def tick(self) -> None:
        self.cluster.advance(1)

    def check(self) -> None:
        assert tree_of(self.cluster) == self.model.tree
        root = self.cluster.namespace.totals("/")
        sizes = [size for size in self.model.tree.values() if size is not None]
        assert (root.files, root.size_bytes) == (len(sizes), sum(sizes))
        assert root.directories == len(self.model.tree) - len(sizes) - 1
        for path in self.model.tree:
            inode = self.cluster.namespace.inode_at(path)
            below = [self.model.tree[other] for other in self.model.below(path)]
            if isinstance(inode, Folder):
                assert inode.totals.size_bytes == sum(size or 0 for size in below)
                assert weight(inode).directories == 1 + below.count(None)
        check_reload(self.cluster)


@given(_STEPS)
def test_it_is_a_tree_of_names_and_reloads_as_it_was(steps: list[tuple[Any, ...]]) -> None:
    game = Game()
    for kind, *arguments in steps:
        getattr(game, kind)(*arguments)
    game.check()
    game.cluster.restart()
    game.cluster.advance(3)
    game.check()
