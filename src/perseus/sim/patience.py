"""Ends a step that does not: a loop without end in a handler, a wait within it.

A signal comes again and again while a run is under way. When no step has ended for the
limit, or memory is short, it raises ``Endless`` in the middle of the step, with the place
where that stands.
What cannot be interrupted so, a loop in C or one that catches everything, is ended with
its process after some more time of the processor. What is to be told of it is told before,
in the middle of that loop: it never goes on, so it minds nothing that is done to it.

Where the timers are somebody else's (a test's time limit, another thread than the first),
or a debugger is at work, nothing is ended.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from perseus.sim.where import Step, stands_at

STEP_LIMIT_S = 10.0
# How often one looks within the limit: a moment in which the whole machine stood still,
# or this program was stopped, counts as one look.
LOOKS = 10
# After how many limits, of time of the processor, the process is ended; with this exit code.
LAST_RESORT = 1.5
LAST_CODE = 1
# How a run is said to break that has such a step.
ENDLESS = "a step does not end"
# Neither a step nor a search takes the last of the machine's memory: this share stays.
MEMORY_LEFT_LEAST = 0.1
ADVICE = "a step is to end: less in it, or more time for it with --step-limit"
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


# What is told last, of a step that nothing interrupts.
Last = Callable[[str], None]
# What C calls when a signal comes. Python's own handlers wait until C has returned.
_CHandler = ctypes.CFUNCTYPE(None, ctypes.c_int)


def _say(said: str) -> None:
    print(f"perseus: {ENDLESS}: {said}", file=sys.stderr, flush=True)


@contextmanager
def limited(run: Stepping, limit_s: float = STEP_LIMIT_S, last: Last = _say) -> Iterator[None]:
    """Raises Endless within, when a step of ``run`` takes longer than ``limit_s``; 0: never.
    Of one that nothing interrupts ``last`` is told, and then the process ends."""
    if limit_s <= 0 or not _is_free():
        yield
        return
    look = _Look(run, limit_s)
    before = signal.signal(signal.SIGALRM, look)
    with _last_resort(lambda frame: last(look.said_last(frame))):
        look.begin()
        try:
            yield
        finally:
            for timer in _TIMERS:
                signal.setitimer(timer, 0.0)
            signal.signal(signal.SIGALRM, before)


@contextmanager
def _last_resort(tell: Callable[[FrameType | None], None]) -> Iterator[None]:
    def handle(number: int) -> None:
        try:
            tell(sys._getframe(1))
            sys.stdout.flush()
        finally:
            os._exit(LAST_CODE)

    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes, set_handler.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    handler = _CHandler(handle)
    before = set_handler(signal.SIGPROF, ctypes.cast(handler, ctypes.c_void_p))
    try:
        yield
    finally:
        set_handler(signal.SIGPROF, before)


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
        passed_s = self._looks * self._limit_s / LOOKS
        memory = "" if self._looks >= LOOKS else ", with all of the memory"
        return f"{self._who()} has run for {passed_s:g} s{memory}, and {self._where(frame)}"

    def said_last(self, frame: FrameType | None) -> str:
        """The same of one that nothing interrupts."""
        passed_s = self._limit_s * LAST_RESORT
        took = f"has taken {passed_s:g} s of the processor"
        return f"{self._who()} {took}, in what cannot be interrupted, and {self._where(frame)}"

    def _who(self) -> str:
        return str(self._run.step or "the run")

    def _where(self, frame: FrameType | None) -> str:
        step = self._run.step
        process = step.process if step is not None else None
        return f"stands at {stands_at(frame, process)}; {ADVICE}"


def memory_left() -> float:
    """The share of this machine's memory that is to be had; 1 where that is not known."""
    try:
        words = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
        known = {name: int(value) for name, value, *_ in words}
        return known["MemAvailable:"] / known["MemTotal:"]
    except (OSError, KeyError, ValueError):
        return 1.0
