"""Whether a run follows from its seed; and what in the code of an algorithm is against that.

What is looked for in the code is not all there is (the order of a set of objects, a file),
and what is found need not matter; two runs that part are proof.
"""

import builtins
import dis
import os
import random
import secrets
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from types import CodeType, FunctionType, ModuleType
from typing import Any

from perseus.algo.layout import Layout
from perseus.algo.process import Process
from perseus.algo.properties import Property
from perseus.sim.runner import Plan, run, world
from perseus.sim.trace import Trace
from perseus.sim.watch import Outcome

ADVICE = (
    "a run has to follow from its seed: self.random for chance, self.now for the time,"
    " sorted(...) where the order of a set of objects would count; see docs/algorithms.md"
)
_CHANCE = "self.random.random(), .uniform(low, high) or .below(count)"
_TIME = "self.now"
# What a step should not call, by what it is, and what to call instead.
_CLOCKS = (
    time.time, time.time_ns, time.monotonic, time.monotonic_ns, time.perf_counter,
    time.perf_counter_ns, time.process_time, time.localtime, time.gmtime,
)  # fmt: skip
_STRAYS: dict[int, str] = {
    **{id(each): _TIME for each in _CLOCKS},
    id(time.sleep): "self.after(seconds, handler), for a step never waits",
    **{id(each): _CHANCE for each in (os.urandom, os.getrandom, uuid.uuid1, uuid.uuid4)},
    id(random.SystemRandom): _CHANCE,
    id(builtins.id): "a name or number of your own: id() differs from run to run",
}


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two runs of a seed part."""

    # Of the first event that is not the same, counted from 1; 0: all were, but not the ends.
    number: int
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Again:
    """A seed, run again."""

    # None: it went the same way.
    parting: Parting | None
    # All that was looked at, also of what a run spawned.
    properties: list[Property]


def again(about: Plan, known: Outcome) -> Again:
    """Runs the seed of an outcome twice more, and compares all three."""
    traces = Trace(), Trace()
    worlds = [world(about, known.seed, trace) for trace in traces]
    gists = [_gist(run(made, about.step_limit_s)) for made in worlds]
    parting = _parting(traces) if traces[0].digest != traces[1].digest else None
    for gist in gists:
        if parting is None and gist != _gist(known):
            parting = Parting(0, _gist(known)[0], gist[0])
    return Again(parting, worlds[0].properties)


def _gist(outcome: Outcome) -> tuple[Any, ...]:
    """What an outcome tells of the way it came about."""
    numbers = (outcome.steps, outcome.messages, outcome.crashes, outcome.simulated_s)
    ending = f"{outcome.violation or 'all held'} after {outcome.steps} steps"
    return (ending, outcome.reached, *numbers)


def _parting(traces: tuple[Trace, Trace]) -> Parting:
    """Of two that differ."""
    events = [[" ".join(str(event).split()) for event in trace.events] for trace in traces]
    # Of a run that is very long only the end is kept.
    before = traces[0].count - len(events[0])
    for number, (first, second) in enumerate(zip(*events, strict=False), before + 1):
        if first != second:
            return Parting(number, first, second)
    number = min(map(len, events))
    ends = [each[number] if len(each) > number else "its end" for each in events]
    return Parting(before + number + 1, *ends)


def strays(layout: Layout) -> list[str]:
    """Sentences on calls in the code of an algorithm that make its runs differ, in order."""
    kinds = {group.kind for group in layout.groups.values()}
    found = _Search()
    for kind in sorted(kinds, key=lambda kind: kind.__qualname__):
        found.visit(kind)
    return found.said


class _Search:
    """Goes from the methods of classes to what they name, within the program's own modules."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._seen: set[int] = set()

    def visit(self, value: Any) -> None:
        """A class or function of the program."""
        if id(value) in self._seen or _is_foreign(getattr(value, "__module__", None) or ""):
            return
        self._seen.add(id(value))
        if isinstance(value, type):
            for base in value.__mro__[1:] if issubclass(value, Process) else ():
                self.visit(base)
            for each in vars(value).values():
                plain = getattr(each, "__func__", getattr(each, "fget", each))
                if isinstance(plain, FunctionType):
                    self.visit(plain)
        elif isinstance(value, FunctionType) and _is_written(value):
            for code in _codes(value.__code__):
                self._look(value, code)

    def _look(self, function: FunctionType, code: CodeType) -> None:
        for name, value, line in _named(function, code):
            instead = _instead(value)
            if instead:
                place = f"{os.path.basename(code.co_filename)}:{line}"
                self.said.append(
                    f"{function.__qualname__} at {place} calls {name}, which is not of the seed:"
                    f" use {instead}"
                )
            elif isinstance(value, FunctionType | type):
                self.visit(value)


def _is_foreign(module: str) -> bool:
    """Not the program's own: Perseus, Python's library, and what is installed."""
    top = module.split(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return top in ("perseus", "") or top in sys.stdlib_module_names or "site-packages" in file


def _is_written(function: FunctionType) -> bool:
    """In its module's file, and not made by a decorator of another."""
    file = getattr(sys.modules.get(function.__module__), "__file__", None)
    return function.__code__.co_filename == file


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions within it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _named(function: FunctionType, code: CodeType) -> Iterator[tuple[str, Any, int]]:
    """What code names that is no local: the dotted name, its value, the line."""
    name, value, line = "", None, 0
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(value, ModuleType | type):
            name, value = f"{name}.{step.argval}", getattr(value, step.argval, None)
            continue
        if name:
            yield name, value, line
        name, value = "", None
        if step.opname == "LOAD_GLOBAL":
            name = step.argval
            value = function.__globals__.get(name, getattr(builtins, name, None))
            line = (step.positions and step.positions.lineno) or code.co_firstlineno


def _instead(value: Any) -> str:
    """What to call instead of this; "" when it does no harm."""
    owner = getattr(value, "__self__", None)
    if owner is random._inst:
        return _CHANCE
    if getattr(value, "__module__", "") == secrets.__name__:
        return _CHANCE
    if (owner is date or owner is datetime) and getattr(value, "__name__", "") in (
        "now",
        "utcnow",
        "today",
    ):
        return _TIME
    return _STRAYS.get(id(value), "")
