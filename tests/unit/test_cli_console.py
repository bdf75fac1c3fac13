"""What goes to stdout and to stderr comes in its order, also where both are one pipe."""

import subprocess
import sys


def test_a_result_comes_before_what_is_said_after_it() -> None:
    script = (
        "from perseus.cli.console import Console\n"
        "console = Console()\n"
        "console.say('one'); console.line('two'); console.say('three')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["perseus: one", "two", "perseus: three"]
