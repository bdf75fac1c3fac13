"""What the master's state has been through, so that an older copy of it is noticed.

Promises: every transaction has a number, which rises by one; every start of the master
is a run of its own. A Mark, a run and a number, names one point in the life of the
state. The master tells its nodes how far the state is on disk, they keep that on theirs,
and tell it back in Hello: a node that knows of a point which the state has not come by
was there when the state was newer, so what the master has is an old copy. It must not
judge by that what the node holds, and ``check`` refuses.

Assumes: runs are numbered by the clock (microseconds since 1970) or, where that stands
behind, by chance; so an old copy that goes on never comes by the same points again.

``history/number`` holds the number of the latest transaction, ``history/runs`` the runs.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from perseus.errors import IncompatibleError, RefusedError
from perseus.membership.commands import Connect, MasterStarted
from perseus.runtime.machine import Event, Instant, Step, Write

PREFIX = b"history/"
NUMBER = PREFIX + b"number"
RUNS = PREFIX + b"runs"
# Runs that are remembered; marks of those before them are taken for good.
RUNS_MAXIMUM = 1000
HINT = (
    "on the master's machine put the newest backup of state.db in its place; or, giving up "
    "for good what was written after the one that is there: "
    "perseus stop; perseus start --accept-old-state"
)
_HEAD = b"\x01"


class Mark(NamedTuple):
    """A point in the life of the master's state; run 0 stands for none."""

    run: int = 0
    number: int = 0


class Run(NamedTuple):
    """A start of the master, and the number of the last transaction before it."""

    run: int
    before: int


class _Record(msgspec.Struct, array_like=True):
    """What is durable of the runs."""

    # In their order, the present one last.
    runs: list[Run]
    # Marks of runs before this one are good: somebody has accepted the old copy.
    accepted_before: int = 0


class History:
    """A machine, and the numbering of the driver's transactions. See the module."""

    prefixes: Sequence[bytes] = (PREFIX,)
    events: Sequence[type[Event]] = (MasterStarted,)

    def __init__(self) -> None:
        self._record = _Record([])
        # Of the latest transaction that was stepped, and of the latest on disk.
        self._number = 0
        self._kept = 0

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Rebuilds the state."""
        for key, value in items:
            if value[:1] != _HEAD:
                raise IncompatibleError(
                    f"{key!r} was written by a newer Perseus (version {value[0]})",
                    hint="upgrade Perseus on this machine",
                )
            if key == NUMBER:
                self._number = self._kept = int.from_bytes(value[1:], "big")
            else:
                self._record = msgspec.msgpack.decode(value[1:], type=_Record)

    def step(self, at: Instant, event: Event) -> Step:
        """A new run begins."""
        assert isinstance(event, MasterStarted)
        record = self._record
        last = record.runs[-1].run if record.runs else 0
        run = max(event.run, last + 1 + event.chance)
        record.runs = [*record.runs, Run(run, self._number)][-RUNS_MAXIMUM:]
        if event.accept_old_state:
            record.accepted_before = run
        return Step([Write(RUNS, _HEAD + msgspec.msgpack.encode(record))])

    # The driver's numbering.

    def take(self) -> Write:
        """The next transaction's number, to be committed with it."""
        self._number += 1
        return Write(NUMBER, _HEAD + self._number.to_bytes(8, "big"))

    def keep(self, write: Write) -> None:
        """The transaction of that number is on disk."""
        assert write.value is not None
        self._kept = max(self._kept, int.from_bytes(write.value[1:], "big"))

    # Reads.

    @property
    def mark(self) -> Mark:
        """How far the state is on disk."""
        return Mark(self._record.runs[-1].run, self._kept) if self._record.runs else Mark()

    def check(self, who: str, mark: Mark) -> None:
        """RefusedError when ``who``, a machine in words, knows of a later state than this one."""
        runs = self._record.runs
        if not mark.run or mark.run < self._record.accepted_before:
            return
        if runs and mark.run < runs[0].run and len(runs) == RUNS_MAXIMUM:
            return
        end = self._end(mark.run)
        if end is not None and mark.number <= end:
            return
        knows = f"goes on differently after change {self._number}"
        if mark.number > self._number:
            knows = f"ends at change {self._number}"
        raise RefusedError(
            f"the master's state is an old copy: {who} was told of change {mark.number} of it, "
            f"and it {knows}; so that nothing is deleted which it does not know, "
            f"{who} is kept apart from it",
            hint=HINT,
        )

    def check_hello(self, name: str, event: Connect) -> None:
        """``check`` of a node that connects; for Membership.guards."""
        self.check(f"node {name}", Mark(*event.state_mark))

    def _end(self, run: int) -> int | None:
        """The number of the last transaction of a run; None when it is not one of this state."""
        runs = self._record.runs
        place = bisect_left(runs, run, key=_run_of)
        if place == len(runs) or runs[place].run != run:
            return None
        return runs[place + 1].before if place + 1 < len(runs) else self._number


_run_of: Callable[[Run], int] = lambda item: item.run  # noqa: E731
