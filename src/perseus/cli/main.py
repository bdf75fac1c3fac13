"""The full command line: parses, finds the cluster, runs the command, says what went wrong."""

import argparse
import contextlib
import importlib
import io
import os
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from perseus.cli import config as config_module
from perseus.cli import fast, parser
from perseus.cli.console import Console
from perseus.cli.units import UsageError
from perseus.client import context as contexts
from perseus.client.cluster import Cluster
from perseus.client.context import Context
from perseus.errors import InternalError, NotFoundError, PerseusError, UnavailableError


class Invocation:
    """One command under way: its flags, its console, its cluster."""

    def __init__(
        self, options: argparse.Namespace, configuration: config_module.Configuration
    ) -> None:
        self.options = options
        self.configuration = configuration
        as_json = getattr(options, "json", False) or configuration.flag("json")
        quiet = getattr(options, "quiet", False) or configuration.flag("quiet")
        self.console = Console(as_json, quiet)
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        """The cluster that counts here."""
        if self._cluster is None:
            self._cluster = Cluster(self.context())
        return self._cluster

    def context(self, may_start: bool = True) -> Context:
        """The context that counts here; starts the embedded cluster when there is no other."""
        named = getattr(self.options, "context", None) or self.configuration.text("context")
        if named:
            is_file = "/" in named or os.path.exists(named)
            return contexts.load(named if is_file else contexts.named_path(named, os.environ))
        found = contexts.find()
        if found is not None and not contexts.is_embedded(found):
            return found
        if not may_start:
            if found is None:
                raise NotFoundError(
                    "no cluster is known on this machine",
                    hint="make one: perseus init; or use one: perseus login HOST:PORT --token T",
                )
            return found
        if found is not None and fast.answers(found.socket):
            return found
        return self._embedded()

    def _embedded(self) -> Context:
        from perseus.daemon import embedded

        self.console.say("starting a cluster of this machine alone (perseus init makes a real one)")
        return contexts.load(str(embedded.ensure()))

    def close(self) -> None:
        """Lets the cluster go."""
        if self._cluster is not None:
            self._cluster.close()


def main(arguments: list[str]) -> int:
    """Runs one command; its exit code."""
    answer = _Answer(fast.asks_json(arguments))
    try:
        return _main(arguments, answer)
    except PerseusError as error:
        return fast.fail(error, answer.as_json)
    except BrokenPipeError:
        fast.silence_stdout()
        return fast.EXIT_PIPE
    except KeyboardInterrupt:
        return fast.EXIT_INTERRUPTED
    except OSError as error:
        # What the operating system refuses here: stdout, a folder, a disk, a terminal.
        said = UnavailableError(str(error), hint="see to that, then try again; perseus doctor")
        return fast.flush(0) or fast.fail(said, answer.as_json)
    except Exception as error:
        if answer.as_json:
            fast.say_json(InternalError(f"{type(error).__name__}: {error}").as_json())
        return fast.defect(error)


@dataclass
class _Answer:
    """How an error is to be told; known for sure once the command line is parsed."""

    as_json: bool


def _main(arguments: list[str], answer: _Answer) -> int:
    tree = parser.build_parser()
    if not arguments:
        tree.print_help()
        return 2
    _check_command(tree, arguments)
    options = _parsed(tree, arguments, answer.as_json)
    if options is None:
        return 0
    handler = getattr(options, "handler", None)
    if options.version:
        handler = "here:version_alone"
    if handler is None:
        if answer.as_json:
            raise UsageError("no command was given", hint="perseus --help")
        _print_group_help(tree, arguments)
        return 2
    invocation = Invocation(options, config_module.read())
    answer.as_json = invocation.console.as_json
    module_name, _, function_name = handler.partition(":")
    module: Any = importlib.import_module(f"perseus.cli.commands.{module_name}")
    try:
        return fast.flush(int(getattr(module, function_name)(invocation) or 0))
    finally:
        invocation.close()


def _parsed(tree: parser.Parser, arguments: list[str], as_json: bool) -> Any:
    """The flags and arguments; None when --help was asked for, and is printed."""
    said = io.StringIO()
    try:
        if not as_json:
            return tree.parse_args(arguments)
        with contextlib.redirect_stdout(said):
            return tree.parse_args(arguments)
    except SystemExit:
        # argparse leaves so after --help.
        if as_json:
            Console(as_json).json({"help": said.getvalue()})
        fast.flush(0)
        return None


def _check_command(tree: argparse.ArgumentParser, arguments: list[str]) -> None:
    """A mistyped command gets the nearest one as a hint."""
    said: list[str] = []
    node = tree
    for word in arguments:
        choices = parser.children(node)
        if not choices or (word.startswith("-") and said):
            return
        if word.startswith("-"):
            if word not in ("--json", "-q", "--quiet"):
                return
            continue
        if word not in choices:
            where = " ".join(["perseus", *said])
            near = get_close_matches(word, choices, n=1, cutoff=0.5)
            hint = f"did you mean: {where} {near[0]}" if near else f"{where} --help"
            raise UsageError(f"there is no command `{where} {word[:80]}`", hint=hint)
        node = choices[word]
        said.append(word)


def _print_group_help(tree: argparse.ArgumentParser, arguments: list[str]) -> None:
    node = tree
    for word in arguments:
        node = parser.children(node).get(word, node)
    node.print_help(sys.stderr)
