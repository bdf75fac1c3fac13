"""A job that is followed over daemons that go away: where it goes on, and what is told."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from perseus.client.context import Context
from perseus.errors import InvalidError, UnavailableError
from perseus.hosting import feed as feeds
from perseus.hosting.feed import JobFeed

Answers = list[dict[str, Any] | Exception]
GONE = UnavailableError("the daemon is gone")
BEGUN = {"jobId": "j1", "state": "TASK_STATE_RUNNING"}
ENDED = {"jobId": "j1", "ending": {"kind": "ENDING_EXITED"}}


def out(text: str) -> dict[str, Any]:
    return {"jobId": "j1", "stdout": base64.b64encode(text.encode()).decode()}


class Stream:
    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.is_closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for answer in self._answers:
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def close(self) -> None:
        self.is_closed = True


class Fake:
    """A cluster, its transport and its context, that answers each call as it was told."""

    def __init__(self, *calls: Answers) -> None:
        self.context = Context(socket="/nowhere")
        self.transport = self
        self._calls = list(calls)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.streams: list[Stream] = []

    def stream(self, method: str, request: dict[str, Any]) -> Stream:
        self.asked.append((method, request))
        self.streams.append(Stream(self._calls.pop(0) if self._calls else [GONE]))
        return self.streams[-1]

    def call(self, method: str, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        self.asked.append((method, request))
        return {}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "BACKOFF_MAXIMUM_S", 0.001)
    monkeypatch.setattr(feeds, "BACKOFF_FIRST_S", 0.001)


def feed(fake: Fake, told: list[str] | None = None) -> JobFeed:
    return JobFeed(fake, {"request_id": "r"}, (told if told is not None else []).append)  # type: ignore[arg-type]


def test_it_goes_on_at_the_byte_where_it_stopped() -> None:
    fake = Fake([BEGUN, out("abc"), GONE], [GONE], [BEGUN, out("de")], [out("f"), ENDED])
    told: list[str] = []
    events = list(feed(fake, told).events())
    assert b"".join(event.stdout for event in events) == b"abcdef"
    assert [method for method, _ in fake.asked] == ["Jobs/Run", *["Jobs/Follow"] * 3]
    offsets = [request["stdout_offset_bytes"] for _, request in fake.asked[1:]]
    assert offsets == [3, 3, 5]
    # Once when it goes away, and once more when it does after it had answered.
    assert told[0] == "the daemon is gone; looking for job j1" and len(told) == 2
    assert all(stream.is_closed for stream in fake.streams)


def test_one_that_had_no_id_yet_is_submitted_once_more_under_the_same_request() -> None:
    fake = Fake([GONE], [BEGUN, ENDED])
    assert len(list(feed(fake).events())) == 2
    assert fake.asked[0] == fake.asked[1]


def test_leaving_cancels_it_also_after_a_break() -> None:
    for calls in (([BEGUN, out("a")],), ([BEGUN, GONE], [out("a")])):
        fake = Fake(*calls)
        events = feed(fake).events()
        while not next(events).stdout:
            pass
        events.close()
        assert fake.asked[-1] == ("Jobs/Kill", {"job_id": "j1", "signal": 15})
        assert fake.streams[-1].is_closed


def test_an_interrupt_while_it_is_looked_for_cancels_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("perseus.hosting.feed.time.sleep", interrupted)
    fake = Fake([BEGUN, GONE])
    with pytest.raises(KeyboardInterrupt):
        list(feed(fake).events())
    assert fake.asked[-1] == ("Jobs/Kill", {"job_id": "j1", "signal": 15})


def test_when_nobody_answers_it_is_told_how_to_see_the_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "PATIENCE_S", 0.01)
    fake = Fake([BEGUN, out("a"), GONE])
    with pytest.raises(UnavailableError) as lost:
        list(feed(fake).events())
    assert lost.value.message == "the daemon is gone; job j1 may go on"
    assert "perseus logs j1" in lost.value.hint and "perseus kill j1" in lost.value.hint
    assert lost.value.maybe_done
    assert fake.asked[-1][0] == "Jobs/Follow", "it is not cancelled: nobody would hear of it"


def test_other_errors_are_told_at_once() -> None:
    with pytest.raises(InvalidError):
        list(feed(Fake([InvalidError("no")])).events())
