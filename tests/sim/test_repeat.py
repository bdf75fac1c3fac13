"""What in the code of an algorithm makes its runs differ is named; what does not is not."""

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import choice

import pytest

from perseus.algo import Group, Layout, Process, View, always
from perseus.sim import repeat
from perseus.sim.faults import PRESETS
from perseus.sim.load import load
from perseus.sim.runner import Plan, run_one


@dataclass(frozen=True)
class Word:
    """Its ``__repr__``, which a decorator made, calls ``id``; it is none of the program's."""

    text: str
    more: tuple[int, ...] = field(default=())


def helper() -> float:
    return time.monotonic()


class Draws(Process):
    def start(self) -> None:
        self.value = random.random()


class Chooses(Process):
    def start(self) -> None:
        self.value = choice([1, 2])


class Helped(Process):
    def start(self) -> None:
        self.after(helper(), self.start)


class Nested(Process):
    def start(self) -> None:
        def inner() -> None:
            self.value = secrets.randbelow(3)

        inner()


class Dated(Process):
    def start(self) -> None:
        self.value = datetime.now()


class Waits(Process):
    def start(self) -> None:
        time.sleep(1)


class Named(Process):
    def start(self) -> None:
        self.value = id(self.peers)


class Heir(Draws):
    """Calls nothing; its base does."""


class Right(Process):
    def start(self) -> None:
        self.value = self.random.random() + self.now
        self.drawn = random.Random(5).random()
        self.id_of = dict.fromkeys(self.peers, Word(self.id))
        self.send(self.peers[0], Word("x"))


@pytest.mark.parametrize(
    ("kind", "calls", "instead"),
    [
        (Draws, "Draws.start at test_repeat.py:34 calls random.random", "self.random"),
        (Chooses, "calls choice", "self.random"),
        (Helped, "helper at test_repeat.py:29 calls time.monotonic", "self.now"),
        (Nested, "calls secrets.randbelow", "self.random"),
        (Dated, "calls datetime.now", "self.now"),
        (Waits, "calls time.sleep", "self.after"),
        (Named, "calls id", "a name or number of your own"),
        (Heir, "Draws.start", "self.random"),
    ],
)
def test_what_is_not_of_the_seed_is_named(kind: type[Process], calls: str, instead: str) -> None:
    (said,) = repeat.strays(Layout(n=Group(kind)))
    assert calls in said and instead in said


def test_what_is_of_the_seed_is_not() -> None:
    assert repeat.strays(Layout(n=Group(Right))) == []
    for target in ("raft:Raft", "kv:Kv", "mapreduce:mapreduce"):
        assert repeat.strays(load(f"perseus.algo.library.{target}")) == []


class Ticks(Process):
    """Runs that part at the third tick, if ``strange`` says so."""

    strange: Callable[[], bool] = staticmethod(lambda: False)

    def start(self) -> None:
        self.ticks = 0
        self.after(1.0, self.tick)

    def tick(self) -> None:
        self.ticks += 1
        self.after(1.0, self.other if self.ticks == 2 and Ticks.strange() else self.tick)

    def other(self) -> None:
        self.tick()


@always(Ticks)
def it_ticks(view: View[Ticks]) -> bool:
    return view.changed.ticks < 1000


def test_the_first_event_at_which_two_runs_part(monkeypatch: pytest.MonkeyPatch) -> None:
    about = Plan(f"{__file__}:Ticks", PRESETS["none"], 1, 10.0)
    known = run_one(about, 3)
    again = repeat.again(about, known)
    assert again.parting is None and [each.name for each in again.properties] == ["it ticks"]
    turns = iter([False, True])
    kind = load(about.target).groups["n"].kind
    monkeypatch.setattr(kind, "strange", staticmethod(lambda: next(turns)))
    monkeypatch.setitem(kind.tick.__globals__, "Ticks", kind)  # type: ignore[attr-defined]
    parted = repeat.again(about, known).parting
    assert parted is not None and parted.number == 4
    assert "timer tick" in parted.first and "timer other" in parted.second


def test_a_run_that_went_otherwise_once_is_told_though_it_does_so_no_more() -> None:
    about = Plan(f"{__file__}:Ticks", PRESETS["none"], 1, 10.0)
    known = run_one(about, 3)
    other = replace(known, steps=known.steps + 1)
    parted = repeat.again(about, other).parting
    assert parted is not None and parted.number == 0
    assert parted.first == f"all held after {known.steps + 1} steps"
    assert parted.second == f"all held after {known.steps} steps"
