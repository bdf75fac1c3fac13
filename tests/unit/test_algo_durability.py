"""What a handler changes is what the disk gets, whatever it did to its lists, dicts and sets."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.algo import Process, durable
from perseus.algo.durability import GONE, Key
from perseus.errors import InvalidError
from tests.unit.algo_lab import alone


@dataclass(frozen=True)
class Entry:
    term: int


class Keeper(Process):
    term: int = durable(0)
    log: list[Any] = durable([])
    table: dict[str, int] = durable({})
    names: set[int] = durable(set())
    begun: list[int] = durable([1, 2])


def take(process: Process, disk: dict[Key, Any]) -> None:
    """What a host does after a step."""
    for key, value in process._changes.items():
        if value is GONE:
            disk.pop(key, None)
        else:
            disk[key] = value
    process._changes.clear()


def reborn(disk: dict[Key, Any]) -> Keeper:
    return alone(Keeper, disk)


small = st.integers(0, 9)
list_actions = st.one_of(
    st.tuples(st.just("append"), small),
    st.tuples(st.just("extend"), st.lists(small, max_size=4)),
    st.tuples(st.just("cut"), st.integers(-3, 9)),
    st.tuples(st.just("set"), st.integers(0, 5), small),
    st.tuples(st.just("pop"), st.integers(-2, 5)),
    st.tuples(st.just("insert"), st.integers(-2, 9), small),
    st.tuples(st.just("slice"), st.integers(0, 5), st.integers(0, 9), st.lists(small, max_size=3)),
    st.tuples(st.just("clear")),
    st.tuples(st.just("sort")),
    st.tuples(st.just("reverse")),
    st.tuples(st.just("add"), st.lists(small, max_size=2)),
    st.tuples(st.just("times"), st.integers(0, 2)),
    st.tuples(st.just("replace"), st.lists(small, max_size=5)),
    st.tuples(st.just("commit")),
)


def act_on_list(holder: Any, action: tuple[Any, ...]) -> None:
    kind, *rest = action
    log = holder.log
    if kind == "append":
        log.append(rest[0])
    elif kind == "extend":
        log.extend(rest[0])
    elif kind == "cut":
        del log[rest[0] :]
    elif kind == "set" and rest[0] < len(log):
        log[rest[0]] = rest[1]
    elif kind == "pop" and -len(log) <= rest[0] < len(log):
        log.pop(rest[0])
    elif kind == "insert":
        log.insert(rest[0], rest[1])
    elif kind == "slice":
        log[rest[0] : rest[1]] = rest[2]
    elif kind == "clear":
        log.clear()
    elif kind == "sort":
        log.sort()
    elif kind == "reverse":
        log.reverse()
    elif kind == "add":
        holder.log += rest[0]
    elif kind == "times":
        holder.log *= rest[0]
    elif kind == "replace":
        holder.log = list(rest[0])


class Plain:
    def __init__(self) -> None:
        self.log: list[int] = []


@given(st.lists(list_actions, max_size=25))
def test_lists_come_back_as_they_were(actions: list[tuple[Any, ...]]) -> None:
    disk: dict[Key, Any] = {}
    process, plain = alone(Keeper, disk), Plain()
    for action in actions:
        act_on_list(process, action)
        act_on_list(plain, action)
        if action[0] == "commit":
            take(process, disk)
    take(process, disk)
    assert process.log == plain.log
    assert reborn(disk).log == plain.log
    assert len([key for key in disk if key[0] == "log"]) <= len(plain.log) + 1


@given(st.lists(st.tuples(st.sampled_from("aduscpo"), st.sampled_from("xyz"), small), max_size=25))
def test_dicts_come_back_as_they_were(actions: list[tuple[str, str, int]]) -> None:
    disk: dict[Key, Any] = {}
    process = alone(Keeper, disk)
    for kind, key, value in actions:
        table = process.table
        if kind == "a":
            table[key] = value
        elif kind == "d" and key in table:
            del table[key]
        elif kind == "u":
            table.update({key: value}, other=1)
        elif kind == "s":
            table.setdefault(key, value)
        elif kind == "c":
            table.clear()
        elif kind == "p":
            table.pop(key, None)
        elif kind == "o":
            process.table = {key: value}
    take(process, disk)
    assert reborn(disk).table == process.table


@given(st.lists(st.tuples(st.sampled_from("ardupmixo"), st.sets(small)), max_size=25))
def test_sets_come_back_as_they_were(actions: list[tuple[str, set[int]]]) -> None:
    disk: dict[Key, Any] = {}
    process, plain = alone(Keeper, disk), set[int]()
    for kind, items in actions:
        for one in items if kind in "ar" else ():
            (process.names.add if kind == "a" else process.names.discard)(one)
            (plain.add if kind == "a" else plain.discard)(one)
        if kind == "d":
            process.names.difference_update(items)
            plain -= items
        elif kind == "u":
            process.names |= items
            plain |= items
        elif kind == "m":
            process.names -= items
            plain -= items
        elif kind == "i":
            process.names &= items
            plain &= items
        elif kind == "x":
            process.names ^= items
            plain ^= items
        elif kind == "o":
            process.names = set(items)
            plain = set(items)
        elif kind == "p" and process.names:
            plain.discard(process.names.pop())
    take(process, disk)
    assert process.names == plain
    assert reborn(disk).names == plain


def test_what_it_began_with_can_be_taken_away_for_good() -> None:
    disk: dict[Key, Any] = {}
    process = alone(Keeper, disk)
    take(process, disk)
    process.begun.clear()
    take(process, disk)
    assert reborn(disk).begun == []
    assert alone(Keeper, {}).begun == [1, 2]


def test_one_entry_costs_one_entry() -> None:
    process = alone(Keeper, {})
    process.log.extend(range(1000))
    process._changes.clear()
    process.log.append(Entry(3))
    assert process._changes == {("log", 1000): Entry(3), ("log", "#"): 1001}


def test_plain_values() -> None:
    disk: dict[Key, Any] = {}
    process = alone(Keeper, disk)
    assert process.term == 0 and ("term",) not in process._changes
    process.term = 7
    take(process, disk)
    assert reborn(disk).term == 7


@pytest.mark.parametrize("value", [[[1], {2}][:0] or [object()], {"a": bytearray()}, (object(),)])
def test_what_may_change_unseen_is_refused(value: Any) -> None:
    process = alone(Keeper, {})
    with pytest.raises(InvalidError, match="cannot hold a"):
        process.log = value
