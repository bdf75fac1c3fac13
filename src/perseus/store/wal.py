"""Tells rot in SQLite's log from the torn end that a crash leaves, before SQLite opens it.

SQLite reads its log up to the first frame that does not match its checksum and
forgets that frame and all behind it, without a word. That is right for the last
transaction, which was cut short and never acknowledged, and wrong for a frame
that rotted: acknowledged commits go with it. Two things tell them apart:

- Behind the bad frame stands a commit on which another frame was built. SQLite
  (synchronous=FULL) syncs each commit before it writes what follows, so the bad
  frame was whole on disk once.
- The log's index (``-shm``), which a killed process leaves, names more frames
  than can be read. It is written after the sync, so however old it is, what it
  names was durable. By it the very last commit is guarded too, until the machine
  itself goes down and the index is lost.

The formats are those of https://sqlite.org/walformat.html.
"""

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
FORMAT = 3007000
_MAGICS = {0x377F0682: "<", 0x377F0683: ">"}
# Two copies of 48 bytes, then how many frames the database has already.
_INDEX_COPY = struct.Struct("=IIIBBHIIII8sII")
_INDEX_BYTES = 100
_WORD = 0xFFFFFFFF

Sum = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a log."""

    what: str
    # The log is sound, and ends with a commit, up to here.
    sound_bytes: int


@dataclass(frozen=True, slots=True)
class _Log:
    """What the header of a log says of its frames."""

    order: str
    page_bytes: int
    salts: bytes
    start: Sum

    def sum_of(self, frame: bytes, before: Sum) -> Sum:
        """The checksum of a frame that follows one with ``before``."""
        return _sum(self.order, frame[:8] + frame[FRAME_HEADER_BYTES:], before)

    def is_current(self, frame: bytes) -> bool:
        """Whether it was written since the log was last begun anew."""
        return frame[8:16] == self.salts


@dataclass(frozen=True, slots=True)
class _Index:
    """What the log's index remembers."""

    salts: bytes
    # The frames that were committed, and those of them that the database has already.
    frames: int
    copied: int


def find_damage(log: Path, index: Path) -> Damage | None:
    """Rot in the log of a store that nobody has open; None when there is none.

    ``log`` and ``index`` are the ``-wal`` and ``-shm`` of the database; either may be absent.
    """
    remembered = _read_index(index)
    if not log.exists() or log.stat().st_size < HEADER_BYTES:
        if remembered is not None and remembered.frames > remembered.copied:
            return Damage(f"{remembered.frames - remembered.copied} frames are gone", 0)
        return None
    with open(log, "rb", buffering=1 << 20) as file:
        header = file.read(HEADER_BYTES)
        found = _read_header(header)
        if found is None:
            # A header is synced before the first frame is written behind it.
            is_used = any(file.read(FRAME_HEADER_BYTES))
            return Damage("its header does not match its checksum", 0) if is_used else None
        return _walk(file, found, remembered)


def _walk(file: BinaryIO, log: _Log, index: _Index | None) -> Damage | None:
    frames = _frames(file, log)
    running, count, committed, bad = log.start, 0, 0, b""
    for frame in frames:
        running = log.sum_of(frame, running)
        if not log.is_current(frame) or _stored(frame) != running:
            bad = frame
            break
        count += 1
        committed = count if _is_commit(frame) else committed
    sound_bytes = HEADER_BYTES + committed * (FRAME_HEADER_BYTES + log.page_bytes)
    if index is not None and index.salts == log.salts and index.frames > committed:
        what = f"only {committed} of {index.frames} committed frames can be read"
        return Damage(what, sound_bytes)
    if bad and _was_built_upon(frames, log, bad, running):
        what = f"frame {count + 1} does not match its checksum, and commits stand behind it"
        return Damage(what, sound_bytes)
    return None


def _was_built_upon(frames: Iterator[bytes], log: _Log, bad: bytes, computed: Sum) -> bool:
    """Whether a commit at or behind the bad frame is followed by a frame made after it.

    What a torn transaction left, and a later one wrote over in part, does not
    pass: its frames do not continue the checksums of those before them.
    """
    before, sums = bad, {_stored(bad), computed}
    for frame in frames:
        if _is_commit(before) and log.is_current(frame):
            stored = _stored(frame)
            if any(log.sum_of(frame, start) == stored for start in sums):
                return True
        before, sums = frame, {_stored(frame)}
    return False


def _frames(file: BinaryIO, log: _Log) -> Iterator[bytes]:
    size = FRAME_HEADER_BYTES + log.page_bytes
    while len(frame := file.read(size)) == size:
        yield frame


def _is_commit(frame: bytes) -> bool:
    return frame[4:8] != bytes(4)


def _stored(frame: bytes) -> Sum:
    first, second = struct.unpack(">II", frame[16:FRAME_HEADER_BYTES])
    return first, second


def _read_header(header: bytes) -> _Log | None:
    magic, version, page_bytes, _, salts, first, second = struct.unpack(">IIII8sII", header)
    order = _MAGICS.get(magic)
    if order is None or version != FORMAT:
        return None
    if _sum(order, header[:24], (0, 0)) != (first, second):
        return None
    return _Log(order, page_bytes, salts, (first, second))


def _read_index(path: Path) -> _Index | None:
    """None when there is none, or none that can be relied on."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_INDEX_BYTES)
    except FileNotFoundError:
        return None
    size = _INDEX_COPY.size
    if len(raw) < _INDEX_BYTES or raw[:size] != raw[size : 2 * size]:
        return None
    version, _, _, is_made, _, _, frames, _, _, _, salts, first, second = _INDEX_COPY.unpack(
        raw[:size]
    )
    order = "<" if sys.byteorder == "little" else ">"
    if version != FORMAT or not is_made or _sum(order, raw[:40], (0, 0)) != (first, second):
        return None
    return _Index(salts, frames, struct.unpack("=I", raw[2 * size : _INDEX_BYTES])[0])


def _sum(order: str, content: bytes, start: Sum) -> Sum:
    first, second = start
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _WORD
        second = (second + odd + first) & _WORD
    return first, second
