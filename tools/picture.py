"""Makes docs/session.svg: a picture of a real session, drawn from what the commands print.

It starts a local cluster, runs each line of SESSION on a terminal of its own
(a pty), keeps what a person would have seen, and draws it. Nothing is edited.
"""

import fcntl
import html
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "session.svg"
COLUMNS, ROWS = 100, 40
LINE_LIMIT_S = 60.0
SESSION = (
    "perseus nodes",
    "seq 1 2000000 | shuf > numbers; wc -c numbers",
    "perseus run -- sort -n < numbers | tail -n 1",
    "perseus fs put numbers /data/numbers --parents",
    "perseus run --stdin /data/numbers -- sha256sum",
    "sha256sum < numbers",
    "id=$(perseus submit -- sh -c 'sleep 2; echo done')",
    "perseus run -- sh -c 'exit 3'; echo exit code $?",
    "perseus wait $id && perseus logs $id",
    "perseus doctor",
)

FONT_PX, LINE_PX, CHARACTER_PX, MARGIN_PX = 14, 19, 8.43, 16
BACKGROUND, FOREGROUND, PROMPT = "#16181d", "#d8dbe2", "#7fd88f"
COLOURS = ("#5c6370", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#ffffff")
ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b\][^\x07]*\x07")
ERASES = ("\x1b[K", "\x1b[2K")


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="perseus-picture-"))
    binaries = str(Path(sys.executable).parent)
    environment = {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "HOME": str(folder),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "PERSEUS_EXIT_WITH_PID": str(os.getpid()),
    }
    up = ["perseus", "dev", "up", "--nodes", "3", "--dir", "lab"]
    down = ["perseus", "dev", "down", "--dir", "lab", "--remove"]
    try:
        subprocess.run(up, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        environment["PERSEUS_CONTEXT"] = str(folder / "lab/context.json")
        text = _session(folder, environment)
        TARGET.write_text(draw(text))
    finally:
        subprocess.run(down, cwd=folder, env=environment, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _session(folder: Path, environment: dict[str, str]) -> str:
    """What one bash, given SESSION line by line, left on its terminal."""
    marked = "".join(f"printf '\\001%s\\n' {_quote(line)}\n{line}\n" for line in SESSION)
    (folder / "session.sh").write_text(marked)
    shell = shutil.which("bash") or "sh"
    return _on_terminal([shell, "session.sh"], folder, environment)


def _quote(line: str) -> str:
    return "'" + line.replace("'", "'\\''") + "'"


def _on_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Everything a command wrote to a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    own_terminal = ["setsid", "--ctty", "--wait", *command]
    process = subprocess.Popen(
        own_terminal, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    pieces = []
    deadline = time.monotonic() + LINE_LIMIT_S * len(SESSION)
    while time.monotonic() < deadline:
        piece = _next_piece(ours)
        if not piece and process.poll() is not None:
            break
        pieces.append(piece)
    code = process.wait(LINE_LIMIT_S)
    os.close(ours)
    text = b"".join(pieces).decode(errors="replace")
    if code != 0:
        raise SystemExit(f"{text}\nthe session ended with {code}")
    return text


def _next_piece(descriptor: int) -> bytes:
    """What comes in the next moment; empty when nothing does."""
    ready, _, _ = select.select([descriptor], [], [], 0.2)
    try:
        return os.read(descriptor, 1 << 16) if ready else b""
    except OSError:
        return b""


def draw(text: str) -> str:
    """A terminal's text, with its colours, as an SVG."""
    text = re.sub(r"[^\n]\x01", lambda match: f"{match[0][0]}\n\x01", text.replace("\r\n", "\n"))
    lines = [_overwritten(line) for line in text.split("\n")]
    lines = [line for line in lines if line not in ERASES]
    while lines and not ESCAPE.sub("", lines[-1]).strip():
        lines.pop()
    width = COLUMNS * CHARACTER_PX + 2 * MARGIN_PX
    height = len(lines) * LINE_PX + 2 * MARGIN_PX
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}"'
        f' font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{FONT_PX}">',
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
    ]
    for number, line in enumerate(lines):
        y = MARGIN_PX + FONT_PX + number * LINE_PX
        spans = "".join(_spans(line))
        drawn.append(f'<text x="{MARGIN_PX}" y="{y}" xml:space="preserve">{spans}</text>')
    return "\n".join([*drawn, "</svg>"]) + "\n"


def _overwritten(line: str) -> str:
    """What is left of a line that was written over from its start, as progress bars are."""
    left = ""
    for part in line.split("\r"):
        if part.startswith(ERASES) or ESCAPE.sub("", part).strip():
            left = part
    return left


def _spans(line: str) -> Iterator[str]:
    if line.startswith("\x01"):
        yield f'<tspan fill="{PROMPT}">$ </tspan>' + _span(line[1:], "#ffffff", True)
        return
    colour, bold, position = FOREGROUND, False, 0
    for match in ESCAPE.finditer(line):
        if match.start() > position:
            yield _span(line[position : match.start()], colour, bold)
        position = match.end()
        if match[2] == "m":
            colour, bold = _style(match[1], colour, bold)
    if position < len(line):
        yield _span(line[position:], colour, bold)


def _style(codes: str, colour: str, bold: bool) -> tuple[str, bool]:
    """The style after an SGR sequence; only what the command line uses is known."""
    for code in (int(word or 0) for word in codes.split(";")):
        if code == 0:
            colour, bold = FOREGROUND, False
        elif code == 1:
            bold = True
        elif code in (2, 90):
            colour = COLOURS[0]
        elif 30 <= code <= 37:
            colour = COLOURS[code - 30]
        elif code == 39:
            colour = FOREGROUND
    return colour, bold


def _span(text: str, colour: str, bold: bool) -> str:
    text = "".join(character for character in text if character.isprintable())
    weight = ' font-weight="bold"' if bold else ""
    return f'<tspan fill="{colour}"{weight}>{html.escape(text, quote=False)}</tspan>'


if __name__ == "__main__":
    raise SystemExit(main())
