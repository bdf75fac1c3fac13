"""The simulator itself: what a crash keeps, what the network does, and that nothing leaks out."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

from perseus.algo import Group, Layout, Process, View, always, durable, eventually, on, sometimes
from perseus.errors import InvalidError, NotFoundError
from perseus.sim import diagram, runner, trace
from perseus.sim.chance import Chance
from perseus.sim.faults import CRASHES, PRESETS, Fault, Faults, plan, plan_of
from perseus.sim.load import load
from perseus.sim.runner import Plan
from perseus.sim.shrink import shrink
from perseus.sim.trace import Happened
from perseus.sim.world import World
from tests.unit.algo_lab import processes, world


@dataclass(frozen=True)
class Count:
    number: int


class Counter(Process):
    """Counts durably, and tells each number only when it is on disk."""

    total: int = durable(0)
    every_s = 0.01

    def start(self) -> None:
        self.heard: dict[str, int] = {}
        self.after(self.every_s, self.count)

    def count(self) -> None:
        self.total += 1
        self.broadcast(Count(self.total))
        self.after(self.every_s, self.count)

    @on(Count)
    def hear(self, sender: str, message: Count) -> None:
        self.heard[sender] = max(message.number, self.heard.get(sender, 0))


@always(Counter)
def nobody_hears_what_can_be_lost(view: View[Counter]) -> bool:
    totals = {process.id: process.total for process in view.processes}
    heard = view.changed.heard
    return all(totals.get(peer, number) >= number for peer, number in heard.items())


@sometimes(Counter)
def a_count_is_lost(view: View[Counter]) -> bool:
    """A crash takes away what was counted and not yet committed."""
    most: dict[str, int] = view.ghost
    changed = view.changed
    lost = most.get(changed.id, 0) > changed.total
    most[changed.id] = max(most.get(changed.id, 0), changed.total)
    return lost


def test_what_was_sent_was_durable() -> None:
    about = Plan(f"{__file__}:Counter", PRESETS["crash"], 3, 20.0)
    outcomes = [runner.run_one(about, seed) for seed in range(20)]
    assert [outcome.violation for outcome in outcomes if outcome.violation] == []
    assert any("a count is lost" in outcome.reached for outcome in outcomes)
    assert sum(outcome.crashes for outcome in outcomes) > 20


class Hasty(Counter):
    """Tells numbers that it keeps nowhere."""

    def start(self) -> None:
        super().start()
        self.total = 0


def test_what_is_told_and_forgotten_is_found() -> None:
    about = Plan(f"{__file__}:Hasty", PRESETS["crash"], 3, 20.0)
    assert any(runner.run_one(about, seed).violation for seed in range(10))


class Echo(Process):
    def start(self) -> None:
        self.got: list[str] = []
        self.at: list[float] = []
        self.after(1.0, self.call)

    def call(self) -> None:
        self.broadcast(Count(1))
        self.at.append(self.now)
        self.after(1.0, self.call)

    @on(Count)
    def hear(self, sender: str, message: Count) -> None:
        self.got.append(sender)


def run_echo(*faults: Fault, until_s: float = 5.5, **more: object) -> World:
    made = world(
        Echo,
        3,
        faults=Faults(loss=0, duplication=0, late_share=0, clock_drift=0),
        faults_plan=list(faults),
        until_s=until_s,
    )
    made.run()
    return made


def test_a_good_network_loses_nothing() -> None:
    for process in processes(run_echo()).values():
        assert len(process.got) == 10


def test_partitions_cut_both_ways_and_heal() -> None:
    made = processes(run_echo(Fault("partition", 1.5, 2.0, ("n1",))))
    assert made["n2"].got.count("n1") == 3 and made["n1"].got.count("n2") == 3
    assert made["n2"].got.count("n3") == 5


def test_one_way_partitions_cut_one_way() -> None:
    made = processes(run_echo(Fault("one-way", 1.5, 2.0, ("n1",))))
    assert made["n2"].got.count("n1") == 3 and made["n1"].got.count("n2") == 5


def test_a_paused_node_takes_up_what_waited() -> None:
    made = processes(run_echo(Fault("pause", 1.5, 2.0, ("n1",))))
    assert made["n1"].got.count("n2") == 5
    # It called late once, at 3.5 s, and went on from there.
    assert made["n2"].got.count("n1") == 3


def test_a_machine_that_sleeps_has_a_clock_and_timers_that_stand_still() -> None:
    made = processes(run_echo(Fault("sleep", 1.5, 2.0, ("n1",))))
    assert made["n1"].got.count("n2") == 5
    # It called at 1 s; of the next second half was left when it woke at 3.5 s.
    assert made["n2"].got.count("n1") == 3
    times = made["n1"].at
    assert [later - sooner for sooner, later in pairwise(times)] == pytest.approx([1.0] * 2)


def test_a_clock_that_jumps_while_its_machine_sleeps_or_loses_its_power() -> None:
    jump = Fault("clock", 2.0, 1.0, ("n1",), amount=10.0)
    times = processes(run_echo(Fault("sleep", 1.5, 2.0, ("n1",)), jump))["n1"].at
    assert times[1] - times[0] == pytest.approx(11.0)
    made = run_echo(Fault("sleep", 1.5, 9.0, ("n1",)), Fault("power-cut", 2.0, 1.0, ("n1",)))
    node = made._nodes["n1"]
    assert node.asleep_s is None and made.now_s(processes(made)["n1"]) < made.now


def test_in_some_worlds_pauses_are_sleeps_and_all_else_stays_as_it_was() -> None:
    groups = {"n": ["n1", "n2", "n3"]}
    calm, usual = replace(Faults(), sleep_share=0.0), Faults()
    sleepy = 0
    for seed in range(100):
        made = [plan_of(each, groups, 200.0, seed) for each in (calm, usual)]
        awake = [replace(each, kind="pause") if each.kind == "sleep" else each for each in made[1]]
        assert awake == made[0]
        sleepy += made[1] != made[0]
    assert 5 < sleepy < 50


def test_a_clock_that_jumps() -> None:
    made = processes(run_echo(Fault("clock", 1.5, 1.0, ("n1",), amount=10.0)))
    times = made["n1"].at
    assert times[1] - times[0] == pytest.approx(11.0)
    # Timers count seconds, whatever the clock says.
    assert len(times) == 5


def test_clocks_count_from_times_of_their_own() -> None:
    """What one reads means nothing to another."""
    made = processes(run_echo())
    firsts = sorted(process.at[0] for process in made.values())
    assert firsts[1] - firsts[0] > 100.0 and firsts[2] - firsts[1] > 100.0
    for process in made.values():
        assert process.at[1] - process.at[0] == pytest.approx(1.0)


def test_a_clock_begins_anew_in_a_power_cut_and_no_other_crash() -> None:
    before = processes(run_echo())["n1"].at[0]
    (again, *_) = processes(run_echo(Fault("crash", 2.5, 0.5, ("n1",))))["n1"].at
    assert again == pytest.approx(before + 3.0)
    (anew, *_) = processes(run_echo(Fault("power-cut", 2.5, 0.5, ("n1", "n2", "n3"))))["n1"].at
    assert 1.5 <= anew <= 2.5


def test_a_crash_forgets_what_is_volatile() -> None:
    made = processes(run_echo(Fault("crash", 2.5, 0.5, ("n1",))))
    assert made["n1"].restarts == 1 and len(made["n1"].at) == 2


@pytest.mark.parametrize(
    "earlier",
    [
        (),
        (Fault("crash", 2.2, 2.0, ("n1",)),),
        (Fault("pause", 2.2, 2.0, ("n1",)),),
        (Fault("crash-before-commit", 2.2, 2.0, ("n1",)),),
    ],
    ids=["up", "down", "paused", "crash due"],
)
def test_the_dead_do_not_come_back(earlier: tuple[Fault, ...]) -> None:
    death = Fault("death", 2.5, 0.0, ("n1",))
    later = Fault("crash", 3.5, 0.1, ("n1",))
    made = run_echo(*earlier, death, later, until_s=10.0)
    assert sorted(processes(made)) == ["n2", "n3"]
    assert processes(made)["n2"].got.count("n1") == 2
    assert made.crashes == 1


def test_of_each_group_fewer_than_half_die() -> None:
    groups = {"n": ("n1", "n2", "n3", "n4", "n5"), "master": ("master1",)}
    counts = set()
    for seed in range(50):
        deadly = plan_of(PRESETS["deadly"], groups, 60.0, seed)
        dead = {fault.nodes[0] for fault in deadly if fault.kind == "death"}
        assert dead <= set(groups["n"]), "the only master cannot be spared"
        counts.add(len(dead))
        # All else is as in the same seed without deaths.
        rest = [fault for fault in deadly if fault.kind != "death"]
        assert rest == plan_of(PRESETS["all"], groups, 60.0, seed)
    assert counts == {1, 2}


def test_a_majority_that_is_spared_keeps_its_memory() -> None:
    groups = {"n": ("n1", "n2", "n3", "n4", "n5")}
    taken = [set[str]() for _ in range(50)]
    for seed, mine in enumerate(taken):
        for fault in plan_of(PRESETS["minority"], groups, 60.0, seed):
            assert fault.nodes
            if fault.kind in (*CRASHES, "death"):
                mine |= set(fault.nodes)
    assert max(map(len, taken)) == 2
    assert set().union(*taken) == set(groups["n"])


def test_loss_and_duplication_have_their_shares() -> None:
    faults = Faults(loss=0.3, duplication=0.2, late_share=0.0, kinds=())
    made = world(Echo, 3, faults=faults, until_s=400.5)
    made.run()
    got = sum(len(process.got) for process in processes(made).values())
    # 400 calls of 3 processes to 2 others, less the third that is lost, and a fifth twice.
    assert got == pytest.approx(2400 * 0.9, rel=0.05)


def test_plans_end_in_time_and_are_the_seeds() -> None:
    for seed in range(20):
        drawn = plan(Faults(), ("a", "b", "c"), 30.0, Chance(seed, "faults"))
        assert drawn == plan(Faults(), ("a", "b", "c"), 30.0, Chance(seed, "faults"))
        assert all(fault.at_s + fault.lasts_s <= 30.0 + 1e-9 for fault in drawn)
    worlds = {Faults(is_swarm=True).of_seed(Chance(seed, "world")) for seed in range(20)}
    assert len(worlds) == 20


class Ticking(Process):
    """Takes steps."""

    def start(self) -> None:
        self.after(1.0, self.start)


class Stuck(Ticking):
    """Never gets there."""


@eventually(Stuck, within_s=5.0)
def it_gets_there(view: View[Stuck]) -> bool:
    return False


def test_what_never_comes_is_told() -> None:
    outcome = world(Stuck, until_s=3.0).run()
    assert outcome.violation is not None
    assert str(outcome.violation) == "eventually it gets there: not within 5 s after the faults"
    assert outcome.violation.at_s >= 8.0


class Patient(Counter):
    """What must come eventually of it is looked at by its own view alone."""


@eventually(Patient)
def it_counts(view: View[Patient]) -> bool:
    return view.changed.total > 0 and view.now_s > 6.0


def test_what_must_come_is_not_looked_at_with_another_class_in_view() -> None:
    layout = Layout(others=Group(Ticking, 2), n=Group(Patient, 1))
    outcome = World(layout, 1, 1, until_s=3.0, faults_plan=()).run()
    assert outcome.violation is None


class Watching(Process):
    """Steps between those of another class."""

    def start(self) -> None:
        self.after(0.1, self.start)


@eventually(Watching, within_s=1.0)
def it_sees_its_own_class(view: View[Watching]) -> bool:
    view.ghost.setdefault("kinds", set()).add(type(view.changed))
    return view.ghost["kinds"] == {Watching} and view.now_s > 3.5


class Watched(Stuck):
    """Steps too."""


def test_what_must_come_is_asked_of_its_own_class() -> None:
    layout = Layout(a=Group(Watching, 1), b=Group(Watched, 1))
    outcome = World(layout, 1, 0, PRESETS["none"], until_s=3.0).run()
    assert str(outcome.violation).startswith("eventually it gets there")


class Late(Process):
    """Writes when the faults are over."""

    written: bool = durable(False)

    def start(self) -> None:
        self.after(4.0, self.write)

    def write(self) -> None:
        self.written = True


@eventually(Late, within_s=3.0)
def it_is_written(view: View[Late]) -> bool:
    return view.changed.written


def test_a_crash_that_waits_for_a_commit_does_not_outlast_the_faults() -> None:
    due = Fault("crash-before-commit", 2.0, 0.5, ("n1",))
    layout = Layout.of(Late)
    outcome = World(layout, 1, 0, PRESETS["none"], faults_plan=[due], until_s=3.0).run()
    assert outcome.violation is None
    assert outcome.crashes == 0


class Busy(Process):
    """Sends without end."""

    def start(self) -> None:
        self.after(0.0, self.start)


def test_a_run_without_end_is_ended() -> None:
    outcome = world(Busy, 1, until_s=1.0).run()
    assert outcome.violation is not None and outcome.violation.name == "bounds"


def test_a_failing_run_is_made_smaller_and_fails_the_same() -> None:
    about = Plan(f"{__file__}:Hasty", PRESETS["all"], 3, 30.0)
    failing = next(o for o in runner.run_many(about, range(50), 1) if o.violation)
    smaller = shrink(about, failing)
    whole = runner.world(about, failing.seed).plan
    assert smaller.about.keep is not None and len(smaller.about.keep) <= 1 < len(whole)
    assert smaller.about.is_calm
    again = runner.run_one(smaller.about, failing.seed).violation
    assert again is not None and failing.violation is not None
    assert again.name == failing.violation.name


@pytest.mark.parametrize(
    ("target", "workload"),
    [("ids_in_memory:Node", "unique-ids"), ("log_any_leader:AnyLeader", "")],
)
def test_a_smaller_run_is_no_longer(target: str, workload: str) -> None:
    """With fewer faults these break too, but after many more events."""
    file, name = target.split(":")
    about = Plan(f"docs/tutorial/{file}.py:{name}", PRESETS["all"], workload=workload)
    failing = runner.run_one(about, 0)
    smaller = shrink(about, failing)
    assert failing.violation is not None
    assert smaller.violation.at_s <= 1.01 * failing.violation.at_s
    assert smaller.outcome.events <= 1.25 * failing.events
    assert len(smaller.about.keep or ()) < len(runner.world(about, 0).plan) / 4
    again = runner.run_one(smaller.about, 0)
    assert str(again.violation) == str(smaller.violation)


def test_seeds_are_spread_over_processes_in_order() -> None:
    about = Plan(f"{__file__}:Counter", PRESETS["none"], 2, 1.0)
    outcomes = list(runner.run_many(about, range(5, 45), processes=2))
    assert [outcome.seed for outcome in outcomes] == list(range(5, 45))


def test_a_run_can_be_drawn() -> None:
    taken = trace.Trace()
    about = Plan(f"{__file__}:Echo", PRESETS["crash"], 3, 6.0)
    runner.world(about, 3, taken).run()
    events = list(taken.events)
    picture = diagram.svg(events, "a <title>")
    assert picture.startswith("<svg") and "a &lt;title&gt;" in picture and "Count(1)" in picture
    columns = diagram.text(events).splitlines()
    assert columns[0].split() == ["n1", "n2", "n3"]
    assert any("> n2 Count(1)" in line for line in columns)
    assert "<- n1 Count(1)" in trace.text(events)


def test_a_column_says_where_it_is_cut_and_is_wide_where_they_are_few() -> None:
    for lanes, cut_at in ((2, 48), (9, 24)):
        long = [Happened(0.0, "timer", f"n{number}", "x" * 90) for number in range(lanes)]
        line = diagram.text(long).splitlines()[1]
        assert line.startswith("   0.0000  * timer xxx")
        assert line.index("…") == 11 + cut_at - 2


def test_what_is_to_be_run_is_found_or_named(tmp_path: Path) -> None:
    assert load("perseus.algo.library.kv:Kv").groups["client"].is_client
    with pytest.raises(InvalidError, match="does not say what to run"):
        load("Raft")
    (tmp_path / "lock.py").write_text(
        "from perseus.algo import Process\nclass Lock(Process): pass\n"
    )
    with pytest.raises(InvalidError, match=r"what to run, and has Lock\n"):
        load(str(tmp_path / "lock.py"))
    with pytest.raises(NotFoundError, match="there is no file"):
        load("nowhere/x.py:Raft")
    with pytest.raises(NotFoundError, match="there is no Nothing"):
        load(f"{__file__}:Nothing")
    with pytest.raises(NotFoundError, match="No module named"):
        load("no_such_module:Raft")
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_the_kind\n")
    with pytest.raises(InvalidError, match="cannot be loaded: ModuleNotFoundError"):
        load(f"{broken}:Raft")
    with pytest.raises(InvalidError, match="there are no faults named"):
        from perseus.sim.faults import preset

        preset("many")


def test_whom_nobody_knows_cannot_be_sent_to() -> None:
    class Lost(Process):
        def start(self) -> None:
            self.send("nobody", Count(1))

    with pytest.raises(InvalidError, match="which is nobody"):
        world(Lost).run()
