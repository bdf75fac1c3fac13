"""The stream for a stdin of unknown length, made with as little as the fast path has.

``client.feed`` does the same for programs and for much data; this one serves a
person at a terminal and slow pipes, where loading that would take longer than
the task. One thread reads descriptor 0 and writes a file of the filestore by
Files.Write; the daemon's pace is ours, so memory is bounded.
"""

import os
from _thread import start_new_thread
from binascii import b2a_base64
from time import monotonic, sleep

from perseus.client.spec import STDIN_FOLDER
from perseus.errors import NotFoundError, PerseusError, UnavailableError
from perseus.rpc.http_client import UnixConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from perseus.cli.foreground import Foreground

PIECE_BYTES = 256 << 10
VISIBLE_TIMEOUT_S = 20.0


class LightFeed:
    """Descriptor 0 on its way into the filestore."""

    def __init__(self, socket_path: str, first: bytes, foreground: "Foreground") -> None:
        self._control = UnixConnection(socket_path)
        self._upload = UnixConnection(socket_path)
        self._first = first
        self._foreground = foreground
        self._path = ""
        self._failure: PerseusError | None = None
        self._ended = False

    def begin(self, name: str) -> str:
        """Starts writing; returns the path when a task may be started on it."""
        self._path = f"{STDIN_FOLDER}/{name}"
        start_new_thread(self._write, ())
        deadline = monotonic() + VISIBLE_TIMEOUT_S
        delay_s = 0.0005
        while monotonic() < deadline:
            if self._failure is not None:
                raise self._failure
            try:
                self._control.call("Files.Stat", {"path": self._path})
                return self._path
            except NotFoundError:
                sleep(delay_s)
                delay_s = min(delay_s * 2, 0.1)
        raise UnavailableError(
            f"the stream for stdin, {self._path}, did not appear in {VISIBLE_TIMEOUT_S:.0f} s",
            hint="perseus doctor",
        )

    def wait(self) -> None:
        """Returns when all is written; raises what writing raised."""
        while not self._ended:
            sleep(0.001)
        if self._failure is not None:
            raise self._failure

    def end(self, keep: bool = False) -> None:
        """Stops writing. Unless the job is over, and the file thus the cluster's to keep
        or remove, removes it. Raises nothing."""
        self._ended = True
        if keep:
            return
        try:  # noqa: SIM105 (contextlib would cost the fast path its import)
            self._control.call("Files.Remove", {"path": self._path}, timeout_s=5.0)
        except PerseusError:
            # Left behind; nothing of the task depends on it.
            pass

    def _write(self) -> None:
        try:
            call = self._upload.start("Files.Write")
            call.send({"path": self._path, "visible": True, "parents": True})
            piece = self._first or os.read(0, PIECE_BYTES)
            while piece:
                call.send({"data": b2a_base64(piece, newline=False).decode("ascii")})
                piece = os.read(0, PIECE_BYTES)
            call.finish()
            while call.receive() is not None:
                pass
        except PerseusError as error:
            self._fail(error)
        except OSError as error:
            hint = "see where it comes from; for none: perseus run -- CMD < /dev/null"
            self._fail(UnavailableError(f"stdin cannot be read: {error.strerror}", hint=hint))
        self._ended = True

    def _fail(self, error: PerseusError) -> None:
        if not self._ended:
            self._failure = error
            self._foreground.fail(error)
