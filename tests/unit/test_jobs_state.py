"""The state machine of jobs, transition by transition."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perseus.errors import ConflictError
from perseus.filestore.events import CommitOutputs, DiscardOutputs
from perseus.jobs import records, state_ends
from perseus.jobs.records import CANCELLED, FAILED, FINISHED, LEASED, LOST, PENDING, RUNNING
from perseus.jobs.state_events import AttemptsReported, JobChanged
from perseus.membership.commands import RemoveNode
from perseus.membership.events import AcknowledgeAttempts, Direct
from perseus.proto.v1 import agent_pb2, jobs_pb2
from perseus.runtime.machine import Event, Tick
from tests.unit.jobs_harness import World, act, directives, ended_event, running_event

ONE = "job00000.0.1"


def exit_code(world: World) -> int:
    ending = world.task().ending
    assert ending is not None
    return ending.exit_code


def seen_by_outputs(world: World, kind: type[Event]) -> list[Event]:
    """Spies on what the filestore is told from here on."""
    seen: list[Event] = []
    step = world.outputs.step

    def spy(at: object, event: Event) -> object:
        if isinstance(event, kind):
            seen.append(event)
        return step(at, event)  # type: ignore[arg-type]

    world.outputs.step = spy  # type: ignore[method-assign, assignment]
    return seen


def test_submit_leases_in_the_same_step() -> None:
    world = World(nodes=1)
    with world.collected() as effects:
        world.submit(count=3, stdin_inline=b"hello")
    starts = [directive.start for directive in directives(effects, "start")]
    assert [start.attempt for start in starts] == [ONE, "job00000.1.1"]
    assert starts[1].task_index == 1 and starts[1].task_count == 3 and starts[1].user == "ann"
    assert starts[0].spec.stdin_inline == b"hello"
    assert JobChanged("job00000") in effects
    assert world.jobs.is_leased(ONE)
    others = ("job00000.0.2", "job00000.2.1", "job00000.9.1", "job00001.0.1", "no attempt", "")
    assert not any(world.jobs.is_leased(other) for other in others)
    assert world.jobs.job("job00000").counts[PENDING] == 1


def test_submit_of_many_tasks_writes_one_key() -> None:
    world = World(nodes=0)
    before = len(world.table)
    world.submit(count=100_000)
    assert len(world.table) == before + 1
    assert world.jobs.job("job00000").waiting == 100_000
    world.kill("job00000")
    assert world.state() == CANCELLED
    assert len(world.table) == before + 1
    world.check_reload()


def test_the_same_request_gives_the_same_job() -> None:
    world = World(nodes=0)
    assert world.submit("job00000", request_id="r") == "job00000"
    assert world.submit("job00001", request_id="r") == "job00000"
    assert world.submit("job00001", request_id="r", user="bob") == "job00001"
    world.restart_master()
    assert world.submit("job00002", request_id="r") == "job00000"


def test_a_taken_id_is_refused() -> None:
    world = World(nodes=0)
    world.submit("job00000")
    with pytest.raises(ConflictError):
        world.submit("job00000")


def test_an_end_commits_once_and_is_acknowledged() -> None:
    world = World(nodes=1)
    world.submit()
    toy = world.toys["id-0"]
    committed = seen_by_outputs(world, CommitOutputs)
    world.report(toy, running_event(ONE))
    assert world.state() == RUNNING
    with world.collected() as effects:
        world.report(toy, ended_event(ONE, stdout=b"hi\n"))
        world.report(toy, ended_event(ONE, stdout=b"hi\n"))
    acknowledged = [e for e in effects if isinstance(e, AcknowledgeAttempts)]
    assert acknowledged == [AcknowledgeAttempts("id-0", (ONE,))] * 2
    (event,) = committed
    assert isinstance(event, CommitOutputs)
    assert (event.attempt, event.folder, event.owner) == (ONE, "/jobs/job00000/0", "ann")
    assert [(o.name, o.inline) for o in event.outputs] == [("stdout", b"hi\n"), ("stderr", b"")]
    assert world.state() == FINISHED and world.task().stdout_bytes == 3
    world.check_reload()


def test_running_and_ended_in_one_message_are_one_write_of_the_task() -> None:
    world = World(nodes=1)
    world.submit()
    step = world.do(_reported(world, running_event(ONE), ended_event(ONE)))
    assert [write.key for write in step.writes] == [b"task/job00000/000000"]


def _reported(world: World, *events: agent_pb2.AttemptEvent) -> Event:
    return AttemptsReported("id-0", world.toys["id-0"].session, events)


def test_ends_of_void_leases_leave_nothing() -> None:
    world = World(nodes=2)
    world.submit()
    attempt = next(a for toy in world.toys.values() for a in toy.attempts)
    other = next(toy for toy in world.toys.values() if attempt not in toy.attempts)
    discarded = seen_by_outputs(world, DiscardOutputs)
    for void in (attempt, "job00000.0.7", "job00000.9.1", "zzzzzzzz.0.1"):
        with world.collected() as effects:
            world.report(other, ended_event(void))
        assert AcknowledgeAttempts(other.node_id, (void,)) in effects
    assert len(discarded) == 4
    assert world.state() == LEASED


def test_nonsense_from_a_node_is_dropped() -> None:
    world = World(nodes=1)
    world.report(world.toys["id-0"], ended_event("what"), running_event(""))


def test_reports_of_an_old_session_are_dropped() -> None:
    world = World(nodes=1)
    world.submit()
    toy = world.toys["id-0"]
    old = toy.session
    world.connect(toy)
    new, toy.session = toy.session, old
    world.report(toy, ended_event(ONE))
    assert world.state() == LEASED
    toy.session = new
    world.report(toy, ended_event(ONE))
    assert world.state() == FINISHED


@pytest.mark.parametrize("code", [1, 127])
def test_a_failure_is_final_without_failure_retries(code: int) -> None:
    world = World(nodes=1)
    world.submit()
    world.report(world.toys["id-0"], ended_event(ONE, code))
    job = world.jobs.job("job00000")
    assert world.state() == FAILED and job.first_unwell() == 0
    assert exit_code(world) == code


def test_failure_retries_prefer_another_node() -> None:
    world = World(nodes=2)
    world.submit(failure_retries=1)
    first = world.holder(ONE)
    first.end(ONE, 3)
    discarded = seen_by_outputs(world, DiscardOutputs)
    world.send(first)
    assert discarded == [DiscardOutputs(ONE)]
    second = world.holder("job00000.0.2")
    assert second is not first
    second.end("job00000.0.2", 4)
    world.send(second)
    assert world.state() == FAILED
    assert world.outputs.committed == {"job00000.0.2": 1}


def test_what_a_node_could_not_do_is_tried_elsewhere() -> None:
    world = World(nodes=3)
    world.submit(retries=1)
    for attempt in (ONE, "job00000.0.2"):
        toy = world.holder(attempt)
        toy.end(attempt, 125, jobs_pb2.ENDING_NODE_FAILURE)
        world.send(toy)
    assert world.state() == FAILED
    assert exit_code(world) == 125


def test_lost_attempts_are_retried_then_lost() -> None:
    world = World(nodes=2)
    world.submit(retries=1)
    discarded = seen_by_outputs(world, DiscardOutputs)
    for attempt in (ONE, "job00000.0.2"):
        toy = world.holder(attempt)
        world.do(RemoveNode(toy.name))
        del world.toys[toy.node_id]
        assert DiscardOutputs(attempt) in discarded
    assert world.state() == LOST
    ending = world.task().ending
    assert ending is not None and ending.exit_code == 125 and "left the cluster" in ending.message
    world.check_reload()


def test_a_silent_node_is_lost_and_its_zombie_leaves_nothing() -> None:
    world = World(nodes=2)
    world.submit()
    zombie = world.holder(ONE)
    zombie.start_some()
    world.send(zombie)
    other = next(toy for toy in world.toys.values() if toy is not zombie)
    for _ in range(30):
        world.now_s += 0.5
        world.heartbeat(other)
        world.do(Tick())
    assert "job00000.0.2" in other.attempts
    zombie.attempts[ONE] = "running"
    zombie.end(ONE)
    with world.collected() as effects:
        world.connect(zombie)
    assert [d.discard.attempt for d in directives(effects, "discard")] == [ONE]
    other.start_some()
    other.end("job00000.0.2")
    world.send(other)
    assert world.outputs.committed == {"job00000.0.2": 1}


def test_a_node_that_comes_back_without_an_attempt() -> None:
    world = World(nodes=1)
    world.submit()
    toy = world.toys["id-0"]
    toy.attempts.clear()
    world.connect(toy)
    # It never ran: no retry is used up.
    assert world.task().attempt == 2 and world.task().losses == 0
    toy.start_some()
    world.send(toy)
    toy.attempts.clear()
    world.connect(toy)
    assert world.task().attempt == 3 and world.task().losses == 1
    assert list(toy.attempts) == ["job00000.0.3"]


def test_a_node_that_froze_goes_on_with_what_is_leased_to_it_still() -> None:
    world = World(nodes=1, cores=4)
    for number in range(4):
        world.submit(f"job0000{number}", retries=0)
    toy = world.toys["id-0"]
    toy.start_some()
    world.send(toy)
    # It hears of neither the cancel of one nor, later, the end of another.
    world.disconnect(toy)
    toy.frozen = True
    world.restart_master()
    world.kill("job00001")
    toy.attempts.pop("job00002.0.1")
    toy.attempts["gone0000.0.1"] = "running"
    with world.collected() as effects:
        world.connect(toy)
    kinds = [e.directive.WhichOneof("what") for e in effects if isinstance(e, Direct)]
    # What is not its own goes first, and a cancel reaches nobody who stands still.
    assert kinds == ["discard", "thaw", "stop"]
    (thaw,) = directives(effects, "thaw")
    assert sorted(thaw.thaw.attempts) == ["job00000.0.1", "job00001.0.1", "job00003.0.1"]
    assert world.state("job00002") == LOST
    for number in (0, 3):
        task = world.task(job_id=f"job0000{number}")
        assert task.history[-1].cause == records.CAUSE_THAWED and task.losses == 0
    assert world.task(job_id="job00001").cancelling == 15
    # Who did not freeze is told nothing of it.
    with world.collected() as effects:
        world.connect(toy)
    assert not directives(effects, "thaw")


def test_what_was_lost_while_it_was_being_cancelled_reads_as_lost() -> None:
    world = World(nodes=1)
    world.submit(retries=2)
    toy = world.toys["id-0"]
    toy.start_some()
    world.send(toy)
    world.kill("job00000")
    world.disconnect(toy)
    world.pass_time(30)
    assert world.state() == CANCELLED
    last = world.task().history[-1]
    assert last.cause == records.CAUSE_LOST and last.who == toy.name
    assert "it was being cancelled, and is not tried again" in last.detail


def test_after_a_restart_a_lease_may_have_run_and_its_loss_counts() -> None:
    world = World(nodes=1)
    world.submit(retries=2)
    toy = world.toys["id-0"]
    for losses in (1, 2):
        toy.start_some()
        world.send(toy)
        toy.attempts.clear()
        world.restart_master()
        world.connect(toy)
        assert world.task().losses == losses
    world.restart_master()
    toy.attempts.clear()
    world.connect(toy)
    assert world.state() == LOST


def test_that_an_attempt_runs_is_not_written_and_told_again() -> None:
    world = World(nodes=1)
    world.submit()
    toy = world.toys["id-0"]
    toy.start_some()
    assert not world.do(_reported(world, *toy.outbox)).writes
    assert world.state() == RUNNING
    world.restart_master()
    assert world.state() == LEASED
    world.connect(toy)
    world.send(toy)
    assert world.state() == RUNNING and world.task().attempt == 1


def test_a_node_that_comes_back_with_its_attempts_keeps_them() -> None:
    world = World(nodes=1)
    world.submit()
    toy = world.toys["id-0"]
    world.restart_master()
    with world.collected() as effects:
        world.connect(toy)
    assert not directives(effects, "start") and not directives(effects, "discard")
    world.report(toy, ended_event(ONE))
    assert world.state() == FINISHED
    with world.collected() as effects:
        world.connect(toy, listed=[ONE, "zzzzzzzz.0.1", "what"])
    assert AcknowledgeAttempts("id-0", (ONE,)) in effects
    discards = [d.discard.attempt for d in directives(effects, "discard")]
    assert discards == ["zzzzzzzz.0.1", "what"]


def test_tasks_that_went_alike_share_what_is_told_of_them() -> None:
    world = World(nodes=1, cores=1)
    world.submit(count=40)
    toy = world.toys["id-0"]
    while world.jobs.job("job00000").active:
        toy.start_some()
        for attempt in [name for name, state in toy.attempts.items() if state == "running"]:
            toy.end(attempt)
            toy.ended[attempt].ended.wall_s = 0.003
        world.send(toy)
    last, before = world.jobs.job("job00000").tasks[:-3:-1]
    assert last.history[0].detail == "leased ahead, as its tasks take 3 ms"
    assert last.history[0].detail is before.history[0].detail
    assert last.ending is not None and last.ending is before.ending


def test_parallel_limits_what_runs_and_the_agent_is_told() -> None:
    world = World(nodes=2, cores=4)
    with world.collected() as effects:
        world.submit(count=9, parallel=3)
    starts = [d.start for d in directives(effects, "start")]
    assert len(starts) == 3
    assert sum(world.toys[n].parallel["job00000"] for n in ("id-0", "id-1")) == 3
    world.check()


def test_short_tasks_are_leased_ahead_and_long_ones_are_not() -> None:
    for wall_s, expected in ((0.002, 66), (0.02, 12), (0.5, 2)):
        world = World(nodes=1, cores=2)
        world.submit(count=200)
        toy = world.toys["id-0"]
        assert len(toy.attempts) == 2
        del toy.attempts[ONE]
        world.report(toy, ended_event(ONE, wall_s=wall_s))
        assert len(toy.attempts) == expected, wall_s
        world.check()


def test_leasing_ahead_keeps_the_limit_of_parallel() -> None:
    world = World(nodes=2, cores=2)
    world.submit(count=100, parallel=2)
    leased = [(toy, attempt) for toy in world.toys.values() for attempt in toy.attempts]
    assert len(leased) == 2 and leased[0][0] is not leased[1][0]
    for toy, attempt in leased:
        del toy.attempts[attempt]
        world.report(toy, ended_event(attempt))
    assert sum(len(toy.attempts) for toy in world.toys.values()) > 4
    for toy in world.toys.values():
        toy.start_some()
    running = [s for toy in world.toys.values() for s in toy.attempts.values() if s == "running"]
    assert len(running) == 2
    world.check()


def test_a_later_job_is_not_starved_by_one_leased_ahead() -> None:
    world = World(nodes=1, cores=1)
    world.submit("job00000", count=1000)
    toy = world.toys["id-0"]
    del toy.attempts[ONE]
    world.report(toy, ended_event(ONE))
    world.submit("job00001")
    ended = 0
    while "job00001.0.1" not in toy.attempts:
        attempt = next(iter(toy.attempts))
        del toy.attempts[attempt]
        world.report(toy, ended_event(attempt))
        ended += 1
    assert ended <= 66


def test_jobs_take_turns() -> None:
    world = World(nodes=1, cores=1)
    world.submit("job00000", count=50)
    world.submit("job00001", count=50)
    world.submit("job00002", count=50, priority=1)
    toy = world.toys["id-0"]
    order = []
    for _ in range(70):
        (attempt,) = toy.attempts
        order.append(attempt[:8])
        toy.attempts.clear()
        world.report(toy, ended_event(attempt, wall_s=5.0))
    assert order[0] == "job00000" and set(order[1:51]) == {"job00002"}
    assert order[51:] == ["job00000", "job00001"] * 9 + ["job00000"]


def test_a_node_that_does_not_end_what_is_over_time_is_given_up_on() -> None:
    world = World(nodes=1)
    world.submit(time_limit_s=5.0)
    toy = world.toys["id-0"]
    toy.start_some()
    world.restart_master()
    world.connect(toy)
    world.send(toy)
    limit_s = 5.0 + 5.0 + state_ends.BACKSTOP_S
    for _ in range(int(limit_s) + 2):
        world.now_s += 1.0
        world.heartbeat(toy)
        world.pass_time(0.01)
    ending = world.task().ending
    assert world.state() == FAILED and ending is not None and ending.exit_code == 124
    assert ONE not in toy.attempts


def test_history_is_bounded() -> None:
    world = World(nodes=1)
    world.submit(retries=1000)
    toy = world.toys["id-0"]
    for _ in range(40):
        toy.start_some()
        world.send(toy)
        toy.attempts.clear()
        world.connect(toy)
    assert len(world.task().history) == records.HISTORY_MAXIMUM
    assert world.task().attempt == 41


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from((1, 2, 4)))
def test_whatever_happens(seed: int, nodes: int, cores: int) -> None:
    chance = random.Random(seed)
    world = World(nodes, cores)
    for _ in range(60):
        act(world, chance)
        world.check()
    world.check_reload()
    world.settle()
    world.check_reload()
