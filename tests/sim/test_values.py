"""Values of processes that change in place: the same in the simulator, for real, and checked."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perseus.algo import Layout, Process, View, always, durable, on, sometimes
from perseus.algo.codec import SIZE_MAXIMUM_BYTES, Codec
from perseus.algo.driver import Driver, Journal, MemoryJournal
from perseus.algo.process import Place
from perseus.algo.values import Values
from perseus.errors import InvalidError
from perseus.hosting.journal import DiskJournal
from perseus.sim.explore import Bounds, Explorer
from perseus.sim.faults import PRESETS, Fault
from perseus.sim.runner import Plan
from perseus.sim.world import World
from tests.unit.algo_lab import processes, world

LIMIT_S = 60.0


@dataclass(frozen=True)
class Box:
    """Frozen, and what is in it is not."""

    items: dict[str, Any]


@dataclass(frozen=True)
class Ask:
    number: int


class Keeper(Process):
    """n2 keeps what it is asked to in a list within a list, and answers."""

    log: list[Any] = durable([[0]])
    box: Box = durable(Box({}))
    table: dict[str, Any] = durable({})
    assigns = True

    def start(self) -> None:
        self.asked = 0
        self.answered: set[int] = {0}
        if self.id == "n1":
            self.after(0.1, self.ask)

    def ask(self) -> None:
        self.asked += 1
        self.request("n2", Ask(self.asked), timeout_s=5.0, on_reply=self.told, on_timeout=self.ask)

    def told(self, sender: str, message: Ask) -> None:
        self.answered.add(message.number)
        self.after(0.5, self.ask)

    @on(Ask)
    def keep(self, sender: str, message: Ask) -> None:
        self.keep_it(message.number)
        self.reply(message)

    def keep_it(self, number: int) -> None:
        self.log[0] = [*self.log[0], number]


class InList(Keeper):
    def keep_it(self, number: int) -> None:
        self.log[0].append(number)


class InBox(Keeper):
    def keep_it(self, number: int) -> None:
        self.box.items[str(number)] = number


class InDict(Keeper):
    def keep_it(self, number: int) -> None:
        self.table.setdefault("numbers", set()).add(number)


class InListAndAssigned(Keeper):
    def keep_it(self, number: int) -> None:
        self.log[0].append(number)
        self.log[0] = self.log[0]


@always(Keeper)
def what_was_answered_is_kept(view: View[Keeper]) -> bool:
    kept = {process.id: process for process in view.processes}
    if "n1" not in kept or "n2" not in kept or type(kept["n2"]) not in (Keeper, InListAndAssigned):
        return True
    return set(kept["n2"].log[0]) >= kept["n1"].answered


CRASH = Fault("crash", 3.0, 1.0, ("n2",))
IN_PLACE = [(InList, "log[0]"), (InBox, "box"), (InDict, "table['numbers']")]


@pytest.mark.parametrize("kind", [Keeper, InListAndAssigned])
def test_what_was_assigned_is_there_after_a_crash(kind: type[Keeper]) -> None:
    made = world(kind, 2, faults_plan=[CRASH], until_s=10.0)
    assert made.run().violation is None
    assert made.crashes == 1 and processes(made)["n2"].log[0][-1] > 10


@pytest.mark.parametrize(("kind", "where"), IN_PLACE)
@pytest.mark.parametrize("faults", [[CRASH], []], ids=["a crash", "no crash"])
def test_what_was_changed_in_place_is_told(kind: Any, where: str, faults: list[Fault]) -> None:
    violation = world(kind, 2, faults_plan=faults, until_s=10.0).run().violation
    assert violation is not None and violation.name == "durable"
    assert f"n2: {where}, durable to {kind.__name__}, was changed in place" in violation.said
    assert violation.said.endswith(f"write self.{where} = ...")
    assert violation.at_s == (3.0 if faults else 10.0)


@pytest.mark.parametrize(("kind", "where"), IN_PLACE)
def test_the_same_is_told_when_all_orders_are_tried(kind: Any, where: str) -> None:
    bounds = Bounds(timeouts=2, crashes=1, depth=8)
    found = Explorer(Layout.of(kind), 2, bounds).run()
    assert found.violation is not None and found.violation.name == "durable"
    assert found.violation.said.startswith(f"n2: {where}, durable to")
    assert Explorer(Layout.of(Keeper), 2, bounds).run().violation is None


def test_one_process_does_not_change_what_another_begins_with() -> None:
    made = World(Layout.of(InBox), 3, 1, PRESETS["none"], faults_plan=[], until_s=0.3)
    made.run()
    boxes = [process.box for process in processes(made).values()]
    assert [len(box.items) for box in boxes] == [0, 1, 0]
    assert InBox._durable["box"].initial == Box({})


# Messages.


class Sharer(Process):
    """n1 changes what it has sent, n2 what it has got, and n3 looks."""

    def start(self) -> None:
        self.seen: list[Any] = []
        self.sent = Box({"a": [1], "b": {2}})
        if self.id == "n1":
            self.broadcast(self.sent)
            self.sent.items["a"].append("changed by n1")

    @on(Box)
    def got(self, sender: str, message: Box) -> None:
        self.seen.append({**message.items, "a": [*message.items["a"]]})
        message.items["a"].append(f"changed by {self.id}")
        if self.id == "n2":
            self.send("n3", message)


FIRST, SECOND = {"a": [1], "b": {2}}, {"a": [1, "changed by n2"], "b": {2}}


def test_a_message_is_what_it_was_when_it_was_sent() -> None:
    made = world(Sharer, 3, until_s=1.0)
    made.run()
    by_id = processes(made)
    assert by_id["n2"].seen == [FIRST] and by_id["n3"].seen in ([FIRST, SECOND], [SECOND, FIRST])
    assert type(by_id["n2"].seen[0]["b"]) is set


def test_a_message_that_comes_twice_is_the_same_twice() -> None:
    made = world(Sharer, 3, faults=PRESETS["none"], until_s=2.0)
    made._doubled = made._late = 1.0
    made.run()
    seen = processes(made)["n2"].seen
    assert seen == [FIRST, FIRST]


async def _until(condition: Any) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.002)


def _driver(kind: type[Process], journal: Journal, failures: list[Any]) -> Driver:
    values = Values(Codec.of(Layout.of(kind)))

    def failed(process: Process, error: BaseException) -> None:
        failures.append(error)

    return Driver(journal, lambda sender, envelope, mark: None, failed, values)


def _start(driver: Driver, kind: type[Process], *ids: str) -> list[Any]:
    groups = {"n": ids}
    return [driver.start(kind, Place(each, "n", groups)) for each in ids]


def test_for_real_a_message_is_what_it_was_when_it_was_sent() -> None:
    async def main() -> list[Any]:
        driver = _driver(Sharer, MemoryJournal(), [])
        made = _start(driver, Sharer, "n1", "n2", "n3")
        await _until(lambda: len(made[2].seen) == 2)
        await driver.close()
        return [process.seen for process in made]

    assert asyncio.run(main()) == [[], [FIRST], [FIRST, SECOND]]


class Writer(Keeper):
    """Writes in place, and once more as it should."""

    def start(self) -> None:
        self.after(0.0, self.first)

    def first(self) -> None:
        self.log[0] = [*self.log[0], 1]
        self.table["a"] = [1]
        self.after(0.0, self.then)

    def then(self) -> None:
        self.log[0].append("in place")
        self.table["a"].append("in place")
        self.box.items["in"] = "place"
        self.table["done"] = True


@pytest.mark.parametrize("is_on_disk", [True, False])
def test_for_real_the_disk_has_what_was_assigned(tmp_path: Path, is_on_disk: bool) -> None:
    codec = Codec.of(Layout.of(Writer))
    memory = MemoryJournal()

    def journal() -> Any:
        # Put together at once: what is durable is written anew from what the journal has.
        return DiskJournal(tmp_path, codec, growth_bytes=0) if is_on_disk else memory

    async def life() -> tuple[Any, ...]:
        kept = journal()
        driver = _driver(Writer, kept, [])
        (process,) = _start(driver, Writer, "n1")
        first = ([*process.log], process.box, dict(process.table))
        await _until(lambda: ("table", "done") in kept.load("n1"))
        await driver.close()
        return first

    asyncio.run(life())
    assert asyncio.run(life()) == ([[0, 1]], Box({}), {"a": [1], "done": True})


# What cannot be sent or kept.


@dataclass(frozen=True)
class Load:
    content: Any


@dataclass
class Open:
    number: int


class Heavy(Process):
    """Sends, or keeps, too much."""

    kept: Any = durable(None)
    what: Any = Load(bytes(SIZE_MAXIMUM_BYTES))
    keeps = False

    def start(self) -> None:
        self.after(0.1, self.go)

    def go(self) -> None:
        if self.keeps:
            self.kept = self.what
        else:
            self.tell()

    def tell(self) -> None:
        self.send(self.id, self.what)

    @on(Load)
    def came(self, sender: str, message: Load) -> None:
        pass


class HeavyKeeper(Heavy):
    keeps = True


class Opener(Heavy):
    what = Open(1)


class Inner(Heavy):
    """What is wrong is neither the first nor the last."""

    what = Load((1, Open(1), 3))


SAID = [
    (
        Heavy,
        "n1: Heavy.go cannot send this Load: it takes 16777238 bytes, and the most is 16777216",
    ),
    (
        HeavyKeeper,
        "n1: durable kept of HeavyKeeper cannot be kept: it takes 16777238 bytes, and the most",
    ),
    (Opener, "n1: Heavy.go cannot send this Open: a Open could change after it was sent or kept"),
    (Inner, "n1: Heavy.go cannot send this Load: a Open could change after it was sent or kept"),
]


@pytest.mark.parametrize(("kind", "said"), SAID)
def test_what_is_unfit_is_told_alike_everywhere(kind: type[Process], said: str) -> None:
    async def main() -> str:
        failures: list[Any] = []
        driver = _driver(kind, MemoryJournal(), failures)
        _start(driver, kind, "n1")
        await _until(lambda: failures)
        return str(failures[0])

    with pytest.raises(InvalidError) as simulated:
        world(kind, 1, until_s=1.0).run()
    with pytest.raises(InvalidError) as explored:
        Explorer(Layout.of(kind), 1).run()
    real = asyncio.run(main())
    assert real.startswith(said)
    # The others say in which run and step, too.
    step = rf"(n1, {kind.__name__}\.\w+: )?{re.escape(real)}"
    assert re.fullmatch(rf"seed 1, after 0\.100 s(, |: ){step}", str(simulated.value))
    assert re.fullmatch(step, str(explored.value))


class TwoAtOnce(Process):
    """Each step writes two numbers, which are the same."""

    one: int = durable(0)
    other: int = durable(0)

    def start(self) -> None:
        self.began_with = (self.one, self.other)
        self.after((0.0, 0.05), self.write)

    def write(self) -> None:
        self.one += 1
        self.other += 1
        self.after((0.0, 0.05), self.write)


@always(TwoAtOnce)
def a_step_is_kept_whole(view: View[TwoAtOnce]) -> bool:
    return view.changed.began_with[0] == view.changed.began_with[1]


@sometimes(TwoAtOnce)
def the_last_step_is_lost_whole(view: View[TwoAtOnce]) -> bool:
    """A crash, or a power cut of all, comes before the disk has it."""
    most: dict[str, int] = view.ghost
    changed = view.changed
    was_lost = most.get(changed.id, 0) > changed.one
    most[changed.id] = max(most.get(changed.id, 0), changed.one)
    return was_lost


@pytest.mark.parametrize("kind", ["crash", "power-cut"])
def test_a_step_that_the_disk_has_not_is_lost_whole(kind: Any) -> None:
    about = Plan(f"{__file__}:TwoAtOnce", PRESETS["none"], 3, 20.0)
    reached: set[str] = set()
    for seed in range(10):
        faults = [Fault(kind, 0.9 + at, 0.5, ("n1", "n2", "n3")) for at in range(0, 18, 2)]
        layout = Layout.of(TwoAtOnce)
        outcome = World(layout, 3, seed, about.faults, faults_plan=faults, until_s=20.0).run()
        assert outcome.violation is None
        reached |= outcome.reached
    assert reached == {"the last step is lost whole"}
