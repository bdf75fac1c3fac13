"""The judge of transactions: planted anomalies by name, small histories against all orders."""

from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perseus.algo.checkers.serializability import (
    Append,
    Read,
    Status,
    Transaction,
    Verdict,
    check,
)
from perseus.errors import InvalidError


def history(*written: str) -> list[Transaction]:
    """``"x+1 y:12 !"`` appends 1 to x, reads y as (1, 2), and is aborted (``?``: unknown)."""
    made = []
    for number, line in enumerate(written, 1):
        operations: list[Append | Read] = []
        status = Status.COMMITTED
        for word in line.split():
            if word in "!?":
                status = Status.ABORTED if word == "!" else Status.UNKNOWN
            elif word[1] == "+":
                operations.append(Append(word[0], int(word[2:])))
            else:
                operations.append(Read(word[0], tuple(map(int, word[2:]))))
        made.append(Transaction(f"T{number}", tuple(operations), status))
    return made


# What goes wrong, and what is said of it: of a cycle each step with its kind and its reason.
PLANTED = {
    "G0": (
        ["x+1 y+1", "x+2 y+2", "x:12 y:21"],
        "T1 before T2 (ww: x has 1, then 2), T2 before T1 (ww: y has 2, then 1)",
    ),
    "G1a": (["x+1 !", "x:1"], "T2 read x as (1,), of which T1 aborted 1"),
    "G1b": (["x+1 x+2", "x:1", "x:12"], "T2 read x as (1,), and T1 appended 2 later"),
    "G1c": (
        ["x+1 y:1", "y+1 x:1"],
        "T1 before T2 (wr: x was read with 1), T2 before T1 (wr: y was read with 1)",
    ),
    "lost update": (
        ["x: x+1", "x: x+2", "x:12"],
        "T2 before T1 (rw: x was read without 1), T1 before T2 (ww: x has 1, then 2)",
    ),
    "G-single": (
        ["x+1 y+1", "x: y:1", "x:1"],
        "T2 before T1 (rw: x was read without 1), T1 before T2 (wr: y was read with 1)",
    ),
    "G2-item": (
        ["x: y+1", "y: x+1"],
        "T1 before T2 (rw: x was read without 1), T2 before T1 (rw: y was read without 1)",
    ),
    "duplicate": (["x+1", "x:11"], "T2 read x as (1, 1)"),
    "unknown value": (["x+1", "x:17"], "T2 read x as (1, 7); nobody wrote [7]"),
    "incompatible order": (
        ["x+1", "x+2", "x:12", "x:21"],
        "T4 read x as (2, 1), and another as (1, 2)",
    ),
    "internal": (["x+1", "x:1 x:"], "T2 read x as (), not (1,)"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_an_anomaly_has_its_name_and_is_explained(name: str) -> None:
    written, said = PLANTED[name]
    found = check(history(*written))
    assert str(found.anomalies[0]) == f"{name}: {said}", str(found)
    assert not found.is_serializable
    cycle = found.anomalies[0].cycle
    assert [edge.other for edge in cycle] == [edge.one for edge in (*cycle[1:], *cycle[:1])]


@pytest.mark.parametrize(
    "written",
    [
        [],
        ["x:"],
        ["x+1 x:1", "x:1 x+2 x:12", "x:12"],
        ["x+1 !", "x+2", "x:2"],
        ["x+1 ?", "x+2", "x:2"],
        ["x+1 ?", "x+2", "x:12"],
        ["x+1", "y+1", "x: y:1", "x:1 y:1"],
        ["x: x+1", "x:1 x+2"],
    ],
)
def test_what_has_an_order_is_serializable(written: list[str]) -> None:
    assert str(check(history(*written))) == "serializable"


@pytest.mark.parametrize(
    "written",
    [
        # Nobody reads what became of it.
        ["x: x+1", "x: x+2"],
        # Another's append comes between.
        ["x: x+3", "x+1", "x:1 x+2", "x:123"],
        # The other one did not read.
        ["x: x+2", "x+1", "x:12"],
        # Other lists make a longer story of it.
        ["x: x+1 y+1", "x: x+2 y:1", "x:12"],
    ],
)
def test_a_lost_update_is_told_from_other_skews(written: list[str]) -> None:
    (anomaly,) = check(history(*written)).anomalies
    assert anomaly.name == "lost update"
    assert {edge.key for edge in anomaly.cycle} == {"x"}


def test_a_read_that_falls_behind_is_no_lost_update() -> None:
    """Its transaction appends to the list, and reads another that is of later."""
    (anomaly,) = check(history("x+1 y+1", "x: y:1 z+1", "x:1 z:1")).anomalies
    assert anomaly.name == "G-single"


def test_who_is_unknown_and_was_seen_counts() -> None:
    assert not check(history("x: y+1 ?", "x+1 y:", "x:1 y:1")).anomalies
    (anomaly,) = check(history("x+1 y+1 ?", "x:1 y:")).anomalies
    assert anomaly.name == "G-single"


def test_each_knot_has_its_anomaly_the_worst_first() -> None:
    both = history("x: y+1", "y: x+1", "a+1 b+1", "a+2 b+2", "a:12 b:21")
    assert [anomaly.name for anomaly in check(both).anomalies] == ["G0", "G2-item"]


def test_the_shortest_cycle_is_told() -> None:
    ring = history("a+1 b:", "b+1 c:", "c+1 d:", "d+1 a:", "x: y+1", "y: x+1")
    assert sorted(len(anomaly.cycle) for anomaly in check(ring).anomalies) == [2, 4]


def test_values_are_appended_once() -> None:
    with pytest.raises(InvalidError, match="1 is appended to x twice"):
        check(history("x+1", "x+1"))


def test_many_transactions_are_judged_in_time() -> None:
    lists: dict[str, list[int]] = {"x": [], "y": []}
    made = []
    for number in range(2000):
        key = "xy"[number % 2]
        read = Read(key, tuple(lists[key]))
        lists[key].append(number)
        made.append(Transaction(f"T{number}", (read, Append(key, number))))
    assert check(made).is_serializable


# Against all orders.


def could_be(transactions: list[Transaction]) -> bool:
    """Whether some order of those that may have committed gives all reads."""
    sure = [each for each in transactions if each.status is Status.COMMITTED]
    unsure = [each for each in transactions if each.status is Status.UNKNOWN]
    return any(
        explains(order)
        for count in range(len(unsure) + 1)
        for more in combinations(unsure, count)
        for order in permutations([*sure, *more])
    )


def explains(order: tuple[Transaction, ...]) -> bool:
    lists: dict[str, list[object]] = {}
    for transaction in order:
        for operation in transaction.operations:
            values = lists.setdefault(operation.key, [])
            if isinstance(operation, Append):
                values.append(operation.value)
            elif transaction.status is Status.COMMITTED and operation.values != tuple(values):
                return False
    return True


STATUSES = [Status.COMMITTED] * 4 + [Status.ABORTED] + [Status.UNKNOWN] * 2

# Which transaction acts, on which list, whether it reads, and how much a read misses.
steps = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from("xy"),
        st.booleans(),
        st.sampled_from([0] * 8 + [1, 2]),
    ),
    max_size=10,
)


def run(taken: list[tuple[int, str, bool, int]], statuses: list[Status]) -> list[Transaction]:
    """Transactions that act on the same lists with nothing to keep them apart."""
    lists: dict[str, list[int]] = {"x": [], "y": []}
    done: list[list[Append | Read]] = [[] for _ in statuses]
    for number, (at, key, is_read, missed) in enumerate(taken):
        if is_read:
            values = lists[key][: max(0, len(lists[key]) - missed)]
            done[at].append(Read(key, tuple(values)))
        else:
            lists[key].append(number)
            done[at].append(Append(key, number))
    return [
        Transaction(f"T{number}", tuple(operations), status)
        for number, (operations, status) in enumerate(zip(done, statuses, strict=True), 1)
    ]


@settings(max_examples=400)
@given(taken=steps, statuses=st.lists(st.sampled_from(STATUSES), min_size=4, max_size=4))
def test_small_histories_are_judged_as_by_trying_all_orders(
    taken: list[tuple[int, str, bool, int]], statuses: list[Status]
) -> None:
    made = run(taken, statuses)
    verdict: Verdict = check(made)
    assert verdict.is_serializable == could_be(made), str(verdict)
