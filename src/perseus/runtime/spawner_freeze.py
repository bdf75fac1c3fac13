"""Stopping tasks where they are, and letting them go on: SIGSTOP and SIGCONT to all that
descends from them, also to what left their process groups.

What is stopped already, by a person or by a shell of the task's own, is left as it is, and
does not go on with the others. Parents are stopped before their children and go on after
them, so that no shell sees a child of its own stopped.
"""

import os
import signal
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from perseus.runtime.processes import Stat, stat
from perseus.runtime.spawner_journal import marks_of

# One pass may miss what is forked meanwhile; passes end when one finds nothing.
PASSES_MAXIMUM = 20


class _Frozen(NamedTuple):
    """A process that was stopped here."""

    start_ticks: int
    # The pid of the task it is of; 0 where that cannot be told.
    task: int


class Freezer:
    """What was stopped, in the order in which it was."""

    def __init__(self) -> None:
        self._frozen: dict[int, _Frozen] = {}

    def freeze(self, tasks: Mapping[int, bytes | None], forked: Container[int]) -> None:
        """Stops all that descends from ``tasks`` (each with its mark), and from the orphans
        that came to this process; not from ``forked``."""
        self._forget_dead()
        for _ in range(PASSES_MAXIMUM):
            if not sum(self._stop(*each) for each in _descendants(tasks, forked)):
                return

    def thaw(self, tasks: Container[int]) -> None:
        """What was stopped of ``tasks``, or is of nobody, goes on."""
        for pid, frozen in reversed(list(self._frozen.items())):
            if frozen.task and frozen.task not in tasks:
                continue
            del self._frozen[pid]
            found = stat(pid)
            if found is not None and found.start_ticks == frozen.start_ticks:
                _signal(pid, signal.SIGCONT)

    def _forget_dead(self) -> None:
        for pid, frozen in list(self._frozen.items()):
            found = stat(pid)
            if found is None or found.start_ticks != frozen.start_ticks:
                del self._frozen[pid]

    def _stop(self, pid: int, found: Stat, task: int) -> bool:
        """Whether it is found for the first time, and ran until now."""
        if found.state == "T":
            return False
        if pid in self._frozen:
            # Another of the task let it go on, before that one was stopped itself.
            _signal(pid, signal.SIGSTOP)
            return False
        self._frozen[pid] = _Frozen(found.start_ticks, task)
        _signal(pid, signal.SIGSTOP)
        return True


def _descendants(
    tasks: Mapping[int, bytes | None], forked: Container[int]
) -> Iterator[tuple[int, Stat, int]]:
    """Processes below this one with the task that each is of, parents first."""
    known = {int(name): stat(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    children: dict[int, list[int]] = {}
    for pid, found in known.items():
        if found is not None:
            children.setdefault(found.parent, []).append(pid)
    by_mark = {mark: task for task, mark in tasks.items() if mark is not None}
    waiting = []
    for pid in children.get(os.getpid(), ()):
        if pid in tasks:
            waiting.append((pid, pid))
        elif pid not in forked:
            of = (by_mark[mark] for mark in marks_of(pid) if mark in by_mark)
            waiting.append((pid, next(of, 0)))
    while waiting:
        pid, task = waiting.pop()
        found = known[pid]
        assert found is not None
        yield pid, found, task
        waiting += [(child, task) for child in children.get(pid, ())]


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
