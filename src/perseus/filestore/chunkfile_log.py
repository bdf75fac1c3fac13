"""The log beside a replica's bytes: checksums of its blocks, versions, the seal.

``<id>.log`` is a header and records, each with a checksum of its own, appended
and never changed. One sync of the replica is *one* record, written after its
data is on disk and synced itself before anything is acknowledged. Hence:

- a record that verifies vouches for bytes that are on disk;
- what a crash tears is at most the last record, and nothing of it was
  acknowledged: the reader stops there and the next record takes its place;
- a record that does not verify but has a good one behind it cannot be the work
  of a crash: the log has rotted, and the replica with it (CorruptError).

This module is pure: bytes in, state out.
"""

import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from crc32c import crc32c

from perseus.errors import CorruptError, IncompatibleError
from perseus.settings import BLOCK_BYTES, CHUNK_MAXIMUM_BYTES

FORMAT_VERSION = 1
MAGIC = b"PRSSCHNK"
BLOCKS_MAXIMUM = CHUNK_MAXIMUM_BYTES // BLOCK_BYTES

_HEADER = struct.Struct("<8sIQ")
_CHECKSUM = struct.Struct("<I")
# Kind, zero, count of checksums that follow, and two numbers whose meaning is the kind's.
_RECORD = struct.Struct("<BBHQQ")
HEADER_BYTES = _HEADER.size + _CHECKSUM.size
RECORD_BYTES = _CHECKSUM.size + _RECORD.size

# Length and first new block; checksums of the new full blocks, then of the partial one.
KIND_SYNC = 1
# The replica's version (second number); whether it takes no more bytes of it (first, 0 or 1).
KIND_VERSION = 2
# Final length and version; the checksum of the partial last block, if there is one.
KIND_SEAL = 3
# A block at this offset did not match its checksum.
KIND_CORRUPT = 4
# The replica is being copied from elsewhere; without a seal it is worthless.
KIND_FETCHING = 5
_KINDS = range(KIND_SYNC, KIND_FETCHING + 1)


@dataclass(slots=True)
class LogState:
    """What a log says of its replica."""

    chunk: int
    version: int = 0
    # Bytes that are on disk.
    length_bytes: int = 0
    # CRC32C of the full blocks below length_bytes.
    checksums: "array[int]" = field(default_factory=lambda: array("I"))
    # CRC32C of the partial block at the end; 0 when there is none.
    tail_checksum: int = 0
    sealed: bool = False
    # It takes no more bytes of its version: a seal of a newer one will follow.
    fenced: bool = False
    # The first block found rotten, by its offset.
    corrupt_offset_bytes: int | None = None
    fetching: bool = False
    # Bytes of the log that verify; the rest is torn.
    end_bytes: int = 0


def encode_header(chunk: int) -> bytes:
    """The first bytes of a log."""
    head = _HEADER.pack(MAGIC, FORMAT_VERSION, chunk)
    return head + _CHECKSUM.pack(crc32c(head))


def encode_record(kind: int, first: int, second: int, checksums: Iterable[int] = ()) -> bytes:
    """One self-checked record."""
    payload = array("I", checksums)
    body = _RECORD.pack(kind, 0, len(payload), first, second) + _little(payload)
    return _CHECKSUM.pack(crc32c(body)) + body


def encode_sync(length_bytes: int, first_block: int, checksums: Sequence[int], tail: int) -> bytes:
    """The record of one sync: ``checksums`` are of full blocks from ``first_block`` on."""
    partial = [tail] if length_bytes % BLOCK_BYTES else []
    return encode_record(KIND_SYNC, length_bytes, first_block, [*checksums, *partial])


def encode_fence(version: int) -> bytes:
    """The record after which a replica of ``version`` takes no more bytes.

    A program that does not know of fences reads the version alone, as before.
    """
    return encode_record(KIND_VERSION, 1, version)


def encode_seal(length_bytes: int, version: int, tail: int) -> bytes:
    """The record that ends a replica at ``length_bytes`` under ``version``."""
    partial = [tail] if length_bytes % BLOCK_BYTES else []
    return encode_record(KIND_SEAL, length_bytes, version, partial)


def encode_whole(state: LogState) -> bytes:
    """A log made anew that says what ``state`` says, in as few records as can be."""
    version = encode_record(KIND_VERSION, int(state.fenced), state.version)
    parts = [encode_header(state.chunk), version]
    if state.fetching:
        parts.append(encode_record(KIND_FETCHING, 0, 0))
    if state.length_bytes:
        blocks = state.checksums[: state.length_bytes // BLOCK_BYTES]
        parts.append(encode_sync(state.length_bytes, 0, blocks, state.tail_checksum))
    if state.sealed:
        parts.append(encode_seal(state.length_bytes, state.version, state.tail_checksum))
    if state.corrupt_offset_bytes is not None:
        parts.append(encode_record(KIND_CORRUPT, state.corrupt_offset_bytes, 0))
    return b"".join(parts)


def decode(content: bytes, chunk: int) -> LogState:
    """Reads a log. CorruptError: it has rotted or is not this chunk's."""
    _check_header(content, chunk)
    state = LogState(chunk)
    position = HEADER_BYTES
    while (size := _record_size(content, position)) > 0:
        _apply(state, content, position)
        position += size
    if position < len(content) and _any_record_after(content, position):
        raise CorruptError(f"the log of chunk {chunk:016x} is damaged at byte {position}")
    state.end_bytes = position
    return state


def _check_header(content: bytes, chunk: int) -> None:
    head = content[: _HEADER.size]
    if len(content) < HEADER_BYTES or content[_HEADER.size : HEADER_BYTES] != _CHECKSUM.pack(
        crc32c(head)
    ):
        raise CorruptError(f"the log of chunk {chunk:016x} has no valid header")
    magic, version, owner = _HEADER.unpack(head)
    if magic != MAGIC or owner != chunk:
        raise CorruptError(f"the log of chunk {chunk:016x} belongs to something else")
    if version > FORMAT_VERSION:
        raise IncompatibleError(
            f"the log of chunk {chunk:016x} was written by a newer Perseus (format {version})",
            hint="upgrade Perseus on this machine",
        )


def _record_size(content: bytes, position: int) -> int:
    """The size of the record at ``position``; 0 when none verifies there."""
    if position + RECORD_BYTES > len(content):
        return 0
    kind, zero, count, _, _ = _RECORD.unpack_from(content, position + _CHECKSUM.size)
    end = position + RECORD_BYTES + 4 * count
    if kind not in _KINDS or zero or count > BLOCKS_MAXIMUM + 1 or end > len(content):
        return 0
    (checksum,) = _CHECKSUM.unpack_from(content, position)
    body = memoryview(content)[position + _CHECKSUM.size : end]
    return end - position if crc32c(body) == checksum else 0


def _any_record_after(content: bytes, position: int) -> bool:
    last = len(content) - RECORD_BYTES
    return any(_record_size(content, at) for at in range(position + 1, last + 1))


def _apply(state: LogState, content: bytes, position: int) -> None:
    kind, _, count, first, second = _RECORD.unpack_from(content, position + _CHECKSUM.size)
    start = position + RECORD_BYTES
    if kind == KIND_SYNC:
        _apply_sync(state, first, second, _checksums(content, start, count))
    elif kind == KIND_VERSION:
        state.version, state.fenced = second, bool(first)
    elif kind == KIND_SEAL:
        _apply_seal(state, first, second, _checksums(content, start, count))
    elif kind == KIND_CORRUPT:
        state.corrupt_offset_bytes = first
    else:
        state.fetching = True


def _apply_sync(state: LogState, length: int, first_block: int, checksums: "array[int]") -> None:
    blocks = length // BLOCK_BYTES
    partial = 1 if length % BLOCK_BYTES else 0
    if first_block != len(state.checksums) or first_block + len(checksums) != blocks + partial:
        raise CorruptError(f"the log of chunk {state.chunk:016x} contradicts itself")
    state.tail_checksum = checksums.pop() if partial else 0
    state.checksums.extend(checksums)
    state.length_bytes = length


def _apply_seal(state: LogState, length: int, version: int, checksums: "array[int]") -> None:
    if length > state.length_bytes or len(checksums) != (1 if length % BLOCK_BYTES else 0):
        raise CorruptError(f"the log of chunk {state.chunk:016x} contradicts itself")
    del state.checksums[length // BLOCK_BYTES :]
    state.tail_checksum = checksums[0] if checksums else 0
    state.length_bytes = length
    state.version = version
    state.sealed = True
    state.fenced = state.fetching = False


def _checksums(content: bytes, start: int, count: int) -> "array[int]":
    numbers = array("I")
    numbers.frombytes(content[start : start + 4 * count])
    if _BIG_ENDIAN:
        numbers.byteswap()
    return numbers


def _little(numbers: "array[int]") -> bytes:
    if _BIG_ENDIAN:
        numbers.byteswap()
    return numbers.tobytes()


_BIG_ENDIAN = array("I", [1]).tobytes()[0] == 0
