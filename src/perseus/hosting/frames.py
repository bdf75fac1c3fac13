"""Letters between a process and its task: each frame is its length and a ``Letters``."""

import asyncio
import struct
from collections.abc import Iterable, Iterator

from perseus.proto.v1 import algo_pb2

FRAME_MAXIMUM_BYTES = 64 << 20
# What waits to be read on the other side; letters beyond it are dropped, as a network may.
WAITING_MAXIMUM_BYTES = 16 << 20
# What protobuf adds to one of many letters at most.
LETTER_OVERHEAD_BYTES = 16
_LENGTH = struct.Struct(">I")


def write(writer: asyncio.StreamWriter, letters: Iterable[algo_pb2.Letter]) -> bool:
    """Hands letters over, or drops them from the first that has no room; whether all were
    handed over."""
    for some in _in_frames(letters):
        if writer.is_closing() or writer.transport.get_write_buffer_size() > WAITING_MAXIMUM_BYTES:
            return False
        content = algo_pb2.Letters(letters=some).SerializeToString()
        writer.write(_LENGTH.pack(len(content)) + content)
    return True


def _in_frames(letters: Iterable[algo_pb2.Letter]) -> Iterator[list[algo_pb2.Letter]]:
    """As many together as a frame holds: the other side hangs up on one that is too long."""
    some: list[algo_pb2.Letter] = []
    size = 0
    for letter in letters:
        more = letter.ByteSize() + LETTER_OVERHEAD_BYTES
        if some and size + more > FRAME_MAXIMUM_BYTES:
            yield some
            some, size = [], 0
        some.append(letter)
        size += more
    if some:
        yield some


async def read(reader: asyncio.StreamReader) -> list[algo_pb2.Letter]:
    """The next letters; none when the other side is gone."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > FRAME_MAXIMUM_BYTES:
            return []
        content = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return []
    return list(algo_pb2.Letters.FromString(content).letters)
