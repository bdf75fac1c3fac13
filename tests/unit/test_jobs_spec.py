"""What may be submitted, and what is said of what may not."""

from functools import partial
from typing import Any

import pytest

from perseus.errors import InvalidError, NotFoundError, PerseusError, TooLargeError
from perseus.jobs import absent, spec
from perseus.proto.v1 import jobs_pb2
from perseus.settings import Settings
from tests.unit.jobs_harness import World
from tests.unit.jobs_stage import submit_request

WORLD = World(nodes=2)
WORLD.outputs.inputs["/logs/a.txt"] = {}


def check(**fields: Any) -> spec.Accepted:
    return accept(submit_request(**fields))


def accept(request: jobs_pb2.SubmitRequest) -> spec.Accepted:
    absence = partial(absent.as_input, WORLD.jobs)
    return spec.check(request, Settings(), WORLD.membership, WORLD.outputs, absence)


def placed(*pairs: tuple[str, str]) -> list[jobs_pb2.PlacedFile]:
    return [jobs_pb2.PlacedFile(name=name, path=path) for name, path in pairs]


def test_defaults() -> None:
    accepted = check(argv=["/usr/bin/env", "x"])
    assert (accepted.count, accepted.parallel, accepted.name) == (1, 0, "env")
    filled = accepted.spec
    assert (filled.retries, filled.failure_retries, filled.grace_s) == (3, 0, 5.0)
    assert filled.resources.cpu == 1.0 and filled.output_limit_bytes == 10 << 30
    assert check(retries=0).spec.retries == 0


def test_what_is_in_order_is_taken_and_the_request_is_not_changed() -> None:
    request = submit_request(
        argv=["x", ""],
        environment={"A": "", "B.c": "1=2"},
        working_directory="/srv",
        stdin_path="//logs/a.txt/",
        files=placed(("in/a.txt", "/logs/a.txt"), ("b", "/logs//a.txt")),
        labels={"gpu": "yes"},
        architecture="aarch64",
        node="node-1",
        time_limit_s=1.5,
        priority=-100,
        count=100_000,
        name="my job",
    )
    before = request.SerializeToString(deterministic=True)
    accepted = accept(request)
    assert accepted.spec.stdin_path == "/logs/a.txt"
    assert [file.path for file in accepted.spec.files] == ["/logs/a.txt"] * 2
    assert request.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("fields", "kind", "words", "hint"),
    [
        ({"argv": []}, InvalidError, "no program", "perseus run --"),
        ({"argv": [""]}, InvalidError, "no program", "perseus run --"),
        ({"argv": ["x", "a\0b"]}, InvalidError, "argument 1 has a NUL", "stdin"),
        ({"argv": ["x"] * 600_000}, TooLargeError, "1200000 bytes", "xargs"),
        ({"argv": ["x", "y" * (1 << 17)]}, TooLargeError, "argument 1", "--file"),
        ({"environment": {"A=B": "c"}}, InvalidError, "'A=B'", "--env NAME=VALUE"),
        ({"environment": {"": "c"}}, InvalidError, "''", "--env"),
        ({"environment": {"A": "b\0"}}, InvalidError, "NUL", ""),
        ({"environment": {"A": "b" * (1 << 18)}}, TooLargeError, "variable A", "--file"),
        ({"working_directory": "srv"}, InvalidError, "not absolute", "/srv"),
        ({"stdin_inline": b"x" * 65_537}, TooLargeError, "65537 bytes", "fs put"),
        ({"stdin_path": "/logs/b.txt"}, NotFoundError, "/logs/b.txt", "perseus fs ls /logs"),
        ({"stdin_path": "/logs"}, InvalidError, "/logs, which is a folder", "fs ls /logs"),
        ({"files": placed(("x", "/logs/"))}, InvalidError, "is a folder", "fs ls /logs"),
        ({"stdin_path": "logs"}, InvalidError, "not absolute", "/logs"),
        ({"stdin_path": "/a/../b"}, InvalidError, "'..'", ""),
        ({"files": placed(("../x", "/logs/a.txt"))}, InvalidError, "'../x'", "--file"),
        ({"files": placed(("/x", "/logs/a.txt"))}, InvalidError, "'/x'", "--file"),
        ({"files": placed(("x", "/no"))}, NotFoundError, "/no", "fs put"),
        (
            {"files": placed(("x", "/logs/a.txt"), ("x", "/logs/a.txt"))},
            InvalidError,
            "two files",
            "",
        ),
        (
            {"files": placed(("x", "/logs/a.txt"), ("x/y/z", "/logs/a.txt"))},
            InvalidError,
            "a file and a folder",
            "",
        ),
        ({"resources": {"cpu": -1}}, InvalidError, "-1 cores", "--cpu"),
        ({"resources": {"cpu": float("nan")}}, InvalidError, "nan cores", "--cpu"),
        ({"time_limit_s": -5}, InvalidError, "-5 s", "seconds"),
        ({"grace_s": float("inf")}, InvalidError, "inf s", "seconds"),
        ({"priority": 101}, InvalidError, "101", "-100"),
        ({"retries": 5000}, InvalidError, "5000", ""),
        ({"count": 100_001}, TooLargeError, "100001 tasks", "several jobs"),
        ({"node": "attic"}, NotFoundError, "'attic'", "perseus nodes"),
        ({"architecture": "arm 64"}, InvalidError, "'arm 64'", "uname -m"),
        ({"name": "a\nb"}, InvalidError, "name", "printable"),
        ({"request_id": "r" * 200}, InvalidError, "request id", ""),
    ],
)
def test_what_is_not(
    fields: dict[str, Any], kind: type[PerseusError], words: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        check(**fields)
    assert words in caught.value.message
    assert hint in caught.value.hint
    assert len(str(caught.value)) < 1000


def test_signals() -> None:
    assert spec.check_signal(0) == 15 and spec.check_signal(9) == 9
    for number in (-1, 65):
        with pytest.raises(InvalidError):
            spec.check_signal(number)
