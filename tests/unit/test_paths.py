"""Paths and grants: what is one, and what each wrong one is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.errors import InvalidError, RefusedError
from perseus.filestore import grants, paths

NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
).filter(lambda name: name not in (".", ".."))


@pytest.mark.parametrize(
    "path", ["", "a", "./a", "/a/../b", "/..", "/.", "/a/./b", "/a\0b", "/\ud800", "~/a"]
)
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(InvalidError):
        paths.split(path)


def test_bounds() -> None:
    assert paths.split("/" + "ä" * 127) == ("ä" * 127,)
    with pytest.raises(InvalidError, match="255 bytes"):
        paths.split("/" + "ä" * 128)
    assert len(paths.split("/a" * 255)) == 255
    with pytest.raises(InvalidError, match="255 levels"):
        paths.split("/a" * 256)
    with pytest.raises(InvalidError, match="4096 bytes"):
        paths.split(("/" + "a" * 200) * 21)


@pytest.mark.parametrize(
    ("path", "written"),
    [("/", "/"), ("//", "/"), ("/a/", "/a"), ("//a///b//", "/a/b"), ("/a/...", "/a/...")],
)
def test_one_written_form(path: str, written: str) -> None:
    assert paths.normalise(path) == written


@given(st.lists(NAMES, max_size=10))
def test_splitting_and_joining_are_inverse(names: list[str]) -> None:
    path = "/" + "/".join(names)
    assert paths.split(path) == tuple(names)
    assert paths.normalise(path) == path
    if names:
        assert paths.join(paths.parent(path), names[-1]) == path


def test_names() -> None:
    assert paths.check_name("a b\n") == "a b\n"
    for name in ("", "a/b", "..", "\0", "\udcff", "x" * 256):
        with pytest.raises(InvalidError):
            paths.check_name(name)


def test_a_grant_is_for_one_chunk_and_version_and_time() -> None:
    key = b"k" * 32
    grant = grants.make_grant(key, 7, 2, 5, 1000.0)
    assert len(grant) == grants.GRANT_BYTES
    assert grants.check_grant(key, grant, 7, 2, 999.0).epoch == 5
    for bad_key, chunk, version, time_s, words in (
        (b"x" * 32, 7, 2, 999.0, "signed"),
        (key, 8, 2, 999.0, "chunk 7"),
        (key, 7, 1, 999.0, "version 2"),
        (key, 7, 2, 1001.0, "expired"),
    ):
        with pytest.raises(RefusedError, match=words):
            grants.check_grant(bad_key, grant, chunk, version, time_s)


@given(st.integers(0, grants.GRANT_BYTES * 8 - 1))
def test_a_grant_with_a_flipped_bit_is_refused(bit: int) -> None:
    key = b"k" * 32
    grant = bytearray(grants.make_grant(key, 7, 2, 5, 1000.0))
    grant[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RefusedError):
        grants.check_grant(key, bytes(grant), 7, 2, 999.0)


def test_a_grant_that_is_none() -> None:
    with pytest.raises(RefusedError):
        grants.check_grant(b"k" * 32, b"", 7, 2, 999.0)
