"""The tree stays tidy. The bounds here only ever get tighter."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAXIMUM = 600
FUNCTION_LINES_MAXIMUM = 70
TEXT_BYTES_MAXIMUM = 2_000_000

GENERATED = "src/perseus/proto/v1/"
# Put together from halves so that this file does not find itself.
UNFINISHED = re.compile(
    "|".join(
        ("TO" + "DO", "FIX" + "ME", r"\bXXX\b", "NotImplemented" + "Error", "raise Not" + "Impl")
    )
)
SKIPPED_FOR_GOOD = re.compile(r"pytest\.mark\." + r"skip\(|assert\s+" + r"True\b")
# Registries, indexes and mirrors; and folders that are some machine's own.
PLACES = re.compile(
    "|".join(
        (
            r"https?://[^\s/\"']*(?:pypi|python"
            + r"hosted|npmjs|crates\.io|dockerhub|proxy\.golang)",
            r"\bpypi\.(?:org|python)",
            r"https?://(?:deb|security|archive|ports)\.(?:debian|ubuntu)\.",
            r"--(?:extra-)?index-" + r"url",
            r"(?<![\w./$}~-])/(?:home|Users|work|work" + r"space|builds|root|opt)/[\w.-]+",
        )
    )
)
OWNERS = re.compile(r"copyr" + r"ight \(?c?\)?|SPDX-" + r"License|all rights " + r"reserved", re.I)


@cache
def _texts() -> dict[str, str]:
    """All text files that git knows or would add, by name, without generated code."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout, so its files cannot be told from others")
    names = [name for name in listed.stdout.splitlines() if not name.startswith(GENERATED)]
    return {name: text for name in names if (text := _text(ROOT / name)) is not None}


def _text(path: Path) -> str | None:
    if not path.is_file() or path.stat().st_size > TEXT_BYTES_MAXIMUM:
        return None
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return None


def _python() -> dict[str, str]:
    return {name: text for name, text in _texts().items() if name.endswith(".py")}


def _found(pattern: re.Pattern[str], texts: dict[str, str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_files_are_short() -> None:
    long = [
        f"{name}: {lines} lines"
        for name, text in _texts().items()
        if name.endswith((".py", ".sh", ".proto"))
        and (lines := text.count("\n")) > FILE_LINES_MAXIMUM
    ]
    assert not long, long


def test_functions_are_short() -> None:
    long = [
        f"{name}:{node.lineno} {node.name}: {lines} lines"
        for name, text in _python().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAXIMUM
    ]
    assert not long, long


def test_every_module_says_what_it_is() -> None:
    silent = [name for name, text in _python().items() if not ast.get_docstring(ast.parse(text))]
    assert not silent, silent


def test_nothing_is_marked_unfinished() -> None:
    assert not _found(UNFINISHED, _texts())
    assert not _found(SKIPPED_FOR_GOOD, _python())


def test_no_registry_and_no_machine_is_named() -> None:
    assert not _found(PLACES, _texts())


def test_no_copyright_lines() -> None:
    assert not _found(OWNERS, _texts())


def test_lines_end_cleanly() -> None:
    texts = {name: text for name, text in _texts().items() if not name.endswith(".svg")}
    assert not _found(re.compile(r"[ \t]+$|\r"), texts)
    assert not [name for name, text in texts.items() if text and not text.endswith("\n")]


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (PLACES, "see https:/" + "/py" + "pi.org/simple"),
        (PLACES, "cd /wo" + "rk/main"),
        (UNFINISHED, "# TO" + "DO later"),
        (OWNERS, "Copyr" + "ight (c) somebody"),
    ],
)
def test_patterns_find_what_they_are_for(pattern: re.Pattern[str], line: str) -> None:
    assert pattern.search(line)
