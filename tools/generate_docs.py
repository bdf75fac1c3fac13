"""Makes docs/reference from the program itself: commands, settings, protocol, properties.

With ``--check`` it writes nothing and fails when a page is stale or something
has no text: a command or flag without help, a setting without a comment, a
property without a docstring, an RPC, message field or enum value without one.
"""

import ast
import sys
from pathlib import Path

import docs_cli
import docs_properties
import docs_protocol

from perseus.cli import config
from perseus.cli.runspec import FLAGS
from perseus.settings import range_text

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
SETTINGS = ROOT / "src" / "perseus" / "settings.py"

SETTINGS_INTRODUCTION = """\
# Settings

Made from the program by `make docs`; do not edit.

## Of daemons

A daemon takes a setting from the first of these that gives it:

1. its environment, `PERSEUS_NAME` in capitals;
2. what `perseus init`, `join` or `dev up` left in its data folder: there a flag
   `--set NAME=VALUE` goes before `perseus.toml` in the folder where it was typed or
   above, and that before `~/.config/perseus/config.toml`;
3. the default below.

A setting in `_bytes` may be written as `20M` or `1G`, one in `_s` as `10s` or `2h`.

| setting | default | from, to | environment | meaning |
|---|---|---|---|---|
"""


def settings() -> list[tuple[str, object, str]]:
    """(name, default, comment above it) of each field of Settings, in order."""
    text = SETTINGS.read_text()
    lines = text.splitlines()
    (body,) = (
        node.body
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    found = []
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            default = eval(compile(ast.Expression(node.value), "settings", "eval"), {})
            found.append((node.target.id, default, _comment_above(lines, node.lineno)))
    return found


def _comment_above(lines: list[str], number: int) -> str:
    """The comment lines right above line ``number`` (from 1), as one text."""
    start = number - 1
    while start > 0 and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return " ".join(line.strip().lstrip("#").strip() for line in lines[start : number - 1])


def settings_page() -> str:
    rows = [
        f"| `{name}` | `{default!r}` | {range_text(name)} | `PERSEUS_{name.upper()}` | {comment} |"
        for name, default, comment in settings()
    ]
    return SETTINGS_INTRODUCTION + "\n".join(rows) + "\n" + client_part()


CLIENT_INTRODUCTION = """
## Of the command line

A flag goes before the environment, that before `perseus.toml` in this folder or above,
and that before `~/.config/perseus/config.toml`. Both files may hold daemon settings too,
for `perseus init`, `join` and `dev up`.

| setting | environment | meaning |
|---|---|---|
"""

TASK_INTRODUCTION = """
## What a task finds in its environment

Beside `PATH`, `HOME`, `LANG` and `TMPDIR`. `--env` may replace all but the last.

| variable | meaning |
|---|---|
"""

# Each is set in ``jobs.attempts``; a test compares the two.
TASK_VARIABLES = {
    "PERSEUS_JOB_ID": "The job's id.",
    "PERSEUS_TASK_ID": "The job's id and the task's number, with a dot between.",
    "PERSEUS_TASK_INDEX": "The task's number in its job, from 0.",
    "PERSEUS_TASK_COUNT": "How many tasks the job has.",
    "PERSEUS_ATTEMPT": "The attempt's number, which grows each time the task is begun anew.",
    "PERSEUS_NODE": "The name of the node that it runs on.",
    "PERSEUS_USER": "Who submitted the job.",
    "PERSEUS_ATTEMPT_FOLDER": "The attempt's folder on the node, removed afterwards.",
    "PERSEUS_PYTHON": "The Python that runs the node's daemon, in which `import perseus` works.",
    "PERSEUS_SOCKET": "The Unix socket of the node's daemon.",
}

OTHER_INTRODUCTION = """
## Other variables

| variable | read by | meaning |
|---|---|---|
"""
OTHER_VARIABLES = {
    "PERSEUS_DEBUG": (
        "the command line",
        "Not empty: what fails by a defect of Perseus is told with its traceback.",
    ),
    "PERSEUS_EXIT_WITH_PID": (
        "a daemon",
        "The id of a process; when that ends, the daemon ends too. "
        "For tests and programs that start daemons of their own.",
    ),
}


def client_part() -> str:
    """Settings of clients, and the variables of tasks."""
    rows = [
        f"| `{name}` | `{_client_variable(name)}` | {meaning} |"
        for name, meaning in config.SETTINGS.items()
    ]
    names = ", ".join(f"`{name}`" for name in sorted(entry[0] for entry in FLAGS.values()))
    run = f"\n\nThe names in `[run]`, each also `PERSEUS_RUN_NAME` in capitals: {names}.\n"
    variables = [f"| `{name}` | {meaning} |" for name, meaning in TASK_VARIABLES.items()]
    others = [f"| `{name}` | {who} | {text} |" for name, (who, text) in OTHER_VARIABLES.items()]
    return (
        CLIENT_INTRODUCTION
        + "\n".join(rows)
        + run
        + TASK_INTRODUCTION
        + "\n".join(variables)
        + "\n"
        + OTHER_INTRODUCTION
        + "\n".join(others)
        + "\n"
    )


def _client_variable(name: str) -> str:
    return "PERSEUS_RUN_..." if name == "run" else f"PERSEUS_{name.upper()}"


def pages() -> dict[str, str]:
    """The text of each generated page, by its name below docs/reference."""
    return {
        "cli.md": docs_cli.page(),
        "properties.md": docs_properties.page(),
        "protocol.md": docs_protocol.page(),
        "settings.md": settings_page(),
    }


def undocumented() -> list[str]:
    """Everything that has no text, or one of several meanings, as a person would look for it."""
    bare = [f"setting {name}" for name, _, comment in settings() if not comment]
    bare += docs_properties.bare()
    return docs_cli.undocumented() + bare + docs_protocol.undocumented() + docs_protocol.ambiguous()


def stale() -> list[str]:
    """The generated pages that differ from what is committed."""
    made = pages()
    return [name for name, text in made.items() if _read(REFERENCE / name) != text]


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def main() -> int:
    if "--check" in sys.argv:
        problems = undocumented() + [f"stale page docs/reference/{name}" for name in stale()]
        for problem in problems:
            print(problem, file=sys.stderr)
        return int(bool(problems))
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
