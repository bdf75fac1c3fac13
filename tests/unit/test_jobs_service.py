"""The service Jobs: accepting, waiting, naming, cancelling, telling why."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from perseus.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    PerseusError,
    UnavailableError,
)
from perseus.jobs import service, views
from perseus.jobs.relay import RunRelay
from perseus.proto.v1 import jobs_pb2
from perseus.rpc.call import Call
from perseus.rpc.registry import Registry
from perseus.settings import Settings
from tests.unit.jobs_harness import World, ended_event, running_event
from tests.unit.jobs_stage import Stage, Viewer, call, run, submit_request


def test_it_serves_every_rpc_of_the_protocol() -> None:
    async def story() -> None:
        Registry().add("Jobs", Stage().service)

    run(story())


def test_submit_fills_in_defaults_and_answers_when_durable() -> None:
    async def story() -> None:
        stage = Stage()
        stage.gate.clear()
        submitting = asyncio.create_task(stage.submit(argv=["/bin/wc", "-l"], request_id="r"))
        await asyncio.sleep(0.01)
        assert not submitting.done() and not stage.toy().attempts
        stage.gate.set()
        job_id = await submitting
        assert list(stage.toy().attempts) == [f"{job_id}.0.1"]
        job = await stage.service.get_job(jobs_pb2.GetJobRequest(job_id=job_id), call())
        assert (job.name, job.user, job.count) == ("wc", "ann", 1)
        assert (job.spec.retries, job.spec.grace_s, job.spec.resources.cpu) == (3, 5.0, 1.0)
        assert job.folder == f"/jobs/{job_id}" and job.state == jobs_pb2.TASK_STATE_LEASED
        assert job.tasks[0].node == "node-0" and job.tasks[0].attempt == 1
        assert await stage.submit(argv=["other"], request_id="r") == job_id

    run(story())


@pytest.mark.parametrize("timeout_s", [-1.0, float("nan"), float("inf")])
def test_a_time_to_wait_that_is_none(timeout_s: float) -> None:
    async def story() -> None:
        stage = Stage()
        stage.world.submit("aaaa0000")
        request = jobs_pb2.WaitRequest(job_id="aaaa0000", timeout_s=timeout_s)
        with pytest.raises(InvalidError, match="timeout_s"):
            await asyncio.wait_for(stage.service.wait(request, call()), 10.0)

    run(story())


def test_ids_prefixes_and_last() -> None:
    async def story() -> None:
        stage = Stage()
        for job_id in ("aaaa0000", "aaab0000", "b0000000"):
            stage.world.submit(job_id)

        async def get(text: str, user: str = "ann") -> str:
            request = jobs_pb2.GetJobRequest(job_id=text)
            return (await stage.service.get_job(request, call(user))).job_id

        assert await get("aaaa0000") == await get("aaaa") == "aaaa0000"
        assert await get("b") == await get("@last") == "b0000000"
        with pytest.raises(InvalidError, match="aaaa0000, aaab0000"):
            await get("aaa")
        for unknown in ("zz", "", "no such", "aaaa00001"):
            with pytest.raises(NotFoundError):
                await get(unknown)
        with pytest.raises(NotFoundError, match="bob has submitted no job"):
            await get("@last", "bob")

    run(story())


def test_whoever_asks_for_a_job_that_is_gone_hears_how_long_jobs_are_kept() -> None:
    async def story() -> None:
        stage = Stage(settings=Settings(keep_tasks=1, keep_jobs_s=7200.0))
        assert not list(stage.service.findings())
        for job_id in ("aaaa0000", "aaab0000"):
            stage.world.submit(job_id)
            stage.world.report(stage.world.toys["id-0"], ended_event(f"{job_id}.0.1"))
        stage.world.now_s += 100.0
        stage.world.pass_time(0.5)
        with pytest.raises(NotFoundError) as raised:
            await stage.service.why(jobs_pb2.WhyRequest(job_id="aaaa0000"), call())
        for words in ("there is no job 'aaaa0000'", "kept for 2 h", "1 tasks (keep_tasks)"):
            assert words in raised.value.message
        (finding,) = stage.service.findings()
        assert (finding.severity, finding.subject) == ("note", "jobs")
        assert "removed 101 s after their end, not after 2 h" in finding.message
        assert "more than keep_tasks = 1" in finding.message
        assert "PERSEUS_KEEP_TASKS=N" in finding.command
        # It is told for a while.
        stage.world.now_s += 4000.0
        assert not list(stage.service.findings())

    run(story())


def test_listing_is_newest_first_and_bounded() -> None:
    async def story() -> None:
        stage = Stage(cores=1)
        for number in range(5):
            stage.world.submit(f"job0000{number}", environment={"A": "b"}, stdin_inline=b"x")
        stage.world.report(stage.toy(), ended_event("job00000.0.1"))

        async def names(**fields: Any) -> tuple[list[str], bool]:
            request = jobs_pb2.ListJobsRequest(**fields)
            response = await stage.service.list_jobs(request, call())
            assert not any(j.spec.environment or j.spec.stdin_inline for j in response.jobs)
            return [job.job_id[-1] for job in response.jobs], response.more

        assert await names() == (["4", "3", "2", "1", "0"], False)
        assert await names(active=True) == (["4", "3", "2", "1"], False)
        assert await names(limit=2) == (["4", "3"], True)

    run(story())


def test_a_listing_shows_the_beginning_of_long_arguments() -> None:
    world = World(nodes=0)
    world.submit(argv=["cat", "a" * 5_000, "b"])
    listed = views.listed_message(world.jobs.job("job00000"))
    assert listed.spec.argv == ["cat", "…"]


def test_wait_is_woken_by_the_end() -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        request = jobs_pb2.WaitRequest(job_id=job_id, timeout_s=0.01)
        assert (await stage.service.wait(request, call())).state == jobs_pb2.TASK_STATE_LEASED
        request.timeout_s = 0
        waiting = [asyncio.create_task(stage.service.wait(request, call())) for _ in range(3)]
        await asyncio.sleep(0)
        await stage.report(stage.toy(), ended_event(f"{job_id}.0.1", 9))
        for job in await asyncio.gather(*waiting):
            assert job.exit_code == 9 and job.state == jobs_pb2.TASK_STATE_FAILED
            assert job.ended_at_s > 0
        assert (await stage.service.wait(request, call())).exit_code == 9
        assert not stage.service._watches._by_job

    run(story())


def _run(stage: Stage, detach: bool = False, **fields: Any) -> Viewer:
    request = jobs_pb2.RunRequest(submit=submit_request(**fields), detach=detach)
    return Viewer(stage.service.run(request, call()))


def test_run_submits_and_shows() -> None:
    async def story() -> None:
        stage = Stage()
        viewer = _run(stage)
        await viewer.until(lambda v: v.all)
        job_id = viewer.all[0].job_id
        reading = asyncio.create_task(viewer.rest())
        stage.texts.text(f"{job_id}.0.1").write(b"out")
        await stage.end(f"{job_id}.0.1", 5)
        assert (await reading).ending.exit_code == 5
        assert viewer.stdout == b"out"
        await stage.service.close()
        assert stage.world.task(0, job_id).cancelling == 0

    run(story())


@pytest.mark.parametrize("detach", [False, True])
def test_a_run_whose_caller_goes_away_is_cancelled_unless_detached(detach: bool) -> None:
    async def story() -> None:
        stage = Stage()
        viewer = _run(stage, detach)
        await viewer.until(lambda v: v.all)
        job_id = viewer.all[0].job_id
        await viewer.events.aclose()
        await stage.service.close()
        assert bool(stage.world.task(0, job_id).cancelling) is not detach

    run(story())


def test_a_run_whose_caller_goes_away_during_the_commit_is_cancelled() -> None:
    async def story() -> None:
        stage = Stage()
        stage.gate.clear()
        viewer = _run(stage)
        reading = asyncio.create_task(viewer.rest())
        await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        stage.gate.set()
        await stage.service.close()
        (job,) = stage.world.jobs.jobs().values()
        assert job.task(0).cancelling == 15

    run(story())


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_caller_whose_node_goes_away_has_time_to_come_back(
    comes_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        if not comes_back:
            monkeypatch.setattr(service, "RELAY_PATIENCE_S", 0.05)
        stage = Stage()
        relayed = replace(call(), caller=replace(call().caller, via_node_id="n0000002"))
        request = jobs_pb2.RunRequest(submit=submit_request())
        viewer = Viewer(stage.service.run(request, relayed))
        await viewer.until(lambda v: v.all)
        job_id = viewer.all[0].job_id
        await viewer.events.aclose()
        (left,) = stage.service._background
        if comes_back:
            follow = jobs_pb2.FollowRequest(job_id=job_id, follow=True)
            again = Viewer(stage.service.follow(follow, relayed))
            await again.until(lambda v: v.all)
        await left
        assert bool(stage.world.task(0, job_id).cancelling) is not comes_back
        if comes_back:
            await again.events.aclose()
        assert not stage.service._following and not stage.service._patient
        await stage.service.close()

    run(story())


@pytest.mark.parametrize("relayed", [True, False])
def test_callers_that_go_with_the_daemon_are_not_cancelled(relayed: bool) -> None:
    async def story() -> None:
        stage = Stage()
        caller = replace(call().caller, via_node_id="n0000002" if relayed else "")
        request = jobs_pb2.RunRequest(submit=submit_request())
        viewer = Viewer(stage.service.run(request, replace(call(), caller=caller)))
        await viewer.until(lambda v: v.all)
        if relayed:
            await viewer.events.aclose()
            await asyncio.sleep(0)
        stage.service.end_soon()
        if not relayed:
            await viewer.events.aclose()
        await stage.service.close()
        assert not stage.world.task(0, viewer.all[0].job_id).cancelling

    run(story())


class Master:
    """Jobs as forwarded: a Run that shows its job, or breaks; what else was called."""

    def __init__(self, job_id: str, error: PerseusError | None = None) -> None:
        self.job_id, self.error = job_id, error
        self.calls: list[str] = []
        self.killed = asyncio.Event()

    async def run(self, request: jobs_pb2.RunRequest, call: Call) -> AsyncIterator[Any]:
        yield jobs_pb2.FollowEvent(job_id=self.job_id)
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()

    async def submit(self, request: jobs_pb2.SubmitRequest, call: Call) -> jobs_pb2.SubmitResponse:
        self.calls.append(f"submit {request.request_id}")
        return jobs_pb2.SubmitResponse(job_id="aaaa0000")

    async def kill(self, request: jobs_pb2.KillRequest, call: Call) -> jobs_pb2.KillResponse:
        assert call.remaining_s()
        self.calls.append(f"kill {request.job_id} {request.signal}")
        self.killed.set()
        return jobs_pb2.KillResponse(tasks=1)


@pytest.mark.parametrize(
    ("job_id", "calls"),
    [("aaaa0000", ["kill aaaa0000 15"]), ("", ["submit r", "kill aaaa0000 15"])],
)
def test_a_node_tells_the_master_that_its_caller_is_gone(job_id: str, calls: list[str]) -> None:
    async def story() -> None:
        master = Master(job_id)
        request = jobs_pb2.RunRequest(submit=submit_request(request_id="r"))
        events = RunRelay(master, lambda: False).run(request, call())
        await anext(events)
        await events.aclose()
        await master.killed.wait()
        assert master.calls == calls

    run(story())


@pytest.mark.parametrize("why", ["the daemon ends", "detached", "the way to the master broke"])
def test_a_node_says_nothing_of_a_caller_that_did_not_leave(why: str) -> None:
    async def story() -> None:
        broke = UnavailableError("broke") if why.startswith("the way") else None
        master = Master("aaaa0000", broke)
        request = jobs_pb2.RunRequest(submit=submit_request(), detach=why == "detached")
        events = RunRelay(master, lambda: why == "the daemon ends").run(request, call())
        await anext(events)
        if broke is not None:
            with pytest.raises(UnavailableError):
                await anext(events)
        await events.aclose()
        await asyncio.sleep(0.01)
        assert master.calls == []

    run(story())


def test_run_says_at_once_what_is_wrong() -> None:
    async def story() -> None:
        stage = Stage()
        with pytest.raises(InvalidError, match="no program"):
            await _run(stage, argv=[]).rest()
        await stage.service.close()

    run(story())


def test_kill_and_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perseus.jobs.state.RETRIES_PER_STEP", 1)

    async def story() -> None:
        stage = Stage(cores=2)
        job_id = await stage.submit(count=2)
        kill = jobs_pb2.KillRequest(job_id=job_id)
        assert (await stage.service.kill(kill, call())).tasks == 2
        toy = stage.toy()
        await stage.report(toy, *toy.ended.values())
        job = await stage.service.get_job(jobs_pb2.GetJobRequest(job_id=job_id), call())
        assert job.state == jobs_pb2.TASK_STATE_CANCELLED and job.exit_code == 143
        assert dict(job.task_counts) == {jobs_pb2.TASK_STATE_CANCELLED: 2}
        again = await stage.service.retry(jobs_pb2.RetryRequest(job_id=job_id), call())
        assert again.state == jobs_pb2.TASK_STATE_LEASED and not again.ended_at_s
        assert jobs_pb2.TASK_STATE_CANCELLED not in again.task_counts
        with pytest.raises(ConflictError):
            await stage.service.retry(jobs_pb2.RetryRequest(job_id=job_id), call())
        with pytest.raises(InvalidError):
            await stage.service.kill(jobs_pb2.KillRequest(job_id=job_id, signal=99), call())

    run(story())


def test_follow_of_a_task_that_is_not_there() -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        with pytest.raises(NotFoundError, match="has no task 1"):
            await stage.follow(job_id, task=1).rest()

    run(story())


def test_the_waiters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        stage = Stage()
        monkeypatch.setattr(service, "FOLLOWERS_MAXIMUM", 1)
        job_id = await stage.submit()
        first = stage.follow(job_id)
        await first.until(lambda v: v.all)
        with pytest.raises(Exception, match="follow jobs already"):
            await stage.follow(job_id).rest()
        await first.events.aclose()
        await stage.follow(job_id).until(lambda v: v.all)

    run(story())


def test_pages_of_tasks() -> None:
    world = World(nodes=0)
    world.submit(count=2500)
    job = world.jobs.job("job00000")
    assert [task.index for task in views.job_message(job).tasks] == list(range(1000))
    assert len(views.job_message(job, 2000).tasks) == 500
    assert not views.job_message(job, 9999).tasks


async def _why(stage: Stage, job_id: str) -> str:
    request = jobs_pb2.WhyRequest(job_id=job_id)
    return "\n".join((await stage.service.why(request, call())).sentences)


def test_why_it_waits() -> None:
    async def story() -> None:
        stage = Stage(cores=2)
        big = await stage.submit(resources={"memory_bytes": 64 << 30})
        text = await _why(stage, big)
        assert "needs 64 GB of memory" in text and "the largest free is 8 GB on node-0" in text
        both = await stage.submit(resources={"cpu": 99, "memory_bytes": 64 << 30})
        text = await _why(stage, both)
        assert "needs 99 cores; the largest" in text and "needs 64 GB of memory" in text
        stage.world.kill(both)
        await stage.submit(count=5)
        other = await stage.submit()
        assert "the most free is 0 cores on node-0" in await _why(stage, other)
        assert "2 jobs stand before it" in await _why(stage, other)
        slow = await stage.submit(count=5, parallel=1, priority=1)
        stage.world.kill(other)
        assert "cancelled by ann before they ran" in await _why(stage, other)
        job = stage.world.jobs.find(slow)
        assert job is not None and job.waiting == 5
        running = next(iter(stage.toy().attempts))
        await stage.report(stage.toy(), ended_event(running, wall_s=9.0))
        assert "only 1 may run at once" in await _why(stage, slow)

    run(story())


def test_why_it_went_as_it_went() -> None:
    async def story() -> None:
        stage = Stage(nodes=2)
        stage.world.outputs.inputs["/in"] = {"id-1": 1 << 30}
        job_id = await stage.submit(stdin_path="/in", failure_retries=1)
        toy = stage.world.holder(f"{job_id}.0.1")
        assert toy.name == "node-1"
        await stage.report(toy, running_event(f"{job_id}.0.1"))
        await stage.report(toy, ended_event(f"{job_id}.0.1", 3))
        text = await _why(stage, job_id)
        assert "placed on node-1: 2 of 2 cores free, 1 GB of its input there" in text
        assert "failed on node-1: exit code 3; it is tried a last time" in text
        assert "attempt 2 placed on node-0" in text
        stage.world.kill(job_id)
        assert "to be cancelled (ann): signal 15" in await _why(stage, job_id)

    run(story())
