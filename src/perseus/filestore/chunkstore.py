"""The folder of a node's replicas: ``chunks/xx/<id as 16 hex digits>.data`` and ``.log``.

One process owns the folder at a time (``lock``); ``format`` says which layout
it has, and a newer one is refused. The index is in memory, rebuilt by ``scan``
from the logs alone; files are opened when used, and at most IDLE_FILES_MAXIMUM
stay open unused. At most one writer at a time has a replica.

Events (ChunkEvent) about what is found, rotten blocks and vanished files, go to
``on_event``, from any thread. A file that is opened is held against the index: one
that says less than it did has lost something since, and is told of as rotten.
"""

import fcntl
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from perseus.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptError,
    FullError,
    IncompatibleError,
    InvalidError,
    NotFoundError,
    PerseusError,
    UnavailableError,
)
from perseus.filestore import chunkfile
from perseus.filestore.chunkfile import ChunkFile, CorruptBlockError
from perseus.filestore.chunkstore_pages import RecentPages
from perseus.proto.v1 import agent_pb2
from perseus.runtime.real import RealDisk
from perseus.settings import BLOCK_BYTES
from perseus.shellwords import as_file

FORMAT = 1
FORMAT_WORD = "perseus-chunks"
IDLE_FILES_MAXIMUM = 32
SCAN_THREADS = 4
# Ends the name of a replica that is being fetched.
FETCH_SUFFIX = ".fetch"
# Writers look at the free space again after this many bytes.
ROOM_CHECK_BYTES = 8 << 20

OnEvent = Callable[[agent_pb2.ChunkEvent], None]


@dataclass(slots=True)
class Entry:
    """A replica in the index; while ``file`` is open, that has the newer word."""

    chunk: int
    version: int
    length_bytes: int
    sealed: bool
    corrupt_offset_bytes: int | None
    file: ChunkFile | None = None
    # That it is rotten was told; what a scan finds, the list of replicas tells.
    told: bool = False
    # Threads that use the open file.
    users: int = 0
    # Taken out of the index; the last user closes the file.
    deleted: bool = False

    def refresh(self) -> None:
        """Takes the open file's word."""
        file = self.file
        if file is not None:
            self.version = file.version
            self.length_bytes = file.synced_bytes
            self.sealed = file.sealed
            if file.corrupt_offset_bytes is not None:
                self.corrupt_offset_bytes = file.corrupt_offset_bytes

    def exceeds(self, file: ChunkFile) -> bool:
        """Whether the file on disk is less than what was there before."""
        return (
            file.synced_bytes < self.length_bytes
            or file.version < self.version
            or (self.sealed and not file.sealed)
        )

    def report(self) -> agent_pb2.ReplicaReport:
        """What the master is told of it."""
        self.refresh()
        return agent_pb2.ReplicaReport(
            chunk=self.chunk,
            version=self.version,
            length_bytes=self.length_bytes,
            sealed=self.sealed,
            corrupt=self.corrupt_offset_bytes is not None,
        )


class ChunkStore:
    """The replicas of this node. Safe for threads."""

    def __init__(self, folder: Path, reserve_bytes: int, on_event: OnEvent) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._on_event = on_event
        self._mutex = threading.Lock()
        # Chunks whose fetched replica is just coming under its name: whoever wants one of
        # them waits for its disk, and nobody else does.
        self._placing: set[int] = set()
        self._placed = threading.Condition(self._mutex)
        self._entries: dict[int, Entry] = {}
        # Entries whose file is open and unused, the oldest first.
        self._idle: OrderedDict[int, Entry] = OrderedDict()
        self._recent = RecentPages()
        # Folders whose names may not be on disk yet.
        self._new_folders: set[str] = set()
        self._lock_file = -1

    def open(self) -> None:
        """Takes the folder and reads what is there. ConflictError, IncompatibleError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_file = os.open(
            self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock_file)
            raise ConflictError(
                f"another chunkserver uses {self._folder}",
                hint="stop the other daemon of this data folder first",
            ) from error
        try:
            self._check_format()
            # The names of folders that the chunkserver before this one has made.
            chunkfile.sync_folder(self._folder)
            self._scan()
        except BaseException:
            os.close(self._lock_file)
            raise

    def close(self) -> None:
        """Closes the files that nobody uses and lets the folder go."""
        with self._mutex:
            for entry in self._idle.values():
                self._close_file(entry)
            self._idle.clear()
        os.close(self._lock_file)

    @property
    def folder(self) -> Path:
        """Where the replicas lie."""
        return self._folder

    def reports(self) -> list[agent_pb2.ReplicaReport]:
        """All replicas, also those known to be rotten."""
        with self._mutex:
            return [entry.report() for entry in self._entries.values()]

    def report(self, chunk: int) -> agent_pb2.ReplicaReport | None:
        """What is here of ``chunk``."""
        with self._mutex:
            entry = self._entries.get(chunk)
            return entry.report() if entry else None

    def is_corrupt(self, chunk: int) -> bool:
        """Whether a rotten block of it is known."""
        with self._mutex:
            entry = self._entries.get(chunk)
            if entry is None:
                return False
            entry.refresh()
            return entry.corrupt_offset_bytes is not None

    def chunks(self) -> list[int]:
        """The ids of all replicas."""
        with self._mutex:
            return list(self._entries)

    @contextmanager
    def use(self, chunk: int) -> Iterator[ChunkFile]:
        """The open replica, for as long as the block runs. NotFoundError, CorruptError."""
        entry = self._acquire(chunk)
        try:
            assert entry.file is not None
            yield entry.file
        finally:
            self._release(entry)

    @contextmanager
    def write(self, chunk: int, version: int, offset_bytes: int) -> Iterator[ChunkFile]:
        """The replica for its one writer, made when ``offset_bytes`` is 0 and it is not there.

        What is not synced when the block ends is forgotten, and a replica without any byte
        goes. ConflictError: another
        writer has it, it is sealed, of another version or does not end there.
        """
        if offset_bytes == 0:
            self._make(chunk, version)
        with self.use(chunk) as file:
            entry = self._entries.get(chunk)
            with self._mutex:
                if entry is None or file.writing:
                    raise ConflictError(f"chunk {chunk:016x} has another writer")
                _check_open(file, version, offset_bytes)
                file.writing = True
            try:
                yield file
            finally:
                if not file.sealed:
                    file.rollback()
                file.writing = False
                if not file.sealed:
                    self._end_write(chunk, file)
        self._forget_pages(chunk, file.synced_bytes)

    def _end_write(self, chunk: int, file: ChunkFile) -> None:
        """A writer has left a replica open: it goes if nothing of it was ever acknowledged.

        Else the master is told of it: the order to delete it may have come before its first byte.
        """
        if file.synced_bytes == 0:
            self._drop(chunk)
        elif (report := self.report(chunk)) is not None:
            self._on_event(agent_pb2.ChunkEvent(present=report))

    @contextmanager
    def fetch(self, chunk: int, version: int) -> Iterator[ChunkFile]:
        """A new replica to be filled from others; sealed, it takes its place when the block ends.

        Until then it lies beside what is here of the chunk, and without a seal it goes.
        ConflictError: it is being fetched already.
        """
        base = self._base(chunk)
        beside = base.with_name(base.name + FETCH_SUFFIX)
        try:
            file = self._create(beside, chunk, version, fetching=True)
        except AlreadyExistsError as error:
            raise ConflictError(f"chunk {chunk:016x} is being fetched already") from error
        placed = False
        try:
            yield file
            if file.sealed:
                self._place(chunk, file)
                placed = True
        finally:
            if not placed:
                file.close()
                _remove(beside)
        self._forget_pages(chunk, file.synced_bytes)

    def seal(self, chunk: int, version: int, length_bytes: int) -> agent_pb2.ReplicaReport:
        """Seals a replica; see ChunkFile.seal."""
        with self.use(chunk) as file:
            file.seal(version, length_bytes)
            return agent_pb2.ReplicaReport(
                chunk=chunk, version=file.version, length_bytes=file.synced_bytes, sealed=True
            )

    def probe(self, chunk: int, version: int) -> agent_pb2.ReplicaReport:
        """How long a replica is. A newer ``version`` ends its writing, for a seal will follow."""
        with self.use(chunk) as file:
            if version > file.version:
                file.end_writing()
        report = self.report(chunk)
        if report is None:
            raise NotFoundError(f"chunk {chunk:016x} is not here")
        report.fenced = version > report.version
        return report

    def delete(self, chunk: int, below_version: int) -> bool:
        """Deletes a replica of a version below that one; whether none is here now."""
        with self._mutex:
            entry = self._entries.get(chunk)
            if entry is None:
                return True
            entry.refresh()
            if entry.version >= below_version:
                return False
        self._drop(chunk)
        return True

    def mark_corrupt(self, chunk: int, offset_bytes: int) -> None:
        """A rotten block was found: remembers it and tells, once."""
        if self.is_corrupt(chunk):
            return
        # One whose log cannot be read cannot be marked there, and is found again by the next scan.
        with suppress(PerseusError), self.use(chunk) as file:
            file.mark_corrupt(offset_bytes)
        with self._mutex:
            entry = self._entries.get(chunk)
            if entry is not None:
                self._tell_corrupt(entry, offset_bytes)

    def read(self, file: ChunkFile, offset_bytes: int, length_bytes: int) -> bytes:
        """ChunkFile.read, with a rotten block remembered and told of."""
        try:
            return file.read(offset_bytes, length_bytes)
        except CorruptBlockError as error:
            self.mark_corrupt(file.chunk, error.offset_bytes)
            raise

    def free_bytes(self) -> int:
        """Free space on the disk of the replicas. UnavailableError: their folder is gone."""
        try:
            return RealDisk().free_bytes(os.fspath(self._folder))
        except OSError as error:
            raise UnavailableError(
                f"the folder of replicas cannot be used: {error}",
                hint="bring it back (is its disk mounted?) and restart Perseus on that node",
            ) from error

    def check_room(self, share: float = 1.0) -> None:
        """FullError when less than that share of the reserve is free."""
        free = self.free_bytes()
        if free < self._reserve_bytes * share:
            raise FullError(
                f"the disk of {self._folder} has {free >> 20} MiB left "
                f"({self._reserve_bytes >> 20} MiB are kept free)",
                hint="free space there, or lower the setting disk_reserve_bytes",
            )

    def _forget_pages(self, chunk: int, size_bytes: int) -> None:
        """``chunk`` was written: pages of older ones may go for it."""
        for older in self._recent.add(chunk, size_bytes):
            # One that is gone has no pages.
            with suppress(PerseusError), self.use(older) as file:
                file.forget_pages()

    def _base(self, chunk: int) -> Path:
        name = f"{chunk:016x}"
        return self._folder / name[-2:] / name

    def _make(self, chunk: int, version: int) -> None:
        """Makes the replica if it is not there."""
        with self._mutex:
            self._await_placed(chunk)
            if chunk in self._entries:
                return
        file = self._create(self._base(chunk), chunk, version)
        with self._mutex:
            self._add(Entry(chunk, version, 0, False, None, file))

    def _create(self, base: Path, chunk: int, version: int, *, fetching: bool = False) -> ChunkFile:
        self.check_room()
        if not base.parent.exists():
            self._new_folders.add(base.parent.name)
            base.parent.mkdir(mode=0o700, exist_ok=True)
        return ChunkFile.create(
            base, chunk, version, fetching=fetching, sync_names=self._sync_names
        )

    def _sync_names(self, folder: Path) -> None:
        """Puts the names in a folder on disk, and its own; from any thread."""
        chunkfile.sync_folder(folder)
        if folder.name in self._new_folders:
            chunkfile.sync_folder(self._folder)
            self._new_folders.discard(folder.name)

    def _place(self, chunk: int, file: ChunkFile) -> None:
        """A fetched replica comes under its name, instead of what was there.

        It is in the index only once its name is on disk, for then the master may be told of it.
        """
        with self._mutex:
            self._await_placed(chunk)
            self._placing.add(chunk)
        moved = False
        try:
            file.move(self._base(chunk))
            moved = True
        finally:
            with self._mutex:
                if moved:
                    self._retire(chunk)
                    self._add(Entry(chunk, file.version, file.synced_bytes, True, None, file))
                self._placing.discard(chunk)
                self._placed.notify_all()

    def _await_placed(self, chunk: int) -> None:
        """With the mutex held, and let go meanwhile: returns when no replica of it is placed."""
        while chunk in self._placing:
            self._placed.wait()

    def _add(self, entry: Entry) -> None:
        """With the mutex held: a replica whose file is open and unused."""
        self._entries[entry.chunk] = entry
        self._idle[entry.chunk] = entry

    def _acquire(self, chunk: int) -> Entry:
        with self._mutex:
            self._await_placed(chunk)
            entry = self._entries.get(chunk)
            if entry is None:
                raise NotFoundError(f"chunk {chunk:016x} is not here")
            if entry.file is None:
                self._open_file(entry)
            entry.users += 1
            self._idle.pop(chunk, None)
            return entry

    def _open_file(self, entry: Entry) -> None:
        try:
            file = ChunkFile.open(self._base(entry.chunk), entry.chunk)
        except NotFoundError:
            del self._entries[entry.chunk]
            self._on_event(agent_pb2.ChunkEvent(deleted=entry.chunk))
            raise
        except CorruptError:
            self._tell_corrupt(entry, 0)
            raise
        if entry.exceeds(file):
            # It serves what its log still vouches for, and takes nothing more.
            file.fence()
            self._tell_corrupt(entry, file.synced_bytes - file.synced_bytes % BLOCK_BYTES)
        elif file.corrupt_offset_bytes is not None:
            self._tell_corrupt(entry, file.corrupt_offset_bytes)
        entry.file = file

    def _tell_corrupt(self, entry: Entry, offset_bytes: int) -> None:
        """With the mutex held: the entry is rotten; tells it once."""
        if entry.corrupt_offset_bytes is None:
            entry.corrupt_offset_bytes = offset_bytes
        if not entry.told:
            entry.told = True
            self._on_event(corrupt_event(entry.chunk, entry.version, entry.corrupt_offset_bytes))

    def _release(self, entry: Entry) -> None:
        with self._mutex:
            entry.users -= 1
            entry.refresh()
            if entry.users:
                return
            if entry.deleted:
                self._close_file(entry)
                return
            self._idle[entry.chunk] = entry
            while len(self._idle) > IDLE_FILES_MAXIMUM:
                self._close_file(self._idle.popitem(last=False)[1])

    def _close_file(self, entry: Entry) -> None:
        if entry.file is not None:
            entry.refresh()
            entry.file.close()
            entry.file = None

    def _drop(self, chunk: int) -> None:
        """Takes a replica out of the index and off the disk, whatever its version."""
        with self._mutex:
            self._await_placed(chunk)
            if self._retire(chunk):
                _remove(self._base(chunk))

    def _retire(self, chunk: int) -> bool:
        """With the mutex held: takes a replica out of the index; whether it was there."""
        entry = self._entries.pop(chunk, None)
        if entry is None:
            return False
        self._idle.pop(chunk, None)
        entry.deleted = True
        if entry.file is not None:
            entry.file.fence()
        if not entry.users:
            self._close_file(entry)
        return True

    def _check_format(self) -> None:
        path = self._folder / "format"
        try:
            word, _, number = path.read_text().strip().partition(" ")
        except FileNotFoundError:
            RealDisk().write(os.fspath(path), f"{FORMAT_WORD} {FORMAT}\n".encode())
            return
        if word != FORMAT_WORD or not number.isdigit():
            raise InvalidError(
                f"{path} does not say that this is a folder of chunks",
                hint=f"if only that file is damaged: echo {FORMAT_WORD} {FORMAT} > {as_file(path)}",
            )
        if int(number) > FORMAT:
            raise IncompatibleError(
                f"{self._folder} was written by a newer Perseus (format {number}; "
                f"this program knows up to {FORMAT})",
                hint="upgrade Perseus on this machine",
            )

    def _scan(self) -> None:
        folders = [path for path in self._folder.iterdir() if path.is_dir()]
        with ThreadPoolExecutor(SCAN_THREADS) as pool:
            for entries in pool.map(_scan_folder, folders):
                self._entries.update((entry.chunk, entry) for entry in entries)


def corrupt_event(chunk: int, version: int, offset_bytes: int) -> agent_pb2.ChunkEvent:
    """The event that tells of a rotten block."""
    return agent_pb2.ChunkEvent(
        corrupt=agent_pb2.CorruptReplica(chunk=chunk, version=version, offset_bytes=offset_bytes)
    )


def _check_open(file: ChunkFile, version: int, offset_bytes: int) -> None:
    if file.sealed or file.version != version:
        raise ConflictError(
            f"chunk {file.chunk:016x} is {'sealed' if file.sealed else 'open'} at version "
            f"{file.version} and takes no bytes for version {version}"
        )
    if file.length_bytes != offset_bytes:
        raise ConflictError(
            f"chunk {file.chunk:016x} ends at {file.length_bytes}, not at {offset_bytes}"
        )


def _scan_folder(folder: Path) -> list[Entry]:
    """The replicas in one folder; takes away what is left of halves."""
    sizes: dict[str, int] = {}
    with os.scandir(folder) as items:
        for item in items:
            if item.name.endswith(".new") or f"{FETCH_SUFFIX}." in item.name:
                os.unlink(item.path)
            else:
                sizes[item.name] = item.stat().st_size
    entries = []
    for name in sizes:
        stem, _, kind = name.rpartition(".")
        base = folder / stem
        if kind == "log":
            entry = _scan_replica(base, sizes.get(f"{stem}.data"))
            entries += [entry] if entry else []
        elif kind == "data" and f"{stem}.log" not in sizes:
            os.unlink(folder / name)
    return entries


def _scan_replica(base: Path, data_bytes: int | None) -> Entry | None:
    chunk = int(base.name, 16)
    content = chunkfile.log_path(base).read_bytes()
    try:
        state = chunkfile.recover(chunk, content, data_bytes or 0)
    except IncompatibleError:
        raise
    except PerseusError:
        if not data_bytes:
            # The crash came before its first sync; see ChunkFile.create.
            _remove(base)
            return None
        return Entry(chunk, 0, 0, False, 0, told=True)
    if data_bytes is None or state.fetching:
        _remove(base)
        return None
    rotten = state.corrupt_offset_bytes
    told = rotten is not None
    return Entry(chunk, state.version, state.length_bytes, state.sealed, rotten, told=told)


def _remove(base: Path) -> None:
    # The log first: data without a log is known to be garbage.
    chunkfile.log_path(base).unlink(missing_ok=True)
    chunkfile.data_path(base).unlink(missing_ok=True)
