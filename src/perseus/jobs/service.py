"""The service Jobs: what people ask, and what nodes tell of their attempts.

It holds no state of its own but those who wait. Answers are given when they are
durable; whoever waits is woken by the effect JobChanged, after the commit.
"""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

from perseus.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from perseus.filestore.events import Locality
from perseus.ids import ALPHABET, JOB_ID_LENGTH, encode
from perseus.jobs import absent, spec, views, why
from perseus.jobs.follow import Follower, Sources, Wanted
from perseus.jobs.follow_watch import Watches
from perseus.jobs.state import Jobs
from perseus.jobs.state_events import AttemptsReported, Kill, Reached, Retry, Submit
from perseus.jobs.state_job import Job
from perseus.jobs.state_leases import Nodes
from perseus.jobs.state_retention import KEPT_SPEC_MAXIMUM_BYTES
from perseus.proto.v1 import agent_pb2, cluster_pb2, jobs_pb2
from perseus.rpc.call import Call
from perseus.runtime.machine import Driver
from perseus.runtime.ports import Random
from perseus.settings import Settings

LAST = "@last"
LIST_DEFAULT = 100
LIST_MAXIMUM = 1_000
# Ids tried before giving up on finding a free one.
ID_TRIES = 10
CANDIDATES_SHOWN = 8
WAIT_MAXIMUM_S = 3_600.0
FOLLOWERS_MAXIMUM = 2_000
# For how long `perseus doctor` tells that a job was removed before its time.
CROWDED_TOLD_S = 3_600.0
# How long a caller whose node went away may take to come back and follow the job.
RELAY_PATIENCE_S = 60.0
SIGNAL_TERMINATE = 15


class JobsService:
    """See the module. ``nodes`` and ``files`` are the machines of membership and filestore."""

    def __init__(
        self,
        driver: Driver,
        jobs: Jobs,
        nodes: Nodes,
        files: Locality,
        sources: Sources,
        random: Random,
        settings: Settings,
    ) -> None:
        self._driver = driver
        self._jobs = jobs
        self._nodes = nodes
        self._files = files
        self._sources = sources
        self._random = random
        self._settings = settings
        self._watches = Watches()
        self._followers = 0
        # What goes on after its caller has gone; at most one for each Run.
        self._background: set[asyncio.Task[Any]] = set()
        # How many follow each job to its end by Follow.
        self._following: Counter[str] = Counter()
        # Those who wait whether a caller comes back.
        self._patient: set[asyncio.Task[Any]] = set()
        self._is_ending = False

    # For the daemon.

    def job_changed(self, job_id: str) -> None:
        """Delivers the effect JobChanged."""
        self._watches.wake(job_id)

    async def on_attempt_events(
        self, node_id: str, session: int, events: Iterable[agent_pb2.AttemptEvent]
    ) -> None:
        """All attempt events of one message of a node, in one commit."""
        reports = tuple(events)
        if reports:
            await self._driver.do(AttemptsReported(node_id, session, reports))

    def attempts_leased(self, node_id: str) -> int:
        """How many attempts the master has leased to the node, for listings."""
        return self._jobs.leased_to(node_id)

    def end_soon(self) -> None:
        """From here on callers go because this daemon does: nothing is cancelled for it."""
        self._is_ending = True
        for task in self._patient:
            task.cancel()

    async def close(self) -> None:
        """Waits for what still goes on."""
        self.end_soon()
        await asyncio.gather(*self._background, return_exceptions=True)

    # RPCs.

    async def submit(self, request: jobs_pb2.SubmitRequest, call: Call) -> jobs_pb2.SubmitResponse:
        """Accepts a job."""
        return jobs_pb2.SubmitResponse(job_id=await self._submit(request, call))

    async def run(
        self, request: jobs_pb2.RunRequest, call: Call
    ) -> AsyncGenerator[jobs_pb2.FollowEvent, None]:
        """Accepts a job and shows it; cancels it when the caller goes, unless detached.

        A node between us and the caller says itself that the caller went (``relay``).
        """
        submitting = self._start(self._submit(request.submit, call))
        ended = False
        try:
            job = self._jobs.job(await asyncio.shield(submitting))
            async with aclosing(self._follow(job, Wanted())) as events:
                async for event in events:
                    yield event
            ended = True
        finally:
            if not ended and not request.detach and not self._is_ending:
                self._start(self._abandon(submitting, call))

    async def follow(
        self, request: jobs_pb2.FollowRequest, call: Call
    ) -> AsyncGenerator[jobs_pb2.FollowEvent, None]:
        """Output and changes of a job."""
        job = self._resolve(request.job_id, call)
        task = request.task if request.HasField("task") else None
        if task is not None and task >= job.record.count:
            raise NotFoundError(
                f"job {job.job_id} has no task {task}; it has {job.record.count}, from 0",
                hint=f"perseus logs {job.job_id} --task {job.record.count - 1}",
            )
        both = not request.stdout and not request.stderr
        wanted = Wanted(
            stdout=both or request.stdout,
            stderr=both or request.stderr,
            follow=request.follow,
            task=task,
            stdout_offset_bytes=request.stdout_offset_bytes,
            stderr_offset_bytes=request.stderr_offset_bytes,
        )
        async with aclosing(self._follow(job, wanted)) as events:
            with self._taking_up(job, request.follow):
                async for event in events:
                    yield event

    async def get_job(self, request: jobs_pb2.GetJobRequest, call: Call) -> jobs_pb2.Job:
        """One job with its tasks."""
        return views.job_message(self._resolve(request.job_id, call), request.first_task)

    async def list_jobs(
        self, request: jobs_pb2.ListJobsRequest, call: Call
    ) -> jobs_pb2.ListJobsResponse:
        """The newest jobs."""
        limit = min(request.limit or LIST_DEFAULT, LIST_MAXIMUM)
        response = jobs_pb2.ListJobsResponse()
        for job in reversed(self._jobs.jobs().values()):
            if request.active and not job.active:
                continue
            if len(response.jobs) >= limit:
                response.more = True
                break
            response.jobs.append(views.listed_message(job))
        return response

    async def wait(self, request: jobs_pb2.WaitRequest, call: Call) -> jobs_pb2.Job:
        """The job when it has ended, or as it is when the time is over; 0 means as long as
        WAIT_MAXIMUM_S."""
        job = self._resolve(request.job_id, call)
        # So written that what is no number at all is refused as well.
        if not 0 <= request.timeout_s < math.inf:
            raise InvalidError(
                f"timeout_s: {request.timeout_s} is not a time in seconds",
                hint=f"0 means as long as the most, {WAIT_MAXIMUM_S:.0f} s",
            )
        timeout_s = min(request.timeout_s or WAIT_MAXIMUM_S, WAIT_MAXIMUM_S)
        if job.active:
            await self._await_end(job, timeout_s)
        return views.job_message(job)

    async def kill(self, request: jobs_pb2.KillRequest, call: Call) -> jobs_pb2.KillResponse:
        """Signals or cancels a job."""
        job = self._resolve(request.job_id, call)
        signal = spec.check_signal(request.signal)
        reached = await self._driver.do(Kill(job.job_id, signal, call.caller.name))
        assert isinstance(reached, Reached)
        return jobs_pb2.KillResponse(tasks=reached.tasks, keeping=reached.keeping)

    async def retry(self, request: jobs_pb2.RetryRequest, call: Call) -> jobs_pb2.Job:
        """Runs once more what did not finish well."""
        job = self._resolve(request.job_id, call)
        await asyncio.shield(self._start(self._retry(job, call.caller.name)))
        return views.job_message(job)

    async def why(self, request: jobs_pb2.WhyRequest, call: Call) -> jobs_pb2.WhyResponse:
        """Why it waits, was placed where it was, or was retried."""
        job = self._resolve(request.job_id, call)
        time_s = self._driver.instant().time_s
        return jobs_pb2.WhyResponse(sentences=why.sentences(self._jobs, job, time_s))

    # How.

    async def _submit(self, request: jobs_pb2.SubmitRequest, call: Call) -> str:
        accepted = spec.check(
            request,
            self._settings,
            self._nodes,
            self._files,
            partial(absent.as_input, self._jobs),
        )
        for _ in range(ID_TRIES):
            event = Submit(
                job_id=encode(self._random.bits(5 * JOB_ID_LENGTH), JOB_ID_LENGTH),
                user=call.caller.name,
                spec=accepted.spec,
                count=accepted.count,
                parallel=accepted.parallel,
                name=accepted.name,
                request_id=accepted.request_id,
            )
            if self._jobs.find(event.job_id) is None:
                job_id = await self._driver.do(event)
                assert isinstance(job_id, str)
                return job_id
        raise ConflictError("no free job id was found", hint="try again")

    async def _retry(self, job: Job, user: str) -> None:
        """In parts, between which the master answers others."""
        retried = await self._driver.do(Retry(job.job_id, user))
        while retried.rest:
            retried = await self._driver.do(Retry(job.job_id, user, retried))

    def _start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Does it also when the caller goes away."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _abandon(self, submitting: "asyncio.Task[Any]", call: Call) -> None:
        """The caller of Run is gone: what was submitted is cancelled."""
        await asyncio.wait((submitting,))
        if submitting.cancelled() or submitting.exception() is not None:
            return
        job = self._jobs.find(submitting.result())
        if job is None or (call.caller.via_node_id and await self._is_taken_up(job)):
            return
        if self._jobs.find(job.job_id) is not None:
            await self._driver.do(Kill(job.job_id, SIGNAL_TERMINATE, call.caller.name))

    async def _is_taken_up(self, job: Job) -> bool:
        """A node went away: whether somebody follows the job in time, or it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._patient.add(task)
        try:
            with self._watches.watch(job.job_id) as watch:
                async with asyncio.timeout(RELAY_PATIENCE_S):
                    while job.active and not (self._following[job.job_id] or self._is_ending):
                        await watch.changed()
            return True
        except (TimeoutError, UnavailableError):
            return False
        finally:
            self._patient.discard(task)

    @contextmanager
    def _taking_up(self, job: Job, follows: bool) -> Iterator[None]:
        """Somebody follows the job, perhaps again."""
        if not follows:
            yield
            return
        self._following[job.job_id] += 1
        self._watches.wake(job.job_id)
        try:
            yield
        finally:
            self._following[job.job_id] -= 1
            if not self._following[job.job_id]:
                del self._following[job.job_id]

    async def _follow(self, job: Job, wanted: Wanted) -> AsyncGenerator[jobs_pb2.FollowEvent, None]:
        if self._followers >= FOLLOWERS_MAXIMUM:
            raise UnavailableError(
                f"{FOLLOWERS_MAXIMUM} callers follow jobs already",
                hint=f"wait for it instead: perseus wait {job.job_id}",
            )
        self._followers += 1
        try:
            follower = Follower(
                job, wanted, self._sources, self._watches, partial(why.waiting, self._jobs, job)
            )
            async with aclosing(follower.events()) as events:
                async for event in events:
                    yield event
        finally:
            self._followers -= 1

    async def _await_end(self, job: Job, timeout_s: float) -> None:
        with self._watches.watch(job.job_id) as watch:
            try:
                async with asyncio.timeout(timeout_s):
                    while job.active:
                        await watch.changed()
            except TimeoutError:
                return

    def _resolve(self, text: str, call: Call) -> Job:
        """The job that an id, the beginning of one, or "@last" means."""
        if text == LAST:
            return self._last(call.caller.name)
        job = self._jobs.find(text)
        if job is not None:
            return job
        if not text or len(text) > JOB_ID_LENGTH or not set(text) <= set(ALPHABET):
            raise NotFoundError(f"{text[:80]!r} is not the id of a job", hint="perseus ps")
        found = [job_id for job_id in self._jobs.jobs() if job_id.startswith(text)]
        if len(found) > 1:
            raise InvalidError(
                f"{text!r} is the beginning of {len(found)} jobs' ids: {_some(found)}",
                hint="write more of it, or @last for your latest job",
            )
        if not found:
            raise NotFoundError(
                f"there is no job {text!r}, or not any more: {self._kept()}", hint="perseus ps"
            )
        return self._jobs.job(found[0])

    def _kept(self) -> str:
        """How long jobs are kept."""
        settings = self._settings
        return (
            f"one that has ended is kept for {why.duration(settings.keep_jobs_s)} (keep_jobs_s), "
            f"of such at most {settings.keep_jobs} jobs (keep_jobs) with {settings.keep_tasks} "
            "tasks (keep_tasks)"
        )

    def findings(self) -> Iterator[cluster_pb2.Finding]:
        """For doctor: that jobs are removed before their time."""
        crowded, time_s = self._jobs.crowded, self._driver.instant().time_s
        if crowded is None or time_s - crowded.at_s > CROWDED_TOLD_S:
            return
        setting, command = crowded.setting, ""
        words = f"{KEPT_SPEC_MAXIMUM_BYTES >> 20} MiB of their specs"
        if setting:
            words = f"{setting} = {getattr(self._settings, setting)}"
            command = f"PERSEUS_{setting.upper()}=N in the environment of perseusd on the master"
        message = (
            f"jobs and their output are removed {why.duration(crowded.kept_s)} after their end, "
            f"not after {why.duration(self._settings.keep_jobs_s)}: there are more than {words}"
        )
        yield cluster_pb2.Finding(severity="note", subject="jobs", message=message, command=command)

    def _last(self, user: str) -> Job:
        for job in reversed(self._jobs.jobs().values()):
            if job.record.user == user:
                return job
        raise NotFoundError(
            f"{user} has submitted no job that is still kept", hint="perseus run -- CMD ARGS"
        )


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:CANDIDATES_SHOWN])
    return f"{shown}, …" if len(ids) > CANDIDATES_SHOWN else shown
