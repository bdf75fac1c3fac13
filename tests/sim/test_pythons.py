"""A seed is the same run under each Python that is installed here, and whatever the hashes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim import run_digests

# Where others than the one of these tests may be, besides the folders of PATH.
FOLDERS = (".pyenv/versions/*/bin", ".local/share/uv/python/*/bin")
NAME = re.compile(r"python3\.\d+")
OLDEST = (3, 11)
RUN_LIMIT_S = 110
HINT = "if these runs are meant to be others now: python tests/sim/run_digests.py --write"
ASK = "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.name)"


def pythons() -> dict[str, str]:
    """By version the programs that are installed and new enough, one of each."""
    homes = [folder for pattern in FOLDERS for folder in Path("~").expanduser().glob(pattern)]
    folders = [Path(folder) for folder in os.get_exec_path() if folder] + homes
    found: dict[str, str] = {}
    for folder in folders:
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if NAME.fullmatch(path.name) and (version := _version(path)) not in ("", *found):
                found[version] = str(path)
    own = _version(Path(sys.executable))
    return {version: path for version, path in found.items() if version != own}


def _version(path: Path) -> str:
    """Such as "3.12 cpython"; "" for what does not start, or is too old."""
    done = subprocess.run([path, "-c", ASK], capture_output=True, text=True, check=False)
    number = done.stdout.partition(" ")[0]
    is_new = done.returncode == 0 and tuple(map(int, number.split("."))) >= OLDEST
    return done.stdout.strip() if is_new else ""


def said_by(python: str, hashes: str) -> dict[str, str]:
    done = subprocess.run(
        [python, "-s", run_digests.__file__],
        # Not the caller's, by which it would find packages of another Python.
        env={"PATH": os.environ["PATH"], "PYTHONHASHSEED": hashes},
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    digests: dict[str, str] = json.loads(done.stdout)
    return digests


@pytest.mark.parametrize("hashes", ["0", "1", "7"])
def test_runs_are_those_that_were_written_down(hashes: str) -> None:
    written = json.loads(run_digests.FILE.read_text())
    assert said_by(sys.executable, hashes) == written, HINT
    assert set(written) == set(run_digests.targets())


def test_other_pythons_take_the_same_steps() -> None:
    others = pythons()
    if not others:
        pytest.skip(f"no other Python than {sys.version.split()[0]} is installed here")
    written = json.loads(run_digests.FILE.read_text())
    said = {version: said_by(path, "5") for version, path in others.items()}
    assert said == dict.fromkeys(others, written)
