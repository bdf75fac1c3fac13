"""What a message advises to type can be typed: the options it names exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from perseus.cli import parser, runspec

SOURCE = Path(__file__).resolve().parents[2] / "src" / "perseus"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def known_options() -> set[str]:
    options = set(runspec.FLAGS) | {"--help", "--version", "--json", "--quiet", "--context"}
    for command in parser.leaves().values():
        options.update(command._option_string_actions)
    return options


def hints(tree: ast.AST) -> Iterator[ast.expr]:
    """The expressions given as a ``hint``, and the names set to one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "hint":
            yield node.value
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if any("hint" in name for name in names):
                yield node.value
        elif isinstance(node, ast.FunctionDef) and "hint" in node.name:
            yield from (part for part in ast.walk(node) if isinstance(part, ast.expr))


def options_of(expression: ast.expr) -> Iterator[str]:
    for part in ast.walk(expression):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield from OPTION.findall(part.value)


def test_options_named_in_hints_exist() -> None:
    named = {
        (option, str(path.relative_to(SOURCE)))
        for path in SOURCE.rglob("*.py")
        for expression in hints(ast.parse(path.read_text()))
        for option in options_of(expression)
    }
    assert len(named) > 30
    assert [pair for pair in sorted(named) if pair[0] not in known_options()] == []
