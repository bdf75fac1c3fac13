"""The client's small parts: patience with the master, queues, nearness, frames, messages."""

import threading
from typing import Any

import pytest
from crc32c import crc32c

from perseus.errors import CorruptError, NotFoundError, TooLargeError, UnavailableError
from perseus.filestore import client_files
from perseus.filestore import control_messages as messages
from perseus.filestore.client_files import Files
from perseus.filestore.client_queue import ClosableQueue, ClosedError
from perseus.filestore.reader import Pieces, frames_of, nearest_first, read_ahead
from perseus.proto.v1 import chunk_pb2, filestore_pb2


class Master:
    """Fails some calls, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self, method: str, request: Any, timeout_s: float) -> Any:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return f"{method} done"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKOFF_FIRST_S", "BACKOFF_MAXIMUM_S"):
        monkeypatch.setattr(client_files, name, 0.0)


def test_a_master_that_is_away_is_asked_again() -> None:
    master = Master(UnavailableError("away"), UnavailableError("away", maybe_done=True))
    assert Files(master).again("Close", None) == "Close done"
    assert master.calls == 3


def test_patience_ends_and_other_errors_need_none() -> None:
    master = Master(UnavailableError("away"), UnavailableError("still away"))
    with pytest.raises(UnavailableError):
        Files(master, patience_s=-1.0).again("Close", None)
    assert master.calls == 1
    master = Master(NotFoundError("no such file"))
    with pytest.raises(NotFoundError):
        Files(master).again("Locate", None)
    assert master.calls == 1


def test_a_file_that_may_have_been_made_is_not_made_again() -> None:
    master = Master(UnavailableError("before it was sent"))
    assert Files(master).create(filestore_pb2.CreateRequest()) == "Create done"
    master = Master(UnavailableError("the answer was lost", maybe_done=True))
    with pytest.raises(UnavailableError):
        Files(master).create(filestore_pb2.CreateRequest())
    assert master.calls == 1


def test_a_queue_gives_what_is_left_when_it_ends() -> None:
    queue: ClosableQueue[int] = ClosableQueue(2)
    queue.put(1)
    queue.put(2)
    refused: list[bool] = []

    def third() -> None:
        try:
            queue.put(3)
        except ClosedError:
            refused.append(True)

    thread = threading.Thread(target=third)
    thread.start()
    queue.close()
    thread.join(30)
    assert refused == [True]
    assert [queue.get(), queue.get()] == [1, 2]
    with pytest.raises(ClosedError):
        queue.get()


def test_a_dropped_queue_gives_nothing() -> None:
    queue: ClosableQueue[int] = ClosableQueue(2)
    queue.put(1)
    queue.close(drop=True)
    with pytest.raises(ClosedError):
        queue.get()


def test_reading_ahead_gives_all_pieces_and_then_the_error() -> None:
    def pieces() -> Pieces:
        for number in range(20):
            yield b"%d" % number
        raise CorruptError("rotten")

    seen: list[bytes] = []
    with pytest.raises(CorruptError):
        seen.extend(read_ahead(pieces()))
    assert seen == [b"%d" % number for number in range(20)]


def test_reading_ahead_ends_the_read_when_the_caller_does() -> None:
    ended = threading.Event()

    def pieces() -> Pieces:
        try:
            while True:
                yield b"x"
        finally:
            ended.set()

    ahead = read_ahead(pieces())
    assert next(ahead) == b"x"
    ahead.close()
    assert ended.wait(30)


def test_the_nearest_replica_comes_first() -> None:
    def location(node: str, name: str, address: str) -> filestore_pb2.ReplicaLocation:
        return filestore_pb2.ReplicaLocation(node_id=node, node_name=name, address=address)

    replicas = [location("a", "attic", "a:1"), location("b", "barn", "b:1")]
    replicas.append(location("c", "cellar", "c:1"))
    for near_node, first in (("b", "b"), ("c", "c"), ("cellar", "c")):
        assert nearest_first(replicas, near_node)[0].node_id == first
    assert {nearest_first(replicas, "")[0].node_id for _ in range(1000)} == {"a", "b", "c"}


@pytest.mark.parametrize("damage", ["content", "offset", "length", "cut"])
def test_frames_are_verified(damage: str) -> None:
    content = b"abcdef"
    header = chunk_pb2.ReadHeader(offset_bytes=10, length_bytes=6, checksum=crc32c(content))
    good = [header.SerializeToString(), content]
    assert list(frames_of(iter(good), 10)) == [content]
    if damage == "content":
        good[1] = b"abcdeg"
    elif damage == "cut":
        good.pop()
    else:
        setattr(header, f"{damage}_bytes", 9)
        good[0] = header.SerializeToString()
    with pytest.raises(CorruptError):
        list(frames_of(iter(good), 10))


def test_control_messages_cross_the_socket() -> None:
    problem = messages.Problem.of(NotFoundError("no", hint="look", maybe_done=True))
    for message in (messages.Ready("h:1", [b"\x00"]), messages.Done(7, 1, 2, 3, problem)):
        frame = messages.encode(message)
        size = messages.frame_size(frame[: messages.LENGTH.size])
        assert messages.to_agent.decode(frame[-size:]) == message
    error = problem.exception()
    assert isinstance(error, NotFoundError)
    assert (error.message, error.hint, error.maybe_done) == ("no", "look", True)
    with pytest.raises(TooLargeError):
        messages.frame_size(b"\xff\xff\xff\xff")
