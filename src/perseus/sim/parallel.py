"""Many seeds in several processes, the outcomes in the order of the seeds.

The processes are forked and end with this one, however that ends. Each is asked for a few
seeds at a time and sends each outcome as it comes, so it is known which seed it was at
when it dies.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Generic, TypeVar

Made = TypeVar("Made")

# Seeds that one process takes at a time, at most.
BATCH = 8
# Batches of each process that are ahead of the outcomes that are taken off.
AHEAD = 4
# How often whoever waits is told that it goes on.
BEAT_S = 0.5
_PR_SET_PDEATHSIG = 1


class DiedError(Exception):
    """The process that ran a seed is gone."""

    def __init__(self, seed: int, code: int) -> None:
        """``code`` is its exit code, below 0 a signal."""
        super().__init__(f"the process that ran seed {seed} ended with {code}")
        self.seed = seed
        self.code = code


def spread(
    run: Callable[[int], Made],
    seeds: Sequence[int],
    processes: int,
    beat: Callable[[], None] = lambda: None,
) -> Generator[Made, None, None]:
    """``run`` of each seed; raises what it raises, and DiedError. Closing the iterator ends
    all processes at once."""
    crew = _Crew(run, seeds, min(processes, len(seeds)))
    try:
        for place in range(len(seeds)):
            while (made := crew.taken(place)) is None:
                if not crew.hear(BEAT_S):
                    beat()
            yield made
        crew.dismiss()
    finally:
        crew.end()


class _Member:
    """One process, and the places of the seeds that it still owes."""

    def __init__(self, process: ForkProcess, connection: Connection) -> None:
        self.process = process
        self.connection = connection
        self.owes: list[int] = []


class _Crew(Generic[Made]):
    def __init__(self, run: Callable[[int], Made], seeds: Sequence[int], count: int) -> None:
        self._seeds = seeds
        self._batch = max(1, min(BATCH, len(seeds) // max(1, count)))
        self._ahead = count * AHEAD * self._batch
        self._next = 0
        # By place of the seed.
        self._made: dict[int, Made | BaseException] = {}
        self._members = [_member(run, seeds) for _ in range(count)]
        for member in self._members:
            self._give(member, 0)

    def taken(self, place: int) -> Made | None:
        """The outcome of that place, if it is there; raises what stands in its stead."""
        made = self._made.pop(place, None)
        if isinstance(made, BaseException):
            raise made
        if made is not None:
            for member in self._members:
                self._give(member, place + 1)
        return made

    def hear(self, limit_s: float) -> bool:
        """Takes what came; False when nothing did in that time."""
        ready = set(wait([m.connection for m in self._members if m.owes], limit_s))
        for member in self._members:
            if member.connection in ready:
                self._take(member)
        return bool(ready)

    def _take(self, member: _Member) -> None:
        place = member.owes.pop(0)
        try:
            self._made[place] = member.connection.recv()
        except (EOFError, ConnectionError):
            member.process.join()
            member.owes.clear()
            code = member.process.exitcode
            self._made[place] = DiedError(self._seeds[place], code if code is not None else 0)

    def _give(self, member: _Member, place: int) -> None:
        """Its next batch, unless it is busy, or that would be too far ahead of ``place``."""
        if member.owes or self._next >= min(len(self._seeds), place + self._ahead):
            return
        until = min(self._next + self._batch, len(self._seeds))
        member.owes = list(range(self._next, until))
        self._next = until
        # One that has died is noticed when it is heard.
        with suppress(ConnectionError):
            member.connection.send((member.owes[0], until))

    def dismiss(self) -> None:
        """All is done: lets the processes end by themselves."""
        for member in self._members:
            with suppress(ConnectionError):
                member.connection.send(None)
        for member in self._members:
            member.process.join(BEAT_S)

    def end(self) -> None:
        """Ends those that are left."""
        for member in self._members:
            member.process.kill()
            member.process.join()
            member.connection.close()


def _member(run: Callable[[int], Made], seeds: Sequence[int]) -> _Member:
    context = get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(run, seeds, theirs, os.getpid()), daemon=True)
    process.start()
    # So that its end is noticed here.
    theirs.close()
    return _Member(process, ours)


# What the others execute.


def send_early(made: object) -> None:
    """In one of the processes: the outcome of the seed at hand, before its run returns, for
    one that never will."""
    assert _Own.connection is not None
    _Own.connection.send(made)


class _Own:
    """What a process has of its own: the way to whom it works for."""

    connection: Connection | None = None


def _work(
    run: Callable[[int], Made], seeds: Sequence[int], connection: Connection, parent: int
) -> None:
    # ^C comes to all on the terminal; the first process ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        return
    _Own.connection = connection
    while (batch := connection.recv()) is not None:
        for place in range(*batch):
            made: Made | BaseException
            try:
                made = run(seeds[place])
            except Exception as error:
                made = error
            # What an algorithm prints comes out also when this process is ended, if anybody reads.
            with suppress(OSError):
                sys.stdout.flush()
            connection.send(made)
