"""The namespace: a pure machine over all names and inodes of the filestore.

It promises: renames are atomic and touch one key; a file that is to appear at
Close appears whole or never; an attempt's outputs appear by CommitOutputs alone;
at most one writer holds a file, fenced by its epoch; a repeated SealChunk or
Close answers as the first did; removal takes one step, whatever is below, and
what was removed is collected a bounded amount at each Tick.

It assumes: a Tick about five times a second, and that ``chunks`` (the
replication) steps in the same transaction. Folders' times are those of their
making and renaming, not of changes in them, which saves a write each.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from perseus.errors import AlreadyExistsError, ConflictError, InvalidError, NotFoundError
from perseus.filestore import paths
from perseus.filestore.events import CommitOutputs, DiscardOutputs, RemoveFolder
from perseus.filestore.namespace_events import (
    Abandon,
    AllocateChunk,
    Append,
    Barrier,
    Close,
    Create,
    MakeDirectory,
    Remove,
    Rename,
    RenewWriteLease,
    SealChunk,
)
from perseus.filestore.namespace_records import COUNTER, EXTENT, INODE
from perseus.filestore.namespace_state import Chunks, State
from perseus.filestore.namespace_tree import File, Folder, Inode, Totals, ancestors, weight
from perseus.filestore.namespace_writing import Writing
from perseus.filestore.replication_events import ChunkRecovered
from perseus.proto.v1 import filestore_pb2
from perseus.runtime.machine import Event, Instant, Step, Tick
from perseus.settings import Settings
from perseus.shellwords import as_word

LIST_DEFAULT = 1000
LIST_MAXIMUM = 10_000
# A pause between two Ticks longer than this share of a write lease, and than this, is the
# master's own: it stood still, or the machine slept, and nobody could renew anything.
STALL_SHARE = 0.25
STALL_LEAST_S = 2.0


class Namespace:
    """Names, inodes, write leases. See the module's contract."""

    prefixes: Sequence[bytes] = (INODE, EXTENT, COUNTER)

    def __init__(self, settings: Settings, chunks: Chunks) -> None:
        self._state = State(chunks, settings.replicas)
        self._writing = Writing(self._state, settings.write_lease_s)
        self._resumed = False
        # When the last Tick was, and how long a pause between two says that the master stood still.
        self._ticked_s: float | None = None
        self._stall_s = max(STALL_LEAST_S, settings.write_lease_s * STALL_SHARE)
        writing = self._writing
        self._handlers: dict[type[Event], Callable[[Instant, Any], object]] = {
            Tick: self._tick,
            Barrier: lambda at, event: None,
            MakeDirectory: self._make_directory,
            Rename: self._rename,
            Remove: self._remove,
            RemoveFolder: self._remove_folder,
            Create: writing.create,
            Append: writing.append,
            AllocateChunk: writing.allocate,
            SealChunk: writing.seal,
            RenewWriteLease: writing.renew,
            Close: writing.close,
            Abandon: writing.abandon,
            ChunkRecovered: writing.recovered,
            CommitOutputs: writing.commit,
            DiscardOutputs: lambda at, event: writing.discard(event),
        }
        self.events: Sequence[type[Event]] = tuple(self._handlers)

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Rebuilds the tree."""
        self._state.load(items)

    def step(self, at: Instant, event: Event) -> Step:
        """What follows from ``event``."""
        reply = self._handlers[type(event)](at, event)
        return self._state.finish(reply)

    def _tick(self, at: Instant, event: Tick) -> None:
        if not self._resumed:
            self._resumed = True
            self._writing.resume()
        last, self._ticked_s = self._ticked_s, at.now_s
        if last is not None and at.now_s - last > self._stall_s:
            # Renewals that came meanwhile wait behind this Tick.
            self._state.prolong(at.now_s - last)
        self._writing.tick(at)
        self._state.collect()

    def _make_directory(self, at: Instant, event: MakeDirectory) -> filestore_pb2.FileInfo:
        names = paths.split(event.path)
        standing = self._state.tree.find(names)
        if isinstance(standing, Folder) and (event.parents or not names):
            return self._state.info(standing)
        if standing is not None:
            kind = "folder" if isinstance(standing, Folder) else "file"
            where = paths.normalise(event.path)
            raise AlreadyExistsError(
                f"{where} exists already, as a {kind}",
                hint=f"perseus fs stat {as_word(where)}"
                + (
                    f"; that it may be there: perseus fs mkdir -p {as_word(where)}"
                    if kind == "folder"
                    else ""
                ),
            )
        self._state.check_folder(names[:-1], event.parents)
        folder = self._state.make_folders(names, event.owner, at.time_s)
        return self._state.info(folder)

    def _rename(self, at: Instant, event: Rename) -> filestore_pb2.FileInfo:
        inode = self._state.inode_at(event.source)
        names = paths.split(event.target)
        source = paths.normalise(event.source)
        if inode.parent is None:
            raise InvalidError("/ cannot be renamed", hint="move what is in it: perseus fs ls /")
        if self._state.tree.find(names) is inode:
            return self._state.info(inode)
        standing = self._check_rename_target(inode, source, names, event.replace)
        folder = self._state.tree.find(names[:-1])
        assert isinstance(folder, Folder)
        if standing is not None:
            self._state.remove(standing)
        self._state.tree.detach(inode)
        self._state.tree.attach(inode, folder, names[-1])
        self._state.touch(inode)
        return self._state.info(inode)

    def _check_rename_target(
        self, inode: Inode, source: str, names: tuple[str, ...], replace: bool
    ) -> File | None:
        self._state.check_folder(names[:-1], parents=False)
        folder = self._state.tree.find(names[:-1])
        assert folder is not None
        if any(above is inode for above in ancestors(folder)):
            raise InvalidError(
                f"{source} cannot be moved into itself",
                hint=f"name a folder that is not below it: perseus fs mv {as_word(source)} /OTHER",
            )
        standing = self._state.check_target(names, replace)
        if standing is not None and isinstance(inode, Folder):
            target = f"/{'/'.join(names)}"
            raise AlreadyExistsError(
                f"{target} is a file; a folder cannot replace it",
                hint=f"choose another name, or first: perseus fs rm {as_word(target)}",
            )
        return standing

    def _remove(self, at: Instant, event: Remove) -> int:
        inode = self._state.inode_at(event.path)
        shown = paths.normalise(event.path)
        if inode.parent is None:
            raise InvalidError("/ cannot be removed", hint="remove what is in it by name")
        if isinstance(inode, Folder) and inode.children and not event.recursive:
            raise ConflictError(f"{shown} is not empty", hint=f"perseus fs rm -r {as_word(shown)}")
        return self._take_away(inode)

    def _take_away(self, inode: Inode) -> int:
        below = weight(inode)
        self._state.remove(inode)
        return below.files + below.directories

    def _remove_folder(self, at: Instant, event: RemoveFolder) -> int:
        inode = self._state.tree.find(paths.split(event.path))
        if inode is None or inode.parent is None:
            return 0
        return self._take_away(inode)

    # Reads. They change nothing and may be called at any time.

    def find(self, path: str) -> Inode | None:
        """The inode of a path, or None; raises InvalidError for what is no path."""
        return self._state.tree.find(paths.split(path))

    def inode_at(self, path: str) -> Inode:
        """The inode of a path; raises NotFoundError or InvalidError."""
        return self._state.inode_at(path)

    def file(self, inode: int) -> File | None:
        """The file of an id, also one without a path; None when it is gone."""
        return self._state.live_file(inode)

    def file_by_id(self, inode: int) -> File:
        """As ``file``; raises NotFoundError."""
        found = self._state.live_file(inode)
        if found is None:
            raise NotFoundError(
                f"there is no file {inode} (any more): it was removed or replaced",
                hint="open it anew by its path: perseus fs ls",
            )
        return found

    def info(self, inode: Inode) -> filestore_pb2.FileInfo:
        """What is told of an inode."""
        return self._state.info(inode)

    def path_of(self, inode: int) -> str:
        """The path of an inode; empty when it has none."""
        found = self._state.tree.inodes.get(inode)
        return self._state.tree.path(found) if found is not None else ""

    def listing(self, path: str, after: str, limit: int) -> filestore_pb2.ListResponse:
        """A page of a folder, by name; of a file, itself."""
        inode = self._state.inode_at(path)
        if isinstance(inode, File):
            return filestore_pb2.ListResponse(entries=[self._state.info(inode)])
        assert isinstance(inode, Folder)
        page, more = inode.page(after, min(limit or LIST_DEFAULT, LIST_MAXIMUM))
        entries = [self._state.info(child) for child in page]
        return filestore_pb2.ListResponse(entries=entries, more=more)

    def totals(self, path: str) -> Totals:
        """Sums over a folder, itself left out, or of one file."""
        inode = self._state.inode_at(path)
        if isinstance(inode, Folder):
            return inode.totals
        return weight(inode)

    def uncommitted_attempts(self) -> list[str]:
        """Attempts with outputs that were neither committed nor discarded."""
        return list(self._state.by_attempt)
