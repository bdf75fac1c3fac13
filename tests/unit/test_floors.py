"""The floors of ARCHITECTURE.md hold, and the floors checked are those it draws."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import perseus

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


def test_the_root_gives_the_packages_below_nothing_but_the_version() -> None:
    """`import perseus` is a door to the client; taken from below it, it is an import upward."""
    users = {"cli", "daemon", "web", "shell", "mapreduce"}
    packages = ROOT / "src" / "perseus"
    taken = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in packages.rglob("*.py")
        if path.relative_to(packages).parts[0] not in users | {"__init__.py"}
        for name in _taken_from_root(path.read_text())
    ]
    assert taken == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import perseus\nperseus.connect()", ["perseus"]),
        ("def f():\n    import perseus as root", ["perseus"]),
        ("import perseus.ids", ["perseus.ids"]),
        ("from perseus import __version__, connect", ["connect"]),
        ("from perseus import errors\nimport perseus.errors as errors", []),
    ],
)
def test_what_is_taken_from_the_root_is_found(text: str, names: list[str]) -> None:
    assert _taken_from_root(text) == names


def _taken_from_root(text: str) -> list[str]:
    """What binds the root's name, or takes a name that the root loads at first use."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [
                one.name
                for one in node.names
                if one.name == "perseus" or (one.name.startswith("perseus.") and not one.asname)
            ]
        elif isinstance(node, ast.ImportFrom) and node.module == "perseus" and not node.level:
            doors = {name.name for name in node.names} & {*perseus._PUBLIC, "aio", "client"}
            found += sorted(doors)
    return found


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
