"""The gate: never more than the cores, never more of a job than its limit, in order."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from perseus.jobs.executor_gate import Gate
from perseus.proto.v1 import agent_pb2, common_pb2, jobs_pb2


@dataclass
class Item:
    id: str
    job_id: str
    start: agent_pb2.StartAttempt


def item(number: int, job: int, cpu: float = 0.0, parallel: int = 0) -> Item:
    spec = jobs_pb2.TaskSpec(resources=common_pb2.Resources(cpu=cpu))
    start = agent_pb2.StartAttempt(spec=spec, parallel=parallel)
    return Item(f"{job}.{number}", str(job), start)


def test_order_within_the_cores() -> None:
    gate = Gate[Item](2)
    items = [item(number, 0) for number in range(4)]
    for each in items:
        gate.add(each)
    assert [gate.next(), gate.next(), gate.next()] == [items[0], items[1], None]
    gate.release(items[1])
    gate.release(items[1])
    assert [gate.next(), gate.next()] == [items[2], None]
    assert (gate.waiting, gate.running) == (1, 2)


def test_a_big_one_is_not_starved_by_small_ones() -> None:
    gate = Gate[Item](2)
    first, big, small = item(0, 0), item(1, 1, cpu=2), item(2, 2)
    for each in (first, big, small):
        gate.add(each)
    assert [gate.next(), gate.next()] == [first, None]
    gate.release(first)
    assert [gate.next(), gate.next()] == [big, None]


def test_more_than_the_node_has_runs_alone() -> None:
    gate = Gate[Item](2)
    huge = item(0, 0, cpu=16)
    gate.add(huge)
    gate.add(item(1, 0))
    assert [gate.next(), gate.next()] == [huge, None]


def test_what_was_said_last_of_a_jobs_limit_counts() -> None:
    gate = Gate[Item](8)
    items = [item(0, 0, parallel=1), item(1, 0, parallel=1), item(2, 0, parallel=2)]
    gate.add(items[0])
    gate.add(items[1])
    assert [gate.next(), gate.next()] == [items[0], None]
    gate.add(items[2])
    assert [gate.next(), gate.next()] == [items[1], None]


def test_dropped_ones_are_passed_over() -> None:
    gate = Gate[Item](1)
    items = [item(number, 0) for number in range(3)]
    for each in items:
        gate.add(each)
    gate.drop(items[0])
    gate.drop(items[0])
    assert gate.next() == items[1]


@given(
    cores=st.integers(1, 8),
    steps=st.lists(
        st.tuples(st.sampled_from("addrelease"), st.integers(0, 3), st.floats(0.1, 10)),
        max_size=60,
    ),
    limits=st.lists(st.integers(0, 3), min_size=4, max_size=4),
)
def test_it_never_gives_more_than_there_is_and_loses_nothing(
    cores: int, steps: list[tuple[str, int, float]], limits: list[int]
) -> None:
    gate = Gate[Item](cores)
    running: list[Item] = []
    added = given_out = 0
    for number, (kind, job, cpu) in enumerate(steps):
        if kind in "ad":
            gate.add(item(number, job, cpu, limits[job]))
            added += 1
        elif running:
            gate.release(running.pop(0))
        while (got := gate.next()) is not None:
            running.append(got)
            given_out += 1
        assert sum(min(each.start.spec.resources.cpu, cores) for each in running) <= cores + 1e-3
        for each in range(4):
            count = sum(one.job_id == str(each) for one in running)
            assert not limits[each] or count <= limits[each]
    while running:
        gate.release(running.pop())
        while (got := gate.next()) is not None:
            running.append(got)
            given_out += 1
    assert given_out == added
    assert (gate.waiting, gate.running) == (0, 0)


def test_an_heir_has_the_place_and_no_other_core() -> None:
    gate = Gate[Item](2)
    items = [item(number, 0) for number in range(5)]
    for each in items:
        gate.add(each)
    assert [gate.next(), gate.next(), gate.next()] == [items[0], items[1], None]
    assert [gate.line_up(items[0]), gate.line_up(items[0])] == [items[2], None]
    assert (gate.waiting, gate.running) == (3, 2)
    gate.release(items[0])
    assert (gate.waiting, gate.running, gate.next()) == (2, 2, None)
    gate.release(items[2])
    assert gate.next() == items[3]


def test_an_heir_is_of_the_same_job_and_size_and_passes_nobody_by() -> None:
    for others in ([item(1, 1)], [item(1, 0, cpu=2)], [item(1, 1), item(2, 0)]):
        gate = Gate[Item](2)
        first = item(0, 0)
        gate.add(first)
        assert gate.next() == first
        for each in others:
            gate.add(each)
        assert gate.line_up(first) is None
    gate = Gate[Item](4)
    items = [item(number, 0, parallel=1) for number in range(2)]
    for each in items:
        gate.add(each)
    assert [gate.next(), gate.next(), gate.line_up(items[0])] == [items[0], None, items[1]]


def test_an_heir_that_is_sent_back_is_the_oldest_again() -> None:
    gate = Gate[Item](1)
    items = [item(number, 0) for number in range(3)]
    for each in items:
        gate.add(each)
    assert [gate.next(), gate.line_up(items[0])] == [items[0], items[1]]
    assert [gate.send_back(items[1]), gate.send_back(items[1])] == [True, False]
    gate.release(items[0])
    assert gate.next() == items[1]
    # One that has begun by then uses its core; there may be one too many for a moment.
    gate.take(items[2])
    assert (gate.waiting, gate.running, gate.next()) == (0, 2, None)
    for each in items:
        gate.release(each)
    assert gate.running == 0


def test_an_heir_that_ends_before_its_turn_leaves_the_place_free() -> None:
    gate = Gate[Item](1)
    items = [item(number, 0) for number in range(3)]
    for each in items:
        gate.add(each)
    assert [gate.next(), gate.line_up(items[0])] == [items[0], items[1]]
    gate.release(items[1])
    assert gate.running == 1
    gate.release(items[0])
    assert gate.next() == items[2]
