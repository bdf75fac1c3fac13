"""The scheduler: a snapshot in, a plan out."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.jobs import why
from perseus.jobs.plan import UNLIMITED, JobView, Line, Needs, NodeView, Plan, Snapshot
from perseus.jobs.scheduler import AHEAD_MAXIMUM, RESERVE_AFTER_TURNS, ahead_maximum, plan
from perseus.jobs.state_ends import size

GIB = 1 << 30


def node(name: str, cores: float = 4, **fields: object) -> NodeView:
    view = NodeView(
        node_id=f"id-{name}",
        name=name,
        accepts=True,
        refusal="",
        cpu_milli=int(cores * 1000),
        memory_bytes=8 * GIB,
        disk_bytes=100 * GIB,
        load_cpu=0.0,
        memory_available_bytes=0,
        disk_free_bytes=0,
        speed=1.0,
        labels={},
        architecture="x86_64",
    )
    for key, value in fields.items():
        setattr(view, key, value)
    return view


def needs(cpu: float = 1.0, priority: int = 0, **fields: object) -> Needs:
    asked: dict[str, object] = {
        "memory_bytes": 0,
        "disk_bytes": 0,
        "labels": (),
        "architecture": "",
        "node": "",
    }
    return Needs(priority=priority, cpu_milli=int(cpu * 1000), **(asked | fields))  # type: ignore[arg-type]


def job(job_id: str, turn: int = 1, waiting: int = 1, **fields: object) -> JobView:
    view = JobView(job_id, turn, waiting, UNLIMITED, {}, None, {}, "")
    return view._replace(**fields)  # type: ignore[arg-type]


def made(nodes: list[NodeView], *lines: Line, turn: int = 1000, limit: int = 1000) -> Plan:
    return plan(Snapshot(nodes, lines, turn, limit))


def where(result: Plan) -> list[tuple[str, str]]:
    return [(placed.job_id, placed.node_id.removeprefix("id-")) for placed in result.placements]


def test_tasks_spread_by_the_share_of_cores_in_use() -> None:
    nodes = [node("small", 2), node("large", 4)]
    result = made(nodes, Line(needs(), [job("a", waiting=6)]))
    assert Counter(name for _, name in where(result)) == {"small": 2, "large": 4}
    assert where(result)[0] == ("a", "large")


def test_measured_load_of_others_and_speed_count() -> None:
    busy, idle = node("busy", load_cpu=0.9), node("idle")
    assert where(made([busy, idle], Line(needs(), [job("a")]))) == [("a", "idle")]
    slow, fast = node("slow", speed=0.5), node("fast", speed=2.0)
    assert where(made([slow, fast], Line(needs(), [job("a")]))) == [("a", "fast")]
    # Load that the node's own leases make is not counted twice.
    ours = node("ours", load_cpu=0.5, used_cpu_milli=2000)
    theirs = node("theirs", load_cpu=0.6)
    assert where(made([theirs, ours], Line(needs(), [job("a")]))) == [("a", "ours")]


def test_a_task_goes_to_its_input() -> None:
    nodes = [node("far"), node("near", used_cpu_milli=2000)]
    large = job("a", bytes_by_node={"id-near": GIB})
    assert where(made(nodes, Line(needs(), [large]))) == [("a", "near")]
    small = job("a", bytes_by_node={"id-near": 1000})
    assert where(made(nodes, Line(needs(), [small]))) == [("a", "far")]


def test_pins_labels_and_architecture() -> None:
    nodes = [node("a"), node("b", labels={"gpu": "yes"}), node("c", architecture="aarch64")]
    for asked, name in (
        (needs(node="a"), "a"),
        (needs(node="id-b"), "b"),
        (needs(labels=(("gpu", "yes"),)), "b"),
        (needs(architecture="aarch64"), "c"),
    ):
        assert where(made(nodes, Line(asked, [job("j")]))) == [("j", name)]
    assert made(nodes, Line(needs(node="d"), [job("j")])).blocked


def test_memory_is_bounded_by_lease_and_by_measure() -> None:
    asked = needs(cpu=0.1, memory_bytes=3 * GIB)
    assert len(made([node("a")], Line(asked, [job("j", waiting=9)])).placements) == 2
    tight = node("a", memory_available_bytes=4 * GIB)
    assert len(made([tight], Line(asked, [job("j", waiting=9)])).placements) == 1


def test_priority_first_then_turns() -> None:
    lines = (
        Line(needs(), [job("a", turn=1, waiting=9), job("b", turn=2, waiting=9)]),
        Line(needs(priority=5), [job("c", turn=3)]),
        Line(needs(cpu=0.5), [job("d", turn=4)]),
    )
    result = made([node("n", 5)], *lines)
    assert [job_id for job_id, _ in where(result)] == ["c", "a", "b", "d", "a"]


def test_a_node_where_it_went_wrong_is_avoided_if_there_is_another() -> None:
    asked = Line(needs(), [job("j", avoid="id-a")])
    assert where(made([node("a"), node("b", used_cpu_milli=3000)], asked)) == [("j", "b")]
    assert where(made([node("a")], asked)) == [("j", "a")]


def test_leasing_ahead_needs_a_known_short_duration() -> None:
    full = node("n", 2, used_cpu_milli=2000, leased=2)
    at = {"id-n": (2, 2)}
    for duration_s, expected in ((None, 0), (0.5, 0), (0.1, 0), (0.02, 10), (0.001, AHEAD_MAXIMUM)):
        line = Line(needs(), [job("j", waiting=500, at=at, duration_s=duration_s)])
        result = made([full], line)
        assert len(result.placements) == expected == ahead_maximum(duration_s, 2)
        assert all(placed.ahead for placed in result.placements)


def test_nothing_is_leased_ahead_where_somebody_waits() -> None:
    full = node("n", 2, used_cpu_milli=2000, leased=2)
    short = job("short", turn=2, waiting=500, at={"id-n": (2, 2)}, duration_s=0.001)
    waiting = Line(needs(), [job("waits", turn=1), short])
    assert not made([full], waiting).placements
    # What no node of that kind can ever take is no reason to hold back.
    impossible = Line(needs(cpu=64), [job("huge", turn=1)])
    assert made([full], impossible, Line(needs(), [short])).placements


def test_a_large_task_is_not_passed_over_forever() -> None:
    nodes = [node("a", 4, used_cpu_milli=1000, leased=1), node("b", 4, used_cpu_milli=3000)]
    large = Line(needs(cpu=4), [job("large", turn=1)])
    small = Line(needs(), [job("small", turn=2, waiting=50)])
    patient = made(nodes, large, small, turn=RESERVE_AFTER_TURNS)
    assert Counter(name for _, name in where(patient)) == {"a": 3, "b": 1}
    reserved = made(nodes, large, small, turn=1 + RESERVE_AFTER_TURNS)
    assert where(reserved) == [("small", "b")]
    assert list(reserved.reserved) == ["id-a"]


def test_no_node_is_reserved_for_what_others_use() -> None:
    taken = node("a", memory_available_bytes=1 * GIB)
    large = Line(needs(memory_bytes=6 * GIB), [job("large", turn=1)])
    small = Line(needs(), [job("small", turn=2)])
    assert where(made([taken], large, small, turn=10_000)) == [("small", "a")]


def test_the_limit_of_a_plan() -> None:
    result = made([node("n", 64)], Line(needs(), [job("j", waiting=50)]), limit=10)
    assert len(result.placements) == 10 and result.more


def test_draining_and_lost_nodes_get_nothing() -> None:
    refusing = node("n", accepts=False, refusal="is being drained")
    assert not made([refusing], Line(needs(), [job("j")])).placements
    assert "n is being drained" in why.reason(needs(), [refusing])


def test_reasons_have_numbers() -> None:
    nodes = [node("node-1", used_memory_bytes=5 * GIB), node("node-2", used_memory_bytes=GIB)]
    cases = {
        needs(
            memory_bytes=64 * GIB
        ): "It needs 64 GB of memory; the largest free is 7 GB on node-2",
        needs(memory_bytes=int(7.5 * GIB)): "largest free is 7 GB on node-2",
        needs(cpu=16): "It needs 16 cores; the largest node has 4 cores: node-1",
        needs(disk_bytes=1 << 42): "It needs 4 TB of disk; the largest free is 100 GB",
        needs(labels=(("gpu", "yes"),)): "a node with the label gpu=yes; there is none",
        needs(node="attic"): "a node named attic; there is none",
    }
    for asked, words in cases.items():
        assert words in why.reason(asked, nodes)
    full = [node("node-1", used_cpu_milli=3500, leased=4)]
    assert "needs 1 core; the most free is 0.5 cores on node-1" in why.reason(needs(), full)
    assert "no node yet" in why.reason(needs(), [])


_nodes = st.lists(
    st.builds(
        lambda cores, used, load, memory: (cores, min(used, cores), load, memory),
        st.integers(1, 8),
        st.integers(0, 8),
        st.floats(0, 1),
        st.integers(1, 16),
    ),
    max_size=5,
)
_jobs = st.lists(
    st.tuples(
        st.sampled_from((0.25, 1.0, 2.0)),
        st.integers(0, 4),
        st.integers(1, 20),
        st.sampled_from((1, 2, UNLIMITED)),
        st.integers(-1, 1),
        st.sampled_from((None, 0.001, 0.03, 1.0)),
    ),
    max_size=8,
)


@given(_nodes, _jobs)
def test_a_plan_never_exceeds_what_is_free(
    shapes: list[tuple[int, int, float, int]],
    asked: list[tuple[float, int, int, int, int, float | None]],
) -> None:
    nodes = [
        node(
            str(number), cores, used_cpu_milli=used * 1000, load_cpu=load, memory_bytes=memory * GIB
        )
        for number, (cores, used, load, memory) in enumerate(shapes)
    ]
    jobs: dict[str, tuple[Needs, JobView]] = {}
    lines: dict[Needs, list[JobView]] = {}
    for turn, (cpu, memory, waiting, slots, priority, duration_s) in enumerate(asked):
        kind = needs(cpu, priority, memory_bytes=memory * GIB)
        view = job(f"j{turn}", turn, waiting, slots=slots, duration_s=duration_s)
        jobs[view.job_id] = kind, view
        lines.setdefault(kind, []).append(view)
    result = made(nodes, *(Line(kind, views) for kind, views in lines.items()))
    for room in nodes:
        here = [placed for placed in result.placements if placed.node_id == room.node_id]
        cores = sum(jobs[placed.job_id][0].cpu_milli for placed in here if not placed.ahead)
        taken = sum(jobs[placed.job_id][0].memory_bytes for placed in here)
        assert cores <= room.cpu_milli - room.used_cpu_milli
        assert taken <= room.memory_bytes
        assert sum(placed.ahead for placed in here) <= AHEAD_MAXIMUM
    for job_id, (_, view) in jobs.items():
        placed = [p for p in result.placements if p.job_id == job_id]
        assert len(placed) <= view.waiting
        assert sum(not p.ahead for p in placed) <= view.slots
    _check_nothing_is_left_out(nodes, jobs, result)


def _check_nothing_is_left_out(
    nodes: list[NodeView], jobs: dict[str, tuple[Needs, JobView]], result: Plan
) -> None:
    """A job that got nothing has no node with room left over, unless that is reserved."""
    served = Counter(placed.job_id for placed in result.placements)
    for view in nodes:
        here = [placed for placed in result.placements if placed.node_id == view.node_id]
        cpu = view.used_cpu_milli
        cpu += sum(jobs[p.job_id][0].cpu_milli for p in here if not p.ahead)
        memory = sum(jobs[p.job_id][0].memory_bytes for p in here)
        for job_id, (kind, _) in jobs.items():
            fits = cpu + kind.cpu_milli <= view.cpu_milli
            fits = fits and memory + kind.memory_bytes <= view.memory_bytes
            assert served[job_id] or not fits or view.node_id in result.reserved


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (1023, "1023 bytes"),
        (1 << 20, "1 MB"),
        (1010 << 20, "1010 MB"),
        (999 << 20, "999 MB"),
        (7_600_000_000, "7.08 GB"),
        (1000 << 40, "1000 TB"),
    ],
)
def test_a_size_is_said_without_an_exponent(size_bytes: int, words: str) -> None:
    assert size(size_bytes) == words
