"""The namespace against the simplest model of a tree of names, and against its own reload."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from perseus.errors import PerseusError
from perseus.filestore import namespace_events as files
from perseus.filestore.events import CommitOutputs
from perseus.filestore.namespace_tree import Folder, weight
from tests.unit.namespace_harness import ATTEMPT, check_reload, committed, tree_of
from tests.unit.replication_harness import Cluster

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
            # In steps that are not taken for a sleep of the master's.
            self.cluster.advance(100, step_s=5)

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
@example([("leave", "/a", False), ("append", "/a")])
def test_it_is_a_tree_of_names_and_reloads_as_it_was(steps: list[tuple[Any, ...]]) -> None:
    game = Game()
    for kind, *arguments in steps:
        getattr(game, kind)(*arguments)
    game.check()
    game.cluster.restart()
    game.cluster.advance(3)
    game.check()
