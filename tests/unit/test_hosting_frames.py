"""Letters between a process and its task: all of them come, also when they are too many for one."""

import asyncio
import socket

import pytest

from perseus.hosting import frames
from perseus.proto.v1 import algo_pb2


def letters(count: int, size: int) -> list[algo_pb2.Letter]:
    return [algo_pb2.Letter(to="n2", mark=n, content=bytes(size)) for n in range(count)]


def test_what_is_too_much_for_a_frame_comes_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too long would be taken for the end of the other side."""
    monkeypatch.setattr(frames, "FRAME_MAXIMUM_BYTES", 10_000)

    async def main() -> list[int]:
        ours, theirs = socket.socketpair()
        reader, to_ours = await asyncio.open_connection(sock=ours)
        _, writer = await asyncio.open_connection(sock=theirs)
        assert frames.write(writer, letters(25, 1000))
        heard: list[int] = []
        while len(heard) < 25:
            some = await frames.read(reader)
            assert 0 < len(some) < 10
            heard += [letter.mark for letter in some]
        writer.close()
        to_ours.close()
        return heard

    assert asyncio.run(main()) == [*range(25)]
