"""The full command line: parses, finds the cluster, runs the command, says what went wrong."""

import argparse
import importlib
import os
import sys
from difflib import get_close_matches
from typing import Any

from perseus.cli import config as config_module
from perseus.cli import fast, parser
from perseus.cli.console import Console
from perseus.cli.units import UsageError
from perseus.client import context as contexts
from perseus.client.cluster import Cluster
from perseus.client.context import Context
from perseus.errors import NotFoundError, PerseusError, UnavailableError


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
                raise NotFoundError("no cluster is known on this machine", hint="perseus doctor")
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
    try:
        return _main(arguments)
    except PerseusError as error:
        return fast.fail(error)
    except BrokenPipeError:
        fast.silence_stdout()
        return fast.EXIT_PIPE
    except KeyboardInterrupt:
        return fast.EXIT_INTERRUPTED
    except OSError as error:
        # What the operating system refuses here: stdout, a folder, a disk, a terminal.
        return fast.flush(0) or fast.fail(UnavailableError(str(error)))
    except SystemExit as leaving:
        # argparse leaves so after --help and --version.
        return leaving.code if isinstance(leaving.code, int) else 0


def _main(arguments: list[str]) -> int:
    tree = parser.build_parser()
    if not arguments:
        tree.print_help()
        return 2
    _check_command(tree, arguments)
    options = tree.parse_args(arguments)
    handler = getattr(options, "handler", None)
    if handler is None:
        _print_group_help(tree, arguments)
        return 2
    invocation = Invocation(options, config_module.read())
    module_name, _, function_name = handler.partition(":")
    module: Any = importlib.import_module(f"perseus.cli.commands.{module_name}")
    try:
        return fast.flush(int(getattr(module, function_name)(invocation) or 0))
    finally:
        invocation.close()


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
