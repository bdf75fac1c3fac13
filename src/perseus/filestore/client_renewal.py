"""One background thread that looks after all open writers of a process.

It renews their leases at a third of their time and lets go of connections that
have been idle. It starts with the first writer and ends with the last.
"""

import threading
import time
from typing import Protocol

LOOK_S = 1.0


class Tended(Protocol):
    """What the thread looks after."""

    def tend(self, now_s: float) -> None:
        """Does what is due; must not block for long and not raise."""


class Tender:
    """Calls ``tend`` of everything added, about once a second. Safe for threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tended: set[Tended] = set()
        self._thread: threading.Thread | None = None

    def add(self, item: Tended) -> None:
        """Looks after ``item`` from now on."""
        with self._changed:
            self._tended.add(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()

    def remove(self, item: Tended) -> None:
        """No longer; quiet when it is not there."""
        with self._changed:
            self._tended.discard(item)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(LOOK_S)
                if not self._tended:
                    self._thread = None
                    return
                items = list(self._tended)
            for item in items:
                item.tend(time.monotonic())
