"""The tree over a map: equal for equal maps, and quick to say where two differ."""

from hypothesis import given, settings
from hypothesis import strategies as st

from perseus.algo.library.merkle import BUCKETS, DEPTH, FANOUT, MerkleTree, bucket_of

maps = st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=12)


@settings(max_examples=15)
@given(items=maps, more=maps)
def test_a_tree_follows_its_map(items: dict[str, int], more: dict[str, int]) -> None:
    grown = MerkleTree(items)
    for key, value in more.items():
        grown.set(key, value)
    assert grown.root == MerkleTree({**items, **more}).root


@settings(max_examples=15)
@given(one=maps, two=maps)
def test_roots_are_equal_for_equal_maps_alone(one: dict[str, int], two: dict[str, int]) -> None:
    assert (MerkleTree(one).root == MerkleTree(two).root) == (one == two)


def test_one_key_of_many_is_found_with_few_digests() -> None:
    items = {f"k{number}": number for number in range(20 * BUCKETS)}
    one, two = MerkleTree(items), MerkleTree(items | {"k7": -1})
    digests: tuple[tuple[int, bytes], ...] = ((0, one.root),)
    sent = 1
    for level in range(DEPTH):
        places = two.different(level, digests)
        assert len(places) == 1
        one, two = two, one
        digests = one.children(level, places)
        sent += len(digests)
    assert two.different(DEPTH, digests) == [bucket_of("k7")]
    assert sent == 1 + FANOUT * DEPTH
    assert "k7" in one.keys([bucket_of("k7")])
    assert len(one.keys([bucket_of("k7")])) < 60
