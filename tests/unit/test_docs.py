"""What is not documented is not done: commands, settings, RPCs, and the pages made from them."""

import re
from pathlib import Path

import generate_docs
import pytest

from perseus.cli import config, parser, runspec
from perseus.filestore.namespace import Namespace
from perseus.filestore.replication import Replication
from perseus.identity.tokens import Tokens
from perseus.jobs.state import Jobs
from perseus.membership.history import History
from perseus.membership.state import Membership

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_everything_is_documented() -> None:
    assert generate_docs.undocumented() == []


def test_reference_pages_are_fresh() -> None:
    assert generate_docs.stale() == [], "run `make docs`"


@pytest.mark.parametrize("part", ["## perseus run\n", "`lease_s`", "### service Jobs"])
def test_reference_pages_hold_what_they_should(part: str) -> None:
    assert any(part in page for page in generate_docs.pages().values())


def test_clients_settings_and_the_variables_of_tasks_are_on_the_page() -> None:
    page = generate_docs.settings_page()
    flags = {entry[0] for entry in runspec.FLAGS.values()}
    source = (ROOT / "src/perseus/jobs/attempts.py").read_text()
    variables = set(re.findall(r"\bPERSEUS_[A-Z_]+", source))
    assert variables == set(generate_docs.TASK_VARIABLES)
    missing = [n for n in {*config.SETTINGS, *flags, *variables} if f"`{n}`" not in page]
    assert not missing
    assert {"PERSEUS_QUIET", "PERSEUS_JSON", "PERSEUS_CONTEXT"} <= set(re.findall(r"\w+", page))


def test_each_variable_that_the_program_names_is_on_the_page() -> None:
    sources = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    sources.append((ROOT / "src/perseus/cli/bin/perseus").read_text())
    named = {name for text in sources for name in re.findall(r"\bPERSEUS_[A-Z_]*[A-Z]", text)}
    assert {"PERSEUS_DEBUG", "PERSEUS_EXIT_WITH_PID", "PERSEUS_CONTEXT"} <= named
    # Those of `[run]` stand there by their rule, and the names beside it.
    runs = {f"PERSEUS_RUN_{entry[0].upper()}" for entry in runspec.FLAGS.values()}
    page = generate_docs.settings_page()
    bare = {name for name in named if f"`{name}`" not in page} - runs - {"PERSEUS_RUN"}
    assert not bare, f"on no page: {sorted(bare)}; tools/generate_docs.py is where they go"


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]
    assert not dead, dead


def test_decisions_are_numbered_without_a_gap_and_each_is_in_the_index() -> None:
    names = sorted(path.name for path in (ROOT / "docs/decisions").iterdir())
    assert [name[:5] for name in names] == [f"{number:04}-" for number in range(1, len(names) + 1)]
    listed = re.findall(r"\(decisions/([^)]+)\)", (ROOT / "docs/README.md").read_text())
    assert listed == names


def test_commands_that_pages_name_exist() -> None:
    known = {*parser.children(parser.build_parser()), "COMMAND"}
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {
        (word, str(page.relative_to(ROOT)))
        for page in pages
        for word in re.findall(r"(?:`|^[\w.~$-]*[$#] +)perseus ([a-z]\w*)", page.read_text(), re.M)
    }
    assert len(named) > 30
    assert [pair for pair in sorted(named) if pair[0] not in known] == []


def test_the_architecture_names_each_machine_with_its_keys() -> None:
    rows = (ROOT / "ARCHITECTURE.md").read_text().splitlines()
    for name, machine in (
        ("history", History),
        ("tokens", Tokens),
        ("membership", Membership),
        ("namespace", Namespace),
        ("replication", Replication),
        ("jobs", Jobs),
    ):
        prefixes = ", ".join(f"`{prefix.decode()}`" for prefix in machine.prefixes)
        where = f"`{machine.__module__.removeprefix('perseus.')}`"
        assert f"| {name} | {prefixes} | {where} |" in rows
