"""What commands say: results to stdout, everything else to stderr.

Colour and progress bars only on a terminal that can draw (not one whose ``TERM`` is ``dumb`` or
empty, as Emacs' shell is), and no colour where ``NO_COLOR`` is set and not empty.
"""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, TextIO

from perseus.cli.fast import silence_stdout
from perseus.cli.units import lines_shown, quoted

PROGRESS_INTERVAL_S = 0.1
COLUMNS_DEFAULT = 80
BAR_COLUMNS = 24
# A shorter bar says less than the number beside it.
BAR_LEAST_COLUMNS = 4
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}
_STATE_COLOURS = {
    "running": "green",
    "alive": "green",
    "failed": "red",
    "lost": "red",
    "error": "red",
    "draining": "yellow",
    "warning": "yellow",
    "cancelled": "yellow",
    "pending": "dim",
    "leased": "dim",
    "joined": "dim",
    "stopped": "red",
    "stuck": "red",
    "unreachable": "red",
    "paused": "yellow",
}


class Console:
    """One command's way to speak."""

    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet

    def line(self, text: str = "") -> None:
        """A line of the result."""
        sys.stdout.write(text + "\n")

    def shown(self, name: str) -> str:
        """A name that others chose, for a line of the result: on a terminal it must not
        move the cursor or look like two; a pipe gets it as it is."""
        return quoted(name) if sys.stdout.isatty() else name

    def sentence(self, text: str) -> str:
        """A sentence of the result in which such names may stand."""
        return lines_shown(text) if sys.stdout.isatty() else text

    def json(self, value: Any) -> None:
        """A value as one line of JSON; streams flush each."""
        try:
            self._put(value)
        except BrokenPipeError:
            raise
        except OSError as error:
            from perseus.cli.foreground import stdout_failed

            raise stdout_failed(error) from None

    def _put(self, value: Any) -> None:
        import json

        from perseus.client.messages import encode

        try:
            sys.stdout.write(json.dumps(encode(value), ensure_ascii=False) + "\n")
            sys.stdout.flush()
        except OSError:
            # It is told of once, not again at the end.
            silence_stdout()
            raise

    def piece(self, path: str, offset_bytes: int, data: bytes) -> None:
        """Bytes of a file as a line of JSON; they are base64 there, as in the protocol."""
        self.json({"path": path, "offset_bytes": offset_bytes, "data": data})

    def event(self, message: dict[str, Any]) -> None:
        """A step of a job as a line of JSON, with all its fields."""
        from perseus.client.messages import FollowEvent, decode

        self._put(decode(FollowEvent, message))

    def say(self, text: str) -> None:
        """A message for the person, on stderr; nothing with -q, or when stderr is gone."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """As ``say``, of what is wrong: also with -q. What was said on stdout before goes out
        first, also where both lead to one file or pipe."""
        # What cannot be written stays, and is told of at the end.
        with suppress(OSError):
            sys.stdout.flush()
        shown = lines_shown(text) if sys.stderr.isatty() else text
        with suppress(OSError):
            sys.stderr.write(f"perseus: {shown}\n")
            sys.stderr.flush()

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Columns, aligned; numbers of a column that has only those to the right."""
        lines = [[self.shown(str(cell)) for cell in row] for row in rows]
        widths = [max(len(line[i]) for line in [list(heads), *lines]) for i in range(len(heads))]
        right = [
            bool(lines) and all(_is_amount(line[i]) for line in lines) for i in range(len(heads))
        ]
        if not self.quiet:
            self.line(self.colour(_row(list(heads), widths, right), "bold"))
        for line in lines:
            self.line(self._coloured_row(line, widths, right))

    def _coloured_row(self, line: list[str], widths: list[int], right: list[bool]) -> str:
        text = _row(line, widths, right)
        for cell in line:
            if cell in _STATE_COLOURS:
                return text.replace(cell, self.colour(cell, _STATE_COLOURS[cell]), 1)
        return text

    def colour(self, text: str, name: str, stream: Any = None) -> str:
        """``text`` in a colour where that is wanted and seen."""
        stream = sys.stdout if stream is None else stream
        if os.environ.get("NO_COLOR") or not draws(stream):
            return text
        return f"\033[{_COLOURS[name]}m{text}\033[0m"


def draws(stream: TextIO) -> bool:
    """Whether it is a terminal that can move its cursor and change colours."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def columns(stream: TextIO) -> int:
    """How many characters a line of this terminal has."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or COLUMNS_DEFAULT
    except OSError:
        return COLUMNS_DEFAULT


class Fleeting:
    """A line on stderr that is written over and taken away; nothing where that cannot be done."""

    def __init__(self, console: Console) -> None:
        self._draws = not (console.quiet or console.as_json) and draws(sys.stderr)
        self._stands = False

    def show(self, text: str) -> None:
        """``text`` in its place, cut at the terminal's width: of a line that is broken into
        two only the second could be taken back."""
        if self._draws:
            self._stands = True
            self._write("\r\033[K" + quoted(text)[: columns(sys.stderr) - 1])

    def clear(self) -> None:
        """Takes it away."""
        if self._stands:
            self._stands = False
            self._write("\r\033[K")

    def __enter__(self) -> "Fleeting":
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def _write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


class Progress:
    """A bar on stderr for one file; nothing where stderr is no terminal that draws."""

    def __init__(self, console: Console, name: str) -> None:
        self._name = quoted(name)
        self._line = Fleeting(console)
        self._began_s = time.monotonic()
        self._last_s = 0.0

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        """Shows how far it is; ``total_bytes`` 0 when that is not known."""
        now_s = time.monotonic()
        if now_s - self._last_s >= PROGRESS_INTERVAL_S:
            self._last_s = now_s
            self._line.show(self.text(done_bytes, total_bytes, now_s - self._began_s))

    def text(self, done_bytes: int, total_bytes: int, elapsed_s: float) -> str:
        """The bar as it is shown."""
        from perseus.cli.units import format_duration, format_size

        speed = done_bytes / elapsed_s if elapsed_s > 0 else 0.0
        ending = f"{format_size(done_bytes)}  {format_size(speed)}/s"
        if not total_bytes:
            return f"{self._name}  {ending}"
        share = min(done_bytes / total_bytes, 1.0)
        left_s = (total_bytes - done_bytes) / speed if speed else 0.0
        return self._fitted(share, f"{share:4.0%}  {ending}  {format_duration(left_s)}")

    def _fitted(self, share: float, numbers: str) -> str:
        """On a narrow terminal the bar gets shorter, then the name; the numbers stay whole."""
        room = columns(sys.stderr) - 1 - len(self._name) - len(numbers)
        # Around the bar are two blanks, its brackets and a blank.
        width = min(room - 5, BAR_COLUMNS)
        if width >= BAR_LEAST_COLUMNS:
            bar = "#" * int(share * width)
            return f"{self._name}  [{bar:<{width}}] {numbers}"
        if room >= 2:
            return f"{self._name}  {numbers}"
        kept = max(len(self._name) + room - 3, 0)
        return f"{self._name[:kept]}…  {numbers}"

    def end(self) -> None:
        """Takes the bar away."""
        self._line.clear()


def _row(cells: list[str], widths: list[int], right: list[bool]) -> str:
    padded = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _is_amount(text: str) -> bool:
    return text in ("", "-") or text[:1].isdigit()
