"""Traces of real steps are taken again: true ones hold, and what was changed is found."""

import asyncio
import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import pytest

from perseus.algo import Layout, Process, always, durable, on
from perseus.algo.checkers.linearizability import Verdict
from perseus.algo.codec import Codec
from perseus.algo.driver import Driver, MemoryJournal, Step
from perseus.algo.history import Operation
from perseus.algo.library import kv
from perseus.algo.library.raft.messages import Done, Query
from perseus.algo.process import Envelope, Id
from perseus.algo.values import Values
from perseus.hosting import trace
from perseus.hosting.merge import Line, Mark, Traces, mark_of
from perseus.hosting.replay import Checked, Replay
from perseus.hosting.run import Run

LIMIT_S = 60.0
TRIES = 10


class Fast(kv.KvClient):
    """Asks without a rest."""

    pause_s = (0.0, 0.002)


class Quick(kv.Kv):
    """Elects in no time."""

    heartbeat_s = 0.02
    election_s = (0.06, 0.12)
    client = Fast
    clients = 2


class Stale(Quick):
    """Answers from its own copy, whoever leads."""

    @on(Query)
    def read(self, sender: Id, message: Query) -> None:
        self.send(sender, Done(message.sequence, self.answer(message.query)))


class Wanderer(Fast):
    """Asks whom it meets."""

    def _invoke(self) -> None:
        self.target = self.group("n")[self.random.below(3)]
        super()._invoke()


class Wandering(Stale):
    client = Wanderer


class Lab:
    """All processes of a run in this program, one driver each, and no network."""

    def __init__(self, subject: type[Process], monkeypatch: pytest.MonkeyPatch) -> None:
        self.layout = Layout.of(subject)
        groups = self.layout.members(3)
        ids = [i for each in groups.values() for i in each]
        clients = groups.get("client", ())
        self.run = Run("r", "", "", groups, dict.fromkeys(ids, "node-1"), clients, 0.0)
        self.codec = Codec.of(self.layout)
        self.written: dict[Id, list[bytes]] = {each: [] for each in ids}
        self.drivers: dict[Id, Driver] = {}
        self.journals = {each: MemoryJournal() for each in ids}
        self.lives = dict.fromkeys(ids, -1)
        self._putting: list[bytes] = []
        monkeypatch.setattr(trace, "put_down", self._put)

    def _put(self, lines: Sequence[bytes]) -> bool:
        self._putting = [*lines]
        return False

    def start(self, process: Id) -> None:
        """A new life."""
        self.lives[process] += 1
        tracer = trace.Tracer(self.codec)

        def settled(steps: Sequence[Step]) -> None:
            tracer.write(steps)
            self.written[process] += self._putting

        def transmit(sender: Id, envelope: Envelope, mark: int) -> None:
            life, content = self.lives[process], tracer.contents[mark]
            later = asyncio.get_running_loop().call_soon
            later(self._arrive, sender, envelope, (life, mark), content)

        def failed(failing: Process, error: BaseException) -> None:
            raise error

        driver = Driver(self.journals[process], transmit, failed, Values(self.codec), settled)
        self.drivers[process] = driver
        place = self.run.place(process, self.lives[process])
        driver.start(self.layout.groups[place.group].kind, place)

    def _arrive(
        self, sender: Id, envelope: Envelope, mark: tuple[int, int], content: bytes
    ) -> None:
        driver = self.drivers[envelope.to]
        if not driver.is_over:
            message = self.codec.decode(content)
            number, answers = envelope.number, envelope.answers
            driver.deliver(envelope.to, sender, message, number, answers, mark)

    async def crash(self, process: Id) -> None:
        """Ends a life, and begins the next."""
        await self.drivers[process].close()
        line = {"k": "crash", "p": process, "at": self.at(), "what": "killed"}
        self.written[process].append(trace.encode(line))
        self.start(process)

    def at(self) -> float:
        """When the last step was."""
        times = [trace.decode(lines[-1])["at"] for lines in self.written.values() if lines]
        return float(max(times, default=0.0))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                await asyncio.sleep(0.002)

    def answers(self) -> int:
        """How many operations have returned."""
        return sum(
            operation.is_over
            for driver in self.drivers.values()
            for process in driver.processes
            for operation in getattr(process, "history", ())
        )

    def live(self, answers: int, crashing: bool = False) -> None:
        """Runs until so many operations have returned."""

        async def main() -> None:
            for process in self.written:
                self.start(process)
            await self.until(lambda: self.answers() >= answers // 2)
            if crashing:
                for process in self.run.groups["n"]:
                    await self.crash(process)
            await self.until(lambda: self.answers() >= answers)
            for driver in self.drivers.values():
                await driver.close()

        asyncio.run(main())

    def traces(self, change: Callable[[Line], Line] = lambda line: line) -> Traces:
        """What was written, each line as ``change`` gives it."""
        made = Traces()
        for process, lines in self.written.items():
            changed = [trace.encode(change(trace.decode(text))) for text in lines]
            made.add(process, b"\n".join(changed))
        return made

    def check(self, traces: Traces | None = None) -> Checked:
        return Replay(self.run, self.layout, traces or self.traces()).run()


@pytest.fixture(scope="module")
def recorded() -> Lab:
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = Lab(Quick, monkeypatch)
        made.live(60, crashing=True)
    return made


@pytest.fixture
def lab(recorded: Lab) -> Iterator[Lab]:
    """The same run for each test, which may change what was written."""
    before = {process: [*lines] for process, lines in recorded.written.items()}
    yield recorded
    recorded.written = before


def test_a_run_with_crashes_holds(lab: Lab) -> None:
    checked = lab.check()
    assert checked.violation is None, str(checked.violation)
    assert checked.crashes == 3
    assert checked.properties["at_end", "history is linearizable"] == "held"
    assert checked.properties["eventually", "one leads and all follow"] == "held"
    assert checked.properties["sometimes", "a second leader is elected"] == "reached"
    assert checked.steps > 300


def test_what_is_still_awaited_is_told_since_when(lab: Lab) -> None:
    said = []
    for text in ("crash", "timer"):
        traces = Traces()
        for process in lab.written:
            lines = [trace.decode(each) for each in lab.written[process]]
            # Up to the first crash, and with it.
            place = next((n for n, line in enumerate(lines) if line["k"] == "crash"), len(lines))
            kept = lines[: place + (text == "crash")]
            kept = kept if text == "crash" else kept[:2]
            traces.add(process, b"\n".join(trace.encode(line) for line in kept))
        said.append(lab.check(traces).properties["eventually", "one leads and all follow"])
    assert said == [
        f"not judged: the trace ends within 20 s of {since}"
        for since in ("the last fault", "the beginning")
    ]


def test_a_history_is_told_in_seconds_of_the_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the machine's own clock, which counts from when it was switched on."""
    told: list[float] = []

    def judge(operations: list[Operation], model: object, key: object) -> Verdict:
        told.extend(time for each in operations for time in (each.invoked, each.returned))
        return Verdict(True)

    monkeypatch.setattr("perseus.algo.checkers.linearizability.check", judge)
    took_s = lab.check().lasted_s
    over = [time for time in told if time != inf]
    assert len(over) > 100 and 0.0 <= min(over) <= max(over) <= took_s + 0.001


def test_an_answer_that_was_changed_is_found(lab: Lab) -> None:
    """A client is told something else than the leader said."""

    def change(line: Line) -> Line:
        if line["k"] == "receive" and str(line["what"]).startswith("Done("):
            message = lab.codec.decode(base64.b64decode(line["b"]))
            content = lab.codec.encode(Done(message.sequence, 99))
            return line | {"b": base64.b64encode(content).decode()}
        return line

    violation = lab.check(lab.traces(change)).violation
    assert violation is not None and "which is not what" in violation.said


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("timer", {"r": []}),
        ("timer", {"s": []}),
        ("receive", {"w": 5}),
        ("start", {"d": []}),
    ],
)
def test_a_step_that_was_not_so_is_found(lab: Lab, kind: str, change: dict[str, Any]) -> None:
    (key,) = change

    def changed(line: Line) -> Line:
        return line | change if line["k"] == kind and line.get(key) else line

    violation = lab.check(lab.traces(changed)).violation
    assert violation is not None and violation.name == "trace", str(violation)


def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads from any copy are not linearizable, and no step is untrue."""
    # It shows when a read comes between a write and its commit, so not in every run.
    for _ in range(TRIES):
        lab = Lab(Wandering, monkeypatch)
        lab.live(200)
        if (violation := lab.check().violation) is not None:
            break
    assert violation is not None
    assert violation.name == "at_end history is linearizable", str(violation)


def test_what_was_cut_off_is_left_out_with_what_follows(lab: Lab) -> None:
    """One trace was read earlier than the others."""
    earlier = max(lab.written, key=lambda process: len(lab.written[process]))
    lab.written[earlier] = lab.written[earlier][: len(lab.written[earlier]) // 2]
    traces = lab.traces()
    assert lab.check(traces).violation is None
    assert traces.cut > 0


def test_what_was_read_a_moment_earlier_is_no_gap(lab: Lab) -> None:
    lines = lab.written["n1"]
    lab.written["n1"] = lines[:-3]
    traces = lab.traces()
    checked = lab.check(traces)
    assert traces.behind_s < 1.0 and traces.missing == [] and not traces.ends_early
    assert checked.properties["always", "one leader in a term"] == "held"


def test_a_trace_that_is_far_behind_the_others_is_a_gap(lab: Lab) -> None:
    """Its node answered before it had the whole of it again."""
    start = lab.at()

    def change(line: Line) -> Line:
        return line | {"at": start + (line["at"] - start) * 1000}

    lab.written["n1"] = lab.written["n1"][: len(lab.written["n1"]) // 2]
    traces = lab.traces(change)
    checked = lab.check(traces)
    assert checked.violation is None and traces.ends_early
    assert traces.missing == [
        f"{traces.cut} events are left out: what they follow from is not there"
    ]
    assert checked.properties["always", "one leader in a term"] == "held, as far as the traces go"
    said = checked.properties["eventually", "one leads and all follow"]
    assert said == "not judged: a part of the traces is not there"


def test_what_others_have_not_done_says_nothing_of_one_without_a_trace(lab: Lab) -> None:
    """All but n1 wait for the end of what must come within 20 s."""
    start = lab.at()

    def change(line: Line) -> Line:
        return line | {"at": start + (line["at"] - start) * 1000}

    for process in ("n1", "n2"):
        lab.written[process] = []
    traces = lab.traces(change)
    traces.unread = dict.fromkeys(("n1", "n2"), "its node is away")
    checked = lab.check(traces)
    assert checked.violation is None, str(checked.violation)
    assert traces.missing[:2] == [
        f"{p}'s trace is not there: its node is away" for p in ("n1", "n2")
    ]
    assert traces.taken["n1"] == 0 < traces.taken["n3"]


@pytest.mark.parametrize("ahead_s", [-3600.0, 3600.0])
def test_clocks_that_differ_do_not_turn_cause_and_effect_around(lab: Lab, ahead_s: float) -> None:
    def change(line: Line) -> Line:
        return line | {"at": line["at"] + ahead_s} if line["p"] == "n1" else line

    sent: set[Mark] = set()
    for line in lab.traces(change).merged():
        if line["k"] == "receive":
            assert mark_of(line) in sent
        sent |= {(line["p"], line["l"], mark) for _, mark, *_ in line.get("s", ())}
    assert lab.check(lab.traces(change)).violation is None


def test_a_torn_line_is_passed_over(lab: Lab) -> None:
    traces = lab.traces()
    before = sum(map(len, traces.lines.values()))
    lab.written["n1"].append(b'{"k":"rec')
    again = Traces()
    for process, lines in lab.written.items():
        again.add(process, b"\n".join(lines))
    assert (again.torn, sum(map(len, again.lines.values()))) == (1, before)


def test_the_first_life_may_be_missing(lab: Lab) -> None:
    """Its attempt was lost, and its output with it; what others heard of it is believed."""
    lines = [trace.decode(text) for text in lab.written["n1"]]
    place = next(n for n, line in enumerate(lines) if line.get("l") == 1)
    lab.written["n1"] = lab.written["n1"][place:]
    traces = lab.traces()
    checked = lab.check(traces)
    assert checked.violation is None, str(checked.violation)
    assert (traces.headless, traces.cut) == ({"n1"}, 0)


class Counter(Process):
    """Counts, and has a process beside it."""

    def start(self) -> None:
        self.count = 0
        self.spawn(Beside, "beside")
        self.after(0.001, self.more)

    def more(self) -> None:
        self.count += 1
        if self.count < 5:
            self.after(0.001, self.more)


class Beside(Process):
    """Says that it is there."""

    def start(self) -> None:
        self.is_there = True


@always(Counter)
def never_three(view: Any) -> bool:
    return bool(view.changed.count != 3)


def test_it_stops_at_the_first_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(Counter, monkeypatch)

    async def main() -> None:
        for process in lab.written:
            lab.start(process)
        await lab.until(lambda: all(len(lines) >= 7 for lines in lab.written.values()))
        for driver in lab.drivers.values():
            await driver.close()

    asyncio.run(main())
    violation = lab.check().violation
    assert violation is not None and violation.name == "always never three"


@dataclass(frozen=True)
class Box:
    items: dict[str, int]


class Changer(Process):
    """Changes what it got, and what it sent."""

    log: list[Any] = durable([[]])

    def start(self) -> None:
        self.count = 0
        if self.id == "n1":
            self.after(0.001, self.tell)

    def tell(self) -> None:
        box = Box({"count": self.count})
        self.send("n2", box)
        box.items["count"] = -1

    @on(Box)
    def got(self, sender: Id, message: Box) -> None:
        self.count += 1
        assert message.items["count"] >= 0
        self.log[0] = [*self.log[0], message.items]
        message.items["count"] += 1
        if self.count < 5:
            self.send(sender, message)
            message.items["count"] = -1


class InPlace(Changer):
    """And what is durable to it."""

    @on(Box)
    def got(self, sender: Id, message: Box) -> None:
        super().got(sender, message)
        self.after(0.0, self.log[0].append, "once more")


@pytest.mark.parametrize("kind", [Changer, InPlace])
def test_what_a_step_changes_in_place(kind: type[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it got, and what it has sent, is its own affair; what is durable is not."""
    lab = Lab(kind, monkeypatch)

    async def main() -> None:
        for process in lab.written:
            lab.start(process)
        # All that there is to it, timers too: the last step shows the change.
        lines = (6, 6) if kind is Changer else (10, 11)
        await lab.until(lambda: (len(lab.written["n1"]), len(lab.written["n2"])) == lines)
        for driver in lab.drivers.values():
            await driver.close()

    asyncio.run(main())
    violation = lab.check().violation
    if kind is Changer:
        assert violation is None, str(violation)
    else:
        assert violation is not None and violation.name == "durable"
        assert "log[0], durable to InPlace, was changed in place" in violation.said
