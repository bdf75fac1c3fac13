"""Which finished jobs are kept: by age, by their number, by the number of their tasks."""

import pytest

from perseus.errors import ConflictError
from perseus.jobs import state_retention
from perseus.jobs.state_events import Retry
from perseus.runtime.machine import Tick
from perseus.settings import Settings
from tests.unit.jobs_harness import World, ended_event


def test_retention_by_age_and_by_number() -> None:
    world = World(nodes=1, cores=8, settings=Settings(keep_jobs_s=1000.0, keep_jobs=2))
    for number in range(4):
        world.submit(f"job0000{number}")
        world.report(world.toys["id-0"], ended_event(f"job0000{number}.0.1"))
    world.pass_time(0.5)
    assert list(world.jobs.jobs()) == ["job00002", "job00003"]
    assert world.outputs.removed == ["/jobs/job00000", "/jobs/job00001"]
    assert not [key for key in world.table if b"job00000" in key]
    world.now_s += 2000.0
    world.pass_time(0.5)
    assert not world.jobs.jobs() and not [k for k in world.table if k.startswith(b"task/")]


def test_retention_by_the_number_of_tasks() -> None:
    world = World(nodes=1, cores=16, settings=Settings(keep_tasks=5))

    def end(job_id: str, count: int) -> None:
        world.connect(world.toys["id-0"])
        world.submit(job_id, count=count)
        ends = (ended_event(f"{job_id}.{index}.1") for index in range(count))
        world.report(world.toys["id-0"], *ends)

    end("job00000", 3)
    end("job00001", 2)
    world.submit("job00009", retries=1000)
    world.now_s += 100.0
    world.pass_time(0.5)
    assert list(world.jobs.jobs()) == ["job00000", "job00001", "job00009"]
    # One too many: the first to end goes, and what runs or ended just now stays.
    end("job00002", 8)
    world.restart_master()
    world.pass_time(0.5)
    assert list(world.jobs.jobs()) == ["job00009", "job00002"]
    assert not [key for key in world.table if b"job00001" in key]
    assert world.outputs.removed == ["/jobs/job00000", "/jobs/job00001"]
    assert world.jobs.crowded is not None and world.jobs.crowded.setting == "keep_tasks"
    # The last is kept though it alone is more than the bound, until another ends after it.
    world.now_s += 100.0
    world.pass_time(0.5)
    assert list(world.jobs.jobs()) == ["job00009", "job00002"]
    end("job00003", 1)
    world.pass_time(0.5)
    assert list(world.jobs.jobs()) == ["job00009", "job00003"]
    # What was removed does not count any more.
    end("job00004", 2)
    world.now_s += 100.0
    world.pass_time(0.5)
    assert list(world.jobs.jobs()) == ["job00009", "job00003", "job00004"]


def _kept(world: World, job_id: str) -> int:
    """How many records of its tasks are durable."""
    return sum(key.startswith(f"task/{job_id}/".encode()) for key in world.table)


def test_the_tasks_of_a_large_job_go_a_few_at_a_time_also_over_restarts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_retention, "REMOVED_TASKS_PER_TICK", 4)
    world = World(nodes=1, cores=16, settings=Settings(keep_jobs_s=1000.0))
    for job_id, count in (("job00000", 10), ("job00001", 1)):
        world.submit(job_id, count=count)
        ends = (ended_event(f"{job_id}.{index}.1") for index in range(count))
        world.report(world.toys["id-0"], *ends)
        world.connect(world.toys["id-0"])
    world.now_s += 2000.0
    step = world.do(Tick())
    assert len(step.writes) == 5 and list(world.jobs.jobs()) == ["job00001"]
    assert world.outputs.removed == ["/jobs/job00000"] and _kept(world, "job00000") == 6
    # A job of its name would find them for its own.
    with pytest.raises(ConflictError, match="taken"):
        world.submit("job00000")
    world.restart_master()
    assert list(world.jobs.jobs()) == ["job00001"]
    with pytest.raises(ConflictError, match="taken"):
        world.submit("job00000")
    assert len(world.do(Tick()).writes) == 4 and list(world.jobs.jobs()) == ["job00001"]
    world.do(Tick())
    # Only when all of it is gone goes the next one.
    assert _kept(world, "job00000") == 0 and list(world.jobs.jobs()) == ["job00001"]
    world.do(Tick())
    assert not world.jobs.jobs() and not [key for key in world.table if key.startswith(b"task/")]
    world.submit("job00000")


def test_no_job_goes_for_its_tasks_within_a_minute_of_its_end() -> None:
    world = World(nodes=1, cores=8, settings=Settings(keep_tasks=0))
    for job_id in ("job00000", "job00001"):
        world.submit(job_id)
        world.report(world.toys["id-0"], ended_event(f"{job_id}.0.1"))
    world.now_s += state_retention.KEPT_SURELY_S - 5.0
    world.pass_time(0.5)
    assert len(world.jobs.jobs()) == 2 and world.jobs.crowded is None
    world.now_s += 5.0
    world.pass_time(0.5)
    assert list(world.jobs.jobs()) == ["job00001"]
    # Retried, it is not one of them.
    world.connect(world.toys["id-0"])
    world.submit("job00002")
    world.report(world.toys["id-0"], ended_event("job00002.0.1", code=1))
    world.do(Retry("job00002"))
    world.now_s += 100.0
    world.pass_time(0.5)
    assert list(world.jobs.jobs()) == ["job00001", "job00002"]


def test_what_ended_first_goes_first_also_after_a_restart() -> None:
    world = World(nodes=1, cores=8, settings=Settings(keep_jobs=1))
    world.submit("job00000")
    world.submit("job00001")
    for job_id in ("job00001", "job00000"):
        world.report(world.toys["id-0"], ended_event(f"{job_id}.0.1"))
    world.restart_master()
    world.pass_time(0.5)
    assert list(world.jobs.jobs()) == ["job00000"]
