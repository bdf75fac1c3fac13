"""The pages run as they are written: what docs/python.md and the quickstart say is typed here."""

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from harness import ROOT, Cluster, cluster

import perseus


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("docs"), nodes=1) as made:
        yield made


def blocks(page: str, kind: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_python_page(one: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSEUS_CONTEXT", str(one.context))
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("one\ntwo\n")
    names: dict[str, Any] = {"perseus": perseus}
    first, *others = blocks("python.md", "python")
    exec(first, names)
    with perseus.connect() as names["cluster"]:
        for number, block in enumerate(others, 2):
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            code = compile(block, f"python.md, block {number}", "exec", flags)
            if code.co_flags & inspect.CO_COROUTINE:
                asyncio.run(FunctionType(code, names)())
            else:
                exec(code, names)
    assert len(others) == 5
    assert one.perseus("fs", "cat", "/logs/app").ok().text == "line\n"


def test_the_work_of_the_quickstart(one: Cluster, tmp_path: Path) -> None:
    (work,) = (block for block in blocks("quickstart.md", "") if "perseus submit" in block)
    (tmp_path / "big.txt").write_text("b\na\nb\n")
    for line in work.splitlines():
        typed = line.removeprefix("attic$ ").replace("--count 100", "--count 3")
        done = one.shell(typed, cwd=tmp_path)
        assert done.code == 0, (typed, done.stderr)
    assert (tmp_path / "sorted.txt").read_text() == "a\nb\n"
