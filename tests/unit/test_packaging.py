"""The locks are whole, hold nothing but pins and hashes, and agree with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = "requirements.lock"
DEVELOPMENT = "requirements-dev.lock"
LINE = re.compile(r"#.*|[a-z0-9][a-z0-9.-]*==[\w.+!]+ \\| {4}--hash=sha256:[0-9a-f]{64}( \\)?")


def _pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([a-z0-9.-]+)==(\S+) \\$", (ROOT / name).read_text()))


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~ ;\[]", line)[0] for line in requirements}


@pytest.mark.parametrize("name", [RUNTIME, DEVELOPMENT])
def test_a_lock_names_no_place(name: str) -> None:
    odd = [line for line in (ROOT / name).read_text().splitlines() if not LINE.fullmatch(line)]
    assert not odd, odd[:5]


@pytest.mark.parametrize("name", [RUNTIME, DEVELOPMENT])
def test_every_pin_has_hashes(name: str) -> None:
    blocks = re.split(r"(?m)^(?=[a-z0-9])", (ROOT / name).read_text())[1:]
    bare = [block.split()[0] for block in blocks if "--hash=sha256:" not in block]
    assert not bare, bare


def test_locks_hold_all_that_is_asked_for() -> None:
    runtime = _names(PROJECT["project"]["dependencies"])
    development = _names(PROJECT["dependency-groups"]["dev"])
    assert runtime <= _pins(RUNTIME).keys()
    assert runtime | development <= _pins(DEVELOPMENT).keys()


def test_both_locks_agree() -> None:
    assert _pins(RUNTIME).items() <= _pins(DEVELOPMENT).items()


def test_package_ships_its_types_and_its_command() -> None:
    assert (ROOT / "src/perseus/py.typed").is_file()
    for script in PROJECT["tool"]["setuptools"]["script-files"]:
        path = ROOT / script
        assert path.read_text().startswith("#!/bin/sh\n")
        assert path.stat().st_mode & 0o111
