"""An old copy of the master's state is told by the marks of who has seen a newer one."""

import pytest

from perseus.errors import IncompatibleError, RefusedError
from perseus.membership import history
from perseus.membership.commands import AddNode, Connect, MasterStarted
from perseus.membership.history import History, Mark
from perseus.membership.state import Membership
from perseus.membership.values import Capacity
from perseus.runtime.machine import Composite, Event, Instant

Rows = dict[bytes, bytes]


class Master:
    """History and membership over durable rows, numbered as the driver does it."""

    def __init__(self, rows: Rows) -> None:
        self.rows = dict(rows)
        self.history = History()
        self.membership = Membership(10.0)
        self.membership.guards = (self.history.check_hello,)
        self.machine = Composite([self.history, self.membership])
        self.machine.load(sorted(self.rows.items()))

    def do(self, event: Event) -> None:
        step = self.machine.step(Instant(1.0, 1.0), event)
        number = self.history.take()
        for write in [*step.writes, number]:
            assert write.value is not None
            self.rows[write.key] = write.value
        self.history.keep(number)

    def start(self, run: int, chance: int = 0, accept: bool = False) -> "Master":
        self.do(MasterStarted(run, chance, accept))
        return self

    def knows(self, mark: Mark) -> bool:
        try:
            self.history.check("node kitchen", mark)
        except RefusedError:
            return False
        return True


def touch(master: Master, count: int) -> None:
    """So many transactions."""
    for _ in range(count):
        number = master.history.take()
        assert number.value is not None
        master.rows[number.key] = number.value
        master.history.keep(number)


def test_a_state_that_goes_on_knows_all_its_marks() -> None:
    master = Master({}).start(100)
    marks = [Mark(), master.history.mark]
    for run in (200, 300):
        touch(master, 5)
        marks.append(master.history.mark)
        master = Master(master.rows).start(run)
        marks.append(master.history.mark)
    assert all(map(master.knows, marks))
    assert not master.knows(Mark(300, master.history.mark.number + 1))


def test_an_old_copy_is_told_within_the_same_run() -> None:
    master = Master({}).start(100)
    touch(master, 5)
    copy, old = dict(master.rows), master.history.mark
    touch(master, 1)
    newer = master.history.mark
    again = Master(copy)
    assert again.knows(old) and not again.knows(newer)


def test_an_old_copy_is_told_however_long_it_has_gone_on() -> None:
    master = Master({}).start(100)
    copy = dict(master.rows)
    touch(master, 5)
    same_run = master.history.mark
    master = Master(master.rows).start(200)
    later_run = master.history.mark
    again = Master(copy).start(300)
    touch(again, 1000)
    again = Master(again.rows).start(400)
    assert not again.knows(same_run) and not again.knows(later_run)
    assert again.knows(Mark(100, 1)) and again.knows(again.history.mark)


def test_what_is_accepted_is_accepted_once() -> None:
    master = Master({}).start(100)
    copy = dict(master.rows)
    touch(master, 5)
    given_up = master.history.mark
    again = Master(copy).start(300, accept=True)
    assert again.knows(given_up)
    second_copy = dict(again.rows)
    touch(again, 1)
    newer = again.history.mark
    third = Master(second_copy).start(400)
    assert third.knows(given_up) and not third.knows(newer)


def test_runs_differ_also_where_the_clock_stands_behind() -> None:
    master = Master({}).start(100)
    copy = dict(master.rows)
    master = Master(master.rows).start(7, chance=3)
    again = Master(copy).start(7, chance=4)
    assert master.history.mark.run == 104 and again.history.mark.run == 105
    assert not again.knows(master.history.mark)


def test_the_runs_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "RUNS_MAXIMUM", 3)
    rows: Rows = {}
    for run in range(100, 110):
        rows = Master(rows).start(run).rows
    master = Master(rows)
    assert master.knows(Mark(100, 1)) and master.knows(Mark(108, 1))
    assert not master.knows(Mark(110, 1))


def test_a_node_that_knows_more_is_kept_apart_and_changes_nothing() -> None:
    master = Master({}).start(100)
    master.do(AddNode("n1", "kitchen"))
    before = dict(master.rows)
    mark = Mark(100, master.history.mark.number + 1)
    hello = Connect("n1", 1, 1, "", "k:1", "k:2", Capacity(), state_mark=mark)
    with pytest.raises(RefusedError, match="node kitchen was told of change 3") as refused:
        master.do(hello)
    assert "perseus start --accept-old-state" in refused.value.hint
    assert master.rows == before and not master.membership.node("n1").alive


def test_a_history_of_a_newer_program_is_refused() -> None:
    with pytest.raises(IncompatibleError):
        Master({history.NUMBER: b"\x02rest"})
