"""tools/setup.sh keeps the environment that works until the new one does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MADE_FROM = (
    "requirements-dev.lock",
    "pyproject.toml",
    "tools/setup.sh",
    "src/perseus/cli/bin/perseus",
)
TOOLS = (
    "sh",
    "cat",
    "chmod",
    "cksum",
    "cp",
    "dirname",
    "id",
    "mkdir",
    "mv",
    "rm",
    "rmdir",
    "sleep",
)
LIMIT_S = 60.0

# A Python that makes its environments in no time, and tells of each.
FAKE = f"""#!/bin/sh
case "$1" in
-c) echo {{fake}} ;;
-V) echo Python 3.11 ;;
-) exec {sys.executable} "$@" ;;
-m) if [ "$2" = pip ]; then exit "$PIP_CODE"; fi
    echo made >>{{log}}
    mkdir -p "$3/bin"
    cp {{fake}} "$3/bin/python"
    echo "#!$3/bin/python" >"$3/bin/tool" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in MADE_FROM:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    fake = tmp_path / "python"
    fake.write_text(FAKE.format(fake=fake, log=tmp_path / "log"))
    fake.chmod(0o755)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "old").touch()
    return tmp_path


def start(checkout: Path, pip_code: int, path: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", str(checkout / "tools/setup.sh")],
        env={"PATH": path, "PERSEUS_PYTHON": str(checkout / "python"), "PIP_CODE": str(pip_code)},
        stderr=subprocess.DEVNULL,
    )


def test_what_fails_half_way_leaves_the_old_environment(checkout: Path) -> None:
    assert start(checkout, 1, os.environ["PATH"]).wait(LIMIT_S) == 1
    assert (checkout / ".venv/old").exists()


@pytest.mark.parametrize("has_flock", [True, False])
def test_two_at_once_make_one(checkout: Path, has_flock: bool) -> None:
    path = os.environ["PATH"]
    if not has_flock:
        path = str(checkout / "tools-only")
        os.mkdir(path)
        for tool in TOOLS:
            os.symlink(str(shutil.which(tool)), f"{path}/{tool}")
    both = [start(checkout, 0, path) for _ in range(2)]
    assert [process.wait(LIMIT_S) for process in both] == [0, 0]
    assert (checkout / "log").read_text() == "made\n"
    assert (checkout / ".venv/bin/tool").read_text() == f"#!{checkout}/.venv/bin/python\n"
    assert not (checkout / ".venv/old").exists()
    assert not list(checkout.glob(".venv.[no]*"))
