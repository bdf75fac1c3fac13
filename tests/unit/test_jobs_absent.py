"""What is said of an output that is not there."""

import pytest

from perseus.errors import NotFoundError
from perseus.jobs import absent
from tests.unit.jobs_harness import World, ended_event, running_event
from tests.unit.test_jobs_keeping import keeping_event

JOB = "job00000"


def world(count: int = 1, cores: int = 4) -> World:
    made = World(nodes=1, cores=cores)
    made.submit(JOB, count=count)
    return made


def told(made: World, path: str) -> tuple[NotFoundError | None, NotFoundError | None]:
    return absent.as_input(made.jobs, path), absent.as_file(made.jobs, path)


def test_a_task_that_runs_is_named_with_the_command_to_wait_or_to_look() -> None:
    made = world()
    made.report(made.toys["id-0"], running_event(f"{JOB}.0.1"))
    for path in (f"/jobs/{JOB}/0/stdout", f"/jobs/{JOB}/0/stderr", f"//jobs/{JOB}/0/"):
        as_input, as_file = told(made, path)
        assert as_input and as_file
        for error in (as_input, as_file):
            assert f"task 0 of job {JOB} is still running on node-0" in error.message
        assert as_input.hint == f"perseus wait {JOB}"
        assert as_file.hint == f"perseus logs -f {JOB}"


def test_of_many_tasks_the_one_is_named() -> None:
    made = world(count=3, cores=2)
    made.report(made.toys["id-0"], running_event(f"{JOB}.1.1"))
    for index, doing in ((0, "about to run on node-0"), (1, "still running"), (2, "waits for a")):
        _, as_file = told(made, f"/jobs/{JOB}/{index}/stdout")
        assert as_file and f"task {index} of job" in as_file.message and doing in as_file.message
        assert as_file.hint == f"perseus logs -f --task {index} {JOB}"
    _, beyond = told(made, f"/jobs/{JOB}/3/stdout")
    assert beyond and "has no task 3; it has 3, from 0" in beyond.message


def test_an_output_on_its_way_is_told_as_such() -> None:
    made = world()
    made.report(made.toys["id-0"], running_event(f"{JOB}.0.1"), keeping_event(f"{JOB}.0.1"))
    as_input, _ = told(made, f"/jobs/{JOB}/0/stdout")
    assert as_input and "has ended, and its output is on its way" in as_input.message


def test_what_was_there_and_was_removed_is_not_explained() -> None:
    made = world()
    made.report(made.toys["id-0"], ended_event(f"{JOB}.0.1"))
    assert told(made, f"/jobs/{JOB}/0/stdout") == (None, None)


def test_a_task_that_was_cancelled_before_it_ran_left_no_output() -> None:
    made = world(count=2, cores=1)
    made.kill(JOB)
    as_input, as_file = told(made, f"/jobs/{JOB}/1/stdout")
    assert as_input and as_file and as_input.hint == as_file.hint == f"perseus why {JOB}"
    assert "task 1 of job job00000 left no output" in as_file.message


OTHERS = ("", "jobs", "/", "/jobs", f"/jobs/{JOB}", "/jobs/other000/0/stdout", "/a/../b/0/c")
NO_OUTPUTS = (f"/jobs/{JOB}/x/stdout", f"/logs/{JOB}/0/stdout")
NO_STREAMS = (f"/jobs/{JOB}/0/other", f"/jobs/{JOB}/0/stdout/x")


@pytest.mark.parametrize("path", [*OTHERS, *NO_OUTPUTS, *NO_STREAMS])
def test_other_paths_are_not_explained(path: str) -> None:
    assert told(world(), path) == (None, None)
