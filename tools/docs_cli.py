"""The command line's reference page, from the tree of argparse parsers.

It asks the parsers for their parts and words the usage itself: argparse's own
layout differs between versions of Python and widths of the terminal.
"""

import argparse
from collections.abc import Iterator

from perseus.cli.json_answers import ANSWERS, sentence
from perseus.cli.parser import build_parser

INTRODUCTION = """\
# The command line

Made from the program by `make docs`; do not edit.

The task's stdout and stderr go to yours; what Perseus itself has to say goes to
stderr. Exit codes: the task's own; 2 wrong usage, 124 time limit, 125 Perseus
itself failed, 126 not executable, 127 not found, 128+N ended by signal N.

With `--json` stdout is JSON, one value a line, also of `--help` and `--version`; what is
said to people stays on stderr. Every field is there, also where it is 0 or empty, and has
the name it has in the [protocol](protocol.md). `run`, `attach` and `logs` give a line for
each event, `fs cat`, `fs tail` and `fs get PATH -` lines `{"path", "offset_bytes", "data"}`.
Bytes (`stdout`, `stderr`, `data`) are base64: `perseus fs cat --json /a | jq -r '.data |
@base64d'`. An error is the last line, `{"error": {"code", "message", "hint",
"maybe_done"}}`, and on stderr as without `--json`; the exit code is the same. Two commands
hand stdout on: `start --foreground` to the daemon, and `algo maelstrom`, whose protocol is
JSON by itself.
"""

Parser = argparse.ArgumentParser

# Arguments that mean the same in every command that takes one.
WORDS = {
    "COMMAND": "a command",
    "NAME=VALUE": "a label and its value",
    "NAME|FILE": "a context by its name, or its file",
    "NODE": "a node's name",
    "PATH": "a path in the filestore",
    "SOURCE": "what there is",
    "TARGET": "what shall be",
    "TOKEN_ID": "the part of a token that `perseus token ls` shows",
    "{bash,zsh,fish}": "the shell",
}


def commands() -> list[tuple[Parser, str]]:
    """Every command with its one-line help, in the program's order."""
    return list(_commands(build_parser(), ""))


def _commands(parser: Parser, text: str) -> Iterator[tuple[Parser, str]]:
    yield parser, text
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help for choice in action._choices_actions}
            seen = set()
            for name, below in action.choices.items():
                if id(below) not in seen and texts.get(name) != argparse.SUPPRESS:
                    seen.add(id(below))
                    yield from _commands(below, texts.get(name) or "")


def undocumented() -> list[str]:
    """Commands, arguments and flags without help."""
    bare = [f"command {parser.prog}" for parser, text in commands()[1:] if not text]
    return bare + [
        f"{parser.prog} {_name(action)}"
        for parser, _ in commands()
        for action in _arguments(parser)
        if not _help(action)
    ]


def page() -> str:
    """The whole page as Markdown."""
    common = _common()
    everywhere = "\nEvery command takes these:\n\n" + _table(sorted(common))
    return (
        INTRODUCTION
        + (everywhere if common else "")
        + "".join(_command(parser, text, common) for parser, text in commands())
    )


def _common() -> set[str]:
    """The rows that all commands share which have no commands below them."""
    leaves = [
        {_row(action) for action in _arguments(parser)}
        for parser, _ in commands()
        if not any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
    ]
    return set.intersection(*leaves)


def _help(action: argparse.Action) -> str:
    """Its help; for a positional, what its name means everywhere."""
    return action.help or ("" if action.option_strings else WORDS.get(_metavar(action), ""))


def _arguments(parser: Parser) -> list[argparse.Action]:
    return [
        action
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
        and action.help != argparse.SUPPRESS
    ]


def _command(parser: Parser, text: str, common: set[str]) -> str:
    lines = [f"\n## {parser.prog}\n\n```\n{_usage(parser)}\n```\n"]
    if parser.description or text:
        lines.append(f"\n{(parser.description or text).strip()}\n")
    if parser.epilog:
        lines.append(f"\n```text\n{parser.epilog.strip()}\n```\n")
    rows = [_row(action) for action in _arguments(parser)]
    if own := [row for row in rows if row not in common]:
        lines.append("\n" + _table(own))
    answers = ANSWERS.get(parser.prog.removeprefix("perseus").strip(), [])
    if answers:
        lines.append(f"\nWith `--json`: {'; '.join(map(sentence, answers))}.\n")
    return "".join(lines)


def _table(rows: list[str]) -> str:
    return "| argument | meaning |\n|---|---|\n" + "".join(rows)


def _usage(parser: Parser) -> str:
    words = [parser.prog]
    if any(action.option_strings for action in _arguments(parser)):
        words.append("[OPTIONS]")
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            words.append("COMMAND ...")
        elif not action.option_strings and action.help != argparse.SUPPRESS:
            words.append(_positional(action))
    return " ".join(words)


def _positional(action: argparse.Action) -> str:
    name = _metavar(action)
    match action.nargs:
        case "?":
            return f"[{name}]"
        case "*" | argparse.REMAINDER:
            return f"[{name} ...]"
        case "+":
            return f"{name} [{name} ...]"
    return name


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar:
        return action.metavar
    if action.choices:
        return "{" + ",".join(str(choice) for choice in action.choices) + "}"
    return action.dest.upper()


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return _metavar(action)
    value = "" if action.nargs == 0 else f" {_metavar(action)}"
    return ", ".join(action.option_strings) + value


def _row(action: argparse.Action) -> str:
    text = _help(action).replace("%(default)s", str(action.default)).replace("%%", "%")
    return f"| `{_cell(_name(action))}` | {_cell(' '.join(text.split()))} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
