"""The service Outputs: what an attempt has written so far, from the node that runs it.

Who follows is woken by the attempt's end; while it runs its spool file is
looked at every few milliseconds, for the task writes without telling anyone.
"""

import os
from collections.abc import AsyncIterator

from perseus.errors import InvalidError, NotFoundError
from perseus.jobs.attempts import Attempt, Phase
from perseus.jobs.executor import Executor
from perseus.jobs.spool import Spool
from perseus.proto.v1 import agent_pb2

PIECE_MAXIMUM_BYTES = 256 << 10
# Between two looks at an output that is followed while its attempt runs.
POLL_S = 0.01
# While it waits for a core there is nothing to look at; its start wakes the reader.
_WAITING_POLL_S = 1.0


class OutputsService:
    """Implements perseus.v1.Outputs over an executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def read_output(
        self, request: agent_pb2.ReadOutputRequest, call: object = None
    ) -> AsyncIterator[agent_pb2.OutputPiece]:
        """Serves ReadOutput. Raises NotFoundError when the attempt is not here any more."""
        offset_bytes = request.offset_bytes
        pieces = self.read(request.attempt, request.stderr, offset_bytes, request.follow)
        async for data in pieces:
            yield agent_pb2.OutputPiece(data=data, offset_bytes=offset_bytes)
            offset_bytes += len(data)

    async def read(
        self, attempt_id: str, stderr: bool, offset_bytes: int = 0, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """Bytes from ``offset_bytes`` on, in pieces of at most PIECE_MAXIMUM_BYTES.

        With ``follow`` also those to come, until the attempt has ended. Raises
        NotFoundError when it is not here, or is taken from here meanwhile: then what
        was read is of no attempt that counts.
        """
        if offset_bytes < 0:
            raise InvalidError(f"offset {offset_bytes} is negative")
        attempt = self._executor.find(attempt_id)
        spool = attempt.stderr if stderr else attempt.stdout
        reader = _Reader(spool, offset_bytes)
        try:
            while True:
                # Asked first: what is written before the end is then read for certain.
                is_last = spool.is_final or not follow
                while data := reader.read():
                    yield data
                    _check_held(attempt)
                if is_last:
                    return
                running = attempt.phase is Phase.RUNNING
                await attempt.changed(POLL_S if running else _WAITING_POLL_S)
                _check_held(attempt)
        finally:
            reader.close()


class _Reader:
    """Reads a spool on, once it is there; never beyond what may be shown."""

    def __init__(self, spool: Spool, offset_bytes: int) -> None:
        self._spool = spool
        self._offset_bytes = offset_bytes
        self._descriptor = -1

    def read(self) -> bytes:
        """The next piece; empty when there is none now."""
        if self._descriptor < 0:
            self._descriptor = self._spool.open_for_reading()
        if self._descriptor < 0:
            return b""
        spool = self._spool
        end_bytes = spool.size_bytes if spool.is_final else spool.limit_bytes
        size_bytes = min(PIECE_MAXIMUM_BYTES, end_bytes - self._offset_bytes)
        if size_bytes <= 0:
            return b""
        data = os.pread(self._descriptor, size_bytes, self._offset_bytes)
        self._offset_bytes += len(data)
        return data

    def close(self) -> None:
        """Lets the file go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _check_held(attempt: Attempt) -> None:
    if attempt.is_discarded:
        raise NotFoundError(f"attempt {attempt.id} was taken from this node")
