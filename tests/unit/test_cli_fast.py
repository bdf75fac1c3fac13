"""The fast path: what it imports, and that it understands flags as the full parser does."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perseus.cli import runspec
from perseus.cli.commands.work import parsed_options
from perseus.cli.config import Configuration
from perseus.cli.parser import build_parser
from perseus.cli.units import UsageError

SOURCE = Path(__file__).resolve().parents[2] / "src"
HEAVY = ("argparse", "ssl", "asyncio", "google", "grpc", "http.client", "email", "re", "json")
FAST_MODULES = (
    "perseus.cli.fast",
    "perseus.cli.runspec",
    "perseus.cli.foreground",
    "perseus.cli.stdin",
    "perseus.cli.lightfeed",
    "perseus.client.context",
    "perseus.rpc.http_client",
)


def test_the_fast_path_imports_nothing_heavy() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
        f"import {', '.join(FAST_MODULES)}\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))\nprint(len(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    found, count = done.stdout.splitlines()
    assert found == ""
    print(f"modules loaded on the fast path: {count}")


WORDS = st.sampled_from(["ls", "-la", "--", "--cpu", "x=1", "--pure", "-q", "--json", "2", ""])
GIVEN = st.lists(
    st.one_of(
        st.sampled_from(
            [flag for flag, entry in runspec.FLAGS.items() if entry[1] == "switch"]
        ).map(lambda flag: [flag]),
        st.tuples(
            st.sampled_from(
                [flag for flag, entry in runspec.FLAGS.items() if entry[1] != "switch"]
            ),
            st.sampled_from(["1", "2", "A=B", "/a", "x y", "=", "é"]),
            st.booleans(),
        ).map(lambda one: [f"{one[0]}={one[1]}"] if one[2] else [one[0], one[1]]),
    ),
    max_size=5,
).map(lambda parts: [word for part in parts for word in part])


@example(["--cpu"], ["-la", "ls"], False)
@example(["--cpu"], ["ls"], True)
@given(GIVEN, st.lists(WORDS, min_size=1, max_size=4), st.booleans())
def test_both_parsers_agree(given_flags: list[str], argv: list[str], dashes: bool) -> None:
    arguments = given_flags + (["--"] if dashes else []) + argv
    fast = runspec.parse(arguments)
    if fast is None:
        return
    options = build_parser().parse_args(["run", *arguments])
    full = parsed_options(vars(options), Configuration({}, {}))
    assert full.argv == fast.argv
    assert full.values == fast.values


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--cpu"],
        ["--nope", "x"],
        [],
        ["--cpu", "1"],
        ["--cpu", "-la", "ls"],
        ["--cpu", "--", "ls"],
        ["--name", "--pure", "ls"],
    ],
)
def test_the_unusual_is_left_to_the_full_parser(arguments: list[str]) -> None:
    assert runspec.parse(arguments) is None


def test_a_request_says_what_was_typed() -> None:
    words = ["--cpu", "0.5", "--memory=1G", "--env", "A=b=c", "--file", "w=/data/w", "--label"]
    options = runspec.parse([*words, "gpu=yes", "--time-limit", "2m", "--count", "3", "wc", "-l"])
    assert options is not None
    assert runspec.submit_request(options, "r1") == {
        "spec": {
            "argv": ["wc", "-l"],
            "environment": {"A": "b=c"},
            "files": [{"name": "w", "path": "/data/w"}],
            "resources": {"cpu": 0.5, "memory_bytes": 1 << 30},
            "labels": {"gpu": "yes"},
            "time_limit_s": 120.0,
        },
        "request_id": "r1",
        "count": 3,
    }


@pytest.mark.parametrize(
    "words",
    [
        ["--cpu", "-1", "x"],
        ["--memory", "1X", "x"],
        ["--env", "=x", "x"],
        ["--file", "a=b", "x"],
        ["--count", "0", "x"],
        ["--label", "x", "x"],
        ["--priority", "101", "x"],
        ["--priority", "-101", "x"],
        ["--retries", "1001", "x"],
        ["--failure-retries", "1001", "x"],
        ["--count", "100001", "x"],
        ["--", "a\0b"],
        ["--", "x" * (2 << 20)],
        ["--", "\udcff"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(words: list[str]) -> None:
    options = runspec.parse(words)
    assert options is not None
    with pytest.raises(UsageError):
        runspec.submit_request(options, "r")


def test_flags_have_the_bounds_of_the_master() -> None:
    from perseus.jobs import spec

    for name in ("COUNT_MAXIMUM", "RETRIES_MAXIMUM", "PRIORITY_MAXIMUM"):
        assert getattr(runspec, name) == getattr(spec, name)
    most = runspec.parse(["--priority", "-100", "--retries", "1000", "--count", "100000", "x"])
    assert most is not None
    assert runspec.submit_request(most, "r")["spec"]["priority"] == -100
