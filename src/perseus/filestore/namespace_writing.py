"""Writers: leases on open files, their chunks, their end.

At most one writer holds a file, by an epoch that fences the one before. When
its lease ends, a file that is to appear at Close vanishes, an attempt's output
vanishes, and any other file is closed at what is acknowledged: sealed chunks,
and of the open one what all its live replicas have.
"""

from perseus.errors import ConflictError, InvalidError, LeaseLostError, NotFoundError, TooLargeError
from perseus.filestore import paths
from perseus.filestore.events import CommitOutputs, CommittedOutput, DiscardOutputs
from perseus.filestore.namespace_events import (
    Abandon,
    AllocateChunk,
    Allocation,
    Append,
    Close,
    Create,
    RenewWriteLease,
    SealChunk,
)
from perseus.filestore.namespace_state import State, start_writer
from perseus.filestore.namespace_tree import File, Folder, Writer
from perseus.filestore.replication_events import (
    ChunkAllocated,
    ChunkRecovered,
    ChunksDropped,
    ChunkSealed,
    LinkBroken,
    RecoverChunk,
)
from perseus.proto.v1 import filestore_pb2
from perseus.runtime.machine import Instant
from perseus.settings import CHUNK_MAXIMUM_BYTES, INLINE_MAXIMUM_BYTES
from perseus.shellwords import as_word

REPLICAS_MAXIMUM = 16
# Chunks of one file: 16 TiB when they are whole.
CHUNKS_MAXIMUM = 262_144


class Writing:
    """The events of writers, over the namespace's state."""

    def __init__(self, state: State, lease_s: float) -> None:
        self._state = state
        self._lease_s = lease_s

    def create(self, at: Instant, event: Create) -> filestore_pb2.WriteLease:
        """A new open file; see Files.Create."""
        if event.replicas > REPLICAS_MAXIMUM:
            raise InvalidError(
                f"{event.replicas} replicas; the most is {REPLICAS_MAXIMUM}",
                hint=f"--replicas {REPLICAS_MAXIMUM}, or leave it out",
            )
        if event.attempt:
            return self._create_output(at, event)
        names = paths.split(event.path)
        standing = self._state.check_target(names, event.replace)
        self._state.check_folder(names[:-1], event.parents)
        folder = self._state.make_folders(names[:-1], event.owner, at.time_s)
        file = self._state.new_file(event.owner, at.time_s)
        file.replicas = event.replicas or self._state.replicas_in(folder)
        writer = start_writer(file, event.owner)
        if event.visible_at_close:
            writer.target, writer.target_name = folder.id, names[-1]
            writer.replace = event.replace
        else:
            if standing is not None:
                self._state.remove(standing)
            self._state.tree.attach(file, folder, names[-1])
        return self._leased(at, file)

    def _create_output(self, at: Instant, event: Create) -> filestore_pb2.WriteLease:
        file = self._state.new_file(event.owner, at.time_s)
        file.replicas = event.replicas or self._state.replicas
        self._state.set_attempt(file, event.attempt)
        start_writer(file, event.owner)
        return self._leased(at, file)

    def append(self, at: Instant, event: Append) -> filestore_pb2.WriteLease:
        """The lease on an existing file; see Files.Append."""
        names = paths.split(event.path)
        file = self._state.tree.find(names)
        if isinstance(file, Folder):
            where = paths.normalise(event.path)
            raise InvalidError(
                f"{where} is a folder", hint=f"name a file in it: {as_word(where + '/NAME')}"
            )
        if file is None:
            if not event.create:
                self._state.inode_at(event.path)
            new = Create(event.path, event.owner, parents=event.parents)
            return self.create(at, new)
        assert isinstance(file, File)
        if file.writer is not None:
            raise self._held(at, event.path, file.writer)
        start_writer(file, event.owner)
        self._state.changed(file)
        return self._leased(at, file)

    def _held(self, at: Instant, path: str, writer: Writer) -> ConflictError:
        if writer.ending:
            return ConflictError(
                f"{path} is being closed for a writer that went silent ({writer.who})",
                hint="try again in a few seconds; perseus doctor says what it waits for",
            )
        left_s = max(0.0, (writer.lease_ends_s or at.now_s + self._lease_s) - at.now_s)
        return ConflictError(
            f"{path} is being written by {writer.who}",
            hint=f"wait until it is closed; if its writer is gone, that is {_within(left_s)}",
        )

    def _leased(self, at: Instant, file: File) -> filestore_pb2.WriteLease:
        self._state.lease(file, at, self._lease_s)
        return filestore_pb2.WriteLease(
            inode=file.id,
            epoch=file.epoch,
            lease_s=self._lease_s,
            size_bytes=file.size_bytes,
            inline=file.inline,
            replicas=file.replicas,
        )

    def _held_file(self, inode: int, epoch: int) -> tuple[File, Writer]:
        """The open file and its writer; raises LeaseLostError unless the epoch holds it."""
        file = self._state.live_file(inode)
        if file is None:
            raise LeaseLostError(f"the file being written (inode {inode}) was removed")
        writer = file.writer
        if writer is None or writer.ending or epoch != file.epoch:
            raise LeaseLostError(
                f"the lease on {self._name(file)} is over: "
                + ("it was closed" if writer is None else "another holds it"),
                hint="the writer was silent for too long, or another took the file",
            )
        return file, writer

    def _name(self, file: File) -> str:
        return self._state.tree.path(file) or f"inode {file.id}"

    def allocate(self, at: Instant, event: AllocateChunk) -> Allocation:
        """The next chunk of an open file; see Files.AllocateChunk."""
        file, writer = self._held_file(event.inode, event.epoch)
        offset_bytes = file.size_bytes if file.parts else 0
        if writer.chunk:
            plan = self._state.chunks.planned(writer.chunk)
            return Allocation(plan.chunk, plan.version, offset_bytes, plan.nodes)
        if len(file.parts) >= CHUNKS_MAXIMUM:
            raise TooLargeError(
                f"{self._name(file)} has {CHUNKS_MAXIMUM} chunks, the most",
                hint="go on in another file; `split` cuts one",
            )
        plan = self._state.chunks.plan(file.replicas, event.near_node, event.avoid_nodes)
        writer.chunk = plan.chunk
        self._state.emit(ChunkAllocated(plan.chunk, file.id, file.replicas, plan.nodes))
        self._state.changed(file)
        self._state.lease(file, at, self._lease_s)
        return Allocation(plan.chunk, plan.version, offset_bytes, plan.nodes)

    def seal(self, at: Instant, event: SealChunk) -> None:
        """The end of the open chunk; see Files.SealChunk."""
        again = self._state.live_file(event.inode)
        if again is not None and self._is_sealed(again, event):
            return
        file, writer = self._held_file(event.inode, event.epoch)
        if writer.chunk != event.chunk:
            if event.length_bytes == 0:
                return
            raise ConflictError(f"chunk {event.chunk} is not the open chunk of {self._name(file)}")
        if event.length_bytes > CHUNK_MAXIMUM_BYTES:
            raise InvalidError(
                f"a chunk of {event.length_bytes} bytes; the most is {CHUNK_MAXIMUM_BYTES}"
            )
        if 0 < event.length_bytes < len(file.inline):
            raise InvalidError(
                f"the first chunk of {self._name(file)} must begin with the "
                f"{len(file.inline)} bytes that lie inline"
            )
        self._state.lease(file, at, self._lease_s)
        if event.failed_nodes:
            self._state.emit(LinkBroken(event.failed_by, event.failed_nodes, event.failure))
        if event.length_bytes:
            self._state.emit(ChunkSealed(event.chunk, event.length_bytes, event.failed_nodes))
        self._end_chunk(at, file, writer, event.length_bytes)

    def _is_sealed(self, file: File, event: SealChunk) -> bool:
        last = file.parts[-1] if file.parts else (0, 0)
        return file.epoch == event.epoch and last == (event.chunk, event.length_bytes)

    def _end_chunk(self, at: Instant, file: File, writer: Writer, length_bytes: int) -> None:
        """The open chunk becomes a sealed one, or garbage when nothing in it counts."""
        chunk, writer.chunk = writer.chunk, 0
        if length_bytes == 0 or length_bytes < len(file.inline):
            self._state.emit(ChunksDropped((chunk,)))
        else:
            self._state.reshape(file, lambda: file.add_part(chunk, length_bytes))
            self._state.touch(file, parts_from=len(file.parts) - 1)
            file.modified_at_s = at.time_s
        self._state.changed(file)

    def renew(self, at: Instant, event: RenewWriteLease) -> float:
        """Lengthens the lease; nothing durable changes."""
        file, _ = self._held_file(event.inode, event.epoch)
        self._state.lease(file, at, self._lease_s)
        return self._lease_s

    def close(self, at: Instant, event: Close) -> filestore_pb2.FileInfo:
        """The end of writing; see Files.Close."""
        again = self._state.live_file(event.inode)
        if again is not None and self._is_repeated(again, event):
            return self._state.info(again)
        file, writer = self._held_file(event.inode, event.epoch)
        self._check_close(file, writer, event)
        folder, standing = self._check_appearance(writer)
        if event.inline:
            self._state.reshape(file, lambda: _set_inline(file, event.inline))
            file.modified_at_s = at.time_s
        if event.checksum is not None:
            file.checksum = event.checksum
        file.writer = None
        if folder is not None:
            if standing is not None:
                self._state.remove(standing)
            self._state.tree.attach(file, folder, writer.target_name)
        self._state.changed(file)
        return self._state.info(file)

    def _is_repeated(self, file: File, event: Close) -> bool:
        same = file.size_bytes == event.size_bytes and event.inline in (b"", file.inline)
        return file.writer is None and file.epoch == event.epoch and same

    def _check_close(self, file: File, writer: Writer, event: Close) -> None:
        name = self._name(file)
        if writer.chunk:
            raise ConflictError(f"chunk {writer.chunk} of {name} is open: seal it, then close")
        if len(event.inline) > INLINE_MAXIMUM_BYTES:
            raise TooLargeError(
                f"{len(event.inline)} bytes inline; the most is {INLINE_MAXIMUM_BYTES}"
            )
        if event.inline and file.parts:
            raise InvalidError(f"{name} has chunks and cannot be closed with inline content")
        if event.inline and not event.inline.startswith(file.inline):
            raise InvalidError(f"the content of {name} does not begin with what was there")
        size_bytes = len(event.inline) if event.inline else file.size_bytes
        if event.size_bytes != size_bytes:
            raise InvalidError(
                f"{name} is closed at {event.size_bytes} bytes, but {size_bytes} were written"
            )

    def _check_appearance(self, writer: Writer) -> tuple[Folder | None, File | None]:
        """Where the file appears at Close, and what it replaces there."""
        if not writer.target:
            return None, None
        folder = self._state.tree.inodes.get(writer.target)
        if not isinstance(folder, Folder) or not self._state.tree.is_live(folder):
            raise NotFoundError(
                f"the folder in which {writer.target_name} was to appear was removed meanwhile",
                hint="make the folder again and write the file anew: perseus fs mkdir -p FOLDER",
            )
        names = (*paths.split(self._state.tree.path(folder)), writer.target_name)
        return folder, self._state.check_target(names, writer.replace)

    def abandon(self, at: Instant, event: Abandon) -> None:
        """Gives up; quiet when there is nothing to give up any more."""
        file = self._state.live_file(event.inode)
        if file is None or file.writer is None or file.epoch != event.epoch or file.writer.ending:
            return
        self._end_writer(at, file, file.writer)

    def tick(self, at: Instant) -> None:
        """Ends the leases that are over."""
        for file in self._state.due_writers(at, self._lease_s):
            assert file.writer is not None
            self._end_writer(at, file, file.writer)

    def resume(self) -> None:
        """After a restart: asks again for the seals that were under way."""
        for inode in list(self._state.tree.inodes.values()):
            if isinstance(inode, File) and inode.writer is not None and inode.writer.ending:
                self._state.emit(RecoverChunk(inode.writer.chunk, inode.id))

    def _end_writer(self, at: Instant, file: File, writer: Writer) -> None:
        if writer.target or file.attempt:
            self._state.remove(file)
            return
        file.epoch += 1
        if writer.chunk:
            writer.ending = True
            self._state.emit(RecoverChunk(writer.chunk, file.id))
        else:
            file.writer = None
        self._state.changed(file)

    def recovered(self, at: Instant, event: ChunkRecovered) -> None:
        """A chunk was sealed for its lost writer: the file is closed with it."""
        file = self._state.tree.inodes.get(event.inode)
        writer = file.writer if isinstance(file, File) else None
        if writer is None or not writer.ending or writer.chunk != event.chunk:
            return
        assert isinstance(file, File)
        self._end_chunk(at, file, writer, event.length_bytes)
        file.writer = None

    def commit(self, at: Instant, event: CommitOutputs) -> None:
        """Makes an attempt's outputs visible, all at once; never raises."""
        folder = self._folder_by_force(at, event)
        for output in event.outputs:
            file = self._output(at, event, output)
            if file is None:
                continue
            standing = folder.children.get(output.name)
            if standing is not None:
                self._state.remove(standing)
            self._state.set_attempt(file, "")
            self._state.tree.attach(file, folder, output.name)
            if file.writer is not None:
                self._end_writer(at, file, file.writer)
            self._state.changed(file)
        # The attempt is over: what it wrote besides is garbage.
        self.discard(DiscardOutputs(event.attempt))

    def _folder_by_force(self, at: Instant, event: CommitOutputs) -> Folder:
        names = paths.split(event.folder)
        deepest, _ = self._state.tree.deepest(names)
        if isinstance(deepest, File):
            self._state.remove(deepest)
        return self._state.make_folders(names, event.owner, at.time_s)

    def _output(self, at: Instant, event: CommitOutputs, output: CommittedOutput) -> File | None:
        if output.inode:
            file = self._state.by_attempt.get(event.attempt, {}).get(output.inode)
            if file is not None:
                file.owner = self._state.tree.owner(event.owner)
            return file
        file = self._state.new_file(event.owner, at.time_s)
        file.replicas = self._state.replicas
        _set_inline(file, output.inline)
        return file

    def discard(self, event: DiscardOutputs) -> None:
        """Drops what an attempt wrote and did not commit."""
        for file in list(self._state.by_attempt.get(event.attempt, {}).values()):
            self._state.remove(file)


def _set_inline(file: File, content: bytes) -> None:
    file.inline = content
    file.size_bytes = len(content)
    file.checksum = None


def _within(seconds: float) -> str:
    """When a lease that has ``seconds`` left ends, in words."""
    if seconds < 1.5:
        return "in a moment"
    return f"in about {round(seconds)} s"
