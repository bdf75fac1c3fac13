"""What a client sees of a job: everything, once, in order, whatever is lost meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from perseus.errors import NotFoundError
from perseus.jobs.follow import QUEUE_EVENTS
from perseus.membership.commands import RemoveNode
from perseus.proto.v1 import jobs_pb2
from tests.unit.jobs_harness import ended_event
from tests.unit.jobs_stage import Stage, Viewer, run


def test_a_short_task_is_shown_without_dialling() -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        viewer = stage.follow(job_id)
        await viewer.until(lambda v: v.all)
        assert viewer.all[0].job_id == job_id
        attempt = f"{job_id}.0.1"
        await stage.running(attempt)
        stage.texts.text(attempt).write(b"hello\n")
        stage.texts.text(attempt, True).write(b"oops\n")
        await stage.end(attempt, 3)
        last = await viewer.rest()
        assert (viewer.stdout, viewer.stderr) == (b"hello\n", b"oops\n")
        assert last.ending.exit_code == 3 and last.state == jobs_pb2.TASK_STATE_FAILED
        assert not stage.texts.dialled and not viewer.messages

    run(story())


def test_output_is_live_and_a_late_client_sees_it_from_the_start() -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        attempt = f"{job_id}.0.1"
        await stage.running(attempt)
        out, error = stage.texts.text(attempt), stage.texts.text(attempt, True)
        early = stage.follow(job_id)
        out.write(b"one ")
        await early.until(lambda v: v.stdout == b"one ")
        error.write(b"beside")
        await early.until(lambda v: v.stderr == b"beside")
        out.write(b"two ")
        await early.until(lambda v: v.stdout == b"one two ")
        late = stage.follow(job_id)
        await late.until(lambda v: v.stdout == b"one two " and v.stderr == b"beside")
        out.write(b"three")
        await stage.end(attempt)
        for viewer in (early, late):
            last = await viewer.rest()
            assert viewer.stdout == b"one two three" and viewer.stderr == b"beside"
            assert last.HasField("ending") and last.ending.exit_code == 0
        after = stage.follow(job_id, follow=False)
        assert (await after.rest()).HasField("ending")
        assert after.stdout == b"one two three"

    run(story())


def test_one_stream_alone() -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        attempt = f"{job_id}.0.1"
        await stage.running(attempt)
        stage.texts.text(attempt).write(b"out")
        stage.texts.text(attempt, True).write(b"error")
        await stage.end(attempt)
        viewer = stage.follow(job_id, stderr=True)
        await viewer.rest()
        assert (viewer.stdout, viewer.stderr) == (b"", b"error")

    run(story())


async def _lose(stage: Stage, attempt: str) -> None:
    """The node of the attempt is gone; its stream never ends."""
    toy = stage.world.holder(attempt)
    await stage.driver.do(RemoveNode(toy.name))
    del stage.world.toys[toy.node_id]


def test_a_lost_attempt_is_told_and_the_next_goes_on_where_it_was() -> None:
    async def story() -> None:
        stage = Stage(nodes=2)
        job_id = await stage.submit()
        first, second = f"{job_id}.0.1", f"{job_id}.0.2"
        await stage.running(first)
        stage.texts.text(first).write(b"1\n2\n3\n")
        viewer = stage.follow(job_id)
        await viewer.until(lambda v: v.stdout == b"1\n2\n3\n")
        await _lose(stage, first)
        await viewer.until(lambda v: v.messages)
        assert "attempt 1 was lost with" in viewer.messages[0]
        await stage.running(second)
        stage.texts.text(second).write(b"1\n2\n")
        await asyncio.sleep(0)
        stage.texts.text(second).write(b"3\n4\n")
        await viewer.until(lambda v: v.stdout == b"1\n2\n3\n4\n")
        stage.texts.text(second).write(b"5\n")
        await stage.end(second)
        await viewer.rest()
        assert viewer.stdout == b"1\n2\n3\n4\n5\n" and len(viewer.messages) == 1

    run(story())


def test_a_next_attempt_with_other_output_is_told() -> None:
    async def story(content: bytes, shown: bytes) -> None:
        stage = Stage(nodes=2)
        job_id = await stage.submit()
        await stage.running(f"{job_id}.0.1")
        stage.texts.text(f"{job_id}.0.1").write(b"begun at noon; ")
        viewer = stage.follow(job_id)
        await viewer.until(lambda v: v.stdout)
        await _lose(stage, f"{job_id}.0.1")
        await stage.running(f"{job_id}.0.2")
        stage.texts.text(f"{job_id}.0.2").write(content)
        await stage.end(f"{job_id}.0.2")
        await viewer.rest()
        assert viewer.stdout == shown
        assert f"perseus logs {job_id}" in viewer.messages[-1]
        assert "differs" in viewer.messages[-1] and len(viewer.messages) == 2

    run(story(b"begun at four; done", b"begun at noon; done"))
    run(story(b"short", b"begun at noon; "))


def test_what_was_shown_and_is_lost_for_good_is_told() -> None:
    async def story() -> None:
        stage = Stage(nodes=1)
        job_id = await stage.submit(retries=0)
        await stage.running(f"{job_id}.0.1")
        stage.texts.text(f"{job_id}.0.1").write(b"some")
        viewer = stage.follow(job_id)
        await viewer.until(lambda v: v.stdout)
        await _lose(stage, f"{job_id}.0.1")
        last = await viewer.rest()
        assert last.state == jobs_pb2.TASK_STATE_LOST and last.ending.exit_code == 125
        assert any("is not kept" in message for message in viewer.messages)

    run(story())


def test_several_tasks_are_shown_in_their_order() -> None:
    async def story() -> None:
        stage = Stage(cores=3)
        job_id = await stage.submit(count=3)
        viewer = stage.follow(job_id)
        await viewer.until(lambda v: v.all)
        for index in (2, 1, 0):
            attempt = f"{job_id}.{index}.1"
            await stage.running(attempt)
            stage.texts.text(attempt).write(b"task %d\n" % index)
        await viewer.until(lambda v: v.stdout == b"task 0\n")
        await stage.end(f"{job_id}.2.1")
        await stage.end(f"{job_id}.1.1", 7)
        stage.texts.text(f"{job_id}.0.1").write(b"more\n")
        await stage.end(f"{job_id}.0.1")
        last = await viewer.rest()
        assert viewer.stdout == b"task 0\nmore\ntask 1\ntask 2\n"
        assert last.ending.exit_code == 7 and "task 1 of 3" in last.ending.message
        one = stage.follow(job_id, task=2)
        last = await one.rest()
        assert one.stdout == b"task 2\n" and last.ending.exit_code == 0

    run(story())


def test_offsets_count_over_all_tasks() -> None:
    async def story() -> None:
        stage = Stage(cores=2)
        job_id = await stage.submit(count=2)
        for index, text in enumerate((b"abc", b"defg")):
            stage.texts.text(f"{job_id}.{index}.1").write(text)
            await stage.end(f"{job_id}.{index}.1")
        for offset in range(8):
            viewer = stage.follow(job_id, stdout_offset_bytes=offset)
            await viewer.rest()
            assert viewer.stdout == b"abcdefg"[offset:]

    run(story())


def test_without_follow_the_answer_is_what_is_there() -> None:
    async def story() -> None:
        stage = Stage(cores=1)
        job_id = await stage.submit(count=2)
        await stage.running(f"{job_id}.0.1")
        stage.texts.text(f"{job_id}.0.1").write(b"so far")
        viewer = stage.follow(job_id, follow=False)
        last = await viewer.rest()
        assert viewer.stdout == b"so far" and not last.HasField("ending")

    run(story())


def test_without_follow_what_a_node_does_not_give_is_told() -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        await stage.running(f"{job_id}.0.1")
        stage.texts.live.clear()
        viewer = stage.follow(job_id, follow=False)
        await viewer.rest()
        told = [event for event in viewer.all if event.message]
        assert len(told) == 2 and all(event.missing for event in told)
        assert "does not give its stdout" in told[0].message + told[1].message
        assert f"perseus logs -f {job_id}" in told[0].message

    run(story())


def test_without_follow_a_task_that_ends_while_its_node_is_asked_is_shown_whole() -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        attempt = f"{job_id}.0.1"
        await stage.running(attempt)

        async def gone(*asked: Any) -> AsyncIterator[bytes]:
            stage.texts.files[f"/jobs/{job_id}/0/stdout"] = b"kept"
            if not stage.texts.dialled:
                stage.texts.dialled.append(attempt)
                holder = stage.world.holder(attempt)
                await stage.report(holder, ended_event(attempt, stdout=b"kept"))
            raise NotFoundError("the attempt is not here any more")
            yield b""

        stage.texts.read_output = gone  # type: ignore[assignment]
        viewer = stage.follow(job_id, follow=False)
        await viewer.rest()
        assert viewer.stdout == b"kept" and not viewer.messages

    run(story())


def test_a_slow_client_holds_the_reader_back() -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        attempt = f"{job_id}.0.1"
        await stage.running(attempt)
        content = random.Random(1).randbytes(500_000)
        stage.texts.text(attempt).write(content)
        viewer = stage.follow(job_id)
        await viewer.until(lambda v: v.stdout)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert stage.texts.pieces_read <= QUEUE_EVENTS + 4
        await stage.end(attempt)
        await viewer.rest()
        assert viewer.stdout == content

    run(story())


def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        await stage.running(f"{job_id}.0.1")
        stage.texts.text(f"{job_id}.0.1").write(b"x")
        before = len(asyncio.all_tasks())
        viewer = stage.follow(job_id)
        await viewer.until(lambda v: v.stdout)
        await viewer.events.aclose()
        assert len(asyncio.all_tasks()) == before
        stage.service._watches.wake(job_id)
        assert not stage.service._watches._by_job and not stage.service._followers

    run(story())


def test_output_that_was_removed_is_told_and_the_ending_comes() -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        stage.texts.text(f"{job_id}.0.1").write(b"gone")
        await stage.end(f"{job_id}.0.1", keep=False)
        viewer = stage.follow(job_id)
        last = await viewer.rest()
        assert "missing" in viewer.messages[0] and last.HasField("ending")

    run(story())


def test_a_node_that_does_not_answer_is_no_error() -> None:
    async def story() -> None:
        stage = Stage()
        job_id = await stage.submit()
        attempt = f"{job_id}.0.1"
        await stage.running(attempt)
        stage.texts.live.clear()
        viewer = stage.follow(job_id)
        await viewer.until(lambda v: any(e.state == jobs_pb2.TASK_STATE_RUNNING for e in v.all))
        reading = asyncio.create_task(viewer.rest())
        while len(stage.texts.dialled) < 2:
            await asyncio.sleep(0.005)
        stage.texts.files[f"/jobs/{job_id}/0/stdout"] = b"kept"
        toy = stage.world.holder(attempt)
        await stage.report(toy, ended_event(attempt, stdout=b"kept"))
        await reading
        assert viewer.stdout == b"kept"

    run(story())


def test_other_tasks_that_change_are_no_reason_to_dial_again() -> None:
    async def story() -> None:
        stage = Stage(cores=60)
        job_id = await stage.submit(count=50)
        await stage.running(f"{job_id}.0.1")
        stage.texts.text(f"{job_id}.0.1").write(b"all of it")
        stage.texts.text(f"{job_id}.0.1").end()
        stage.texts.text(f"{job_id}.0.1", True).end()
        viewer = stage.follow(job_id)
        await viewer.until(lambda v: v.stdout == b"all of it")
        for index in range(1, 50):
            await stage.end(f"{job_id}.{index}.1")
            await asyncio.sleep(0)
        assert len(stage.texts.dialled) == 2
        await stage.end(f"{job_id}.0.1")
        await viewer.rest()
        assert viewer.stdout == b"all of it"

    run(story())


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_whatever_is_lost_a_repeatable_output_is_shown_once(seed: int) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(chance.choice((10, 3000, 20_000)))

    async def story() -> None:
        stage = Stage(nodes=4)
        stage.texts.piece_bytes = chance.choice((7, 1000, 100_000))
        job_id = await stage.submit(retries=10)
        viewer = stage.follow(job_id)
        reading = asyncio.create_task(viewer.rest())
        number = 1
        for number in range(1, chance.randint(2, 5)):
            attempt = f"{job_id}.0.{number}"
            await stage.running(attempt)
            written = 0
            for _ in range(chance.randint(0, 3)):
                more = chance.randint(1, len(content))
                stage.texts.text(attempt).write(content[written : written + more])
                written = min(len(content), written + more)
                await asyncio.sleep(chance.choice((0, 0.001, 0.03)))
            if number < 4 and chance.random() < 0.6:
                await _lose(stage, attempt)
                await asyncio.sleep(chance.choice((0, 0.001)))
            else:
                break
        task = stage.world.jobs.job(job_id).task(0)
        attempt = f"{job_id}.0.{task.attempt}"
        if task.state == jobs_pb2.TASK_STATE_LEASED:
            await stage.running(attempt)
        text = stage.texts.text(attempt)
        text.write(content[len(text.content) :])
        await stage.end(attempt)
        await reading
        _check(viewer, content)

    run(story())


def _check(viewer: Viewer, content: bytes) -> None:
    assert viewer.stdout == content
    assert viewer.all[-1].HasField("ending")
    assert not any("differs" in message for message in viewer.messages)
