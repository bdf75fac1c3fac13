"""Takes the steps of a run again, from its traces, and looks at the same properties.

The same class, given the same inputs, takes the same steps: so its whole state is there
after each of them, though only the inputs were written down. What it sends and makes
durable is compared with what it did; a difference says that the trace is not true, or that
the algorithm depends on what it must not (a clock, chance, or files of its own).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from perseus.algo.codec import Codec
from perseus.algo.kept import opened
from perseus.algo.layout import Layout
from perseus.algo.process import Handler, Id, Place, Process
from perseus.algo.values import Values
from perseus.hosting import trace
from perseus.hosting.merge import STEPS, Line, Mark, Traces, last_fault, mark_of
from perseus.hosting.run import Run, root
from perseus.sim.trace import EVENTS_MAXIMUM, Happened
from perseus.sim.watch import UNSEEN, Violation, Watch

TRACE = "trace"


@dataclass(slots=True)
class Checked:
    """What a run's traces say."""

    # None when nothing speaks against the run.
    violation: Violation | None = None
    # "held", "reached", "not reached", or why it was not judged, by kind and name.
    properties: dict[tuple[str, str], str] = field(default_factory=dict)
    steps: int = 0
    messages: int = 0
    crashes: int = 0
    lasted_s: float = 0.0
    # What is not known of the run, in sentences; what held, held of the rest.
    missing: Sequence[str] = ()
    # The last events, as ``sim.diagram`` draws them.
    events: Sequence[Happened] = ()


class _Chance:
    """Gives once more what chance gave."""

    def __init__(self) -> None:
        self.left: deque[Any] = deque()

    def _next(self) -> Any:
        if not self.left:
            raise Violation(TRACE, "it asks chance for more than it did", 0.0)
        return self.left.popleft()

    def random(self) -> float:
        return float(self._next())

    def uniform(self, low: float, high: float) -> float:
        return float(self._next())

    def below(self, count: int) -> int:
        return int(self._next())


class _Timer:
    def cancel(self) -> None:
        """It is fired when the trace says so."""


class Replay:
    """One run; a ``Host``, and what ``Watch`` watches."""

    seed = 0
    settle_s = 0.0

    def __init__(self, run: Run, layout: Layout, traces: Traces) -> None:
        self.now = 0.0
        self.steps = self.messages = self.crashes = 0
        self._run = run
        self._layout = layout
        self._traces = traces
        self._codec = Codec.of(layout)
        self.taken = Values(self._codec).taken
        self._watch = Watch(self, layout)
        for group in layout.groups.values():
            self._watch.add(group.kind)
        self._processes: dict[Id, Process] = {}
        self._classes: dict[Id, tuple[type[Process], Place, dict[str, Any]]] = {}
        self._timers: dict[Id, list[tuple[Handler, tuple[Any, ...]]]] = {}
        self._own_s = 0.0
        # Whether one of them, who keep time by one clock, has taken a step.
        self._has_clients = False
        self._sent: dict[Mark, int] = {}
        self._numbers: dict[Mark, int] = {}
        # The faults that have not been healed: of whom, and which.
        self._suffering: set[tuple[Id, str]] = set()
        self._events: deque[Happened] = deque(maxlen=EVENTS_MAXIMUM)

    def run(self) -> Checked:
        """To the end of the traces, or to the first violation."""
        lines = list(self._traces.merged())
        violation = None
        try:
            self._go(lines)
        except Violation as found:
            violation = found
        return Checked(
            violation,
            self._judged(lines),
            self.steps,
            self.messages,
            self.crashes,
            self.now,
            self._missing(lines),
            list(self._events),
        )

    def _missing(self, lines: Sequence[Line]) -> list[str]:
        lost = ", ".join(sorted(self._lost_clients(lines)))
        told = "{} lost what it had seen, and with it the history that is judged"
        return [*self._traces.missing, *([told.format(lost)] if lost else [])]

    def _go(self, lines: Sequence[Line]) -> None:
        settled = last_fault(lines)
        may_settle = not self._traces.ends_early
        if settled < 0 and may_settle:
            self._watch.settle()
        first_s = lines[0]["at"] if lines else 0.0
        for place, line in enumerate(lines):
            self.now = max(self.now, line["at"] - first_s)
            self._take(line)
            if place == settled and may_settle and not self._suffering:
                self._watch.settle()
        for process in self._processes:
            self._look_for_unseen(process)
        if not self._lost_clients(lines):
            self._watch.judge()

    def _lost_clients(self, lines: Sequence[Line]) -> set[Id]:
        """Clients that were not spared: what they had seen is gone."""
        clients = self._run.clients
        return {line["p"] for line in lines if line.get("l") and root(line["p"]) in clients}

    def _judged(self, lines: Sequence[Line]) -> dict[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        awaited = {each.name for each in self._watch.awaited}
        for each in self._watch.properties:
            said = "held"
            if each.kind == "sometimes":
                said = "reached" if each.name in self._watch.reached else "not reached"
            elif each.kind == "eventually" and self._traces.ends_early:
                said = "not judged: a part of the traces is not there"
            elif each.kind == "eventually" and self._suffering:
                names = sorted({process for process, _ in self._suffering})
                said = f"not judged: faults go on at {', '.join(names)}"
            elif each.kind == "eventually" and each.name in awaited:
                since = "the last fault" if last_fault(lines) >= 0 else "the beginning"
                said = f"not judged: the trace ends within {each.within_s:g} s of {since}"
            elif each.kind == "at_end" and (lost := self._lost_clients(lines)):
                said = f"not judged: {', '.join(sorted(lost))} lost what it had seen"
            if said == "held" and self._traces.missing:
                said = "held, as far as the traces go"
            found[each.kind, each.name] = said
        return found

    # The host's half.

    def knows(self, to: Id) -> bool:
        """All are in groups."""
        return False

    def now_s(self, process: Process) -> float:
        """The time that the process saw in this step."""
        return self._own_s

    def after(
        self, process: Process, seconds: float, handler: Handler, arguments: tuple[Any, ...]
    ) -> _Timer:
        """Kept under its number."""
        self._timers[process.id].append((handler, arguments))
        return _Timer()

    # Events.

    def _take(self, line: Line) -> None:
        kind, process = line["k"], line.get("p", "")
        if kind in STEPS:
            self._step(line)
        elif kind in ("crash", "raised"):
            self.crashes += kind == "crash"
            self._events.append(Happened(self.now, "crash", process, line["what"]))
            self._suffering.discard((process, "pause"))
            self._down(root(process))
        elif kind == "stuck":
            self._events.append(Happened(self.now, kind, process, line["what"]))
        elif kind in ("fault", "heal"):
            said = f"{process}: {line['what'] or 'healed'}"
            self._events.append(Happened(self.now, "fault", process, said))
            word = line["what"].partition(" ")[0]
            if kind == "heal":
                self._suffering = {each for each in self._suffering if each[0] != process}
            elif word != "kill":
                self._suffering.add((process, word))

    def _down(self, node: Id) -> None:
        for process in [each for each in self._processes if root(each) == node]:
            self._look_for_unseen(process)
            del self._processes[process]
        self._refresh()

    def _look_for_unseen(self, process: Id) -> None:
        if said := self._processes[process]._host_unseen():
            raise Violation(UNSEEN, said, self.now)

    def _refresh(self) -> None:
        self._watch.refresh([self._processes[each] for each in sorted(self._processes)])

    def _step(self, line: Line) -> None:
        self.steps += 1
        self._own_s = line["now"]
        if not self._has_clients and root(line["p"]) in self._run.clients:
            self._has_clients = True
            self._watch.clocks_began(self._own_s - self.now)
        self._tell(line)
        process = self._begin(line) if line["k"] == "start" else self._processes.get(line["p"])
        if process is None:
            raise self._untrue(line, "takes a step before it starts")
        chance = process.random
        assert isinstance(chance, _Chance)
        chance.left = deque(line.get("r", ()))
        try:
            self._handle(line, process)
        except Violation as violation:
            raise self._untrue(line, violation.said) from None
        except Exception as error:
            raise self._untrue(line, f"raises {type(error).__name__}: {error}") from error
        self._compare(line, process, len(chance.left))
        if process._is_over:
            self._processes.pop(process.id, None)
            self._refresh()
        self._watch.after_step(process)

    def _begin(self, line: Line) -> Process:
        name = line["p"]
        if name == root(name):
            self._down(name)
            place = self._run.place(name, line["l"])
            group = self._layout.groups[place.group]
            self._classes[name] = (group.kind, place, dict(group.options))
        if name not in self._classes:
            raise self._untrue(line, "was started by nobody")
        kind, place, options = self._classes[name]
        decode = self._codec.decode
        of = trace.content_of
        disk = {decode(of(key)): self.taken(decode(of(value))) for key, value in line["d"]}
        self._timers[name] = []
        process = kind._host_create(place, self, _Chance(), disk, options)
        self._processes[name] = process
        self._refresh()
        return process

    def _handle(self, line: Line, process: Process) -> None:
        if line["k"] == "start":
            process._host_start()
        elif line["k"] == "timer":
            handler, arguments = self._timers[process.id][line["i"]]
            if getattr(handler, "__name__", "") != line["what"]:
                raise Violation(TRACE, "has another timer of that number", self.now)
            handler(*arguments)
        else:
            content = trace.content_of(line["b"])
            number, answers = line["n"], line["a"]
            sent = self._sent.get(mark_of(line))
            if sent is not None and sent != trace.checksum(content, number, answers):
                said = f"receives {line['what']}, which is not what {line['from']} sent"
                raise Violation(TRACE, said, self.now)
            message = self._codec.decode(content)
            process._host_deliver(line["from"], message, number, answers)

    def _compare(self, line: Line, process: Process, left: int) -> None:
        changes = process._host_changes()
        sends, process._outbox = process._outbox, []
        spawned, process._spawned = process._spawned, []
        for kind, name, options in spawned:
            place = process._place._replace(id=name, group=name)
            self._classes[name] = (kind, place, options)
            self._watch.add(kind)
        did = line.get("s", [])
        again = [
            [to, trace.checksum(self._codec.encode(message), number, answers)]
            for to, message, number, answers in sends
        ]
        if again != [[to, checksum] for to, _, _, checksum in did]:
            raise self._untrue(line, f"sends {[opened(m) for _, m, *_ in sends]}, and sent {did}")
        durable = trace.checksum_of(self._codec, changes) if changes else None
        if durable != line.get("w"):
            raise self._untrue(line, "makes durable what it did not")
        if left or process._is_over != bool(line.get("e")):
            raise self._untrue(line, "does not end as it did")

    def _untrue(self, line: Line, said: str) -> Violation:
        what = " ".join(str(line.get(key, "")) for key in ("k", "what")).strip()
        return Violation(TRACE, f"{line['p']} at `{what}` {said}", self.now)

    def _tell(self, line: Line) -> None:
        """The event and what it sent, for diagrams."""
        who, what = line["p"], str(line.get("what", ""))
        if line["k"] == "receive":
            number = self._number(mark_of(line))
            self._events.append(Happened(self.now, "receive", who, what, line["from"], number))
        else:
            self._events.append(Happened(self.now, line["k"], who, what))
        for to, mark, said, checksum in line.get("s", ()):
            self.messages += 1
            key = (root(who), line["l"], mark)
            self._sent[key] = checksum
            self._events.append(Happened(self.now, "send", who, said, to, self._number(key)))

    def _number(self, mark: Mark) -> int:
        return self._numbers.setdefault(mark, len(self._numbers) + 1)
