"""All orders: what only one order of many breaks is found, by a shortest run."""

from dataclasses import dataclass, field

import pytest

from perseus.algo import Group, Layout, Process, View, always, durable, on, sometimes
from perseus.algo.library.raft import Raft
from perseus.errors import InvalidError
from perseus.sim.explore import Bounds, Explored, Explorer


@dataclass(frozen=True)
class Set:
    value: int


@dataclass(frozen=True)
class Told:
    value: int


class Cell(Process):
    """n1 sets 1, then 2, at n2, which tells; in order only if the network keeps it."""

    keeps_order = False
    value: int = durable(0)

    def start(self) -> None:
        self.seen: list[int] = []
        if self.id == "n1" and self.restarts == 0:
            self.send("n2", Set(1))
            self.send("n2", Set(2))

    @on(Set)
    def set(self, sender: str, message: Set) -> None:
        if not self.keeps_order or message.value > self.value:
            self.value = message.value
        self.send(sender, Told(self.value))

    @on(Told)
    def told(self, sender: str, message: Told) -> None:
        self.seen.append(message.value)


@always(Cell)
def it_does_not_go_back(view: View[Cell]) -> bool:
    last: int = view.ghost.get("last", 0)
    if view.changed.id == "n2":
        view.ghost["last"] = max(last, view.changed.value)
        return view.changed.value >= last
    return True


@sometimes(Cell)
def both_are_told(view: View[Cell]) -> bool:
    return len(view.changed.seen) == 2


class OrderedCell(Cell):
    keeps_order = True


def explore(kind: type[Process], nodes: int = 2, **bounds: int) -> Explored:
    return Explorer(Layout(n=Group(kind)), nodes, Bounds(**bounds)).run()


def test_the_one_bad_order_is_found_by_a_shortest_run() -> None:
    found = explore(Cell, crashes=0)
    assert str(found.violation) == "always it does not go back"
    kinds = [event.kind for event in found.events]
    assert kinds == ["start", "send", "send", "start", "receive", "send", "receive", "send"]
    assert [event.what for event in found.events if event.kind == "receive"] == [
        "Set(2)",
        "Set(1)",
    ]
    # Each arrow of the picture has its two ends.
    marks = {event.mark for event in found.events if event.kind == "send"}
    assert {event.mark for event in found.events if event.kind == "receive"} <= marks


def test_all_orders_of_what_is_right_are_gone_through() -> None:
    found = explore(OrderedCell, crashes=0)
    assert found.violation is None and found.is_complete
    assert found.reached == {"both are told"}
    # Seven when 1 arrives first, and five when 2 does: both answers say 2 then.
    assert found.states == 12


class Forgetful(OrderedCell):
    """Forgets in a crash."""

    def start(self) -> None:
        self.value = 0
        super().start()


def test_a_crash_at_the_worst_moment_is_found() -> None:
    assert explore(Forgetful, crashes=0).violation is None
    found = explore(Forgetful, crashes=1)
    assert found.violation is not None
    assert [event.kind for event in found.events].count("crash") == 1


class Ticker(Process):
    def start(self) -> None:
        self.ticks = 0
        self.first = self.after(1.0, self.tick)
        self.second = self.after(1.0, self.cancel_first)

    def tick(self) -> None:
        self.ticks += 1
        assert self.ticks < 2
        self.third = self.after(1.0, self.tick)

    def cancel_first(self) -> None:
        self.first.cancel()


def test_timers_fire_in_any_order_within_the_bound() -> None:
    found = explore(Ticker, nodes=1, timeouts=1, crashes=0)
    assert found.violation is None and found.states == 2 and found.is_complete
    said = str(explore(Ticker, nodes=1, timeouts=2, crashes=0).violation)
    assert said.startswith("a handler raised: n1, Ticker.tick at test_explore.py:")
    assert ": AssertionError" in said


@dataclass
class Notes:
    """Mutable, and shared by two attributes."""

    lines: list[str] = field(default_factory=list)


class Sharer(Process):
    def start(self) -> None:
        self.notes = self.same = Notes()
        self.after(1.0, self.write, "a")
        self.after(1.0, self.write, "b")

    def write(self, line: str) -> None:
        self.notes.lines.append(line)
        assert self.same.lines is self.notes.lines
        assert len(self.notes.lines) == len(set(self.notes.lines))


def test_states_do_not_leak_into_each_other() -> None:
    found = explore(Sharer, nodes=1, crashes=0)
    assert found.violation is None and found.is_complete
    # Nothing; a; b; ab; ba.
    assert found.states == 4


def test_what_cannot_be_copied_is_told() -> None:
    class Holder(Process):
        def start(self) -> None:
            self.lines = iter([1])

    with pytest.raises(InvalidError, match="cannot be explored"):
        explore(Holder)


def test_it_says_what_kept_it_from_more(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = explore(OrderedCell, crashes=0)
    assert whole.ended_by == "" and not whole.missing
    short = explore(OrderedCell, crashes=0, depth=1)
    assert short.ended_by == "depth" and short.missing == {"both are told"}
    few = explore(OrderedCell, crashes=0, states=3)
    assert few.ended_by == "states" and not few.is_complete
    monkeypatch.setattr("perseus.sim.explore.memory_left", lambda: 0.05)
    full = explore(OrderedCell, crashes=0)
    assert full.ended_by == "memory" and not full.is_complete and full.states < whole.states


def test_interrupted_it_tells_what_it_has_seen() -> None:
    told: list[int] = []

    def beat(states: int, depth: int) -> None:
        told.append(states)
        if states:
            raise KeyboardInterrupt

    search = Explorer(Layout(n=Group(Raft)), 3, Bounds(timeouts=4))
    found = search.run(beat)
    assert found.ended_by == "interrupt" and not found.is_complete
    assert found.states > 1000 and told == [0, 1000]


def test_raft_in_small() -> None:
    found = explore(Raft, nodes=3, timeouts=2, crashes=0, states=4000)
    assert found.violation is None and found.states >= 4000
