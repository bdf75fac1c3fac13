"""Tasks whose program has ended and whose output is on its way, as the master knows them."""

import pytest

from perseus.jobs import views, why
from perseus.jobs.records import CANCELLED, FINISHED, RUNNING
from perseus.jobs.state_events import Kill, Reached
from perseus.proto.v1 import agent_pb2, jobs_pb2
from tests.unit.jobs_harness import Toy, World, directives, ended_event
from tests.unit.jobs_stage import Stage, run

JOB = "job00000"


def keeping_event(
    attempt: str, kind: jobs_pb2.EndingKind = jobs_pb2.ENDING_EXITED, message: str = ""
) -> agent_pb2.AttemptEvent:
    ending = jobs_pb2.Ending(kind=kind, message=message)
    return agent_pb2.AttemptEvent(
        attempt=attempt, keeping=agent_pb2.AttemptKeeping(ending=ending, output_bytes=600 << 20)
    )


def world_of(count: int) -> tuple[World, Toy]:
    """One node that runs all tasks of a job; the first one's output is on its way."""
    world = World(nodes=1, cores=4)
    world.submit(count=count)
    toy = world.toys["id-0"]
    toy.start_some()
    world.send(toy)
    world.report(toy, keeping_event(f"{JOB}.0.1"))
    return world, toy


def test_a_signal_reaches_only_programs_that_run() -> None:
    world, _ = world_of(2)
    with world.collected() as effects:
        assert world.do(Kill(JOB, 2, "ann")).reply == Reached(1, 0)
    (stop,) = [d.stop for d in directives(effects, "stop")]
    assert stop.attempt == f"{JOB}.1.1"


def test_nothing_is_reached_when_only_output_is_on_its_way() -> None:
    world, _ = world_of(1)
    with world.collected() as effects:
        assert world.do(Kill(JOB, 2, "ann")).reply == Reached(0, 0)
    assert not directives(effects, "stop")


@pytest.mark.parametrize("signal", [15, 9])
def test_a_cancel_concerns_it_and_says_so(signal: int) -> None:
    world, toy = world_of(2)
    with world.collected() as effects:
        assert world.do(Kill(JOB, signal, "ann")).reply == Reached(2, 1)
    assert len(directives(effects, "stop")) == 2
    world.send(toy)
    assert world.state() == CANCELLED


def test_why_and_listings_tell_it_until_the_end() -> None:
    world, toy = world_of(2)
    job = world.jobs.job(JOB)
    assert world.state() == RUNNING
    told = " ".join(why.sentences(world.jobs, job, world.now_s))
    assert "attempt 1 ended on node-0; its output, 600 MB, is being kept" in told
    message = views.job_message(job)
    assert message.keeping == 1 and [task.keeping for task in message.tasks] == [True, False]
    # Told again on a new stream, it is known already.
    before = len(job.task(0).history)
    world.report(toy, keeping_event(f"{JOB}.0.1"))
    assert len(job.task(0).history) == before
    world.report(toy, ended_event(f"{JOB}.0.1"))
    assert job.task(0).state == FINISHED and not job.keeping
    world.check_reload()


def test_what_is_lost_meanwhile_is_tried_again_like_any_other() -> None:
    world, toy = world_of(1)
    world.report(toy, keeping_event(f"{JOB}.0.7"), keeping_event("zzzzzzzz.0.1"))
    # Its machine began anew, and knows of nothing.
    toy.attempts.clear()
    world.disconnect(toy)
    world.connect(toy)
    job = world.jobs.job(JOB)
    assert not job.keeping and job.task(0).attempt == 2


@pytest.mark.parametrize(
    ("kind", "message", "words"),
    [
        (jobs_pb2.ENDING_OUTPUT_LIMIT, "", "passed its output limit; what was written, 600 MB"),
        (jobs_pb2.ENDING_SIGNALED, "ended by SIGINT", "was ended by SIGINT; what was written"),
        (jobs_pb2.ENDING_EXITED, "", ""),
        (jobs_pb2.ENDING_CANCELLED, "cancelled by SIGTERM", ""),
    ],
)
def test_who_follows_hears_at_once_why_a_program_was_ended(
    kind: jobs_pb2.EndingKind, message: str, words: str
) -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        attempt = f"{job_id}.0.1"
        await stage.running(attempt)
        stage.texts.text(attempt).write(b"yes")
        stage.texts.text(attempt, True)
        viewer = stage.follow(job_id)
        await viewer.until(lambda v: v.stdout == b"yes")
        toy = stage.world.toys["id-0"]
        stage.world.report(toy, keeping_event(attempt, kind, message))
        stage.service.job_changed(job_id)
        if words:
            await viewer.until(lambda v: v.messages)
            assert words in viewer.messages[0]
        await stage.end(attempt)
        last = await viewer.rest()
        assert last.HasField("ending") and len(viewer.messages) == bool(words)

    run(story())
