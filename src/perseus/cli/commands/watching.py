"""``perseus algo watch`` on a terminal: a table that is drawn anew, and the latest events below.

What is shown is put together by ``frame``, which knows nothing of terminals or clusters.
"""

import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from perseus.algo.process import Id
from perseus.cli.console import Console, draws
from perseus.cli.units import quoted
from perseus.errors import PerseusError
from perseus.hosting.run import Run
from perseus.hosting.runs import Process, Runs
from perseus.proto.v1 import algo_pb2
from perseus.sim.trace import Happened

PERIOD_S = 1.0
EVENTS_MAXIMUM = 100
_HEADS = ("PROCESS", "NODE", "STATE", "RESTARTS", "SENT/s", "HEARD/s", "DROPPED", "FAULTS")
# Of lines that do not belong to the table: the heading, its blank line and the one below.
_OTHER_LINES = 4


class Counts:
    """What was sent and heard between two looks, by the second."""

    def __init__(self) -> None:
        self._before: dict[Id, tuple[float, int, int]] = {}

    def rates(self, processes: Iterable[Process], now_s: float) -> dict[Id, tuple[float, float]]:
        """By process; none for one that was not seen before or has begun to count anew."""
        found = {}
        for process in processes:
            status = process.status
            if status is None:
                self._before.pop(process.id, None)
                continue
            before = self._before.get(process.id)
            self._before[process.id] = (now_s, status.sent, status.heard)
            if before is not None and status.sent >= before[1] and now_s > before[0]:
                took_s = now_s - before[0]
                sent, heard = status.sent - before[1], status.heard - before[2]
                found[process.id] = (sent / took_s, heard / took_s)
        return found


def frame(
    title: str,
    processes: Sequence[Process],
    rates: Mapping[Id, tuple[float, float]],
    events: Sequence[str],
    width: int,
    height: int,
) -> list[str]:
    """The lines of one picture, none longer than ``width``, at most ``height`` of them."""
    rows = [_HEADS, *(_row(process, rates.get(process.id)) for process in processes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = [title, ""]
    lines += ["  ".join(cell.ljust(widths[n]) for n, cell in enumerate(row)) for row in rows]
    room = height - len(rows) - _OTHER_LINES
    if room > 0 and events:
        lines += ["", *events[-room:]]
    # What others chose must not move the cursor.
    return [quoted(line.rstrip())[:width] for line in lines[: max(1, height - 1)]]


def _row(process: Process, rate: tuple[float, float] | None) -> tuple[str, ...]:
    status = process.status
    if status is None:
        return (process.id, process.node, process.state, "", "", "", "", process.error)
    sent, heard = (f"{each:.1f}" for each in rate) if rate is not None else ("", "")
    counts = (str(status.restarts), sent, heard, str(status.dropped))
    return (process.id, process.node, process.state, *counts, faults(process))


def faults(process: Process) -> str:
    """What a process suffers, or how it ended."""
    status = process.status
    if status is None:
        return process.error
    said = [stuck(status)] if status.state == "stuck" else []
    said += [f"deaf to {','.join(status.deaf_to)}"] if status.deaf_to else []
    if status.loss or status.delay_s:
        said.append(f"loses {status.loss:g}, up to {status.delay_s:g} s late")
    if status.state == "down" and status.ending:
        said.append(status.ending)
    elif ": " in status.ending:
        # It gave a reason, and is up again: it may end so for as long as it runs.
        said.append(f"before: {status.ending}")
    return "; ".join(said)


def stuck(status: algo_pb2.ProcessStatus) -> str:
    """That a step does not end, and where it is."""
    where = f" in {status.stuck_in}" if status.stuck_in else ""
    line = f" at {status.stuck_at}" if status.stuck_at else ""
    return f"stuck{where} for {status.stuck_s:.0f} s{line}"


class Latest:
    """The latest events, taken off a stream by a thread of its own."""

    def __init__(self, events: Iterable[Happened]) -> None:
        self._events: deque[str] = deque(maxlen=EVENTS_MAXIMUM)
        self.is_over = threading.Event()
        # Why there are no more, when the run is not over.
        self.error: PerseusError | None = None
        threading.Thread(target=self._take, args=(events,), daemon=True).start()

    def _take(self, events: Iterable[Happened]) -> None:
        try:
            for event in events:
                self._events.append(str(event))
        except PerseusError as error:
            self.error = error
        finally:
            self.is_over.set()

    def lines(self) -> list[str]:
        """The oldest first."""
        return list(self._events)


def show(console: Console, runs: Runs, run: Run, wanted: Sequence[Id], latest: Latest) -> None:
    """Draws until the run is over; raises UnavailableError when it is out of reach for long."""
    counts, drawn, said, processes = Counts(), 0, "", list[Process]()
    while True:
        is_over = latest.is_over.is_set()
        try:
            processes, said = [each for each in runs.look(run) if each.id in wanted], ""
        except PerseusError as error:
            # The node's daemon is away, and perhaps back soon.
            said = f"  {error.message}"
        now_s = time.time()
        title = f"run {run.run}  {run.target}  {now_s - run.started_at_s:.0f} s{said}"
        width, height = shutil.get_terminal_size()
        rates = counts.rates(processes, now_s)
        lines = frame(title, processes, rates, latest.lines(), width, height)
        drawn = _draw(console, lines, drawn)
        if is_over:
            if latest.error is not None:
                raise latest.error
            return
        latest.is_over.wait(PERIOD_S)


def _draw(console: Console, lines: Sequence[str], drawn: int) -> int:
    """In the place of what was drawn before; how many lines there are now."""
    back = f"\033[{drawn}F" if drawn else ""
    shown = [console.colour(line, "bold") if n == 0 else line for n, line in enumerate(lines)]
    sys.stdout.write(back + "".join(f"{line}\033[K\n" for line in shown) + "\033[J")
    sys.stdout.flush()
    return len(lines)


def is_drawn(console: Console) -> bool:
    """Whether there is a terminal that can do it."""
    return not console.as_json and draws(sys.stdout)
