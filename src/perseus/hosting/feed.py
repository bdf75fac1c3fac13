"""The events of a job that is run for whoever listens, over daemons that go away.

The job goes on on its nodes when the daemon does through which it is followed; so it is followed
again at the byte where its output stopped: through the same daemon once that is back or, with a
certificate, through any other node. Leaving the events cancels the job.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

from perseus.client.cluster import Cluster
from perseus.client.context import Context
from perseus.client.messages import FollowEvent, decode
from perseus.client.transport import Message, Stream
from perseus.errors import PerseusError, UnavailableError

# How long nothing may come of a job whose daemon went away.
PATIENCE_S = 60.0
BACKOFF_FIRST_S = 0.05
BACKOFF_MAXIMUM_S = 1.0
KILL_TIMEOUT_S = 5.0
SIGNAL_TERMINATE = 15


class JobFeed:
    """One job. ``cluster`` is the way by which it is reached now."""

    def __init__(
        self, cluster: Cluster, request: dict[str, Any], tell: Callable[[str], None]
    ) -> None:
        """``request`` is of Submit; ``tell`` hears in sentences when a daemon went away."""
        self.cluster = cluster
        self.job_id = ""
        # The job has ended, or goes on without us.
        self.is_over = False
        self._request = request
        self._tell = tell
        # Our own way at first; then those of the nodes there were when the job began.
        self._ways = [cluster, *_others(cluster)]
        # Of stdout and stderr, how much has come.
        self._offsets = [0, 0]
        self._deadline_s = 0.0
        self._backoff_s = BACKOFF_FIRST_S

    def events(self) -> Generator[FollowEvent, None, None]:
        """To the job's end; closing it early cancels the job. Raises UnavailableError when no
        daemon answers any more, and other errors of Submit."""
        stream = self._run()
        try:
            while True:
                try:
                    yield from self._taken(stream)
                    if self.is_over:
                        return
                    error = UnavailableError("the daemon went away before the job had ended")
                except UnavailableError as broken:
                    error = broken
                stream.close()
                stream = self._again(error)
        finally:
            # The daemon cancels it too when its caller goes, but some time after that: tasks
            # that begin meanwhile would miss what the caller takes away.
            if self.job_id and not self.is_over:
                self._cancel()
            stream.close()

    def close(self) -> None:
        """Lets other ways than the first go."""
        for way in self._ways[1:]:
            way.close()

    def _run(self) -> Stream:
        """Whoever serves it cancels the job also when we are killed."""
        request = {"submit": self._request, "detach": False}
        return self.cluster.transport.stream("Jobs/Run", request)

    def _taken(self, stream: Stream) -> Iterator[FollowEvent]:
        for message in stream:
            event = decode(FollowEvent, message)
            self.job_id = event.job_id or self.job_id
            self._offsets[0] += len(event.stdout)
            self._offsets[1] += len(event.stderr)
            self.is_over = event.ending is not None
            self._deadline_s = 0.0
            yield event

    def _again(self, error: UnavailableError) -> Stream:
        """The job once more, through a daemon that answers; raises UnavailableError."""
        now_s = time.monotonic()
        if not self._deadline_s:
            self._deadline_s, self._backoff_s = now_s + PATIENCE_S, BACKOFF_FIRST_S
            self._tell(f"{error.message}; looking for job {self.job_id or 'again'}")
        elif now_s > self._deadline_s:
            self.is_over = True
            raise self._lost(error)
        time.sleep(self._backoff_s)
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_MAXIMUM_S)
        # A way that did not answer has the others before it the next time.
        self._ways.append(self._ways.pop(0))
        self.cluster = self._ways[0]
        return self._follow() if self.job_id else self._run()

    def _lost(self, error: UnavailableError) -> UnavailableError:
        if not self.job_id:
            return error
        return UnavailableError(
            f"{error.message}; job {self.job_id} may go on",
            hint=f"perseus wait {self.job_id}, then perseus logs {self.job_id};"
            f" or perseus kill {self.job_id}",
            maybe_done=True,
        )

    def _follow(self) -> Stream:
        request: Message = {
            "job_id": self.job_id,
            "follow": True,
            "stdout": True,
            "stderr": True,
            "stdout_offset_bytes": self._offsets[0],
            "stderr_offset_bytes": self._offsets[1],
        }
        return self.cluster.transport.stream("Jobs/Follow", request)

    def _cancel(self) -> None:
        request = {"job_id": self.job_id, "signal": SIGNAL_TERMINATE}
        try:
            self.cluster.transport.call("Jobs/Kill", request, timeout_s=KILL_TIMEOUT_S)
        except PerseusError as error:
            self._tell(f"{error.message}; job {self.job_id} goes on: perseus kill {self.job_id}")


def _others(cluster: Cluster) -> list[Cluster]:
    """Ways over each node; none where we have no certificate to show there."""
    given = cluster.context
    if not given.has_certificate:
        return []
    ways = []
    with contextlib.suppress(PerseusError):
        for node in cluster.nodes():
            if node.state == "alive" and node.address != given.address:
                parts = {**given.as_dict(), "address": node.address, "socket": ""}
                ways.append(Cluster(Context(**parts)))
    return ways
