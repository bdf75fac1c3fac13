"""Giving up a blocking call from outside, for the threads behind asyncio's calls.

Whoever runs a call for somebody else does so with ``running(call)``; what blocks inside
says with ``waiting(wake)`` how it is woken. ``Call.give_up`` then ends the wait, and
every later one of that call, with UnavailableError. A thread without a Call waits as ever.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

from perseus.errors import UnavailableError

_here = threading.local()


class Call:
    """One call, run in one thread, that may be given up from any other."""

    def __init__(self) -> None:
        self.is_given_up = False
        self._lock = threading.Lock()
        self._wake: Callable[[], object] | None = None

    def give_up(self) -> None:
        """Wakes the call where it waits; it is not waited for."""
        with self._lock:
            self.is_given_up = True
            if self._wake is not None:
                self._wake()

    def check(self) -> None:
        """Raises UnavailableError when the call was given up."""
        if self.is_given_up:
            raise UnavailableError(
                "the call was given up by its caller",
                hint="call it again; what it began may have been done",
                maybe_done=True,
            )

    def _set(self, wake: Callable[[], object] | None) -> Callable[[], object] | None:
        with self._lock:
            before, self._wake = self._wake, wake
        return before


def current() -> Call | None:
    """The call that this thread runs."""
    call: Call | None = getattr(_here, "call", None)
    return call


@contextlib.contextmanager
def running(call: Call | None) -> Iterator[None]:
    """This thread runs ``call``; with None what it waits for is others' as well."""
    before = current()
    _here.call = call
    try:
        yield
    finally:
        _here.call = before


@contextlib.contextmanager
def waiting(wake: Callable[[], object]) -> Iterator[None]:
    """A wait that ``wake`` ends, from any thread and without blocking itself."""
    call = current()
    if call is None:
        yield
        return
    before = call._set(wake)
    try:
        # Given up before there was something to wake.
        call.check()
        yield
    finally:
        call._set(before)
