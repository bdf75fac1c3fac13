"""Input that is written while a task reads it.

A stdin too long to ride in the request, or without an end yet, becomes a file
of the filestore under ``/.perseus/stdin`` that is visible from its first byte:
a thread writes it, the task follows it, and it is removed afterwards. Memory
is bounded, for the writer waits for the filestore.

When writing fails the task must not take the break for the end of its input:
``failure`` is set and ``on_failure`` called, and whoever runs the task kills it.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from perseus.client.spec import STDIN_FOLDER
from perseus.errors import NotFoundError, PerseusError, UnavailableError

if TYPE_CHECKING:
    from perseus.client.files import Files

# Seconds until a stream that was begun must be there under its path.
VISIBLE_TIMEOUT_S = 20.0
# Seconds for the last bytes of an input to be written, once the task has ended.
END_TIMEOUT_S = 2.0


class Feed:
    """One stdin on its way. ``pieces`` yields bytes as they come, then ends."""

    def __init__(
        self,
        files: "Files",
        pieces: Iterator[bytes],
        *,
        bulk: bool = False,
        on_failure: Callable[[PerseusError], None] | None = None,
    ) -> None:
        self._files = files
        self._pieces = pieces
        # Whether much is to come, so that the way straight to the chunkservers pays.
        self._bulk = bulk
        self._on_failure = on_failure
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.path = ""
        self.failure: PerseusError | None = None

    def begin(self, name: str) -> str:
        """Starts writing; returns the path when a task may be started on it."""
        self.path = f"{STDIN_FOLDER}/{name}"
        self._thread = threading.Thread(target=self._write, name="perseus-stdin", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + VISIBLE_TIMEOUT_S
        delay_s = 0.001
        while time.monotonic() < deadline:
            if self.failure is not None:
                raise self.failure
            try:
                self._files.stat(self.path)
                return self.path
            except NotFoundError:
                time.sleep(delay_s)
                delay_s = min(delay_s * 2, 0.1)
        raise UnavailableError(
            f"the stream for stdin, {self.path}, did not appear in {VISIBLE_TIMEOUT_S:.0f} s",
            hint="perseus doctor",
        )

    def wait(self) -> None:
        """Returns when all is written; raises what writing raised."""
        if self._thread is not None:
            self._thread.join()
        if self.failure is not None:
            raise self.failure

    def end(self, keep: bool = False) -> None:
        """Stops writing. Unless the job is over, and the file thus the cluster's to keep
        (for a retry) or remove, removes it. Raises nothing."""
        self._stopped.set()
        if self._thread is not None and self._thread.is_alive():
            # It may wait for a terminal for ever; then it ends with the process.
            self._thread.join(END_TIMEOUT_S if self._bulk else 0.0)
        if keep:
            return
        # At worst it is left behind under /.perseus/stdin; nothing of the task depends on it.
        with contextlib.suppress(PerseusError):
            self._files.rm(self.path)

    def _until_stopped(self) -> Iterator[bytes]:
        # The first piece is empty: it makes the file before any input is there.
        yield b""
        for piece in self._pieces:
            if self._stopped.is_set():
                return
            yield piece

    def _write(self) -> None:
        try:
            self._files.write_stream(
                self.path, self._until_stopped(), visible=True, parents=True, bulk=self._bulk
            )
        except PerseusError as error:
            self._fail(error)
        except (OSError, ValueError) as error:
            hint = "see where it comes from; for none: perseus run -- CMD < /dev/null"
            self._fail(UnavailableError(f"stdin cannot be read: {error}", hint=hint))

    def _fail(self, error: PerseusError) -> None:
        if self._stopped.is_set():
            return
        self.failure = error
        if self._on_failure is not None:
            self._on_failure(error)
