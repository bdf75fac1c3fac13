"""Each algorithm of the library has its page, and each name of ``perseus.algo`` its line."""

import pkgutil
import re
from dataclasses import fields
from pathlib import Path

import docs_properties
import pytest

import perseus.algo
from perseus.algo import Group, Process, View, library
from perseus.algo.process import Chance
from perseus.algo.workloads import CLIENTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/algorithms.md").read_text()
# What several of them share, and no algorithm by itself.
HELPERS = {"ghosts", "mortal"}
MODULES = sorted({each.name for each in pkgutil.iter_modules(library.__path__)} - HELPERS)


def page_of(module: str) -> str:
    """The page to which the module's row of the table leads."""
    (row,) = re.findall(rf"^\| .*`perseus\.algo\.library\.{module}`.*$", PAGE, re.M)
    links: list[str] = re.findall(r"\((algorithms/\w+\.md)(?:#[\w-]+)?\)", row)
    assert links, f"docs/algorithms.md: the row of {module} leads to no page"
    return (ROOT / "docs" / links[0]).read_text()


@pytest.mark.parametrize("module", MODULES)
def test_an_algorithm_has_a_page_with_what_it_promises_and_its_source(module: str) -> None:
    page = page_of(module)
    assert f"perseus.algo.library.{module}" in page
    assert re.search(r"\b[Pp]romis|\| always \|", page), "it says nothing of what it promises"
    assert re.search(r"\b[Ss]ources?\b.*?\b(19|20)\d\d\b", page, re.S), "it names no source"


@pytest.mark.parametrize("target", docs_properties.targets())
def test_what_can_be_run_is_shown_on_its_page(target: str) -> None:
    module = target.rpartition(":")[0].rpartition(".")[2]
    assert re.search(rf"^\$ perseus sim {re.escape(target)}\b", page_of(module), re.M)


def test_every_algorithm_that_runs_is_among_them() -> None:
    run = {target.rpartition(":")[0].rpartition(".")[2] for target in docs_properties.targets()}
    # A value that is placed by a function takes no steps.
    assert set(MODULES) - run == {"hashing"}


def public_names() -> set[str]:
    own = {*vars(Process), *Process.__annotations__}
    found = {*perseus.algo.__all__, *(name for name in own if not name.startswith("_"))}
    return found | {*View.__slots__, *(name for name in vars(Chance) if not name.startswith("_"))}


def test_each_name_is_on_the_page() -> None:
    section = PAGE.partition("## All that there is")[2].partition("\n## ")[0]
    section = section.replace("```", "")
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", section))))
    missing = {*public_names(), *(field.name for field in fields(Group))} - words
    assert not missing, f"docs/algorithms.md lacks {sorted(missing)}"


def test_each_name_is_in_what_help_says() -> None:
    assert perseus.algo.__doc__ is not None
    missing = public_names() - set(re.findall(r"\w+", perseus.algo.__doc__))
    assert not missing, f"the docstring of perseus.algo lacks {sorted(missing)}"


def test_each_problem_is_on_its_page() -> None:
    page = (ROOT / "docs/workloads.md").read_text()
    assert [name for name in CLIENTS if f"\n## {name}\n" not in page] == []
