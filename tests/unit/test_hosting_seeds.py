"""How seeds are shared among the tasks of an array job, and what they say of each."""

import pytest

from perseus.hosting import seeds
from perseus.hosting.seeds import Series
from perseus.sim import runner
from perseus.sim.faults import PRESETS
from perseus.sim.watch import Outcome, Raised, Violation


@pytest.mark.parametrize(("count", "tasks"), [(1, 1), (7, 3), (60, 24), (1000, 7)])
def test_each_seed_is_one_tasks(count: int, tasks: int) -> None:
    series = Series(runner.Plan("x:Y", PRESETS["all"]), False, 5, count, tasks)
    shares = [series.seeds(task) for task in range(tasks)]
    assert [seed for share in shares for seed in share] == [*range(5, 5 + count)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("broken", [None, Violation("always x", "because", 1.25)])
def test_an_outcome_comes_back_as_it_was(broken: Violation | None) -> None:
    errors = {Raised("X", "x.py:7", "KeyError", "é"): 2}
    outcome = Outcome(7, broken, frozenset({"b", "a"}), 1, 2, 3, 0.1 + 0.2, errors)
    line = seeds._line(outcome)
    again = seeds._outcome(line)
    assert seeds._line(again) == line and line.count(b"\n") == 1
    assert (again.simulated_s, again.errors) == (0.1 + 0.2, errors)
    assert again.reached == outcome.reached
    assert str(again.violation) == str(broken)
