"""What survives a crash, on disk: a log of changes, put together now and then.

A folder holds ``log.N``: records, each its length and the CRC32C of what follows, then
that. The first record is a *whole*, all that was durable when the log was begun; the rest
are batches of changes. A batch is one write and one fsync, however many steps are in it.
When a log has grown to more than what its whole took, and the least size, N+1 is begun
beside it with a new whole, and N goes when N+1 is on disk. A crash leaves at most a torn
end, which was never acknowledged: it is cut off. What is broken before the end is told.
"""

import asyncio
import contextlib
import os
import struct
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import crc32c
import msgspec

from perseus.algo.codec import Codec
from perseus.algo.durability import GONE, Changes, Key
from perseus.algo.process import Id
from perseus.errors import CorruptError, FullError

RECORD_MAXIMUM_BYTES = 256 << 20
# A log is put together when it has grown by this much, or by the size of its whole.
GROWTH_BYTES = 4 << 20
# Of one process: keys with their values, and keys that are gone.
_Written = tuple[Id, Sequence[tuple[bytes, bytes]], Sequence[bytes]]
_HEAD = struct.Struct(">II")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class DiskJournal:
    """The durable state of the processes of one node in ``folder``; one program at a time."""

    def __init__(self, folder: Path, codec: Codec, growth_bytes: int = GROWTH_BYTES) -> None:
        """Reads what is there, and counts this start durably. Raises CorruptError, FullError."""
        self._folder = folder
        self._codec = codec
        self._growth_bytes = growth_bytes
        # As the codec writes them, keys and values.
        self._disks: dict[Id, dict[bytes, bytes]] = {}
        # How often it was opened before.
        self.restarts = -1
        with _told(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number = self._read()
        self.restarts += 1
        self._file: BinaryIO
        self._begin()

    def load(self, process_id: Id) -> Mapping[Key, Any]:
        """What was committed, made anew from its bytes."""
        decode = self._codec.decode
        disk = self._disks.get(process_id, {})
        return {decode(key): decode(value) for key, value in disk.items()}

    async def commit(self, batch: Sequence[tuple[Id, Changes]]) -> None:
        """One record and one fsync for all of them, in a thread: more steps are taken meanwhile."""
        written = [self._written(name, changes) for name, changes in batch]
        await asyncio.to_thread(self._append, _encode(written))
        self._take(written)
        if self._size > self._whole_size + max(self._growth_bytes, self._whole_size):
            await asyncio.to_thread(self._begin)

    def close(self) -> None:
        """Lets the file go."""
        self._file.close()

    # Writing.

    def _begin(self) -> None:
        """The next log, with all that is durable as its first record; then the old ones go."""
        self._number += 1
        path = self._path(self._number)
        disks = [(name, list(disk.items()), ()) for name, disk in self._disks.items()]
        content = _encode([self.restarts, disks])
        temporary = path.with_suffix(".new")
        try:
            with _told(self._folder):
                made = open(temporary, "wb", buffering=0)  # noqa: SIM115
                _write(made, _framed(content))
                os.rename(temporary, path)
                _sync(self._folder)
        except FullError:
            # What there is of it would keep the disk full.
            temporary.unlink(missing_ok=True)
            raise
        if hasattr(self, "_file"):
            self._file.close()
        self._file = made
        self._size = self._whole_size = len(content) + _HEAD.size
        for number in self._numbers():
            if number < self._number:
                self._path(number).unlink(missing_ok=True)

    def _append(self, content: bytes) -> None:
        with _told(self._folder):
            _write(self._file, _framed(content))
        self._size += len(content) + _HEAD.size

    def _written(self, name: Id, changes: Changes) -> _Written:
        encode = self._codec.encode
        kept, gone = [], []
        for key, value in changes.items():
            if value is GONE:
                gone.append(encode(key))
            else:
                kept.append((encode(key), encode(value)))
        return name, kept, gone

    # Reading.

    def _path(self, number: int) -> Path:
        return self._folder / f"log.{number}"

    def _numbers(self) -> list[int]:
        words = (path.name.partition(".")[2] for path in self._folder.glob("log.*"))
        return sorted(int(word) for word in words if word.isdigit())

    def _read(self) -> int:
        """Takes up the newest log; its number, 0 when there is none."""
        numbers = self._numbers()
        if not numbers:
            return 0
        path = self._path(numbers[-1])
        whole, *batches = _records(path)
        self.restarts, disks = _decode(whole)
        self._take(disks)
        for batch in batches:
            self._take(_decode(batch))
        return numbers[-1]

    def _take(self, batch: Iterable[_Written]) -> None:
        for name, kept, gone in batch:
            disk = self._disks.setdefault(name, {})
            disk.update(kept)
            for key in gone:
                disk.pop(key, None)


@contextlib.contextmanager
def _told(folder: Path) -> Generator[None, None, None]:
    """What the operating system refuses, as a FullError."""
    try:
        yield
    except OSError as error:
        raise FullError(f"{folder} cannot be written: {error.strerror}") from None


def _write(file: BinaryIO, content: bytes) -> None:
    """All of it, durably. On a disk that gets full, a write may take a part alone, and the next
    one fails."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]
    os.fsync(file.fileno())


def _framed(content: bytes) -> bytes:
    if len(content) > RECORD_MAXIMUM_BYTES:
        raise FullError(f"a commit of {len(content)} bytes; the most is {RECORD_MAXIMUM_BYTES}")
    return _HEAD.pack(len(content), crc32c.crc32c(content)) + content


def _records(path: Path) -> list[bytes]:
    """Up to a torn end; raises CorruptError for what is broken before it."""
    data = path.read_bytes()
    found: list[bytes] = []
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        content = data[at + _HEAD.size : end]
        if len(content) < length:
            break
        if crc32c.crc32c(content) != checksum:
            if end < len(data):
                raise _rotten(path, at)
            break
        found.append(content)
        at = end
    if not found:
        # It was on disk before it had its name.
        raise _rotten(path, 0)
    return found


def _rotten(path: Path, at: int) -> CorruptError:
    return CorruptError(
        f"{path} is broken at byte {at}, before its end: what was durable is lost",
        hint="perseus algo stop, and run it anew",
    )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
