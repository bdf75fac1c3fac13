"""The tree of inodes in memory: names, folders, files, and sums over each folder.

A file costs about 600 bytes: slots, a shared empty chunk list, interned owners,
and its own object as the value of its parent's table of names. Renaming a
folder moves one reference. Each folder carries the sums of all below it, kept
along the path to the root, so that the size of a folder and the count of what
a removal takes are known without a walk.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

ROOT_ID = 1

# Sealed chunks of a file in order: (chunk id, length in bytes).
Part = tuple[int, int]


class Totals(NamedTuple):
    """Sums over a folder (itself left out) or of one file."""

    files: int = 0
    directories: int = 0
    size_bytes: int = 0
    replica_bytes: int = 0
    chunks: int = 0

    def plus(self, other: "Totals", sign: int = 1) -> "Totals":
        """This and ``sign`` times the other."""
        return Totals(
            self.files + sign * other.files,
            self.directories + sign * other.directories,
            self.size_bytes + sign * other.size_bytes,
            self.replica_bytes + sign * other.replica_bytes,
            self.chunks + sign * other.chunks,
        )


class Writer:
    """The lease on an open file, and what will happen at its end."""

    __slots__ = (
        "chunk",
        "ending",
        "lease_ends_s",
        "queued_s",
        "replace",
        "target",
        "target_name",
        "who",
    )

    def __init__(self, who: str) -> None:
        self.who = who
        # Monotonic. None after a restart of the master: a whole lease from then on.
        self.lease_ends_s: float | None = None
        # The time of this writer's one entry in the queue of lease ends.
        self.queued_s = 0.0
        # The open chunk, which begins where the sealed ones end; 0 is none.
        self.chunk = 0
        # The writer is gone and its open chunk is being sealed for it.
        self.ending = False
        # Where the file appears at Close: id of the folder, and name; 0 when it is
        # visible already or waits for CommitOutputs.
        self.target = 0
        self.target_name = ""
        self.replace = False


class Inode:
    """What files and folders share."""

    __slots__ = ("created_at_s", "id", "modified_at_s", "name", "owner", "parent", "replicas")

    def __init__(self, inode: int, owner: str, time_s: float) -> None:
        self.id = inode
        # None for the root and for what is detached.
        self.parent: Folder | None = None
        self.name = ""
        self.owner = owner
        self.created_at_s = time_s
        self.modified_at_s = time_s
        # Of a folder: what its files get, 0 being what its own folder says.
        self.replicas = 0


class File(Inode):
    """A file; closed when ``writer`` is None."""

    __slots__ = ("attempt", "checksum", "epoch", "inline", "parts", "size_bytes", "writer")

    def __init__(self, inode: int, owner: str, time_s: float) -> None:
        super().__init__(inode, owner, time_s)
        # Of the sealed chunks, or of the inline content when there is none.
        self.size_bytes = 0
        self.parts: list[Part] = NO_PARTS
        # Kept until the first chunk, which begins with it, is sealed.
        self.inline = b""
        # CRC32C of the whole, when it is known.
        self.checksum: int | None = None
        # Of the latest writer; each new one gets the next.
        self.epoch = 0
        self.writer: Writer | None = None
        # Whose output this is, until it is committed.
        self.attempt = ""

    def totals(self) -> Totals:
        """What this file adds to its folders."""
        in_chunks = 0 if not self.parts else self.size_bytes
        kept = in_chunks * self.replicas if self.parts else self.size_bytes
        return Totals(1, 0, self.size_bytes, kept, len(self.parts))

    def add_part(self, chunk: int, length_bytes: int) -> None:
        """Appends a sealed chunk; inline content is in the first one."""
        if not self.parts:
            self.parts = []
            self.inline = b""
            self.size_bytes = 0
        self.parts.append((chunk, length_bytes))
        self.size_bytes += length_bytes
        self.checksum = None


NO_PARTS: list[Part] = []


class Folder(Inode):
    """A folder; ``removed`` when it was taken out of the tree and waits to be collected."""

    __slots__ = ("_order", "children", "removed", "totals")

    def __init__(self, inode: int, owner: str, time_s: float) -> None:
        super().__init__(inode, owner, time_s)
        self.children: dict[str, Inode] = {}
        self.totals = Totals()
        self.removed = False
        self._order: list[str] | None = None

    def add(self, child: Inode) -> None:
        """Enters a child under its name."""
        self.children[child.name] = child
        self._order = None

    def drop(self, child: Inode) -> None:
        """Takes a child out."""
        del self.children[child.name]
        self._order = None

    def page(self, after: str, limit: int) -> tuple[list[Inode], bool]:
        """At most ``limit`` children by name after ``after``, and whether there are more."""
        if self._order is None:
            self._order = sorted(self.children)
        begin = bisect_right(self._order, after) if after else 0
        names = self._order[begin : begin + limit]
        return [self.children[name] for name in names], begin + limit < len(self._order)


class Tree:
    """All inodes by id, and the root."""

    def __init__(self) -> None:
        self.root = Folder(ROOT_ID, "", 0.0)
        self.inodes: dict[int, Inode] = {ROOT_ID: self.root}
        self._owners: dict[str, str] = {}

    def owner(self, name: str) -> str:
        """One string for each owner, however many files."""
        return self._owners.setdefault(name, name)

    def find(self, names: tuple[str, ...]) -> Inode | None:
        """The inode at these names from the root, or None."""
        inode: Inode = self.root
        for name in names:
            if not isinstance(inode, Folder):
                return None
            child = inode.children.get(name)
            if child is None:
                return None
            inode = child
        return inode

    def deepest(self, names: tuple[str, ...]) -> tuple[Inode, int]:
        """The deepest inode that exists along these names, and how many names led to it."""
        inode: Inode = self.root
        for count, name in enumerate(names):
            child = inode.children.get(name) if isinstance(inode, Folder) else None
            if child is None:
                return inode, count
            inode = child
        return inode, len(names)

    def attach(self, inode: Inode, parent: Folder, name: str) -> None:
        """Enters a detached inode, and its sums, under a folder."""
        inode.parent, inode.name = parent, name
        parent.add(inode)
        self.account(parent, weight(inode), 1)

    def detach(self, inode: Inode) -> None:
        """Takes an inode, and its sums, out of its folder."""
        parent = inode.parent
        assert parent is not None
        parent.drop(inode)
        inode.parent = None
        self.account(parent, weight(inode), -1)

    def account(self, folder: Folder | None, totals: Totals, sign: int) -> None:
        """Adds to the sums of a folder and all above it."""
        while folder is not None:
            folder.totals = folder.totals.plus(totals, sign)
            folder = folder.parent

    def is_live(self, inode: Inode) -> bool:
        """Whether the inode hangs on the root, or is detached but not removed."""
        above = ancestors(inode)
        return not any(isinstance(folder, Folder) and folder.removed for folder in above)

    def path(self, inode: Inode) -> str:
        """Where the inode is; empty when it has no path."""
        names = []
        top = inode
        for above in ancestors(inode):
            top = above
            names.append(above.name)
        if top is not self.root:
            return ""
        return "/" + "/".join(reversed(names[:-1]))


def ancestors(inode: Inode) -> Iterator[Inode]:
    """The inode, its folder, and so on up."""
    current: Inode | None = inode
    while current is not None:
        yield current
        current = current.parent


def weight(inode: Inode) -> Totals:
    """What an inode with all below it adds to the folders above."""
    if isinstance(inode, Folder):
        return inode.totals.plus(Totals(directories=1))
    assert isinstance(inode, File)
    return inode.totals()
