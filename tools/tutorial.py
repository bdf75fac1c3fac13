"""Fills docs/tutorial.md: its code is the code of the files, its output is of real runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
# A link to a file, and the block of its code after it.
CODE = re.compile(r"(\[`(tutorial/\w+\.py)`\]\(\2\)[^`]*\n\n```python\n)(.*?)(?=```)", re.S)
# A command, and what it says.
RUN = re.compile(r"(```console\n\$ (perseus sim [^\n]*)\n)(.*?)(?=```)", re.S)
RUN_LIMIT_S = 300


def code_of(name: str) -> str:
    """A file as it is shown: without its first line, which its title says."""
    return (ROOT / "docs" / name).read_text().split('"""\n', 1)[1].lstrip("\n")


def said_by(command: str) -> str:
    """What a command of the tutorial says on stdout."""
    words = command.split()[1:]
    done = subprocess.run(
        [sys.executable, "-m", "perseus", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    return done.stdout


def filled(page: str) -> str:
    """The page as it should be."""
    page = CODE.sub(lambda found: found[1] + code_of(found[2]), page)
    return RUN.sub(lambda found: found[1] + said_by(found[2]), page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
