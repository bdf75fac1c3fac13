"""Letters between a process and its task: each frame is its length and a ``Letters``."""

import asyncio
import struct
from collections.abc import Iterable

from perseus.proto.v1 import algo_pb2

FRAME_MAXIMUM_BYTES = 64 << 20
# What waits to be read on the other side; letters beyond it are dropped, as a network may.
WAITING_MAXIMUM_BYTES = 16 << 20
_LENGTH = struct.Struct(">I")


def write(writer: asyncio.StreamWriter, letters: Iterable[algo_pb2.Letter]) -> bool:
    """Hands letters over, or drops them all; whether they were handed over."""
    if writer.is_closing() or writer.transport.get_write_buffer_size() > WAITING_MAXIMUM_BYTES:
        return False
    content = algo_pb2.Letters(letters=letters).SerializeToString()
    writer.write(_LENGTH.pack(len(content)) + content)
    return True


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
