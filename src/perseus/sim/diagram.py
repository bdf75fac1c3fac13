"""Space-time diagrams (Lamport 1978): a line for each process, arrows for messages.

A message that did not arrive ends in an x. ``svg`` draws a picture; ``text`` the same
for a terminal, time running down.
"""

from collections.abc import Sequence
from html import escape

from perseus.algo.process import Id
from perseus.sim.trace import Happened

# Events drawn: the last ones before the end.
DRAWN_MAXIMUM = 120
COLUMN_WIDTH = 24
# Of all columns, where they are few.
LINE_WIDTH = 96

_LANE = 150
_ROW = 26
_LEFT = 90
_TOP = 50
_COLOURS = {"crash": "#c0392b", "start": "#27ae60", "timer": "#8e44ad", "fault": "#d35400"}


def svg(events: Sequence[Happened], title: str = "") -> str:
    """The picture, as an SVG document."""
    shown = list(events)[-DRAWN_MAXIMUM:]
    lanes = {name: _LEFT + _LANE * place for place, name in enumerate(_lanes(shown))}
    rows = {id(event): _TOP + 30 + _ROW * place for place, event in enumerate(shown)}
    width = _LEFT + _LANE * max(1, len(lanes)) + 120
    height = _TOP + 60 + _ROW * len(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<defs><marker id="tip" markerWidth="8" markerHeight="6" refX="7" refY="3" orient="auto">'
        '<path d="M0,0 L8,3 L0,6 z" fill="#2c3e50"/></marker></defs>',
        f'<text x="10" y="20" font-size="13" font-weight="bold">{escape(title)}</text>',
    ]
    for name, x in lanes.items():
        parts.append(
            f'<text x="{x}" y="{_TOP}" text-anchor="middle" font-weight="bold">'
            f"{escape(name)}</text>"
            f'<line x1="{x}" y1="{_TOP + 8}" x2="{x}" y2="{height - 20}" stroke="#bdc3c7"/>'
        )
    sent = {event.mark: event for event in shown if event.kind == "send"}
    arrived = {event.mark for event in shown if event.kind == "receive"}
    for event in shown:
        parts += _draw(event, lanes, rows, sent, arrived)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw(
    event: Happened,
    lanes: dict[Id, int],
    rows: dict[int, int],
    sent: dict[int, Happened],
    arrived: set[int],
) -> list[str]:
    x, y = lanes[event.who], rows[id(event)]
    time = f'<text x="8" y="{y + 4}" fill="#7f8c8d">{event.at_s:.4f}</text>'
    if event.kind == "receive":
        source = sent.get(event.mark)
        dot = f'<circle cx="{x}" cy="{y}" r="3" fill="#2c3e50"/>'
        label = f'<text x="{x + 8}" y="{y + 4}">{escape(event.what[:40])}</text>'
        if source is None:
            return [time, dot, label]
        from_x, from_y = lanes[source.who], rows[id(source)]
        arrow = (
            f'<line x1="{from_x}" y1="{from_y}" x2="{x}" y2="{y}" stroke="#2c3e50"'
            ' stroke-width="0.8" marker-end="url(#tip)"/>'
        )
        return [time, arrow, dot, label]
    if event.kind == "send" and event.mark not in arrived:
        # Lost, or still on its way at the end.
        side = 14 if lanes[event.peer] > x else -14
        stub = f'<line x1="{x}" y1="{y}" x2="{x + side}" y2="{y + 8}" stroke="#c0392b"/>'
        return [time, stub, f'<text x="{x + side - 3}" y="{y + 13}" fill="#c0392b">x</text>']
    if event.kind == "send":
        return [time, f'<circle cx="{x}" cy="{y}" r="2.5" fill="white" stroke="#2c3e50"/>']
    colour = _COLOURS.get(event.kind, "#2c3e50")
    said = event.what if event.kind == "fault" else f"{event.kind} {event.what}"
    return [
        time,
        f'<rect x="{x - 4}" y="{y - 4}" width="8" height="8" fill="{colour}"/>',
        f'<text x="{x + 8}" y="{y + 4}" fill="{colour}">{escape(said)}</text>',
    ]


def text(events: Sequence[Happened]) -> str:
    """The same in columns: ``*`` takes a step, ``>`` sends, ``X`` crashes."""
    shown = list(events)[-DRAWN_MAXIMUM:]
    lanes = _lanes(shown)
    width = max(COLUMN_WIDTH, LINE_WIDTH // max(1, len(lanes)))
    head = " " * 11 + "".join(f"{name:<{width}}" for name in lanes)
    lines = [head.rstrip()]
    for event in shown:
        if event.kind == "fault":
            lines.append(f"{event.at_s:9.4f}  ---- {event.what}")
            continue
        cells = ["|".ljust(width)] * len(lanes)
        cells[lanes.index(event.who)] = _cut(_cell(event), width - 1).ljust(width)
        lines.append(f"{event.at_s:9.4f}  {''.join(cells)}".rstrip())
    return "\n".join(lines)


def _cut(said: str, length: int) -> str:
    return said if len(said) <= length else f"{said[: length - 1]}…"


def _cell(event: Happened) -> str:
    if event.kind == "send":
        return f"> {event.peer} {event.what}"
    if event.kind == "receive":
        return f"* {event.peer}: {event.what}"
    if event.kind == "crash":
        return "X crash"
    return f"* {event.kind} {event.what}".rstrip()


def _lanes(events: Sequence[Happened]) -> list[Id]:
    return sorted({event.who for event in events} | {e.peer for e in events if e.peer})
