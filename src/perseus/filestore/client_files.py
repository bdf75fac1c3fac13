"""Calls of the service Files, tried again while the master is away."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from perseus.errors import UnavailableError
from perseus.proto.v1 import filestore_pb2

# The master may wait for its disk, which may have to keep other changes first.
CALL_TIMEOUT_S = 30.0
# How long a call is tried again while the master cannot be reached: it may be starting anew.
PATIENCE_S = 30.0
BACKOFF_FIRST_S = 0.05
BACKOFF_MAXIMUM_S = 1.0


class FilesCall(Protocol):
    """One unary call of the service Files; raises PerseusError."""

    def __call__(self, method: str, request: Any, timeout_s: float) -> Any:
        """The response message of the method."""


class Files:
    """The service Files as its data half needs it. Safe for threads if the call is."""

    def __init__(self, call: FilesCall, patience_s: float = PATIENCE_S) -> None:
        self._call = call
        self._patience_s = patience_s

    def once(self, method: str, request: Any) -> Any:
        """One try."""
        return self._call(method, request, CALL_TIMEOUT_S)

    def again(
        self, method: str, request: Any, wait_s: float = 0.0, patience_s: float | None = None
    ) -> Any:
        """Tries until the master answers or patience ends; for calls that may be repeated.

        ``wait_s`` is how long the master itself may wait with its answer.
        """
        patience_s = self._patience_s if patience_s is None else patience_s
        deadline_s = time.monotonic() + patience_s
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                return self._call(method, request, CALL_TIMEOUT_S + wait_s)
            except UnavailableError:
                if time.monotonic() + backoff_s > deadline_s:
                    raise
            time.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MAXIMUM_S)

    def create(self, request: filestore_pb2.CreateRequest) -> filestore_pb2.WriteLease:
        """A new file. Not repeated when it may have been made."""
        return self._open(lambda: self.once("Create", request))

    def append(self, request: filestore_pb2.AppendRequest) -> filestore_pb2.WriteLease:
        """An existing file, at its end. Not repeated when the lease may have been given."""
        return self._open(lambda: self.once("Append", request))

    def _open(self, call: Callable[[], filestore_pb2.WriteLease]) -> filestore_pb2.WriteLease:
        deadline_s = time.monotonic() + self._patience_s
        while True:
            try:
                return call()
            except UnavailableError as error:
                if error.maybe_done or time.monotonic() > deadline_s:
                    raise
            time.sleep(BACKOFF_MAXIMUM_S / 4)

    def locate(self, path: str, inode: int, offset: int, wait_s: float) -> filestore_pb2.Layout:
        """Where the bytes from ``offset`` on are."""
        request = filestore_pb2.LocateRequest(
            path="" if inode else path, inode=inode, offset_bytes=offset, wait_s=wait_s
        )
        layout: filestore_pb2.Layout = self.again("Locate", request, wait_s)
        return layout
