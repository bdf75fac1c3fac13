"""The traces of a run: fetched and judged, or followed live."""

import heapq
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from perseus.algo.process import Id
from perseus.errors import NotFoundError, PerseusError
from perseus.hosting import trace
from perseus.hosting.merge import Traces
from perseus.hosting.program import BUNDLE, unpack
from perseus.hosting.replay import Checked, Replay
from perseus.hosting.run import Run
from perseus.hosting.runs import Runs

# How long a line waits for one of another process that was before it.
ORDER_S = 0.3
LINES_MAXIMUM = 100_000


def check(runs: Runs, run: Run, folder: Path) -> tuple[Checked, Traces]:
    """Takes the run again. Its program is put into ``folder``, and loaded."""
    if run.has_program:
        unpack(runs.cluster.fs.read_bytes(f"{run.folder}/{BUNDLE}"), folder)
    layout = run.layout(str(folder))
    traces = fetch(runs, run)
    return Replay(run, layout, traces).run(), traces


def fetch(runs: Runs, run: Run) -> Traces:
    """What is there of the traces now."""
    jobs = runs.jobs(run)
    if not jobs:
        raise NotFoundError(f"run {run.run} has no jobs", hint="perseus algo ps")
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
    return traces


def live(runs: Runs, run: Run, processes: Sequence[Id], since_s: float) -> Iterator[dict[str, Any]]:
    """Events as they come, those after ``since_s``, about in their order; ends with the run."""
    jobs = {process: job for process, job in runs.jobs(run).items() if process in processes}
    lines: queue.Queue[dict[str, Any] | None] = queue.Queue(LINES_MAXIMUM)
    for job_id in jobs.values():
        threading.Thread(target=_follow, args=(runs, job_id, lines, since_s), daemon=True).start()
    waiting: list[tuple[float, int, dict[str, Any]]] = []
    left, number = len(jobs), 0
    while left or waiting:
        try:
            line = lines.get(timeout=ORDER_S)
            left -= line is None
            if line is not None:
                number += 1
                heapq.heappush(waiting, (line["at"], number, line))
        except queue.Empty:
            pass
        while waiting and (not left or waiting[0][0] < time.time() - ORDER_S):
            yield heapq.heappop(waiting)[2]


def _follow(
    runs: Runs, job_id: str, lines: "queue.Queue[dict[str, Any] | None]", since_s: float
) -> None:
    rest = b""
    try:
        for event in runs.cluster.job(job_id).follow(stderr=False):
            *whole, rest = (rest + event.stdout).split(b"\n")
            for text in whole:
                try:
                    line = trace.decode(text)
                except msgspec.DecodeError:
                    continue
                if line.get("at", 0.0) >= since_s:
                    lines.put(line)
    except PerseusError:
        # The cluster was closed, or cannot be reached: there is no more to see of it.
        return
    finally:
        lines.put(None)
