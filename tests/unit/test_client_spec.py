"""What is said of arguments that are not of their kind: in the words of who gave them."""

from typing import Any

import pytest

from perseus.client import spec
from perseus.errors import InvalidError


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ({"cpu": "x"}, "cpu='x' is not a number", "cpu=0.5"),
        ({"cpu": float("nan")}, "cpu=nan is not a number", "cpu=0.5"),
        ({"cpu": -1}, "cpu=-1 is below 0", "cpu=0.5"),
        ({"time_limit_s": float("inf")}, "time_limit_s=inf is not a number", "time_limit_s=30"),
        ({"memory": "512M"}, "memory='512M' is not a whole number", "memory=512 << 20"),
        ({"disk": 1.5}, "disk=1.5 is not a whole number", "disk=10 << 30"),
        ({"retries": True}, "retries=True is not a whole number", "retries=3"),
        ({"count": -5}, "count=-5 is below 0", "count=100"),
        ({"env": ["A=B"]}, "env=['A=B'] is no mapping", 'env={"LANG": "C"}'),
        ({"labels": "ssd"}, "labels='ssd' is no mapping", "labels={"),
        ({"files": "/a"}, "files='/a' is no mapping", "files={"),
    ],
)
def test_arguments_that_are_not_of_their_kind(given: dict[str, Any], said: str, hint: str) -> None:
    with pytest.raises(InvalidError) as caught:
        spec.submit_request(["true"], **given)
    assert caught.value.message == said
    assert hint in caught.value.hint and "--" not in caught.value.hint


def test_arguments_that_are() -> None:
    request = spec.submit_request(
        ["true"], cpu=1, memory=1 << 30, priority=-3, time_limit_s=1, env={"A": "b"}, retries=0
    )
    assert request["spec"]["resources"] == {"cpu": 1, "memory_bytes": 1 << 30}
    assert request["spec"]["priority"] == -3 and request["spec"]["retries"] == 0


def test_no_program_is_told_for_both_doors() -> None:
    with pytest.raises(InvalidError) as caught:
        spec.check_argv([])
    assert "perseus run --" in caught.value.hint and 'run(["wc", "-l"])' in caught.value.hint
