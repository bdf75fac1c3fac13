"""What a message advises to type can be typed: the options it names exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from perseus.cli import parser, runspec
from perseus.errors import PerseusError

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


# What stands in a hint, or in a finding's command, is made one word for the shell (shellwords),
# shown by !r, formatted as a number, or one of these, which no shell reads otherwise.
QUOTED = {"as_word", "as_file"}
PLAIN = {
    # Ids, names and addresses that the doors have checked, and numbers.
    *("address", "choices", "getuid", "everywhere", "count", "job_id", "jobs", "join_address"),
    *("master", "master_address", "name", "names", "node_name", "older", "other", "own"),
    *(
        "least",
        "most",
        "seed",
        "number",
        "pid",
        "port",
        "quoted",
        "run",
        "sound_bytes",
        "used_by",
        "wanted",
    ),
    # Words and examples of our own.
    *(
        "_MAPPINGS",
        "_USUAL",
        "__name__",
        "__version__",
        "lower",
        "example",
        "flag",
        "kind",
        "line",
        "lines",
        "near",
    ),
    *("offer", "options", "prog", "program", "replace", "upper", "where", "_name"),
    # Sentences, of which no part is to be typed.
    *(
        "_signal_names",
        "_within",
        "anew",
        "have",
        "hint",
        "look",
        "owner",
        "range_text",
        "word",
        "join",
    ),
}


def commands(tree: ast.AST) -> Iterator[ast.expr]:
    """Hints, and what stands as a ``command`` or is returned by a function that makes one."""
    yield from hints(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "command":
            yield node.value
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if "command" in names:
                yield node.value
        elif isinstance(node, ast.FunctionDef) and node.name.endswith("_command"):
            yield from (part for part in ast.walk(node) if isinstance(part, ast.expr))


def raw_parts(part: ast.AST) -> Iterator[str]:
    """What is put into a text as it is, of which nobody has made one word."""
    if isinstance(part, ast.Call) and _leaf(part) in QUOTED:
        return
    if isinstance(part, ast.FormattedValue) and not _is_plain(part):
        yield ast.unparse(part.value)
    for below in ast.iter_child_nodes(part):
        yield from raw_parts(below)


def _is_plain(part: ast.FormattedValue) -> bool:
    if part.conversion == ord("r") or part.format_spec is not None:
        return True
    return all(_leaf(value) in PLAIN | QUOTED for value in _choices(part.value))


def _choices(value: ast.expr) -> list[ast.expr]:
    """What may come of it, but for constants: both sides of an ``or``, an ``if``, a sum."""
    if isinstance(value, ast.BoolOp):
        return [choice for one in value.values for choice in _choices(one)]
    if isinstance(value, ast.IfExp):
        return [*_choices(value.body), *_choices(value.orelse)]
    if isinstance(value, ast.BinOp):
        return [*_choices(value.left), *_choices(value.right)]
    is_constant = isinstance(value, ast.Constant | ast.JoinedStr)
    return [] if is_constant or _leaf(value).strip("_").isupper() else [value]


def _leaf(value: ast.expr) -> str:
    """The last name of ``a.b``, ``a.b[c]`` and ``a.b(c)``: b."""
    if isinstance(value, ast.Call):
        return _leaf(value.func)
    if isinstance(value, ast.Subscript):
        return _leaf(value.value)
    return value.attr if isinstance(value, ast.Attribute) else ast.unparse(value)


def test_nothing_stands_raw_in_a_command_that_is_told() -> None:
    found = [
        f"{path.relative_to(SOURCE)}: {text}"
        for path in sorted(SOURCE.rglob("*.py"))
        for expression in commands(ast.parse(path.read_text()))
        for text in raw_parts(expression)
    ]
    assert sorted(set(found)) == []


# What a person or a program meets: all of it says what to type next. Not asked of what only
# parts of Perseus say to each other (a chunk's version, a session), nor of the defects.
EDGE = (
    "cli",
    "client",
    "daemon",
    "jobs/spec.py",
    "jobs/service.py",
    "filestore/paths.py",
    "filestore/namespace.py",
    "filestore/namespace_state.py",
    "membership/cluster_service.py",
    "membership/state.py",
)
WITHOUT = {"InternalError", "LeaseLostError"}


def error_names() -> set[str]:
    """The exception tree, and the names under which parts of it are derived."""
    kinds: list[type[PerseusError]] = [PerseusError, *PerseusError.__subclasses__()]
    return {"UsageError", *(kind.__name__ for kind in kinds)} - WITHOUT


def raised(tree: ast.AST) -> Iterator[ast.Call]:
    names = error_names()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def has_hint(call: ast.Call) -> bool:
    """Whether it is given one; an empty string is none."""
    for keyword in call.keywords:
        if keyword.arg == "hint":
            return not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
    return False


def test_an_error_at_the_edge_says_what_to_type_next() -> None:
    paths = [SOURCE / part for part in EDGE]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))]
    calls = [(file, call) for file in files for call in raised(ast.parse(file.read_text()))]
    assert len(calls) > 150
    bare = [
        f"{file.relative_to(SOURCE)}:{call.lineno}" for file, call in calls if not has_hint(call)
    ]
    assert bare == []
