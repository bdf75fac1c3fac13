"""Amounts as people type and read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.cli import units


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512", 512), ("1K", 1024), ("1.5k", 1536), ("2GiB", 2 << 30), ("3MB", 3 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5h", 5400), ("10m", 600), ("250ms", 0.25), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1Q", "nan", "inf", "1e999", "G", "1 2"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(units.UsageError):
        units.parse_size_bytes(text)
    with pytest.raises(units.UsageError):
        units.parse_duration_s(text)


@given(st.integers(min_value=0, max_value=1 << 59))
def test_a_size_reads_back_within_its_rounding(size: int) -> None:
    text = units.format_size(size)
    if text.endswith("P"):
        return
    assert abs(units.parse_size_bytes(text) - size) <= size * 0.06
    assert len(text) <= 6


@given(st.floats(min_value=0, max_value=1e9))
def test_a_duration_is_short(seconds: float) -> None:
    assert len(units.format_duration(seconds)) <= 9
