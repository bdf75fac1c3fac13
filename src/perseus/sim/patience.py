"""Ends a step that does not: a loop without end in a handler, a wait within it.

A signal comes again and again while a run is under way. When no step has ended for the
limit, or memory is short, it raises ``Endless`` in the middle of the step, with the place
where that stands.
What cannot be interrupted so, a loop in C or one that catches everything, is ended with
its process, by a signal after some more time of the processor; stderr says where it stood.

Where the timers are somebody else's (a test's time limit, another thread than the first),
or a debugger is at work, nothing is ended.
"""

import faulthandler
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from perseus.sim.where import Step, stands_at

STEP_LIMIT_S = 10.0
# How often one looks within the limit: a moment in which the whole machine stood still,
# or this program was stopped, counts as one look.
LOOKS = 10
# After how many limits, of time of the processor, the process is ended; by this signal.
LAST_RESORT = 1.5
LAST_SIGNAL = signal.SIGPROF
# How a run is said to break that has such a step.
ENDLESS = "a step does not end"
# Neither a step nor a search takes the last of the machine's memory: this share stays.
MEMORY_LEFT_LEAST = 0.1
_STDERR = 2
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_PROF)


class Stepping(Protocol):
    """What takes steps."""

    # How many were begun.
    steps: int

    @property
    def step(self) -> Step | None:
        """The one under way; None between two."""


class Endless(BaseException):
    """A step takes longer than the limit; no handler's ``except Exception`` catches it."""


@contextmanager
def limited(run: Stepping, limit_s: float = STEP_LIMIT_S) -> Iterator[None]:
    """Raises Endless within, when a step of ``run`` takes longer than ``limit_s``; 0: never."""
    if limit_s <= 0 or not _is_free():
        yield
        return
    look = _Look(run, limit_s)
    before = signal.signal(signal.SIGALRM, look)
    # It tells where Python stands also in the middle of C, and then lets the signal end it.
    faulthandler.register(LAST_SIGNAL, _STDERR, all_threads=False, chain=True)
    look.begin()
    try:
        yield
    finally:
        for timer in _TIMERS:
            signal.setitimer(timer, 0.0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.unregister(LAST_SIGNAL)


def _is_free() -> bool:
    """Nobody else uses the timers, and this thread is the one that gets their signals."""
    is_first = threading.current_thread() is threading.main_thread()
    return is_first and not any(signal.getitimer(timer)[0] for timer in _TIMERS)


class _Look:
    """The handler of the signal."""

    def __init__(self, run: Stepping, limit_s: float) -> None:
        self._run = run
        self._limit_s = limit_s
        self._steps = -1
        self._looks = 0

    def begin(self) -> None:
        """From now on."""
        self._go_on()
        signal.setitimer(signal.ITIMER_REAL, self._limit_s / LOOKS, self._limit_s / LOOKS)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._run.steps != self._steps or sys.gettrace() is not None:
            self._go_on()
            return
        self._looks += 1
        if self._looks >= LOOKS or memory_left() < MEMORY_LEFT_LEAST:
            raise Endless(self._said(frame))

    def _go_on(self) -> None:
        self._steps, self._looks = self._run.steps, 0
        signal.setitimer(signal.ITIMER_PROF, self._limit_s * LAST_RESORT)

    def _said(self, frame: FrameType | None) -> str:
        step = self._run.step
        process = step.process if step is not None else None
        where = stands_at(frame, process)
        passed_s = self._looks * self._limit_s / LOOKS
        memory = "" if self._looks >= LOOKS else ", with all of the memory"
        return f"{step or 'the run'} has run for {passed_s:g} s{memory}, and stands at {where}"


def memory_left() -> float:
    """The share of this machine's memory that is to be had; 1 where that is not known."""
    try:
        words = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
        known = {name: int(value) for name, value, *_ in words}
        return known["MemAvailable:"] / known["MemTotal:"]
    except (OSError, KeyError, ValueError):
        return 1.0
