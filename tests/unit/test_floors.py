"""The floors of ARCHITECTURE.md hold, and the floors checked are those it draws."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_imports_keep_to_the_floors() -> None:
    program = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: \d+ kept, 0 broken", done.stdout), done.stdout


def test_checked_floors_are_those_drawn() -> None:
    assert _checked_floors() == _drawn_floors()


def test_every_package_has_a_floor() -> None:
    packages = {path.parent.name for path in (ROOT / "src/perseus").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "src/perseus").glob("*.py")} - {"__init__", "__main__"}
    known = {name for floor in _drawn_floors() for name in floor}
    assert packages | modules <= known


def _checked_floors() -> list[set[str]]:
    """The layers of the import-linter contract, highest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (floors,) = (contract for contract in contracts if contract["id"] == "floors")
    return [set(re.findall(r"\w+", layer)) for layer in floors["layers"]]


def _drawn_floors() -> list[set[str]]:
    """The table of floors in ARCHITECTURE.md, highest first."""
    rows = re.findall(r"^\| \d+ \| ([^|(]+)", (ROOT / "ARCHITECTURE.md").read_text(), re.M)
    return [set(re.findall(r"`(\w+)`", row)) for row in rows]
