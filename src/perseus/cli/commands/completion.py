"""``completion``: prints a shell's script."""

from perseus.cli import completion_scripts
from perseus.cli.main import Invocation


def completion(invocation: Invocation) -> int:
    """Prints the script of a shell."""
    make = getattr(completion_scripts, invocation.options.shell)
    script = make(completion_scripts.tree())
    if invocation.console.as_json:
        invocation.console.json({"shell": invocation.options.shell, "script": script})
    else:
        invocation.console.line(script)
    return 0
