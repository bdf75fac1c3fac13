"""The traces of a run: fetched and judged, or followed live."""

import contextlib
import heapq
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from perseus.algo.process import Id
from perseus.client.jobs import open_events
from perseus.client.messages import FollowEvent, decode
from perseus.errors import NotFoundError, PerseusError, UnavailableError
from perseus.hosting import trace
from perseus.hosting.feed import PATIENCE_S
from perseus.hosting.merge import Traces
from perseus.hosting.program import BUNDLE, unpack
from perseus.hosting.replay import Checked, Replay
from perseus.hosting.run import Run
from perseus.hosting.runs import Runs

# How long a line waits for one of another process that was before it.
ORDER_S = 0.3
LINES_MAXIMUM = 100_000
# Between two tries of a daemon that went away.
FOLLOW_AGAIN_S = 0.3
# How long a trace that is not there is looked for, and how often.
FETCH_WITHIN_S = 4.0
FETCH_AGAIN_S = 0.5


def check(runs: Runs, run: Run, folder: Path) -> tuple[Checked, Traces]:
    """Takes the run again. Its program is put into ``folder``, and loaded."""
    if run.has_program:
        unpack(runs.cluster.fs.read_bytes(f"{run.folder}/{BUNDLE}"), folder)
    layout = run.layout(str(folder))
    traces = fetch(runs, run)
    return Replay(run, layout, traces).run(), traces


def fetch(runs: Runs, run: Run) -> Traces:
    """What is there of the traces now. A trace of a process that goes on is waited for a
    little: when the master was away, its nodes may not be back yet."""
    jobs = runs.jobs(run)
    if not jobs:
        raise NotFoundError(f"run {run.run} has no jobs", hint="perseus algo ps")
    deadline_s = time.monotonic() + FETCH_WITHIN_S
    while True:
        traces, may_come = _fetched(runs, run, jobs)
        if not may_come or time.monotonic() > deadline_s:
            return traces
        time.sleep(FETCH_AGAIN_S)


def _fetched(runs: Runs, run: Run, jobs: Mapping[Id, str]) -> tuple[Traces, bool]:
    """And whether there may be more of them in a moment."""
    traces = Traces()
    begun_s = time.monotonic()
    for process, job_id in jobs.items():
        events = runs.cluster.job(job_id).follow(stderr=False, follow=False)
        traces.add(process, b"".join(event.stdout for event in events))
    traces.took_s = time.monotonic() - begun_s
    empty = [process for process, lines in traces.lines.items() if not lines]
    silent = runs.silent(run, dict.fromkeys(empty))
    back = "; check again when its node is back"
    traces.unread = {p: each.error + ("" if each.is_over else back) for p, each in silent.items()}
    return traces, not all(each.is_over for each in silent.values())


def live(runs: Runs, run: Run, processes: Sequence[Id], since_s: float) -> Iterator[dict[str, Any]]:
    """Events as they come, those after ``since_s``, about in their order; ends with the run.
    Raises UnavailableError when the cluster cannot be reached for a minute."""
    jobs = {process: job for process, job in runs.jobs(run).items() if process in processes}
    lines: _Queue = queue.Queue(LINES_MAXIMUM)
    for job_id in jobs.values():
        threading.Thread(target=_follow, args=(runs, job_id, lines, since_s), daemon=True).start()
    waiting: list[tuple[float, int, dict[str, Any]]] = []
    left, number = len(jobs), 0
    while left or waiting:
        try:
            line = lines.get(timeout=ORDER_S)
            if isinstance(line, PerseusError):
                raise line
            left -= line is None
            if line is not None:
                number += 1
                heapq.heappush(waiting, (line["at"], number, line))
        except queue.Empty:
            pass
        while waiting and (not left or waiting[0][0] < time.time() - ORDER_S):
            yield heapq.heappop(waiting)[2]


# Lines of traces; an error when there will be no more; None at the end of each.
_Queue = queue.Queue[dict[str, Any] | PerseusError | None]


def _follow(runs: Runs, job_id: str, lines: _Queue, since_s: float) -> None:
    """Puts down the lines of one process until its job ends, over a daemon that goes away."""
    offset_bytes, rest, deadline_s = 0, b"", 0.0
    while True:
        error = UnavailableError("the daemon went away", hint="perseus nodes")
        try:
            events = open_events(
                runs.cluster.transport, job_id, None, True, False, True, offset_bytes
            )
            for message in events:
                event = decode(FollowEvent, message)
                deadline_s = 0.0
                offset_bytes += len(event.stdout)
                *whole, rest = (rest + event.stdout).split(b"\n")
                for line in _lines(whole, since_s):
                    lines.put(line)
                if event.ending is not None:
                    lines.put(None)
                    return
        except UnavailableError as broken:
            error = broken
        except PerseusError as other:
            lines.put(other)
            return
        deadline_s = deadline_s or time.monotonic() + PATIENCE_S
        if time.monotonic() > deadline_s:
            lines.put(error)
            return
        time.sleep(FOLLOW_AGAIN_S)


def _lines(texts: Iterable[bytes], since_s: float) -> Iterator[dict[str, Any]]:
    for text in texts:
        with contextlib.suppress(msgspec.DecodeError):
            line = trace.decode(text)
            if line.get("at", 0.0) >= since_s:
                yield line
