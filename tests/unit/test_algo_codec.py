"""What algorithms say and keep, as bytes: it comes back as it was, and nothing else comes in."""

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.algo import Layout, Process, on
from perseus.algo.codec import Codec
from perseus.algo.library.kv import Kv, Put
from perseus.algo.library.raft import Entry, Propose, Role, Snapshot
from perseus.errors import IncompatibleError, InvalidError


class Colour(Enum):
    RED = "r"


@dataclass(frozen=True)
class Pair:
    left: Any
    right: Any = 7


@dataclass(frozen=True)
class Newer:
    version: ClassVar[int] = 2
    left: Any = None


class Speaker(Process):
    @on(Pair)
    def pair(self, sender: str, message: Pair) -> None:
        pass


CODEC = Codec([Pair, Colour])
plain: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.just(Colour.RED),
)
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(), inner, max_size=3),
        st.frozensets(plain, max_size=3),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=12,
)


@given(values)
def test_values_come_back_as_they_were(value: Any) -> None:
    again = CODEC.decode(CODEC.encode(value))
    assert again == value and type(again) is type(value)


def test_a_set_has_one_form() -> None:
    assert CODEC.encode(frozenset("abc")) == CODEC.encode(frozenset("cba"))


def test_the_messages_of_a_layout() -> None:
    codec = Codec.of(Layout.of(Kv))
    snapshot = Snapshot(3, 2, (("x", 1),), ("n1", "n2"), (("c", 4, None),))
    for message in (
        Propose(3, Put("x", 1)),
        Entry(1, "command", Put("y", 2)),
        snapshot,
        Role.LEADER,
    ):
        assert codec.decode(codec.encode(message)) == message
    assert Codec.of(Layout.of(Speaker)).decode(CODEC.encode(Pair(1))) == Pair(1)


@given(st.binary(max_size=60))
def test_bytes_of_strangers_do_no_harm(data: bytes) -> None:
    with suppress(InvalidError):
        CODEC.decode(data)


def test_what_is_not_known_is_refused() -> None:
    @dataclass(frozen=True)
    class Foreign:
        x: int

    with pytest.raises(InvalidError, match="is not a message of this algorithm"):
        CODEC.encode(Foreign(1))
    with pytest.raises(InvalidError, match="no message 'Foreign'"):
        CODEC.decode(Codec([Foreign]).encode(Foreign(1)))
    with pytest.raises(InvalidError, match="cannot be sent or kept"):
        CODEC.encode(object())
    with pytest.raises(InvalidError, match="two classes are called Foreign"):
        Codec([Foreign, dataclass(frozen=True)(type("Foreign", (), {}))])
    deep: Any = ()
    for _ in range(100):
        deep = (deep,)
    with pytest.raises(InvalidError, match="nested more than"):
        CODEC.encode(deep)


def test_versions() -> None:
    @dataclass(frozen=True)
    class Pair:
        left: Any

    older = Codec([Pair]).encode(Pair(1))
    # A field that is missing takes its default.
    assert CODEC.decode(older).right == 7
    with pytest.raises(InvalidError, match="Pair lacks left"):
        CODEC.decode(Codec([_named("Pair")]).encode(_named("Pair")()))
    older_newer: type = dataclass(frozen=True)(type("Newer", (), {}))
    with pytest.raises(IncompatibleError, match="version 2; version 1 is known"):
        Codec([older_newer]).decode(Codec([Newer]).encode(Newer()))


_MADE: dict[str, type] = {}


def _named(name: str) -> type:
    """One empty dataclass of each name."""
    return _MADE.setdefault(name, dataclass(frozen=True)(type(name, (), {})))
