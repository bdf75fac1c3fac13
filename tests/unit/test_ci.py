"""What a newcomer and a build machine call: .ci/run, the README's two commands, the Makefile."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_ci_calls_check_and_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert re.findall(r"(?m)^make (\w+)$", script.read_text()) == ["check", "test"]


def test_readme_has_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert re.search(r"(?m)^(\$ )?make run\b", readme)
    assert re.search(r"(?m)^(\$ )?make test\b", readme)


@pytest.mark.parametrize("target", ["setup", "run", "check", "test", "bench", "docs", "proto"])
def test_the_makefile_knows(target: str) -> None:
    assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text())


@pytest.mark.parametrize(
    "script", sorted(path.name for path in (ROOT / "tools").glob("*.sh")), ids=str
)
def test_shell_tools_are_plain_sh(script: str) -> None:
    text = (ROOT / "tools" / script).read_text()
    assert text.startswith("#!/bin/sh\n")
    done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
