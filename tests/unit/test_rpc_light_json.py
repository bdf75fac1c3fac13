"""The fast path's JSON is JSON, and its client imports next to nothing."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.rpc import light_json

SOURCE = Path(__file__).resolve().parents[2] / "src"
TEXTS = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


@given(VALUES)
def test_agrees_with_the_module_json(value: Any) -> None:
    assert json.loads(light_json.dumps(value)) == value
    assert light_json.loads(json.dumps(value)) == value
    assert light_json.loads(f" \n{json.dumps(value, indent=2)}\n") == value
    assert "\n" not in light_json.dumps(value)


def test_numbers_that_json_does_not_have() -> None:
    assert math.isnan(light_json.loads("NaN"))
    assert light_json.loads("-Infinity") == -math.inf


@pytest.mark.parametrize("text", ["", " ", "{", "[1,", "{} {}", "nonsense", '{"a"}', '"', "01"])
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        light_json.loads(text)


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError):
        light_json.dumps({"a": b"bytes"})


def test_the_module_json_can_stand_in() -> None:
    loads, dumps = light_json._from_module()
    assert loads(dumps({"a": ["ü", 1.5, None]})) == {"a": ["ü", 1.5, None]}
    assert dumps({"a": ["ü", 1]}) == light_json.dumps({"a": ["ü", 1]})


def test_the_unix_client_imports_next_to_nothing() -> None:
    program = "import sys; import perseus.rpc.http_client; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"asyncio", "ssl", "socket", "json", "re", "enum", "email", "http", "google", "grpc"}
    assert heavy.isdisjoint(done.stdout.split())
