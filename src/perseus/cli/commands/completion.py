"""``completion``: prints a shell's script."""

from perseus.cli import completion_scripts
from perseus.cli.main import Invocation


def completion(invocation: Invocation) -> int:
    """Prints the script of a shell."""
    make = getattr(completion_scripts, invocation.options.shell)
    invocation.console.line(make(completion_scripts.tree()))
    return 0
