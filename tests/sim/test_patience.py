"""What is looked at while a step is under way. That it is ended is tests/system's to see."""

import pytest

from perseus.sim import patience
from perseus.sim.patience import LOOKS, Endless, _Look
from perseus.sim.where import Step


class Run:
    """What takes steps, or does not."""

    steps = 0
    step: Step | None = None


@pytest.fixture(autouse=True)
def no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.setitimer", lambda which, seconds, interval=0.0: None)
    # A test that is looked at by a debugger or for its coverage would never end.
    monkeypatch.setattr("sys.gettrace", lambda: None)


def test_a_run_that_takes_steps_is_left_alone() -> None:
    run = Run()
    look = _Look(run, 5.0)
    for _ in range(3 * LOOKS):
        look(0, None)
        run.steps += 1


def test_a_step_is_ended_after_its_limit() -> None:
    look = _Look(Run(), 5.0)
    look.begin()
    for _ in range(LOOKS - 1):
        look(0, None)
    with pytest.raises(Endless, match="has run for 5 s, and stands at"):
        look(0, None)


def test_a_step_that_takes_all_memory_is_ended_before(monkeypatch: pytest.MonkeyPatch) -> None:
    look = _Look(Run(), 5.0)
    look.begin()
    monkeypatch.setattr(patience, "memory_left", lambda: 0.05)
    with pytest.raises(Endless, match=r"has run for 0\.5 s, with all of the memory, and stands"):
        look(0, None)


def test_under_a_debugger_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    look = _Look(Run(), 5.0)
    monkeypatch.setattr("sys.gettrace", lambda: print)
    for _ in range(3 * LOOKS):
        look(0, None)


def test_memory_that_is_left_is_a_share() -> None:
    assert 0.0 < patience.memory_left() <= 1.0
