"""What is sent and kept: passed on as the codec would bring it, whatever becomes of it later."""

from collections import OrderedDict, defaultdict
from copy import deepcopy
from dataclasses import InitVar, dataclass, field, fields, is_dataclass
from enum import Enum, Flag
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.algo.codec import SIZE_MAXIMUM_BYTES, Codec
from perseus.algo.kept import Kept, opened
from perseus.algo.values import Values
from perseus.errors import InvalidError


class Colour(Enum):
    RED = "r"
    BLUE = object()


class Mode(Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Pair:
    left: Any
    right: Any = 7


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


CODEC = Codec([Pair, Colour, Mode, Nothing])
plain: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.sampled_from([Colour.RED, Colour.BLUE, Mode.READ, Nothing(), 1 << 70, -(1 << 70)]),
)
keys = st.one_of(st.text(), st.integers(), st.tuples(st.integers(), st.text()))


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(inner, inner),
        st.lists(inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=2).map(OrderedDict),
        st.dictionaries(keys, inner, max_size=2).map(lambda items: defaultdict(list, items)),
        st.frozensets(keys, max_size=3),
        st.sets(keys, max_size=3),
        st.builds(Pair, inner, inner),
    )


values = st.recursive(plain, containers, max_leaves=12)
unfit = st.sampled_from([object(), bytearray(b"a"), Mode.READ | Mode.WRITE, "\udc80", int, 1j])
perhaps_unfit = st.recursive(st.one_of(plain, unfit), containers, max_leaves=6)


def anatomy(value: Any) -> Any:
    """A value with the classes of all its parts."""
    kind = type(value)
    if isinstance(value, dict):
        return kind, [(anatomy(key), anatomy(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return kind, [anatomy(item) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted((anatomy(item) for item in value), key=repr)
    if is_dataclass(value):
        return kind, [anatomy(getattr(value, each.name)) for each in fields(value)]
    return kind, value


@given(values)
def test_what_arrives_is_what_the_codec_brings(value: Any) -> None:
    taken = Values(CODEC).taken(value)
    assert anatomy(opened(taken)) == anatomy(CODEC.decode(CODEC.encode(value)))
    assert CODEC.encode(taken) == CODEC.encode(value)


@given(perhaps_unfit)
def test_what_the_codec_refuses_is_refused_with_its_words(value: Any) -> None:
    def said(do: Any) -> str:
        try:
            do(value)
        except InvalidError as error:
            return str(error)
        return ""

    taker = Values(CODEC)
    assert said(taker.taken) == said(CODEC.encode) == said(taker.taken)


def test_what_cannot_change_is_passed_on_as_it_is() -> None:
    taker = Values(CODEC)
    for value in (
        3,
        "a",
        None,
        Pair(1),
        Pair(Pair(1), ((), Pair("x"))),
        (1, Colour.RED),
        Nothing(),
    ):
        assert taker.taken(value) is value
        assert taker.taken(value) is value


def test_what_can_change_is_kept_as_it_was() -> None:
    inner = [1]
    value = Pair({"a": inner}, inner)
    taken = Values(CODEC).taken(value)
    assert isinstance(taken, Kept)
    inner.append(2)
    one, other = taken.open(), taken.open()
    assert one == other == Pair({"a": [1]}, [1])
    one.left["a"].append(3)
    # What was one list in two places arrives as two, and no copy is another's.
    assert (one.right, other) == ([1], Pair({"a": [1]}, [1]))
    assert taken.open() == other
    assert taken.is_still(other) and not taken.is_still(one) and not taken.is_still(value)


def holders_of(value: Any) -> list[Any]:
    """All lists, dicts and sets within a value."""
    mine: list[Any] = []
    if isinstance(value, dict):
        mine = [value, *holders_of(list(value.values()))[1:]]
    elif isinstance(value, list | tuple):
        mine = [value] if isinstance(value, list) else []
        mine += [holder for each in value for holder in holders_of(each)]
    elif isinstance(value, set):
        mine = [value]
    elif is_dataclass(value):
        mine = holders_of(tuple(getattr(value, each.name) for each in fields(value)))
    return mine


@given(st.builds(Pair, values, st.lists(values, min_size=1)), st.data())
def test_what_was_changed_in_place_since_is_seen(value: Any, data: st.DataObject) -> None:
    """Also where an equal object of another class took the place of one."""
    taker = Values(CODEC)
    for _ in range(4):
        taken, bytes_then = taker.taken(value), CODEC.encode(value)
        holder = data.draw(st.sampled_from(holders_of(value)))
        if isinstance(holder, set):
            holder ^= {1, data.draw(st.integers(0, 3))}
        else:
            place = 0 if isinstance(holder, list) else data.draw(keys)
            new = data.draw(st.one_of(plain, st.sampled_from([1, True, 1.0, 0, False, -0.0])))
            if isinstance(holder, list) and not holder:
                holder.append(new)
            else:
                holder[place] = new
        assert CODEC.encode(taken) == bytes_then
        assert taken.is_still(value) == (CODEC.encode(value) == bytes_then)
        assert anatomy(taker.taken(value).open()) == anatomy(CODEC.decode(CODEC.encode(value)))


def test_what_did_not_change_is_not_copied_again() -> None:
    taker = Values(CODEC)
    inside = Pair({"a": 1})
    whole = Pair(inside, {"b": 2})
    first, part = taker.taken(whole), taker.taken(inside)
    assert taker.taken(whole).open is first.open and taker.taken(inside).open is part.open
    inside.left["a"] = 3
    assert part.open() == Pair({"a": 1}) and first.open() == Pair(Pair({"a": 1}), {"b": 2})
    assert taker.taken(inside).open() == Pair({"a": 3})
    assert taker.taken(whole).open() == Pair(Pair({"a": 3}), {"b": 2})


@pytest.mark.parametrize("value", [{}, [], Pair({}), Pair(Pair([])), (Pair(1), [Pair({})])])
def test_what_is_kept_in_mind_is_bounded(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perseus.algo.values.CHANGING_MAXIMUM", 10)
    monkeypatch.setattr("perseus.algo.values.FIXED_MAXIMUM", 10)
    taker = Values(CODEC)
    for number in range(100):
        taker.taken(Pair(number, deepcopy(value)))
        assert len(taker._changing) <= 10 and len(taker._fixed) <= 10


def test_what_is_not_in_the_middle_of_others_is_found_too() -> None:
    taker = Values(CODEC)
    assert taker.taken((Pair(1), Pair(2), Pair(3))) == (Pair(1), Pair(2), Pair(3))
    for value in (
        (Pair(1), object(), Pair(3)),
        Pair({"a": 1, "b": object(), "c": 3}),
        {"a": (1, object(), 3)},
    ):
        with pytest.raises(InvalidError, match="a object cannot be sent or kept"):
            taker.taken(value)
    assert isinstance(taker.taken((Pair(1), Pair([2]), Pair(3))), Kept)


@pytest.mark.parametrize(
    "value",
    [
        "a" * SIZE_MAXIMUM_BYTES,
        "é" * (SIZE_MAXIMUM_BYTES // 2),
        Pair(bytes(SIZE_MAXIMUM_BYTES)),
        Pair((1, "b", Pair(b"c" * SIZE_MAXIMUM_BYTES))),
        (("a" * 4096,) * (SIZE_MAXIMUM_BYTES // 4096)),
        tuple(Pair(number) for number in range(SIZE_MAXIMUM_BYTES // 20)),
        1 << (SIZE_MAXIMUM_BYTES * 4),
        {"a": ["b" * SIZE_MAXIMUM_BYTES]},
    ],
    ids=["text", "wide text", "bytes", "deep", "wide", "many small", "a number", "in a dict"],
)
def test_too_much_is_refused(value: Any) -> None:
    for refuse in (Values(CODEC).taken, CODEC.encode):
        with pytest.raises(InvalidError, match=r"bytes, and the most is 16777216 \(16 MiB\)"):
            refuse(value)


def test_what_just_fits_is_taken() -> None:
    value = Pair("a" * (SIZE_MAXIMUM_BYTES - 100))
    assert Values(CODEC).taken(value) is value


def test_what_is_built_up_step_by_step_is_not_too_deep_unseen() -> None:
    """Each link was looked at with the one before it."""
    taker, chain, depth = Values(CODEC), Pair(0), 0
    with pytest.raises(InvalidError, match="nested more than 64 deep"):
        while depth < 100:
            chain, depth = Pair(chain), depth + 1
            taker.taken(chain)
    assert depth == 65


@dataclass(frozen=True)
class Counted:
    number: int
    double: int = field(init=False, default=0)


@dataclass(frozen=True)
class Begun:
    number: InitVar[int]


@dataclass
class Loose:
    number: int


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Counted(1), "cannot be made from its fields where it arrives"),
        (Begun(1), "cannot be made from its fields where it arrives"),
        (Loose(1), "@dataclass\\(frozen=True\\) above class Loose"),
        (Mode.READ | Mode.WRITE, "more than one member of Mode"),
        ("a\udc80", "no text that UTF-8 has"),
    ],
)
def test_mistakes_are_told(value: Any, said: str) -> None:
    codec = Codec([Pair, Counted, Begun, Mode])
    for refuse in (Values(codec).taken, codec.encode):
        for each in (value, Pair(value), [value]):
            with pytest.raises(InvalidError, match=said):
                refuse(each)
