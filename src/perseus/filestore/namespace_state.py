"""The namespace's state, and the bookkeeping of one step over it.

Mutations go through here, so that what a step touched is written once, at its
end, and sums, leases and the index of attempts never drift from the tree.
"""

import heapq
from collections.abc import Callable, Iterable
from typing import Protocol

from perseus.errors import AlreadyExistsError, InvalidError, NotFoundError
from perseus.filestore import namespace_records as records
from perseus.filestore import paths
from perseus.filestore.namespace_events import InodeChanged
from perseus.filestore.namespace_tree import File, Folder, Inode, Tree, Writer
from perseus.filestore.replication_events import ChunksDropped
from perseus.proto.v1 import filestore_pb2
from perseus.runtime.machine import Effect, Event, Instant, Step, Write
from perseus.shellwords import as_word

# Ids reserved by one durable write.
ID_BATCH = 1000
# Inodes of removed folders collected in one Tick.
COLLECT_MAXIMUM = 1000


class Plan(Protocol):
    """A chain for a new chunk."""

    @property
    def chunk(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def nodes(self) -> tuple[str, ...]: ...


class Chunks(Protocol):
    """What the namespace asks of the replication; reads that change nothing."""

    def plan(self, replicas: int, near_node: str, avoid_nodes: Iterable[str]) -> Plan:
        """A chain for a new chunk; raises FullError or UnavailableError."""

    def planned(self, chunk: int) -> Plan:
        """The chain of an open chunk."""

    def live_replicas(self, chunk: int) -> int:
        """How many nodes that are alive hold it."""


class State:
    """All inodes, and the step under way."""

    def __init__(self, chunks: Chunks, replicas: int) -> None:
        self.chunks = chunks
        # Of files whose folders do not say.
        self.replicas = replicas
        self.tree = Tree()
        self.next_id = 2
        self.reserved = 2
        # (end, inode): one for each writer, perhaps early; a renewal does not move it.
        self.leases: list[tuple[float, int]] = []
        # Writers whose lease begins with the first Tick after a restart.
        self.unleased: list[int] = []
        # Outputs that are not committed.
        self.by_attempt: dict[str, dict[int, File]] = {}
        # Removed folders; the last one is being emptied.
        self.garbage: list[Folder] = []
        self._dirty: dict[int, tuple[Inode, int]] = {}
        self._writes: list[Write] = []
        self._effects: list[Effect | Event] = []

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """From the durable keys."""
        self.tree, self.next_id = records.load_tree(items)
        self.reserved = self.next_id
        for inode in self.tree.inodes.values():
            if isinstance(inode, Folder):
                if inode.removed:
                    self.garbage.append(inode)
                continue
            assert isinstance(inode, File)
            if inode.writer is not None:
                self.unleased.append(inode.id)
            if inode.attempt:
                self.by_attempt.setdefault(inode.attempt, {})[inode.id] = inode

    def finish(self, reply: object) -> Step:
        """The step of all that was touched since the last one."""
        for inode, parts_from in self._dirty.values():
            self._writes.extend(records.writes_for(inode, parts_from))
        step = Step(self._writes, self._effects, reply)
        self._dirty, self._writes, self._effects = {}, [], []
        return step

    def emit(self, effect: Effect | Event) -> None:
        """Adds an effect to the step."""
        self._effects.append(effect)

    def touch(self, inode: Inode, parts_from: int | None = None) -> None:
        """The inode's record is to be written, with its chunks from ``parts_from`` on."""
        known = self._dirty.get(inode.id)
        begin = len(inode.parts) if isinstance(inode, File) else 0
        begin = begin if parts_from is None else parts_from
        self._dirty[inode.id] = (inode, min(begin, known[1]) if known else begin)

    def changed(self, inode: Inode) -> None:
        """Touches it, and wakes those who wait for it."""
        self.touch(inode)
        self.emit(InodeChanged(inode.id))

    def new_id(self) -> int:
        """An id never used before."""
        if self.next_id >= self.reserved:
            self.reserved = self.next_id + ID_BATCH
            self._writes.append(records.counter_write(self.reserved))
        self.next_id += 1
        return self.next_id - 1

    def new_file(self, owner: str, time_s: float) -> File:
        """A detached file."""
        file = File(self.new_id(), self.tree.owner(owner), time_s)
        self.tree.inodes[file.id] = file
        self.touch(file)
        return file

    def set_attempt(self, file: File, attempt: str) -> None:
        """Whose output the file is; empty once it is committed."""
        if file.attempt:
            files = self.by_attempt[file.attempt]
            del files[file.id]
            if not files:
                del self.by_attempt[file.attempt]
        file.attempt = attempt
        if attempt:
            self.by_attempt.setdefault(attempt, {})[file.id] = file

    def reshape(self, file: File, change: Callable[[], None]) -> None:
        """Carries out a change of size or replicas, and the sums above it."""
        before = file.totals()
        change()
        self.tree.account(file.parent, file.totals().plus(before, -1), 1)

    def lease(self, file: File, at: Instant, length_s: float) -> None:
        """The writer may go on for ``length_s`` from now."""
        writer = file.writer
        assert writer is not None
        known = writer.lease_ends_s
        writer.lease_ends_s = at.now_s + length_s
        if known is None:
            self._queue_lease(file, writer)

    def prolong(self, gap_s: float) -> None:
        """All writers may go on for that much longer: the master could not hear them."""
        for queued_s, inode_id in self.leases:
            file = self.tree.inodes.get(inode_id)
            writer = file.writer if isinstance(file, File) else None
            if writer is None or writer.lease_ends_s is None or writer.queued_s != queued_s:
                continue
            writer.lease_ends_s += gap_s

    def _queue_lease(self, file: File, writer: Writer) -> None:
        assert writer.lease_ends_s is not None
        writer.queued_s = writer.lease_ends_s
        heapq.heappush(self.leases, (writer.queued_s, file.id))

    def due_writers(self, at: Instant, length_s: float) -> list[File]:
        """Files whose lease is over."""
        for inode_id in self.unleased:
            file = self.tree.inodes.get(inode_id)
            if isinstance(file, File) and file.writer and file.writer.lease_ends_s is None:
                self.lease(file, at, length_s)
        self.unleased.clear()
        due = []
        while self.leases and self.leases[0][0] <= at.now_s:
            queued_s, inode_id = heapq.heappop(self.leases)
            file = self.tree.inodes.get(inode_id)
            writer = file.writer if isinstance(file, File) else None
            if writer is None or writer.ending or writer.queued_s != queued_s:
                continue
            assert isinstance(file, File) and writer.lease_ends_s is not None
            if writer.lease_ends_s <= at.now_s:
                due.append(file)
            else:
                self._queue_lease(file, writer)
        return due

    def make_folders(self, names: tuple[str, ...], owner: str, time_s: float) -> Folder:
        """The folder at these names, made with all above it where missing."""
        deepest, count = self.tree.deepest(names)
        assert isinstance(deepest, Folder)
        for name in names[count:]:
            folder = Folder(self.new_id(), self.tree.owner(owner), time_s)
            self.tree.inodes[folder.id] = folder
            self.tree.attach(folder, deepest, name)
            self.touch(folder)
            deepest = folder
        return deepest

    def remove(self, inode: Inode) -> None:
        """Takes an inode, and all below it, away at once; folders are collected later."""
        if inode.parent is not None:
            self.tree.detach(inode)
        if isinstance(inode, File):
            self._erase_file(inode)
            return
        assert isinstance(inode, Folder)
        if not inode.children:
            self._erase(inode)
            return
        inode.removed = True
        self.touch(inode)
        self.garbage.append(inode)

    def collect(self) -> None:
        """Erases some of what lies in removed folders, the deepest first."""
        for _ in range(COLLECT_MAXIMUM):
            if not self.garbage:
                return
            folder = self.garbage[-1]
            if not folder.children:
                self.garbage.pop()
                self._erase(folder)
                continue
            _, child = folder.children.popitem()
            if isinstance(child, Folder):
                # It keeps its parent, by which it is known as removed.
                self.garbage.append(child)
            else:
                assert isinstance(child, File)
                self._erase_file(child)

    def _erase_file(self, file: File) -> None:
        if chunks := chunks_of(file):
            self.emit(ChunksDropped(tuple(chunks)))
        self.set_attempt(file, "")
        file.writer = None
        self._erase(file)

    def _erase(self, inode: Inode) -> None:
        del self.tree.inodes[inode.id]
        self._dirty.pop(inode.id, None)
        self._writes.extend(records.removal_of(inode))
        self.emit(InodeChanged(inode.id))

    # Questions, with the errors that people read.

    def inode_at(self, path: str) -> Inode:
        """The inode of a path; raises NotFoundError or InvalidError."""
        names = paths.split(path)
        inode = self.tree.find(names)
        if inode is None:
            _, count = self.tree.deepest(names)
            raise NotFoundError(
                f"there is no /{'/'.join(names)} in the filestore",
                hint=f"see what there is: perseus fs ls {as_word('/' + '/'.join(names[:count]))}",
            )
        return inode

    def live_file(self, inode_id: int) -> File | None:
        """The file of this id unless it is gone or removed."""
        inode = self.tree.inodes.get(inode_id)
        if not isinstance(inode, File) or not self.tree.is_live(inode):
            return None
        return inode

    def check_folder(self, names: tuple[str, ...], parents: bool) -> None:
        """Raises unless the folder at ``names`` exists, or may be made with ``parents``."""
        deepest, count = self.tree.deepest(names)
        if not isinstance(deepest, Folder):
            shown = "/" + "/".join(names[:count])
            raise InvalidError(
                f"{shown} is a file, not a folder", hint=f"perseus fs stat {as_word(shown)}"
            )
        if count < len(names) and not parents:
            shown = "/" + "/".join(names)
            raise NotFoundError(
                f"there is no folder {shown}", hint=f"perseus fs mkdir -p {as_word(shown)}"
            )

    def check_target(self, names: tuple[str, ...], replace: bool) -> File | None:
        """The file that will be replaced at ``names``; raises when something is in the way."""
        shown = "/" + "/".join(names)
        if not names:
            raise InvalidError("/ is the root folder", hint="name a file in it: /NAME")
        standing = self.tree.find(names)
        if isinstance(standing, Folder):
            raise AlreadyExistsError(
                f"{shown} is a folder", hint=f"name a file in it: {as_word(shown + '/NAME')}"
            )
        if standing is not None and not replace:
            raise AlreadyExistsError(
                f"{shown} exists already",
                hint=f"remove it first: perseus fs rm {as_word(shown)}; or let it be replaced "
                "(fs put without --no-replace, fs mv with --replace)",
            )
        assert standing is None or isinstance(standing, File)
        return standing

    def replicas_in(self, folder: Folder | None) -> int:
        """How many replicas the files of a folder get."""
        while folder is not None:
            if folder.replicas:
                return folder.replicas
            folder = folder.parent
        return self.replicas

    def info(self, inode: Inode) -> filestore_pb2.FileInfo:
        """What people and programs are told of an inode."""
        info = filestore_pb2.FileInfo(
            path=self.tree.path(inode),
            inode=inode.id,
            kind=filestore_pb2.FILE_KIND_DIRECTORY,
            modified_at_s=inode.modified_at_s,
            created_at_s=inode.created_at_s,
            owner=inode.owner,
        )
        # The copies of what lies in this state: it stands on one disk.
        info.replicas = info.live_replicas = 1
        info.in_master = True
        if isinstance(inode, Folder):
            return info
        assert isinstance(inode, File)
        info.kind = filestore_pb2.FILE_KIND_FILE
        info.size_bytes, info.chunks = inode.size_bytes, len(inode.parts)
        info.open = inode.writer is not None
        if chunks := chunks_of(inode):
            info.replicas, info.in_master = inode.replicas, False
            info.live_replicas = min(map(self.chunks.live_replicas, chunks))
        if inode.checksum is not None:
            info.checksum, info.has_checksum = inode.checksum, True
        return info


def chunks_of(file: File) -> list[int]:
    """The ids of its chunks in order, the open one with them."""
    chunks = [chunk for chunk, _ in file.parts]
    if file.writer is not None and file.writer.chunk:
        chunks.append(file.writer.chunk)
    return chunks


def start_writer(file: File, who: str) -> Writer:
    """A new writer, whose epoch fences the one before."""
    file.epoch += 1
    file.writer = Writer(who)
    return file.writer
