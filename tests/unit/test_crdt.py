"""Replicated values: the laws of merging, and what each value means."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perseus.algo.checkers import convergence
from perseus.algo.library.crdt import (
    GCounter,
    GSet,
    LWWRegister,
    MVRegister,
    ORMap,
    ORSet,
    PNCounter,
    Sequence,
    TwoPhaseSet,
)

REPLICAS = ("a", "b", "c")
Update = Callable[[Any, str, int], Any]


def insert(sequence: Sequence, replica: str, n: int) -> Sequence:
    return sequence.insert(replica, n % (len(sequence.value) + 1), n)


def delete(sequence: Sequence, replica: str, n: int) -> Sequence:
    return sequence.delete(n % len(sequence.value)) if sequence.value else sequence


def set_in_map(document: ORMap, replica: str, n: int) -> ORMap:
    key = str(n % 2)
    return document.set(replica, key, document.values.get(key, ORSet()).add(replica, n))


KINDS: dict[str, tuple[Any, tuple[Update, ...]]] = {
    "GCounter": (GCounter(), (lambda value, replica, n: value.increment(replica, n),)),
    "PNCounter": (PNCounter(), (lambda value, replica, n: value.add(replica, n - 3),)),
    "GSet": (GSet(), (lambda value, replica, n: value.add(n),)),
    "TwoPhaseSet": (
        TwoPhaseSet(),
        (lambda value, replica, n: value.add(n), lambda value, replica, n: value.remove(n)),
    ),
    "ORSet": (
        ORSet(),
        (lambda value, replica, n: value.add(replica, n), lambda value, r, n: value.remove(n)),
    ),
    "LWWRegister": (LWWRegister(), (lambda value, replica, n: value.write(replica, n),)),
    "MVRegister": (MVRegister(), (lambda value, replica, n: value.write(replica, n),)),
    "ORMap": (ORMap(), (set_in_map, lambda value, replica, n: value.remove(str(n % 2)))),
    "Sequence": (Sequence(), (insert, insert, delete)),
}

# An update at a replica, or a merge of another's copy into it.
steps = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 6), st.integers(0, 2)),
    max_size=14,
)


def copies(kind: str, taken: list[tuple[int, int, int, int]]) -> list[Any]:
    """Three replicas' copies after these steps."""
    first, updates = KINDS[kind]
    held = [first] * len(REPLICAS)
    for at, choice, n, other in taken:
        if choice < 3:
            held[at] = updates[choice % len(updates)](held[at], REPLICAS[at], n)
        else:
            held[at] = held[at].merge(held[other])
    return held


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(taken=steps)
def test_merging_is_associative_commutative_and_idempotent(
    kind: str, taken: list[tuple[int, int, int, int]]
) -> None:
    one, two, three = copies(kind, taken)
    assert one.merge(two) == two.merge(one)
    assert one.merge(two).merge(three) == one.merge(two.merge(three))
    assert one.merge(one) == one
    merged = one.merge(two)
    # The very same, so that hosts need not look at it again.
    assert merged.merge(two) is merged


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(taken=steps, choice=st.integers(0, 2), n=st.integers(0, 6))
def test_an_update_is_above_what_was(
    kind: str, taken: list[tuple[int, int, int, int]], choice: int, n: int
) -> None:
    before = copies(kind, taken)[0]
    updates = KINDS[kind][1]
    after = updates[choice % len(updates)](before, REPLICAS[0], n)
    assert before.merge(after) == after


@settings(max_examples=60)
@given(taken=steps)
def test_one_replica_alone_is_an_ordinary_list(taken: list[tuple[int, int, int, int]]) -> None:
    sequence, plain = Sequence(), list[int]()
    for _, choice, n, _ in taken:
        if choice < 2:
            plain.insert(n % (len(plain) + 1), n)
            sequence = insert(sequence, "a", n)
        elif plain:
            del plain[n % len(plain)]
            sequence = delete(sequence, "a", n)
    assert list(sequence.value) == plain


def test_counters_count_what_all_did() -> None:
    one, two = PNCounter().add("a", 5), PNCounter().add("b", -2)
    assert one.merge(two).value == 3
    assert GCounter().increment("a", 2).merge(GCounter().increment("b", 3)).value == 5


def test_an_adding_that_a_removal_did_not_see_stays() -> None:
    both = ORSet().add("a", "x")
    assert both.remove("x").merge(both.add("b", "x")).value == {"x"}
    assert both.remove("x").merge(both).value == frozenset()
    assert both.remove("x").add("a", "x").value == {"x"}


def test_what_a_two_phase_set_removed_does_not_come_back() -> None:
    gone = TwoPhaseSet().add("x").remove("x")
    assert gone.add("x").value == frozenset()
    assert TwoPhaseSet().remove("x").add("x").value == {"x"}


def test_the_last_writer_wins_and_several_values_are_kept() -> None:
    first = LWWRegister().write("b", 1)
    assert first.merge(first.write("a", 2)).value == 2
    assert LWWRegister().write("a", 1).merge(LWWRegister().write("b", 2)).value == 2
    both = MVRegister().write("a", 1).merge(MVRegister().write("b", 2))
    assert both.values == {1, 2}
    assert both.write("a", 3).merge(both).values == {3}


def test_runs_of_typing_are_not_mixed() -> None:
    one, two = Sequence(), Sequence()
    for place, letter in enumerate("abc"):
        one = one.insert("a", place, letter)
        two = two.insert("b", place, letter.upper())
    assert "".join(one.merge(two).value) in ("abcABC", "ABCabc")


def test_a_dropped_key_comes_back_with_an_update_of_elsewhere() -> None:
    here = ORMap().set("a", "likes", GCounter().increment("a"))
    there = here.set("b", "likes", here.get("likes").increment("b"))
    merged = here.remove("likes").merge(there)
    assert merged.get("likes").value == 2
    assert here.remove("likes").merge(here).get("likes") is None


def test_copies_that_differ_are_named() -> None:
    good = [convergence.Copy("a", {1, 2}, "x"), convergence.Copy("b", {1}, "y")]
    assert convergence.check(good).is_convergent
    verdict = convergence.check([*good, convergence.Copy("c", {2, 1}, "z")])
    assert "a and c have seen the same updates, {1, 2}, and hold 'x' and 'z'" in str(verdict)
