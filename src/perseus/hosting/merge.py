"""Traces of several processes as one, in an order that could have been.

An order is true to causality when each process's steps keep theirs, and nothing is received
before it was sent (Lamport 1978). Of those that are, the one by the machines' clocks is
taken: it is what happened, as far as clocks can tell. What was received from a sender whose
trace does not go so far (it was read earlier, or is full) is left out with all that follows
from it, so that what is left is a consistent cut (Chandy and Lamport 1985).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from perseus.algo.process import Id
from perseus.hosting import trace
from perseus.hosting.run import root

Line = dict[str, Any]
# Of a message: the process whose task sent it, its life, and the mark.
Mark = tuple[Id, int, int]
STEPS = ("start", "receive", "timer")
# Traces are read one after the other while the run goes on: by so much more than that took may
# one be behind another. What is further behind was not written since, and is not there.
BEHIND_S = 2.0


@dataclass(slots=True)
class Traces:
    """The traces of a run."""

    lines: dict[Id, list[Line]] = field(default_factory=dict)
    # Lines that were torn when a process was killed.
    torn: int = 0
    # Events that were left out, for what they follow from is in no trace.
    cut: int = 0
    # Processes whose first lives are in no trace: an attempt's output is lost with its node.
    headless: set[Id] = field(default_factory=set)
    # Processes whose traces end before they do: no more is written of them.
    full: set[Id] = field(default_factory=set)
    # Processes of whose traces nothing is there, and why.
    unread: dict[Id, str] = field(default_factory=dict)
    # How long it took to read them all.
    took_s: float = 0.0
    # The longest time of one process that was left out, by its own clock.
    behind_s: float = 0.0
    # How many events of each process stand in ``merged``.
    taken: dict[Id, int] = field(default_factory=dict)

    def add(self, process: Id, content: bytes) -> None:
        """What the task of a process wrote to stdout."""
        lines = self.lines.setdefault(process, [])
        for text in content.split(b"\n"):
            if text:
                try:
                    lines.append(trace.decode(text))
                except msgspec.DecodeError:
                    self.torn += 1
        if self._first_life(process) > 0:
            self.headless.add(process)
        if any(line["k"] == "full" for line in lines):
            self.full.add(process)

    @property
    def ends_early(self) -> bool:
        """Whether there is less of some processes than of others, so that what these have not
        done says nothing."""
        return bool(self.unread or self.full) or self.behind_s > self.took_s + BEHIND_S

    @property
    def missing(self) -> list[str]:
        """What is in no trace, in sentences; a verdict is one on the rest."""
        begins = "the beginning of {}'s trace is gone with an attempt that was lost"
        ends = "{}'s trace is full and ends before the process"
        told = [f"{process}'s trace is not there: {why}" for process, why in self.unread.items()]
        told += [begins.format(process) for process in sorted(self.headless)]
        told += [ends.format(process) for process in sorted(self.full)]
        if self.cut and (self.ends_early or self.headless):
            told.append(f"{self.cut} events are left out: what they follow from is not there")
        return told

    def merged(self) -> Iterator[Line]:
        """All events in one order; ``taken``, ``cut`` and ``behind_s`` are known at its end."""
        begins = {process: self._first_life(process) for process in self.lines}
        places = dict.fromkeys(self.lines, 0)
        sent: set[Mark] = set()
        while True:
            ready = [
                (line["at"], process)
                for process, place in places.items()
                if place < len(self.lines[process])
                and _may_be(line := self.lines[process][place], sent, begins)
            ]
            if not ready:
                break
            _, process = min(ready)
            line = self.lines[process][places[process]]
            places[process] += 1
            for _, mark, *_ in line.get("s", ()):
                sent.add((process, line["l"], mark))
            yield line
        self.taken = places
        left = {process: self.lines[process][place:] for process, place in places.items()}
        self.cut = sum(map(len, left.values()))
        spans = (lines[-1]["at"] - lines[0]["at"] for lines in left.values() if lines)
        self.behind_s = max(spans, default=0.0)

    def _first_life(self, process: Id) -> int:
        return next((line["l"] for line in self.lines[process] if line["k"] in STEPS), 0)


def mark_of(line: Line) -> Mark:
    """Which message was received."""
    life, mark = line["m"]
    return root(line["from"]), life, mark


def _may_be(line: Line, sent: set[Mark], begins: Mapping[Id, int]) -> bool:
    if line["k"] != "receive" or (mark := mark_of(line)) in sent:
        return True
    # From before the trace begins: nothing is known of it.
    return mark[1] < begins.get(mark[0], 0)


def last_fault(events: Sequence[Line]) -> int:
    """The place of the last event that is a fault or the end of one; -1 when there is none."""
    faults = ("fault", "heal", "crash", "raised")
    places = [place for place, line in enumerate(events) if line["k"] in faults]
    return places[-1] if places else -1
