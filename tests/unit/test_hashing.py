"""Consistent hashing and rendezvous: even shares, and no key moves that need not."""

from collections import Counter
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perseus.algo.library.hashing import HashRing, rendezvous, stable_hash

KEYS = [f"key{number}" for number in range(300)]
names = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=8, unique=True)

Place = Callable[[str, Mapping[str, float] | list[str]], str]


def by_ring(key: str, nodes: Mapping[str, float] | list[str]) -> str:
    return HashRing(nodes, 16).place(key)


def by_draw(key: str, nodes: Mapping[str, float] | list[str]) -> str:
    return rendezvous(key, nodes)[0]


def placed(place: Place, nodes: list[str]) -> dict[str, str]:
    if place is by_ring:
        ring = HashRing(nodes, 16)
        return {key: ring.place(key) for key in KEYS}
    return {key: place(key, nodes) for key in KEYS}


@pytest.mark.parametrize("place", [by_ring, by_draw])
@settings(max_examples=15)
@given(nodes=names)
def test_a_node_that_comes_takes_keys_and_moves_no_others(place: Place, nodes: list[str]) -> None:
    before, after = placed(place, nodes), placed(place, [*nodes, "the new one"])
    assert all(after[key] in (before[key], "the new one") for key in KEYS)


@pytest.mark.parametrize("place", [by_ring, by_draw])
@settings(max_examples=15)
@given(nodes=names)
def test_a_node_that_goes_moves_its_keys_alone(place: Place, nodes: list[str]) -> None:
    if len(nodes) == 1:
        return
    before, after = placed(place, nodes), placed(place, nodes[1:])
    assert all(after[key] == before[key] for key in KEYS if before[key] != nodes[0])
    assert nodes[0] not in after.values()


@pytest.mark.parametrize("place", [by_ring, by_draw])
@settings(max_examples=10)
@given(nodes=names)
def test_the_order_of_nodes_does_not_matter(place: Place, nodes: list[str]) -> None:
    assert placed(place, nodes) == placed(place, nodes[::-1])


@settings(max_examples=30)
@given(nodes=names, count=st.integers(1, 8))
def test_replicas_are_on_different_nodes(nodes: list[str], count: int) -> None:
    ring = HashRing(nodes, 16)
    for found in (ring.places("x", count), rendezvous("x", nodes, count)):
        assert len(set(found)) == len(found) == min(count, len(nodes))
    assert ring.places("x", count)[0] == ring.place("x")


def shares(place: Callable[[str], str], keys: int = 10_000) -> dict[str, float]:
    counts = Counter(place(f"key{number}") for number in range(keys))
    return {node: count / keys for node, count in counts.items()}


def test_shares_are_even() -> None:
    nodes = [f"n{number}" for number in range(10)]
    by_points = shares(HashRing(nodes).place)
    assert all(0.06 < share < 0.15 for share in by_points.values()) and len(by_points) == 10
    drawn = shares(lambda key: rendezvous(key, nodes)[0])
    assert all(0.09 < share < 0.11 for share in drawn.values()) and len(drawn) == 10


def test_more_points_make_shares_more_even() -> None:
    nodes = [f"n{number}" for number in range(10)]
    few, many = shares(HashRing(nodes, 2).place), shares(HashRing(nodes, 500).place)
    assert max(many.values()) < 0.13 < max(few.values())


def test_shares_follow_weights() -> None:
    weights = {"small": 1.0, "big": 3.0}
    assert 0.65 < shares(HashRing(weights, 500).place)["big"] < 0.85
    assert 0.73 < shares(lambda key: rendezvous(key, weights)[0])["big"] < 0.77


def test_a_ring_changes_by_a_node() -> None:
    ring = HashRing(["a", "b"])
    grown, whole = ring.with_node("c"), HashRing(["c", "a", "b"])
    assert [grown.place(key) for key in KEYS] == [whole.place(key) for key in KEYS]
    assert ring.with_node("c").without_node("c").weights == ring.weights


def test_hashes_are_the_same_everywhere() -> None:
    assert stable_hash("perseus") == 1_956_677_076_080_762_201
    assert stable_hash("ab", "c") != stable_hash("a", "bc")


def test_without_nodes_there_is_no_place() -> None:
    with pytest.raises(LookupError):
        HashRing([]).place("x")
    with pytest.raises(LookupError):
        rendezvous("x", [])
