"""The traces of a run are fetched, also when a node is only about to be back."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from perseus.hosting import check, trace
from perseus.hosting.run import Run

RUN = Run("r", "", "", {"n": ("n1", "n2")}, {"n1": "a", "n2": "b"}, (), 0.0)
LINE = trace.encode({"k": "start", "p": "n2", "l": 0, "at": 0.0}) + b"\n"


class Silent:
    """A cluster in which the trace of n2 is there at the so many-th look."""

    def __init__(self, at_look: int, is_over: bool) -> None:
        self.at_look = at_look
        self.is_over = is_over
        self.looks = 0
        self.cluster = SimpleNamespace(job=lambda job_id: SimpleNamespace(follow=self.follow))

    def jobs(self, run: Run) -> dict[str, str]:
        return {"n2": "job"}

    def follow(self, **options: Any) -> list[Any]:
        self.looks += 1
        return [SimpleNamespace(stdout=LINE)] if self.looks >= self.at_look else []

    def silent(self, run: Run, errors: dict[str, Any]) -> dict[str, Any]:
        return {each: SimpleNamespace(error="lost", is_over=self.is_over) for each in errors}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "FETCH_AGAIN_S", 0.0)


def test_a_trace_that_is_there_a_moment_later_is_not_missing() -> None:
    runs = Silent(at_look=3, is_over=False)
    traces = check.fetch(cast(Any, runs), RUN)
    assert not traces.missing and len(traces.lines["n2"]) == 1 and runs.looks == 3


def test_one_that_cannot_come_is_not_waited_for() -> None:
    runs = Silent(at_look=3, is_over=True)
    assert check.fetch(cast(Any, runs), RUN).missing == ["n2's trace is not there: lost"]
    assert runs.looks == 1


def test_one_that_does_not_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "FETCH_WITHIN_S", 0.01)
    (said,) = check.fetch(cast(Any, Silent(1 << 30, is_over=False)), RUN).missing
    assert said == "n2's trace is not there: lost; check again when its node is back"
