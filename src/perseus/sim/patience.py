"""Ends a step that does not: a loop without end in a handler, a wait within it.

A signal comes again and again while a run is under way. When no step has ended for the
limit, it raises ``Endless`` in the middle of the step, with the place where that stands.
What cannot be interrupted so, a loop in C or one that catches everything, is ended with
its process, which says on stderr where it stood.

Where the alarm is somebody else's (a test's time limit, another thread than the first),
or a debugger is at work, nothing is ended.
"""

import faulthandler
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from perseus.sim.where import Step, stands_at

STEP_LIMIT_S = 10.0
# How often one looks within the limit: a moment in which the whole machine stood still,
# or this program was stopped, counts as one look.
LOOKS = 10
# After how many limits the process is ended.
LAST_RESORT = 1.5
# How a run is said to break that has such a step.
ENDLESS = "a step does not end"
_STDERR = 2


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
    look.begin()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


def _is_free() -> bool:
    """Nobody else uses the alarm, and this thread is the one that gets it."""
    is_first = threading.current_thread() is threading.main_thread()
    return is_first and signal.getitimer(signal.ITIMER_REAL)[0] == 0.0


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
        if self._looks >= LOOKS:
            raise Endless(self._said(frame))

    def _go_on(self) -> None:
        self._steps, self._looks = self._run.steps, 0
        faulthandler.dump_traceback_later(self._limit_s * LAST_RESORT, exit=True, file=_STDERR)

    def _said(self, frame: FrameType | None) -> str:
        step = self._run.step
        process = step.process if step is not None else None
        where = stands_at(frame, process)
        return f"{step or 'the run'} has run for {self._limit_s:g} s, and stands at {where}"
