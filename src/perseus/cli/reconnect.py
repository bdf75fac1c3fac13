"""Following a job again after the daemon went away: it may only be starting anew.

The job goes on meanwhile on its node; a job of one task continues at the byte
where its output stopped. A job we would have cancelled by leaving is then
cancelled by a signal, for the daemon no longer knows that we wait for it.
"""

import time
from collections.abc import Iterator
from typing import Any

from perseus.cli.foreground import EXIT_PIPE, Foreground, Interrupted
from perseus.client.context import Context
from perseus.client.transport import Transport
from perseus.errors import ConflictError, PerseusError, UnavailableError

PATIENCE_S = 60.0
BACKOFF_FIRST_S = 0.05
BACKOFF_MAXIMUM_S = 1.0


def follow_again(foreground: Foreground, context: Context, error: UnavailableError) -> int:
    """The exit code of the job; raises ``error`` when the daemon stays away."""
    if foreground.is_many:
        raise ConflictError(
            f"{error.message}; job {foreground.job_id} goes on",
            hint=f"perseus logs -f {foreground.job_id}",
        )
    foreground.say(f"{error.message}; waiting for it to come back")
    transport = Transport(context)
    try:
        return _until_answered(foreground, transport, error)
    except Interrupted as leaving:
        _cancel(foreground, transport)
        return leaving.exit_code
    except BrokenPipeError:
        _cancel(foreground, transport)
        return EXIT_PIPE


def _until_answered(foreground: Foreground, transport: Transport, error: UnavailableError) -> int:
    deadline = time.monotonic() + PATIENCE_S
    backoff_s = BACKOFF_FIRST_S
    while True:
        shown = sum(foreground.shown_bytes.values())
        try:
            return foreground.show(_events(foreground, transport))
        except UnavailableError as again:
            error = again
        if sum(foreground.shown_bytes.values()) > shown:
            # It answered in between: patience begins anew.
            deadline = time.monotonic() + PATIENCE_S
            backoff_s = BACKOFF_FIRST_S
        if time.monotonic() > deadline:
            raise error
        time.sleep(backoff_s)
        backoff_s = min(backoff_s * 2, BACKOFF_MAXIMUM_S)


def _events(foreground: Foreground, transport: Transport) -> Iterator[dict[str, Any]]:
    request = {
        "job_id": foreground.job_id,
        "follow": True,
        "stdout": True,
        "stderr": True,
        "stdout_offset_bytes": foreground.shown_bytes[1],
        "stderr_offset_bytes": foreground.shown_bytes[2],
    }
    stream = transport.stream("Jobs/Follow", request, raw=True)
    try:
        yield from stream
    finally:
        stream.close()


def _cancel(foreground: Foreground, transport: Transport) -> None:
    if not foreground.cancels:
        return
    try:
        transport.call("Jobs/Kill", {"job_id": foreground.job_id, "signal": 15}, timeout_s=5)
    except PerseusError as error:
        foreground.warn(
            f"job {foreground.job_id} could not be cancelled ({error.message}); "
            f"perseus kill {foreground.job_id}"
        )
