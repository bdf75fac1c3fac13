"""Amounts as people type and read them."""

import subprocess
import sys
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.cli import units
from perseus.cli.commands import nodes, setup
from perseus.cli.console import Console
from perseus.cli.main import Invocation
from perseus.client.messages import Capacity, Load, NodeInfo, Resources


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


def test_a_number_below_0_is_not_said_to_be_none() -> None:
    with pytest.raises(units.UsageError, match="'-1' is not a number of 0 or more"):
        units.parse_number("-1", "--cpu")


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


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", "plain"),
        ("two words é", "two words é"),
        ("\x1b[31m", "$'\\x1b[31m'"),
        ("a\nb'c\\d", "$'a\\nb\\'c\\\\d'"),
        ("\x9b", "$'\\xc2\\x9b'"),
    ],
)
def test_names_cannot_write_on_a_terminal(name: str, shown: str) -> None:
    assert units.quoted(name) == shown
    said = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True)
    assert name == shown or said.stdout.decode() == name


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_table_quotes_names_on_a_terminal_alone(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    Console().table(["NAME"], [["\x1b[31mred"]])
    assert ("\x1b[31mred" in capsys.readouterr().out) is not is_terminal


def test_what_a_node_has_not_told_yet_is_no_zero() -> None:
    joined = nodes._row(NodeInfo(name="attic", state="joined"))
    assert joined == ("attic", "-", "joined", "-", "-", "-", "-", 0, "-")
    told = NodeInfo(
        name="attic",
        capacity=Capacity(resources=Resources(cpu=2.0, memory_bytes=8 << 30, disk_bytes=64 << 30)),
        load=Load(memory_available_bytes=4 << 30, disk_free_bytes=0),
    )
    assert nodes._row(told)[3:7] == ("2", "4.0G/8.0G", "0/64.0G", "0%")


@pytest.mark.parametrize(("left_s", "words"), [(3599.99, "1h00m"), (599.5, "10m00s")])
def test_a_token_for_an_hour_is_told_as_one(
    left_s: float, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    made = SimpleNamespace(token="T", master_address="a:1", expires_at_s=1000.0 + left_s)
    invocation = SimpleNamespace(
        options=SimpleNamespace(ttl=None, role="node"),
        cluster=SimpleNamespace(create_token=lambda role, ttl_s: made),
        console=Console(),
    )
    assert setup.token_create(cast(Invocation, invocation)) == 0
    out, error = capsys.readouterr()
    assert out == "T\n" and f"works once, for {words}, with:" in error
