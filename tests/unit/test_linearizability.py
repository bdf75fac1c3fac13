"""The checker against every order tried by hand, and against histories of the literature."""

from collections.abc import Sequence
from itertools import permutations
from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from perseus.algo.checkers.linearizability import check
from perseus.algo.history import UNKNOWN, Operation, merged
from perseus.algo.library.kv import Get, Put, RegisterModel, Swap


def operation(what: Any, invoked: float, returned: float = inf, result: Any = UNKNOWN) -> Operation:
    return Operation("c", what, invoked, returned, result)


def by_hand(history: Sequence[Operation]) -> bool:
    """Tries every order of every choice of the operations that did not return."""
    over = [each for each in history if each.is_over]
    unknown = [each for each in history if not each.is_over]
    for chosen in range(1 << len(unknown)):
        done = over + [each for n, each in enumerate(unknown) if chosen >> n & 1]
        if any(_fits(order) for order in permutations(done)):
            return True
    return False


def _fits(order: Sequence[Operation]) -> bool:
    model = RegisterModel()
    state: Any = model.begin()
    for place, one in enumerate(order):
        if any(later.returned < one.invoked for later in order[place + 1 :]):
            return False
        fits, state = model.step(state, one.what, one.result)
        if not fits:
            return False
    return True


values = st.integers(0, 2)
whats = st.one_of(
    st.builds(Put, st.just("x"), values),
    st.builds(Get, st.just("x")),
    st.builds(Swap, st.just("x"), values, values),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    made = []
    for _ in range(draw(st.integers(0, 5))):
        what = draw(whats)
        invoked = float(draw(st.integers(0, 10)))
        if draw(st.integers(0, 4)) == 0:
            made.append(operation(what, invoked))
            continue
        results: Any = {Put: st.none(), Get: st.one_of(st.none(), values), Swap: st.booleans()}
        returned = invoked + draw(st.integers(1, 6))
        made.append(operation(what, invoked, returned, draw(results[type(what)])))
    return made


@settings(max_examples=400)
@given(histories())
def test_it_agrees_with_every_order_tried_by_hand(history: list[Operation]) -> None:
    assert check(history, RegisterModel()).is_linearizable == by_hand(history)


def test_a_stale_read_is_told() -> None:
    history = [
        operation(Put("x", 1), 0, 1, None),
        operation(Put("x", 2), 2, 3, None),
        operation(Get("x"), 4, 5, 1),
    ]
    verdict = check(history, RegisterModel(), key=lambda what: what.key)
    assert verdict.is_linearizable is False
    assert "Get" in str(verdict) and "after c Put" in str(verdict)


def test_what_was_given_up_may_happen_late() -> None:
    history = [
        operation(Put("x", 1), 0),
        operation(Get("x"), 1, 2, None),
        operation(Get("x"), 3, 4, 1),
    ]
    assert check(history, RegisterModel()).is_linearizable
    history.append(operation(Get("x"), 5, 6, None))
    assert check(history, RegisterModel()).is_linearizable is False


def test_keys_are_judged_apart() -> None:
    history = [
        operation(Put(key, number), number, number + 4.5, None)
        for number in range(40)
        for key in ("x", "y")
    ]
    history += [operation(Get("x"), 100, 101, 39), operation(Get("y"), 100, 101, 0)]
    verdict = check(history, RegisterModel(), key=lambda what: what.key)
    assert verdict.is_linearizable is False


def test_long_histories_are_judged_fast() -> None:
    history = []
    for number in range(5000):
        history.append(operation(Put("x", number), number, number + 3.5, None))
    assert check(merged([history]), RegisterModel()).is_linearizable
