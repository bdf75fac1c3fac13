"""What goes to stdout and to stderr comes in its order, and as the terminal can show it."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from perseus.cli.console import Console

LIMIT_S = 60.0


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


def on_terminal(script: str, term: str | None, columns: int = 80) -> str:
    """What a program writes to a terminal of that kind and width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment.pop("TERM", None)
    environment |= {} if term is None else {"TERM": term}
    try:
        subprocess.run(
            [sys.executable, "-c", script],
            stdout=theirs, stderr=theirs, env=environment, check=True, timeout=LIMIT_S,
        )  # fmt: skip
        # All of it is there by now, and is less than a terminal keeps.
        os.write(theirs, b"$")
        taken = b""
        while not taken.endswith(b"$"):
            taken += os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
    return taken[:-1].decode().replace("\r\n", "\n")


DRAWING = """
import sys
from perseus.cli.commands.watching import is_drawn
from perseus.cli.console import Console, Progress
console = Console()
bar = Progress(console, NAME)
bar(1 << 20, 2 << 20)
bar.end()
console.table(("NAME", "STATE"), [("a", "alive")])
console.line(str(is_drawn(console)))
"""


@pytest.mark.parametrize("term", ["dumb", "", None])
def test_a_dumb_terminal_gets_lines_alone(term: str | None) -> None:
    taken = on_terminal(DRAWING.replace("NAME)", "'a.txt')"), term)
    assert taken == "NAME  STATE\na     alive\nFalse\n"


def test_another_gets_a_bar_that_goes_and_colours() -> None:
    taken = on_terminal(DRAWING.replace("NAME)", "'a.txt')"), "xterm")
    assert "50%" in taken and taken.count("\r\033[K") == 2
    assert "\033[32malive\033[0m" in taken and taken.endswith("True\n")


def test_a_bar_stays_within_its_line() -> None:
    script = DRAWING.replace("NAME)", "'é' * 50 + '\\x1b[2J\\n')")
    for columns in (20, 70):
        line = on_terminal(script, "xterm", columns).split("\r\033[K")[1]
        assert len(line) == columns - 1
        assert "\n" not in line and "\033" not in line


@pytest.mark.parametrize(
    ("name", "columns", "shown"),
    [
        ("a.txt", 80, "a.txt  [############            ]"),
        ("a.txt", 43, "a.txt  [####     ]"),
        ("a.txt", 33, "a.txt "),
        ("a-long-name.txt", 33, "a-long… "),
    ],
)
def test_on_a_narrow_terminal_the_numbers_stay_whole(name: str, columns: int, shown: str) -> None:
    script = DRAWING.replace("NAME)", f"{name!r})").replace("bar(", "bar._began_s -= 1e5; bar(", 1)
    line = on_terminal(script, "xterm", columns).split("\r\033[K")[1]
    assert line == f"{shown}  50%  1.0M  10/s  1d03h"


def test_quiet_is_of_what_is_said_and_not_of_what_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = Console(quiet=True)
    console.say("one")
    console.warn("two")
    console.line("three")
    assert capsys.readouterr() == ("three\n", "perseus: two\n")
