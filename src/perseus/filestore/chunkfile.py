"""One replica on disk: append-only bytes, and the log of their checksums.

``<base>.data`` holds the bytes, ``<base>.log`` what vouches for them (see
``chunkfile_log``). Promises:

- what ``sync`` has returned is on disk and survives any crash;
- ``read`` returns bytes whose blocks match their checksums, or raises
  CorruptError with the offset; it never returns bytes that are not synced;
- a failed append or sync leaves the synced bytes as they were; after a failed
  sync the file takes no more (the kernel may have dropped the pages);
- sealed, it never changes again but for being cut and taking a newer version.

Any number of threads may use one ChunkFile; appends must come from one.
"""

import errno
import os
import threading
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from crc32c import crc32c

from perseus.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptError,
    FullError,
    NotFoundError,
    PerseusError,
    TooLargeError,
    UnavailableError,
)
from perseus.filestore import chunkfile_log as log
from perseus.settings import BLOCK_BYTES, CHUNK_MAXIMUM_BYTES

# A log that has grown past this is made anew, unless it needs to be that long.
LOG_COMPACT_BYTES = 256 << 10
# The same for a log that is sealed and will not grow again.
LOG_SEALED_BYTES = 16 << 10

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def data_path(base: Path) -> Path:
    """Where the bytes of the replica at ``base`` lie."""
    return base.with_name(base.name + ".data")


def log_path(base: Path) -> Path:
    """Where the log of the replica at ``base`` lies."""
    return base.with_name(base.name + ".log")


def sync_folder(folder: Path) -> None:
    """Makes the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(error: OSError, what: str) -> PerseusError:
    """FullError when the disk has no room, else UnavailableError."""
    if error.errno in _FULL:
        return FullError(f"{what}: the disk is full", hint="free space on that node's disk")
    return UnavailableError(f"{what}: {error}", hint="check that node's disk")


class ChunkFile:
    """An open replica; see the module's contract. Close it when done."""

    def __init__(self, base: Path, state: log.LogState, data: int, log_: int) -> None:
        self._base = base
        self._state = state
        self._data = data
        self._log = log_
        # Guards what follows and is held for moments; the other is held for a whole sync
        # and always taken first.
        self._changed = threading.Condition()
        self._syncing = threading.Lock()
        # What is appended, synced or not. state has what is synced.
        self._length = state.length_bytes
        self._checksums = array("I", state.checksums)
        self._tail = state.tail_checksum
        self._fenced = state.sealed or state.fenced
        self._broken: PerseusError | None = None
        self._writing = False
        # Puts the names in a folder on disk, and whether those of its files are; see ``create``.
        self._sync_names: Callable[[Path], None] = sync_folder
        self._named = True

    @classmethod
    def create(
        cls,
        base: Path,
        chunk: int,
        version: int,
        *,
        fetching: bool = False,
        sync_names: Callable[[Path], None] = sync_folder,
    ) -> "ChunkFile":
        """A new, empty replica. AlreadyExistsError, FullError.

        Nothing of it is sure to be on disk before its first record is: the sync of that takes
        the beginning of the log along, and ``sync_names`` of the folder follows. Nothing was
        acknowledged until then, so that a crash may take all of it or any part:

        - without a log or without bytes it is swept by the next scan;
        - a log with a header and no record is an empty replica;
        - a log that was given its name and not its content, beside bytes that the kernel has
          written by itself, cannot be told from rot. It is kept as rot is, and told of as
          a replica without a version, which counts as none while its chunk is open.

        A record is written only after its bytes are on disk, so that one which the kernel
        puts there by itself vouches for nothing that is missing.
        """
        state = log.LogState(chunk, version, fetching=fetching)
        content = log.encode_whole(state)
        state.end_bytes = len(content)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        made: list[tuple[Path, int]] = []
        try:
            for path in (data_path(base), log_path(base)):
                made.append((path, os.open(path, flags, 0o600)))
            _write_all(made[1][1], content, 0)
        except OSError as error:
            for path, descriptor in made:
                os.close(descriptor)
                path.unlink()
            if error.errno == errno.EEXIST:
                raise AlreadyExistsError(f"chunk {chunk:016x} is here already") from error
            raise disk_error(error, f"creating chunk {chunk:016x}") from error
        file = cls(base, state, made[0][1], made[1][1])
        file._sync_names = sync_names
        # One that is being fetched gets its real name, and a sync of it, when it is whole.
        file._named = fetching
        return file

    @classmethod
    def open(cls, base: Path, chunk: int) -> "ChunkFile":
        """Opens a replica. NotFoundError, CorruptError.

        Bytes that no record vouches for stay, for it may be the log that has lost something;
        a writer writes over them, and its seal cuts the rest.
        """
        data = log_ = -1
        try:
            log_ = os.open(log_path(base), os.O_RDWR | os.O_CLOEXEC)
            data = os.open(data_path(base), os.O_RDWR | os.O_CLOEXEC)
            state = recover(chunk, _read_whole(log_), os.fstat(data).st_size)
            if state.sealed and os.fstat(data).st_size > state.length_bytes:
                # The crash came between the seal and its cut.
                os.ftruncate(data, state.length_bytes)
        except (OSError, PerseusError) as error:
            for descriptor in (data, log_):
                if descriptor >= 0:
                    os.close(descriptor)
            if isinstance(error, FileNotFoundError):
                raise NotFoundError(f"chunk {chunk:016x} is not here") from error
            if isinstance(error, OSError):
                raise disk_error(error, f"opening chunk {chunk:016x}") from error
            raise
        return cls(base, state, data, log_)

    @property
    def chunk(self) -> int:
        """The chunk's id."""
        return self._state.chunk

    @property
    def version(self) -> int:
        """The version it was made or last sealed under."""
        return self._state.version

    @property
    def length_bytes(self) -> int:
        """What is appended, synced or not."""
        return self._length

    @property
    def synced_bytes(self) -> int:
        """What is on disk and may be read."""
        return self._state.length_bytes

    @property
    def sealed(self) -> bool:
        """Whether it has come to its end."""
        return self._state.sealed

    @property
    def corrupt_offset_bytes(self) -> int | None:
        """The first block known to be rotten, by its offset."""
        return self._state.corrupt_offset_bytes

    def append(self, offset_bytes: int, pieces: Sequence[bytes], checksum: int) -> None:
        """Adds bytes at the end, which must be at ``offset_bytes``; ``checksum`` is theirs.

        Errors, with nothing changed: ConflictError (not the end, or sealed),
        CorruptError (not those bytes), TooLargeError, FullError, UnavailableError.
        """
        with self._changed:
            self._check_writable()
            size = sum(map(len, pieces))
            if offset_bytes != self._length:
                raise ConflictError(
                    f"chunk {self.chunk:016x} ends at {self._length}, not at {offset_bytes}"
                )
            if offset_bytes + size > CHUNK_MAXIMUM_BYTES:
                raise TooLargeError(f"a chunk holds at most {CHUNK_MAXIMUM_BYTES} bytes")
            total, blocks, tail = self._sum(pieces)
            if total != checksum:
                raise CorruptError(
                    f"bytes for chunk {self.chunk:016x} at {offset_bytes} are damaged"
                )
            try:
                _write_pieces(self._data, pieces, offset_bytes)
            except OSError as error:
                raise disk_error(error, f"writing chunk {self.chunk:016x}") from error
            self._checksums.extend(blocks)
            self._tail = tail
            self._length += size

    def sync(self) -> int:
        """Puts all that is appended on disk; returns that length. FullError, UnavailableError."""
        with self._syncing:
            return self._sync()

    def _sync(self) -> int:
        with self._changed:
            if self._broken is not None:
                raise self._broken
            length, tail = self._length, self._tail
            if length == self._state.length_bytes:
                return length
            first = len(self._state.checksums)
            blocks = self._checksums[first : length // BLOCK_BYTES]
        try:
            os.fdatasync(self._data)
            self._append_log(log.encode_sync(length, first, blocks, tail))
            self._name()
        except OSError as error:
            raise self._break(error) from error
        with self._changed:
            self._state.checksums.extend(blocks)
            self._state.tail_checksum = tail
            self._state.length_bytes = length
            self._changed.notify_all()
        if self._state.end_bytes > LOG_COMPACT_BYTES:
            self._compact()
        return length

    def _name(self) -> None:
        """With ``_syncing`` held: its first record is on disk, its names follow."""
        if not self._named:
            self._sync_names(self._base.parent)
            self._named = True

    def rollback(self) -> None:
        """Forgets what is appended and not synced."""
        with self._syncing, self._changed:
            synced = self._state.length_bytes
            if self._length == synced:
                return
            self._length = synced
            del self._checksums[synced // BLOCK_BYTES :]
            self._tail = self._state.tail_checksum
            try:
                os.ftruncate(self._data, synced)
            except OSError as error:
                self._broken = disk_error(error, f"cutting chunk {self.chunk:016x}")

    def fence(self) -> None:
        """Takes no more appends: somebody is about to seal it."""
        with self._changed:
            self._fenced = True
            self._changed.notify_all()

    def end_writing(self) -> None:
        """``fence`` for good: what is appended is on disk when it returns, and so is the fence.

        Both must be before anybody is told the length: a sync under way may be acknowledged
        after it, and a writer may come back after a restart. FullError, UnavailableError.
        """
        with self._syncing:
            self.fence()
            if self._broken is None:
                self._sync()
            if self._state.fenced or self._state.sealed:
                return
            try:
                self._append_log(log.encode_fence(self._state.version))
                self._name()
            except OSError as error:
                raise disk_error(error, f"fencing chunk {self.chunk:016x}") from error
            self._state.fenced = True

    def seal(self, version: int, length_bytes: int) -> None:
        """Cuts it to ``length_bytes`` for good, under ``version``; on disk when it returns.

        ConflictError: it is shorter than that, or of a newer version. CorruptError:
        the block in which it would be cut is rotten.
        """
        with self._syncing:
            if version < self._state.version:
                raise ConflictError(
                    f"chunk {self.chunk:016x} has version {self._state.version}, not {version}"
                )
            self.fence()
            if self._broken is None:
                self._sync()
            if length_bytes > self._state.length_bytes:
                raise ConflictError(
                    f"this replica of chunk {self.chunk:016x} has {self._state.length_bytes} "
                    f"bytes, it cannot be sealed at {length_bytes}"
                )
            same = (self._state.version, self._state.length_bytes) == (version, length_bytes)
            if self._state.sealed and same:
                return
            self._seal(version, length_bytes)

    def _seal(self, version: int, length_bytes: int) -> None:
        tail = self._state.tail_checksum
        if length_bytes < self._state.length_bytes:
            start = length_bytes - length_bytes % BLOCK_BYTES
            tail = crc32c(self.read(start, length_bytes - start)) if length_bytes > start else 0
        try:
            self._append_log(log.encode_seal(length_bytes, version, tail))
            self._name()
            with self._changed:
                self._take_seal(version, length_bytes, tail)
            # Needs no sync: bytes behind the seal are never read, and are cut when it is opened.
            os.ftruncate(self._data, length_bytes)
        except OSError as error:
            raise self._break(error) from error
        if self._state.end_bytes > LOG_SEALED_BYTES:
            self._compact()

    def _take_seal(self, version: int, length_bytes: int, tail: int) -> None:
        state = self._state
        del state.checksums[length_bytes // BLOCK_BYTES :]
        self._checksums = array("I", state.checksums)
        state.tail_checksum = self._tail = tail
        state.length_bytes = self._length = length_bytes
        state.version = version
        state.sealed = True
        state.fenced = state.fetching = False
        self._changed.notify_all()

    def mark_corrupt(self, offset_bytes: int) -> None:
        """Remembers, also over a restart, that a block is rotten."""
        with self._syncing:
            if self._state.corrupt_offset_bytes is not None:
                return
            # On a full or failing disk it will be found again after a restart.
            with suppress(OSError):
                self._append_log(log.encode_record(log.KIND_CORRUPT, offset_bytes, 0))
            self._state.corrupt_offset_bytes = offset_bytes

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Up to ``length_bytes`` synced bytes, checked; fewer only at the end.

        CorruptError with the rotten block's offset in its message and in the
        attribute ``offset_bytes``; ConflictError when it was cut meanwhile.
        """
        with self._changed:
            synced = self._state.length_bytes
            end = min(offset_bytes + length_bytes, synced)
            if end <= offset_bytes:
                return b""
            start = offset_bytes - offset_bytes % BLOCK_BYTES
            stop = min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, synced)
            sums = self._state.checksums[start // BLOCK_BYTES : -(-stop // BLOCK_BYTES)]
            if stop % BLOCK_BYTES:
                sums.append(self._state.tail_checksum)
        bad = self._verify(start, stop, sums)
        if isinstance(bad, int):
            raise self._damage(bad, stop)
        if start == offset_bytes and stop == end:
            return bad
        return bad[offset_bytes - start : end - start]

    def _verify(self, start: int, stop: int, sums: "array[int]") -> bytes | int:
        """The bytes, or the offset of the first block that does not match."""
        try:
            content = os.pread(self._data, stop - start, start)
        except OSError as error:
            if error.errno != errno.EIO:
                raise disk_error(error, f"reading chunk {self.chunk:016x}") from error
            return start
        view = memoryview(content)
        for number, expected in enumerate(sums):
            low = number * BLOCK_BYTES
            if crc32c(view[low : low + BLOCK_BYTES]) != expected:
                return start + low
        return content if len(content) == stop - start else start + len(content)

    def _damage(self, offset_bytes: int, stop: int) -> PerseusError:
        with self._changed:
            if self._state.length_bytes < stop:
                return ConflictError(f"chunk {self.chunk:016x} was cut while it was read")
        return CorruptBlockError(self.chunk, offset_bytes)

    @property
    def writing(self) -> bool:
        """Whether a writer is connected."""
        return self._writing

    @writing.setter
    def writing(self, value: bool) -> None:
        with self._changed:
            self._writing = value
            self._changed.notify_all()

    def wait_past(self, offset_bytes: int, timeout_s: float) -> bool:
        """Waits for bytes past ``offset_bytes`` or the seal; whether either is there.

        Ends early, with False, when the writer goes: then the master knows more.
        """

        def ready() -> bool:
            return self._state.length_bytes > offset_bytes or self._state.sealed

        with self._changed:
            had_writer = self._writing
            self._changed.wait_for(lambda: ready() or (had_writer and not self._writing), timeout_s)
            return ready()

    def mend_log(self) -> bool:
        """Makes the log of a sealed replica anew if it no longer says what is known here.

        Whether it had to.
        """
        with self._syncing:
            try:
                state = log.decode(_read_whole(self._log), self.chunk)
            except (OSError, CorruptError):
                state = None
            if state == self._state:
                return False
            self._replace_log(log.encode_whole(self._state))
            return True

    def move(self, base: Path) -> None:
        """Gives its files other names, over those that are there. UnavailableError.

        A crash between the two leaves the log of one replica and the bytes of another: either
        vouches for the same bytes, or they are found to be rotten.
        """
        try:
            os.rename(data_path(self._base), data_path(base))
            os.rename(log_path(self._base), log_path(base))
            self._sync_names(base.parent)
        except OSError as error:
            raise disk_error(error, f"placing chunk {self.chunk:016x}") from error
        self._base = base

    def close(self) -> None:
        """Lets go of the files. What is not synced is lost."""
        os.close(self._data)
        os.close(self._log)

    def forget_pages(self) -> None:
        """Tells the kernel that its cached pages will not be needed soon."""
        os.posix_fadvise(self._data, 0, 0, os.POSIX_FADV_DONTNEED)

    def _check_writable(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._fenced:
            raise ConflictError(f"chunk {self.chunk:016x} is sealed")

    def _sum(self, pieces: Sequence[bytes]) -> tuple[int, list[int], int]:
        """CRC32C of the pieces together, of the blocks they fill, of the partial block left."""
        total, tail, blocks = 0, self._tail, []
        filled = self._length % BLOCK_BYTES
        for piece in pieces:
            total = crc32c(piece, total)
            view, position = memoryview(piece), 0
            while position < len(view):
                part = view[position : position + BLOCK_BYTES - filled]
                tail = crc32c(part, tail)
                position += len(part)
                filled += len(part)
                if filled == BLOCK_BYTES:
                    blocks.append(tail)
                    tail = filled = 0
        return total, blocks, tail

    def _append_log(self, record: bytes) -> None:
        """Adds a record, on disk when it returns; a failure leaves the log without it."""
        end = self._state.end_bytes
        try:
            if os.fstat(self._log).st_size > end:
                # What a crash has torn must not stand behind a good record.
                os.ftruncate(self._log, end)
            _write_all(self._log, record, end)
            os.fdatasync(self._log)
        except OSError:
            os.ftruncate(self._log, end)
            raise
        self._state.end_bytes = end + len(record)

    def _compact(self) -> None:
        """Makes the log anew, short, where that saves half of it."""
        content = log.encode_whole(self._state)
        if 2 * len(content) <= self._state.end_bytes:
            self._replace_log(content)

    def _replace_log(self, content: bytes) -> None:
        """The old log stands until the new one is whole."""
        path = log_path(self._base)
        fresh = path.with_name(path.name + ".new")
        try:
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            _write_all(descriptor, content, 0)
            os.fsync(descriptor)
            os.rename(fresh, path)
            sync_folder(self._base.parent)
        except OSError:
            # The old log, or the new one under its name, is whole: nothing is lost. But which
            # of them a crash would leave is not known, so no more is written.
            os.close(descriptor)
            self._broken = UnavailableError(f"the log of chunk {self.chunk:016x} cannot be written")
            return
        os.close(self._log)
        self._log = descriptor
        self._state.end_bytes = len(content)

    def _break(self, error: OSError) -> PerseusError:
        self._broken = disk_error(error, f"syncing chunk {self.chunk:016x}")
        return self._broken


class CorruptBlockError(CorruptError):
    """A block does not match its checksum; ``offset_bytes`` is where it begins."""

    def __init__(self, chunk: int, offset_bytes: int) -> None:
        super().__init__(
            f"chunk {chunk:016x} is damaged in the block at {offset_bytes}",
            hint="another replica is read where there is one; see: perseus doctor",
        )
        self.offset_bytes = offset_bytes


def recover(chunk: int, content: bytes, data_bytes: int) -> log.LogState:
    """The state of a replica from its log and the size of its data; CorruptError.

    A log that vouches for more bytes than there are means damage, not a crash. One without
    a version is damaged, too, or was never synced; see ChunkFile.create.
    """
    state = log.decode(content, chunk)
    if not state.version:
        raise CorruptError(f"the log of chunk {chunk:016x} names no version")
    if data_bytes < state.length_bytes and state.corrupt_offset_bytes is None:
        state.corrupt_offset_bytes = data_bytes - data_bytes % BLOCK_BYTES
    return state


def _read_whole(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0)


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    _write_pieces(descriptor, (content,), offset)


def _write_pieces(descriptor: int, pieces: Sequence[bytes], offset: int) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view = view[written:]
            offset += written
