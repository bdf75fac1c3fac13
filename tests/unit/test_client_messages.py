"""Messages: from the protocol's JSON and back; contexts; the buffer of a task's output."""

import gc
import io
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from perseus.client import messages, output
from perseus.client.context import Context
from perseus.client.files import Files, check_path
from perseus.client.jobs import signal_number
from perseus.client.spec import check_argv
from perseus.client.transport import Transport
from perseus.errors import InvalidError, TooLargeError, UnavailableError
from perseus.proto.v1 import cluster_pb2, filestore_pb2, jobs_pb2

PROTOS: dict[Any, Any] = {
    messages.JobInfo: jobs_pb2.Job,
    messages.TaskInfo: jobs_pb2.Task,
    messages.Ending: jobs_pb2.Ending,
    messages.FollowEvent: jobs_pb2.FollowEvent,
    messages.NodeInfo: cluster_pb2.Node,
    messages.Capacity: cluster_pb2.Capacity,
    messages.Load: cluster_pb2.Load,
    messages.ClusterInfo: cluster_pb2.ClusterInfo,
    messages.NewToken: cluster_pb2.CreateTokenResponse,
    messages.TokenInfo: cluster_pb2.Token,
    messages.Finding: cluster_pb2.Finding,
    messages.FileInfo: filestore_pb2.FileInfo,
    messages.DiskUsage: filestore_pb2.DiskUsageResponse,
}


@pytest.mark.parametrize("kind", PROTOS, ids=lambda kind: kind.__name__)
def test_messages_have_the_fields_of_the_protocol(kind: Any) -> None:
    ours = set(kind.__dataclass_fields__)
    theirs = {field.name for field in PROTOS[kind].DESCRIPTOR.fields}
    assert ours == theirs


def test_a_job_goes_there_and_back() -> None:
    job = jobs_pb2.Job(
        job_id="7k3mabcd",
        state=jobs_pb2.TASK_STATE_FAILED,
        count=2,
        exit_code=3,
        task_counts={4: 1, 5: 1},
        tasks=[
            jobs_pb2.Task(
                index=1,
                state=jobs_pb2.TASK_STATE_FAILED,
                ending=jobs_pb2.Ending(kind=jobs_pb2.ENDING_EXITED, exit_code=3),
                stdout_bytes=1 << 40,
            )
        ],
    )
    plain = json_format.MessageToDict(job, preserving_proto_field_name=True)
    read = messages.decode(messages.JobInfo, plain)
    assert (read.state, read.task_counts) == ("failed", {"finished": 1, "failed": 1})
    assert read.tasks[0].stdout_bytes == 1 << 40
    assert read.tasks[0].ending == messages.Ending("exited", 3)
    assert read.has_ended
    assert json_format.ParseDict(messages.encode(read), jobs_pb2.Job(), ignore_unknown_fields=True)
    shown = messages.encode(read)
    assert (shown["state"], shown["task_counts"]) == ("TASK_STATE_FAILED", {"4": 1, "5": 1})


def test_names_that_look_like_enums_stay() -> None:
    read = messages.decode(messages.NodeInfo, {"name": "NODE_STATE_ALIVE", "labels": {"aB": "c"}})
    assert (read.name, read.labels) == ("NODE_STATE_ALIVE", {"aB": "c"})


@pytest.mark.parametrize("given_signal", [15, "15", "TERM", "term", "SIGTERM"])
def test_signals(given_signal: int | str) -> None:
    assert signal_number(given_signal) == 15


@pytest.mark.parametrize("given_signal", [0, 999, "NOPE", "-1", ""])
def test_no_signals(given_signal: int | str) -> None:
    with pytest.raises(InvalidError):
        signal_number(given_signal)


def test_argv_is_checked_at_the_door() -> None:
    with pytest.raises(InvalidError, match="one string"):
        check_argv("wc -l")
    with pytest.raises(TooLargeError, match="long"):
        check_argv(["x" * (1 << 20)])
    for bad in ([], [""], ["a", "b\0"], ["\udc80"]):
        with pytest.raises(InvalidError):
            check_argv(bad)


class Stream:
    """Events from a list, then the end, or a break."""

    def __init__(self, events: list[messages.FollowEvent], breaks: bool = False) -> None:
        self.events = events
        self.breaks = breaks
        self.closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for event in self.events:
            yield messages.encode(event)
        if self.breaks:
            raise UnavailableError("gone")

    def close(self) -> None:
        self.closed = True


def _events(pieces: list[bytes]) -> list[messages.FollowEvent]:
    return [messages.FollowEvent(job_id="j", stdout=piece) for piece in pieces]


END = messages.FollowEvent(ending=messages.Ending("exited", 0))


@given(st.lists(st.binary(max_size=9), max_size=12), st.integers(0, 40), st.integers(0, 12))
def test_an_output_is_whole_whatever_breaks(pieces: list[bytes], room: int, break_at: int) -> None:
    whole = b"".join(pieces)
    breaks = break_at < len(pieces)
    events = _events(pieces[:break_at]) if breaks else [*_events(pieces), END]
    feed = output.Feed(Stream(events, breaks), room=room)

    def reopen(stdout_offset: int, stderr_offset: int, which: str) -> output.EventStream:
        return Stream(_events([whole[stdout_offset:]]))

    read = output.Output(feed, "stdout", reopen, "/jobs/j/0/stdout")
    assert read.read() == whole
    assert read.read() == whole
    assert b"".join(read.lines()) == whole
    assert all(line.endswith(b"\n") for line in list(read.lines())[:-1])


def test_the_end_is_told_once() -> None:
    told: list[bool] = []
    feed = output.Feed(Stream([*_events([b"a"]), END]), told.append)
    while feed.pump():
        pass
    feed.close()
    assert told == [True]
    left = output.Feed(Stream(_events([b"a"])), told.append)
    left.close()
    assert told == [True, False]


class _Pieces(output.Output):
    """An output that comes in these pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._given = pieces

    def chunks(self) -> Iterator[bytes]:
        return iter(self._given)


@given(st.lists(st.text("ab\n", max_size=5).map(str.encode)))
def test_lines_are_those_of_the_whole(pieces: list[bytes]) -> None:
    assert list(_Pieces(pieces).lines()) == io.BytesIO(b"".join(pieces)).readlines()


def test_a_long_line_is_not_copied_with_each_piece() -> None:
    # Copied each time, these would be 800 GB.
    pieces = [bytes(4096)] * 20_000
    assert [len(line) for line in _Pieces(pieces).lines()] == [4096 * 20_000]


@pytest.mark.parametrize(
    ("word", "hint"),
    [(5, "'5'"), (PurePosixPath("/a"), "'/a'"), (b"a", "decode"), (None, "'None'")],
)
def test_an_argument_that_is_not_text_is_refused_with_the_text_to_give(
    word: Any, hint: str
) -> None:
    with pytest.raises(InvalidError, match="is not text") as caught:
        check_argv(["echo", word])
    assert hint in caught.value.hint


@pytest.mark.parametrize("path", ["relative", "/a\0b", "/\udc80", b"/a"])
def test_a_path_that_cannot_be_is_refused(path: Any) -> None:
    with pytest.raises(InvalidError):
        check_path(path)


def test_a_file_of_no_mode_is_refused_and_leaves_nothing_to_be_ended() -> None:
    unraisable: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        with pytest.raises(InvalidError, match="rw"):
            Files(Transport(Context())).open("/a", "rw")
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert unraisable == []


class _Gated:
    """A stream whose first event comes when ``first`` is set, and whose end when ``last`` is."""

    def __init__(self) -> None:
        self.first, self.last = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.first.wait(60)
        yield {"stdout": "YQo="}
        self.last.wait(60)

    def close(self) -> None:
        self.last.set()


def _is_in(thread: threading.Thread, function: str) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame is not None


def test_who_reads_hears_of_an_event_that_another_thread_took() -> None:
    stream = _Gated()
    feed = output.Feed(stream)
    reader = output.Output(feed, "stdout", lambda *_: _Gated(), "/a")
    lines: queue.Queue[bytes] = queue.Queue()
    threads = [
        threading.Thread(target=lambda: all(iter(feed.pump, False)), daemon=True),
        threading.Thread(target=lambda: lines.put(next(reader.lines())), daemon=True),
    ]
    for thread in threads:
        thread.start()
        while not _is_in(thread, "pump"):
            time.sleep(0.001)
    stream.first.set()
    assert lines.get(timeout=20) == b"a\n"
    feed.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
