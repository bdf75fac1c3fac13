"""What each command of the tree is made of: the common flags, a parser, a group of commands.

The parts of the tree (``parser``, ``parser_files``, ``parser_nodes``, ``parser_algo``) use it.
"""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from perseus.cli.units import UsageError

Subparsers = Any

# Absent flags leave no default, so that they can stand before or after a second command.
COMMON = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
_common = COMMON.add_argument_group("everywhere")
_common.add_argument(
    "--json", action="store_true", help="answer in JSON, errors too; a line for each event"
)
_common.add_argument("-q", "--quiet", action="store_true", help="say only results and errors")
_common.add_argument("--context", metavar="NAME|FILE", help="which cluster (perseus context ls)")


def whole(least: int | None = None) -> Callable[[str], int]:
    """The type of an argument that is a whole number, with ``least`` no smaller one."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if least is not None and value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return read


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of printing and leaving."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but what nobody knows is an error of the command it was given to."""
        options, extras = self.parse_known_args(args, namespace)
        if extras:
            node: argparse.ArgumentParser = self
            for word in args or ():
                node = children(node).get(word, node)
            raise UsageError(
                f"unrecognized arguments: {' '.join(extras)}", hint=_nearest_flag(node, extras)
            )
        return options

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def _nearest_flag(node: argparse.ArgumentParser, extras: list[str]) -> str:
    """The flag that the first unknown one may stand for, and where all of them are told."""
    from difflib import get_close_matches

    unknown = next((word.partition("=")[0] for word in extras if word.startswith("--")), "")
    near = get_close_matches(unknown, node._option_string_actions, n=1, cutoff=0.7)
    told = f"{node.prog} --help"
    return f"did you mean: {near[0]}; else {told}" if near else told


def command(
    commands: Subparsers, name: str, help_text: str, handler: str, examples: str, **options: Any
) -> Parser:
    """A leaf command with the common flags; ``examples`` are lines of its epilog."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    made: Parser = commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog=f"examples:\n{lines}",
        parents=[COMMON],
        **options,
    )
    made.set_defaults(handler=handler)
    return made


def group(commands: Subparsers, name: str, help_text: str, examples: str) -> Subparsers:
    """A command that has commands of its own."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    made = commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog=f"examples:\n{lines}",
        parents=[COMMON],
    )
    made.set_defaults(group=made.prog)
    return made.add_subparsers(dest=f"{name}_command", metavar="COMMAND", parser_class=Parser)


def children(parser: argparse.ArgumentParser) -> "dict[str, argparse.ArgumentParser]":
    """The commands directly below a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
