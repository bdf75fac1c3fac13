"""The state machine of jobs: what ends tasks before their time, and what runs them once more."""

import pytest

from perseus.errors import ConflictError, NotFoundError, TooLargeError
from perseus.jobs.records import CANCELLED, FAILED, FINISHED, PENDING
from perseus.jobs.state_events import Retry
from perseus.membership.commands import RemoveNode
from perseus.proto.v1 import jobs_pb2
from tests.unit.jobs_harness import World, directives, ended_event

ONE = "job00000.0.1"


def test_kill_cancels_what_waits_and_stops_what_runs() -> None:
    world = World(nodes=1, cores=1)
    world.submit(count=3)
    toy = world.toys["id-0"]
    with world.collected() as effects:
        assert world.kill("job00000") == 3
    (stop,) = [d.stop for d in directives(effects, "stop")]
    assert (stop.attempt, stop.signal, stop.grace_s, stop.cancel) == (ONE, 15, 5.0, True)
    assert world.jobs.job("job00000").counts[CANCELLED] == 2
    world.send(toy)
    assert world.state() == CANCELLED
    assert world.kill("job00000") == 0
    world.check_reload()
    with pytest.raises(NotFoundError):
        world.kill("nothing0")


def test_kill_by_sigkill_leaves_no_grace() -> None:
    world = World(nodes=1)
    world.submit()
    with world.collected() as effects:
        world.kill("job00000", 9)
    (stop,) = [d.stop for d in directives(effects, "stop")]
    assert (stop.signal, stop.grace_s, stop.cancel) == (9, 0.0, True)


def test_other_signals_only_arrive() -> None:
    world = World(nodes=1, cores=1)
    world.submit(count=2)
    with world.collected() as effects:
        assert world.kill("job00000", 2) == 1
    (stop,) = [d.stop for d in directives(effects, "stop")]
    assert (stop.signal, stop.cancel) == (2, False)
    assert world.jobs.job("job00000").waiting == 1


def test_a_cancelled_attempt_that_is_lost_is_cancelled() -> None:
    world = World(nodes=2)
    world.submit()
    toy = world.holder(ONE)
    toy.connected = False
    world.kill("job00000")
    world.do(RemoveNode(toy.name))
    assert world.state() == CANCELLED


@pytest.mark.parametrize("kind", [jobs_pb2.ENDING_NOT_STARTED, jobs_pb2.ENDING_NODE_FAILURE])
def test_a_cancelled_attempt_that_could_not_begin_is_cancelled(kind: int) -> None:
    """Its inputs were taken away by whoever cancelled it."""
    world = World(nodes=1)
    world.submit()
    toy = world.holder(ONE)
    world.kill("job00000")
    toy.outbox.clear()
    world.report(toy, ended_event(ONE, 125, kind))
    ending = world.task().ending
    assert world.state() == CANCELLED and ending is not None
    assert (ending.kind, ending.exit_code) == (jobs_pb2.ENDING_CANCELLED, 143)


def test_a_stop_that_was_not_delivered_is_said_again() -> None:
    world = World(nodes=1)
    world.submit()
    toy = world.toys["id-0"]
    toy.connected = False
    world.kill("job00000")
    with world.collected() as effects:
        world.connect(toy)
    assert len(directives(effects, "stop")) == 1


def test_retry_runs_what_did_not_end_well() -> None:
    world = World(nodes=1, cores=4)
    world.submit(count=3)
    toy = world.toys["id-0"]
    world.report(toy, *(ended_event(f"job00000.{i}.1", i % 2) for i in range(3)))
    toy.attempts.clear()
    assert world.state() == FAILED and world.jobs.job("job00000").first_unwell() == 1
    world.retry("job00000")
    assert list(toy.attempts) == ["job00000.1.2"]
    world.report(toy, ended_event("job00000.1.2"))
    assert world.state() == FINISHED and world.jobs.job("job00000").first_unwell() is None
    with pytest.raises(ConflictError):
        world.retry("job00000")
    world.check_reload()


def _all_failed(count: int) -> World:
    """A job whose tasks have all failed, on a node that takes them all."""
    world = World(nodes=1, cores=count)
    world.submit(count=count)
    toy = world.toys["id-0"]
    world.report(toy, *(ended_event(f"job00000.{i}.1", 1) for i in range(count)))
    return world


def test_a_retry_of_many_is_steps_that_concern_a_few_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perseus.jobs.state.RETRIES_PER_STEP", 4)
    world = _all_failed(10)
    parts = [world.do(Retry("job00000")).reply]
    # What a part before let run, and what failed since, is not taken once more.
    world.report(world.toys["id-0"], ended_event("job00000.0.2", 1))
    while parts[-1].rest:
        parts.append(world.do(Retry("job00000", "", parts[-1])).reply)
    assert [part.tasks for part in parts] == [4, 4, 2]
    job = world.jobs.job("job00000")
    assert job.counts[FAILED] == 1 and job.task(0).state == FAILED and job.active == 9
    world.check_reload()


def test_who_cancels_a_job_ends_its_retry_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perseus.jobs.state.RETRIES_PER_STEP", 4)
    world = _all_failed(10)
    part = world.do(Retry("job00000")).reply
    world.kill("job00000")
    part = world.do(Retry("job00000", "", part)).reply
    assert not part.tasks and not part.rest
    world.send(world.toys["id-0"])
    job = world.jobs.job("job00000")
    assert job.counts[FAILED] == 6 and not job.active
    world.check_reload()


def test_retry_of_a_job_cancelled_before_it_ran() -> None:
    world = World(nodes=0)
    world.submit(count=5)
    world.kill("job00000")
    world.check_reload()
    world.retry("job00000")
    assert world.jobs.job("job00000").waiting == 5 and world.state() == PENDING
    world.check_reload()


@pytest.mark.parametrize("bound", ["ACTIVE_MAXIMUM", "ACTIVE_SPEC_MAXIMUM_BYTES"])
def test_a_retry_finds_a_full_queue(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    world = World(nodes=1)
    world.submit("job00000")
    world.report(world.toys["id-0"], ended_event(ONE, code=1))
    world.submit("job00001")
    monkeypatch.setattr(f"perseus.jobs.state.{bound}", 1)
    before = dict(world.table)
    with pytest.raises(TooLargeError, match="1 jobs have not ended"):
        world.do(Retry("job00000"))
    assert world.table == before and world.state() == FAILED
    world.check()
    monkeypatch.undo()
    world.do(Retry("job00000"))
    assert world.state() != FAILED


def test_a_retry_of_a_job_that_runs_needs_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(nodes=1, cores=2)
    world.submit("job00000", count=2)
    world.report(world.toys["id-0"], ended_event(ONE, code=1))
    monkeypatch.setattr("perseus.jobs.state.ACTIVE_MAXIMUM", 1)
    world.do(Retry("job00000"))
    world.check()
