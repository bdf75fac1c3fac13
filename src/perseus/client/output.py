"""The output of a task while it runs and afterwards.

``Output`` is one of a task's two outputs: ``read()`` waits for the end and gives
all of it; iterating gives lines as they are written. Its bytes come from the
stream that the task was started on as long as they are in the buffer
(``BUFFER_BYTES`` for each output), and from the cluster after that, so reading
twice, or one output after the other, is always right.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from perseus.client import giving_up
from perseus.client.messages import Ending, FollowEvent, decode
from perseus.errors import PerseusError, UnavailableError

BUFFER_BYTES = 4 << 20


class EventStream(Protocol):
    """Events of a job in JSON's form; ``close`` ends it early."""

    def __iter__(self) -> Iterator[dict[str, Any]]: ...

    def close(self) -> None:
        """Gives the connection up."""


class Opener(Protocol):
    """Opens the stream of one task's events from given offsets."""

    def __call__(self, stdout_offset: int, stderr_offset: int, which: str) -> EventStream:
        """``which`` is "stdout", "stderr", or "" for both."""


class Feed:
    """The stream that a task was started on, and what it has brought so far."""

    def __init__(
        self,
        stream: EventStream | None,
        on_over: Callable[[bool], None] | None = None,
        room: int = BUFFER_BYTES,
    ) -> None:
        """``on_over`` is told once: True when the task has ended, False when we left before.
        ``room`` is how many bytes of each output are kept."""
        self.stream = stream
        self._on_over = on_over
        self._room = room
        self._events = iter(stream) if stream is not None else None
        self.buffers = {"stdout": bytearray(), "stderr": bytearray()}
        # An output is whole in its buffer as long as nothing of it was left out.
        self.whole = {"stdout": stream is not None, "stderr": stream is not None}
        # Counts events; several threads may read, and one of them pumps at a time. The
        # others hear of each event: who pumps begins again at once, and a lock might
        # never come to them.
        self.count = 0
        self._is_pumping = False
        self._changed = threading.Condition()
        self.ending: Ending | None = None
        self.messages: list[str] = []
        self.job_id = ""

    @property
    def is_live(self) -> bool:
        """Whether more may come on this stream."""
        return self._events is not None

    @property
    def goes_on(self) -> bool:
        """Whether the task has not ended, as far as this stream tells."""
        return self.is_live and self.ending is None

    def pump(self, seen: int | None = None) -> bool:
        """Takes the next event; False when the stream is over, whole or broken.

        ``seen`` is the count the caller knows: when another thread has taken an
        event since, there is something new and nothing is waited for.
        """
        call = giving_up.current()
        with giving_up.waiting(self._wake), self._changed:
            known = self.count if seen is None else seen
            self._changed.wait_for(
                lambda: (
                    not self._is_pumping
                    or self.count != known
                    or (call is not None and call.is_given_up)
                )
            )
            if call is not None:
                call.check()
            if self.count != known:
                return True
            if (events := self._events) is None:
                return False
            self._is_pumping = True
        try:
            # The stream is the task's and not this call's alone: it goes on without the caller.
            with giving_up.running(None):
                return self._pump(events)
        finally:
            with self._changed:
                self._is_pumping = False
                self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _pump(self, events: Iterator[dict[str, Any]]) -> bool:
        try:
            event = decode(FollowEvent, next(events))
        except StopIteration:
            self._over()
            return False
        except UnavailableError:
            # The job goes on without us; what is missing is read from the cluster.
            self._over()
            return False
        self.count += 1
        self._take(event)
        if event.ending is not None:
            # It was the last; reading to the very end leaves the connection for the next call.
            with contextlib.suppress(PerseusError):
                for _ in events:
                    pass
            self._over()
        return True

    def reset(self) -> None:
        """Forgets all that came: the task runs once more."""
        self.ending = None
        self.whole = {"stdout": False, "stderr": False}
        for buffer in self.buffers.values():
            buffer.clear()

    def close(self) -> None:
        """Gives the stream up, also while another thread waits on it; what is not buffered
        will be read from the cluster."""
        if self._events is not None:
            self._over()
        self.tell(False)

    def _over(self) -> None:
        stream, self.stream = self.stream, None
        events, self._events = self._events, None
        if events is not None and self.ending is None:
            self.whole = {"stdout": False, "stderr": False}
        if stream is not None:
            stream.close()

    def _take(self, event: FollowEvent) -> None:
        self.job_id = self.job_id or event.job_id
        self._keep("stdout", event.stdout)
        self._keep("stderr", event.stderr)
        if event.message:
            self.messages.append(event.message)
        if event.ending is not None:
            self.ending = event.ending
            self.tell(True)

    def tell(self, ended: bool) -> None:
        """Tells ``on_over``, if nobody has."""
        on_over, self._on_over = self._on_over, None
        if on_over is not None:
            on_over(ended)

    def _keep(self, which: str, data: bytes) -> None:
        if not data or not self.whole[which]:
            return
        room = self._room - len(self.buffers[which])
        if len(data) > room:
            self.whole[which] = False
        self.buffers[which] += data[: max(room, 0)]


class Output:
    """One output of a task: ``task.stdout`` or ``task.stderr``. Bytes, always.

    Each reading (``read``, a ``for`` loop) begins at the first byte and ends
    with the last, waiting for bytes that are still to be written.
    """

    def __init__(self, feed: Feed, which: str, open_stream: Opener, path: str) -> None:
        # Where the filestore keeps it once the task has ended; another task's stdin.
        self.path = path
        self._feed = feed
        self._which = which
        self._open_stream = open_stream

    def __iter__(self) -> Iterator[bytes]:
        return self.lines()

    def chunks(self) -> Iterator[bytes]:
        """Pieces as they arrive, of any size."""
        position = 0
        buffer = self._feed.buffers[self._which]
        while True:
            seen = self._feed.count
            if position < len(buffer):
                piece = bytes(buffer[position:])
                position += len(piece)
                yield piece
            elif not self._feed.whole[self._which]:
                yield from self._from_cluster(position)
                return
            elif (
                not self._feed.pump(seen)
                and position == len(buffer)
                and self._feed.whole[self._which]
            ):
                return

    def lines(self) -> Iterator[bytes]:
        r"""Lines with their ``\n`` (the last one perhaps without), live."""
        # Joined once for each line: a long one must not be copied with each piece of it.
        begun: list[bytes] = []
        for piece in self.chunks():
            first, *others = piece.split(b"\n")
            begun.append(first)
            for other in others:
                yield b"".join([*begun, b"\n"])
                begun = [other]
        if last := b"".join(begun):
            yield last

    def read(self) -> bytes:
        """All of it; returns when the task has ended."""
        return b"".join(self.chunks())

    def text(self, encoding: str = "utf-8") -> str:
        """All of it as text; what is not ``encoding`` shows as U+FFFD."""
        return self.read().decode(encoding, "replace")

    def _from_cluster(self, position: int) -> Iterator[bytes]:
        offsets = (position, 0) if self._which == "stdout" else (0, position)
        stream = self._open_stream(*offsets, self._which)
        try:
            for message in stream:
                event = decode(FollowEvent, message)
                piece = event.stdout if self._which == "stdout" else event.stderr
                if piece:
                    yield piece
        finally:
            stream.close()
