"""Run, as a node that is not the master passes it on.

The master cannot tell from a stream that breaks whether the caller went away, or the node
between them did. So the node says it: when its caller is gone, and not the node itself or
the master, it cancels the job in the caller's name. Without that word the master gives the
caller time to come back (``service.RELAY_PATIENCE_S``).
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from perseus.errors import PerseusError
from perseus.jobs.spool import in_background
from perseus.proto.v1 import jobs_pb2
from perseus.rpc.call import Call

# How long the word may take; without it the master cancels the job a while later.
TELL_TIMEOUT_S = 20.0
SIGNAL_TERMINATE = 15

_log = logging.getLogger("perseus.jobs")


class RunRelay:
    """Put its ``run`` in place of the one of ``jobs``, which forwards the service Jobs."""

    def __init__(self, jobs: Any, is_ending: Callable[[], bool]) -> None:
        """``is_ending`` tells whether this daemon is about to go away by itself."""
        self._jobs = jobs
        self._forward = jobs.run
        self._is_ending = is_ending

    async def run(
        self, request: jobs_pb2.RunRequest, call: Call
    ) -> AsyncGenerator[jobs_pb2.FollowEvent, None]:
        """Serves Run."""
        job_id = ""
        is_over = False
        try:
            async with aclosing(self._forward(request, call)) as events:
                async for event in events:
                    job_id = job_id or event.job_id
                    yield event
            is_over = True
        except PerseusError:
            # Of the master, or the way to it: the caller is there and hears of it.
            is_over = True
            raise
        finally:
            if not is_over and not request.detach and not self._is_ending():
                in_background(self._cancel(request, job_id, call))

    async def _cancel(self, request: jobs_pb2.RunRequest, job_id: str, call: Call) -> None:
        call = replace(call, deadline_s=time.monotonic() + TELL_TIMEOUT_S)
        try:
            if not job_id and request.submit.request_id:
                # Nothing had come back yet: the same request gives the same job.
                job_id = (await self._jobs.submit(request.submit, call)).job_id
            if job_id:
                kill = jobs_pb2.KillRequest(job_id=job_id, signal=SIGNAL_TERMINATE)
                await self._jobs.kill(kill, call)
        except PerseusError as error:
            _log.info("the master was not told that %s left %s: %s", call.caller, job_id, error)
