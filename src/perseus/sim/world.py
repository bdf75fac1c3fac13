"""One simulated run: nodes with their processes, disks and clocks, and the network.

::

    world = World(Layout.of(Raft), 5, seed=42, faults=Faults())
    outcome = world.run(60.0)

A *node* is one machine: the processes on it share its fate, its clock and its
disk. The disk commits the changes of steps in their order, each whole or not at
all, some time after the step; what a step sent leaves when its commit and all
before it are done, as on the real host. A crash keeps a random number of the
commits under way, the first ones, and lets nothing out that they would have sent.
"""

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from perseus.algo.codec import Codec
from perseus.algo.durability import Changes, Key, apply
from perseus.algo.kept import Kept, opened
from perseus.algo.layout import Group, Layout
from perseus.algo.process import Handler, Id, Place, Process, UnfitError
from perseus.algo.properties import Property
from perseus.algo.values import Values
from perseus.errors import InvalidError, PerseusError
from perseus.sim.chance import Chance
from perseus.sim.faults import Fault, Faults, plan_of
from perseus.sim.watch import UNSEEN, Outcome, Violation, Watch
from perseus.sim.where import Step

# A run that takes more steps than these is one that does not end.
STEPS_MAXIMUM = 100_000
STEPS_PER_S_MAXIMUM = 5_000
QUEUE_MAXIMUM = 1_000_000

# Clocks count from some time of their own, as those of machines that were started at
# different times; and after a power cut anew from so little.
CLOCK_ORIGIN_MAXIMUM_S = 100_000.0
CLOCK_ANEW_MAXIMUM_S = 1.0

Sends = list[tuple[Id, Any, int, int]]
# Told of each thing that happens: when, its kind, to whom, and more of it (see ``trace``).
Tracer = Callable[[float, str, Id, Any], None]


class _Timer:
    """A timer of a process; a crash makes it void with its incarnation."""

    __slots__ = ("arguments", "at_s", "handler", "is_cancelled", "life", "process", "slept_s")

    def __init__(
        self,
        process: Process,
        node: "_Node",
        at_s: float,
        handler: Handler,
        arguments: tuple[Any, ...],
    ) -> None:
        self.process = process
        self.life = node.life
        # When it is due, unless its machine sleeps longer than it had by now.
        self.at_s = at_s
        self.slept_s = node.slept_s
        self.handler = handler
        self.arguments = arguments
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class _Node:
    """A machine: up, down or paused; its disk, its clock, the processes on it."""

    __slots__ = (
        "asleep_s", "classes", "clock_base_s", "clock_rate", "clock_since_s", "commit_s",
        "crash_due", "disks", "is_client", "is_connected", "is_up", "life", "name", "paused",
        "pending", "processes", "restarts", "slept_s",
    )  # fmt: skip

    def __init__(self, name: str, group: Group) -> None:
        self.name = name
        self.is_client = group.is_client
        self.is_connected = group.is_connected
        self.is_up = False
        # Counts starts of the node; what belongs to an earlier one is void.
        self.life = 0
        # How many faults hold it still, and what waits meanwhile.
        self.paused: list[Any] | None = None
        self.processes: dict[Id, Process] = {}
        self.restarts: dict[Id, int] = {}
        self.disks: dict[Id, dict[Key, Any]] = {}
        # Commits under way, the oldest first: whose, what, and what is sent and begun after.
        self.pending: deque[tuple[Process, Changes, Sends, list[Any]]] = deque()
        self.commit_s = 0.0
        # The fault that ends it at its next commit, if one is to.
        self.crash_due: Fault | None = None
        # Its clock reads base + rate * (true time - since).
        self.clock_base_s = 0.0
        self.clock_rate = 1.0
        self.clock_since_s = 0.0
        # What it reads, and when it fell asleep, as long as the machine sleeps; and for how long
        # it slept in all.
        self.asleep_s: tuple[float, float] | None = None
        self.slept_s = 0.0
        self.classes: dict[Id, tuple[type[Process], Place, dict[str, Any]]] = {}


class World:
    """See the module. ``faults_plan`` replaces what would be drawn from the seed."""

    def __init__(
        self,
        layout: Layout,
        nodes: int,
        seed: int,
        faults: Faults | None = None,
        *,
        faults_plan: Sequence[Fault] | None = None,
        until_s: float = 60.0,
        settle_s: float = 0.0,
        trace: Tracer | None = None,
    ) -> None:
        self.now = 0.0
        self.seed = seed
        self.faults = (faults or Faults()).of_seed(Chance(seed, "world"))
        self.until_s = until_s
        self.settle_s = settle_s
        self.steps = 0
        # The one under way.
        self._stepping: tuple[Process, Handler, tuple[Any, ...]] | None = None
        self.messages = 0
        self.crashes = 0
        self._trace = trace
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._chance = Chance(seed, "network")
        self._random = self._chance.random
        self._disk_random = Chance(seed, "disk").random
        self._blocked: dict[tuple[str, str], int] = {}
        self._nodes: dict[str, _Node] = {}
        self._node_of: dict[Id, _Node] = {}
        self._watch = Watch(self, layout)
        # What could not go to another machine, or to a disk, does not go here either.
        self.taken = _taker(layout)
        self._use(self.faults)
        self._build(layout, nodes)
        if faults_plan is None:
            faults_plan = plan_of(self.faults, layout.servers(nodes), until_s, seed)
        self.plan = list(faults_plan)
        for fault in self.plan:
            self._at(fault.at_s, self._befall, fault)

    # Running.

    def run(self) -> Outcome:
        """To its end, or to the first violation of a property."""
        try:
            # A property may be broken by the very first step.
            for node in self._nodes.values():
                self._start_node(node)
            self._pass(self.until_s)
            self.faults = self.faults.quiet()
            self._use(self.faults)
            for node in self._nodes.values():
                node.commit_s = self.faults.commit_s
                node.crash_due = None
            self._watch.settle()
            self._pass(self.until_s + max(self.settle_s, self._watch.settle_s))
            for node in self._nodes.values():
                self._look_for_unseen(node)
            self._watch.end()
        except Violation as violation:
            return self._watch.outcome(violation)
        except PerseusError as error:
            # The program cannot be meant so; who wrote it is to know where.
            raise type(error)(f"{self._where()}: {error.message}", hint=error.hint) from error
        return self._watch.outcome(None)

    def broken(self, name: str, said: str) -> Outcome:
        """How it went when it was left in the middle of a step."""
        return self._watch.outcome(Violation(name, said, self.now))

    @property
    def step(self) -> Step | None:
        """The one under way."""
        return None if self._stepping is None else Step(*self._stepping)

    def _where(self) -> str:
        step = self.step
        return f"seed {self.seed}, after {self.now:.3f} s{f', {step}' if step else ''}"

    def _pass(self, until_s: float) -> None:
        queue, limit = self._queue, STEPS_MAXIMUM + int(STEPS_PER_S_MAXIMUM * until_s)
        watch, pop = self._watch, heappop
        while queue and queue[0][0] <= until_s:
            self.now, _, function, arguments = pop(queue)
            function(*arguments)
            if self.steps > limit or len(queue) > QUEUE_MAXIMUM:
                raise Violation("bounds", "the run takes steps without end", self.now)
            if watch.is_settled:
                return
        self.now = max(self.now, until_s)

    def _use(self, faults: Faults) -> None:
        """From now on the network behaves so."""
        self._loss = faults.loss
        self._doubled = faults.loss + faults.duplication
        self._late = self._doubled + faults.late_share
        self._delay_least_s = faults.delay_least_s
        self._delay_span_s = faults.delay_most_s - faults.delay_least_s
        self._late_s = faults.late_s

    def _at(self, at_s: float, function: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heappush(self._queue, (at_s, self._number, function, arguments))

    # Building.

    def _build(self, layout: Layout, nodes: int) -> None:
        groups = layout.members(nodes)
        for name, ids in groups.items():
            group = layout.groups[name]
            for process_id in ids:
                node = self._nodes[process_id] = _Node(process_id, group)
                drift = Chance(self.seed, f"clock {process_id}")
                if not group.is_client:
                    most = self.faults.clock_drift
                    node.clock_rate = 1.0 + drift.uniform(-most, most)
                    origin = Chance(self.seed, f"clock of {process_id}")
                    node.clock_base_s = origin.uniform(0.0, CLOCK_ORIGIN_MAXIMUM_S)
                node.commit_s = self.faults.commit_s
                self._place(node, group.kind, Place(process_id, name, groups), dict(group.options))
                self._watch.add(group.kind)

    def _place(
        self, node: _Node, kind: type[Process], place: Place, options: dict[str, Any]
    ) -> None:
        node.classes[place.id] = (kind, place, options)
        node.disks.setdefault(place.id, {})
        node.restarts.setdefault(place.id, -1)
        self._node_of[place.id] = node

    def _start_node(self, node: _Node) -> None:
        node.is_up = True
        node.life += 1
        # What was spawned is spawned again by what was there first.
        first = {key: value for key, value in node.classes.items() if "/" not in key}
        for process_id in first:
            self._start(node, process_id)

    def _start(self, node: _Node, process_id: Id) -> None:
        kind, place, options = node.classes[process_id]
        node.restarts[process_id] += 1
        place = place._replace(restarts=node.restarts[process_id])
        name = f"{process_id} {place.restarts}"
        process = kind._host_create(
            place, self, Chance(self.seed, name), node.disks[process_id], options
        )
        node.processes[process_id] = process
        self._watch.refresh(self._all_processes())
        if self._trace is not None:
            self._trace(self.now, "start", process_id, None)
        self._step(node, process, process._host_start, ())

    def _all_processes(self) -> list[Process]:
        return [process for node in self._nodes.values() for process in node.processes.values()]

    # The host's half.

    def now_s(self, process: Process) -> float:
        """The clock of the process's node."""
        return self._clock(self._node_of[process.id])

    def _clock(self, node: _Node) -> float:
        if node.asleep_s is not None:
            return node.asleep_s[0]
        return node.clock_base_s + node.clock_rate * (self.now - node.clock_since_s)

    def after(
        self, process: Process, seconds: float, handler: Handler, arguments: tuple[Any, ...]
    ) -> _Timer:
        """Fires by the clock of the process's node."""
        node = self._node_of[process.id]
        at_s = self.now + seconds / node.clock_rate
        timer = _Timer(process, node, at_s, handler, arguments)
        self._number += 1
        heappush(self._queue, (at_s, self._number, self._fire, (node, timer)))
        return timer

    def knows(self, to: Id) -> bool:
        """All are in groups."""
        return False

    # Steps.

    def _fire(self, node: _Node, timer: _Timer) -> None:
        if timer.is_cancelled or timer.life != node.life or timer.process._is_over:
            return
        if node.paused is not None:
            node.paused.append((self._fire, (node, timer)))
            return
        if timer.slept_s != node.slept_s:
            # It counted only while the machine was awake.
            timer.at_s += node.slept_s - timer.slept_s
            timer.slept_s = node.slept_s
            if timer.at_s > self.now:
                self._at(timer.at_s, self._fire, node, timer)
                return
        timer.is_cancelled = True
        if self._trace is not None:
            self._trace(self.now, "timer", timer.process.id, timer.handler.__name__)
        self._step(node, timer.process, timer.handler, timer.arguments)

    def _deliver(
        self, node: _Node, to: Id, sender: Id, message: Any, number: int, answers: int, mark: int
    ) -> None:
        process = node.processes.get(to)
        if process is None:
            return
        if node.paused is not None:
            arguments = (node, to, sender, message, number, answers, mark)
            node.paused.append((self._deliver, arguments))
            return
        if message.__class__ is Kept:
            message = message.open()
        if self._trace is not None:
            self._trace(self.now, "receive", to, (sender, message, mark))
        self._step(node, process, process._host_deliver, (sender, message, number, answers))

    def _step(
        self, node: _Node, process: Process, handler: Handler, arguments: tuple[Any, ...]
    ) -> None:
        """One atomic step, and what follows from it."""
        self.steps += 1
        self._stepping = process, handler, arguments
        try:
            handler(*arguments)
        except (Violation, UnfitError):
            raise
        except (Exception, SystemExit) as error:
            self._watch.crashed(process, error)
            self._crash_for(node, node.life, self.faults.lasts_s, is_in_step=True)
            self._stepping = None
            return
        changes, sends, spawned = process._changes, process._outbox, process._spawned
        if changes or node.pending or spawned:
            process._outbox, process._spawned = [], []
            self._commit(node, process, process._host_changes(), sends, spawned)
        elif sends:
            process._outbox = []
            self._send_all(node, process.id, sends)
        if process._is_over:
            self._end(node, process)
        self._watch.after_step(process)
        self._stepping = None

    def _commit(
        self, node: _Node, process: Process, changes: Changes, sends: Sends, spawned: list[Any]
    ) -> None:
        node.pending.append((process, changes, sends, spawned))
        due = node.crash_due
        if due is not None and changes and due.kind == "crash-before-commit":
            self._at(self.now, self._crash_for, node, node.life, due.lasts_s)
            return
        done_s = self.now + node.commit_s * self._disk_random()
        self._at(done_s, self._committed, node, node.life)

    def _committed(self, node: _Node, life: int) -> None:
        """The oldest commit is done; later ones may not overtake it."""
        if life != node.life or not node.pending:
            return
        process, changes, sends, spawned = node.pending.popleft()
        apply(node.disks[process.id], changes)
        for kind, name, options in spawned:
            self._place(node, kind, process._place._replace(id=name, group=name), options)
            self._watch.add(kind)
            self._start(node, name)
        self._send_all(node, process.id, sends)
        due = node.crash_due
        if due is not None and changes and due.kind == "crash-after-send":
            self._crash_for(node, life, due.lasts_s)

    def _send_all(self, node: _Node, sender: Id, sends: Sends) -> None:
        random, blocked, nodes = self._random, self._blocked, self._node_of
        for to, message, number, answers in sends:
            self.messages = mark = self.messages + 1
            target = nodes.get(to)
            if target is None:
                raise InvalidError(
                    f"{sender} sends to {to!r}, which is nobody",
                    hint="ids are in self.peers and self.group(name)",
                )
            drawn = random()
            if self._trace is not None:
                self._trace(self.now, "send", sender, (to, opened(message), mark))
            if target is node:
                delay_s = self._delay_least_s
            elif drawn < self._loss or (blocked and (node.name, target.name) in blocked):
                continue
            else:
                delay_s = self._delay_least_s + self._delay_span_s * random()
            arguments = (target, to, sender, message, number, answers, mark)
            if drawn < self._late and target is not node:
                delay_s += self._late_s * random()
                if drawn < self._doubled and not (node.is_connected or target.is_connected):
                    self._at(self.now + self._late_s * random(), self._deliver, *arguments)
            self._number += 1
            heappush(self._queue, (self.now + delay_s, self._number, self._deliver, arguments))

    def _end(self, node: _Node, process: Process) -> None:
        node.processes.pop(process.id, None)
        self._watch.refresh(self._all_processes())

    # Faults.

    def _befall(self, fault: Fault) -> None:
        if self._trace is not None:
            self._trace(self.now, "fault", fault.nodes[0], fault)
        over_s = self.now + fault.lasts_s
        nodes = [self._nodes[name] for name in fault.nodes if name in self._nodes]
        if fault.kind in ("partition", "isolate", "one-way"):
            pairs = self._cut(fault)
            for pair in pairs:
                self._blocked[pair] = self._blocked.get(pair, 0) + 1
            self._at(over_s, self._heal, pairs)
        for node in nodes:
            if fault.kind in ("crash", "power-cut"):
                self._crash_for(node, node.life, fault.lasts_s)
                if fault.kind == "power-cut" and not node.is_up:
                    self._begin_clock(node)
            elif fault.kind == "death":
                self._die(node)
            elif fault.kind in ("crash-before-commit", "crash-after-send") and node.is_up:
                node.crash_due = fault
            elif fault.kind in ("pause", "sleep") and node.is_up and node.paused is None:
                node.paused = []
                if fault.kind == "sleep":
                    node.asleep_s = (self._clock(node), self.now)
                self._at(over_s, self._resume, node, node.life)
            elif fault.kind == "slow-disk":
                node.commit_s = fault.amount
                self._at(over_s, self._mend_disk, node)
            elif fault.kind == "clock":
                self._set_clock(node, fault.amount)

    def _cut(self, fault: Fault) -> list[tuple[str, str]]:
        """Who does not reach whom: every pair between the two sides, one way or both."""
        inside = set(fault.nodes)
        outside = [node.name for node in self._nodes.values() if node.name not in inside]
        servers = [name for name in outside if not self._nodes[name].is_client]
        others = outside if fault.kind == "isolate" else servers
        pairs = [(one, other) for one in fault.nodes for other in others]
        if fault.kind == "one-way":
            return pairs
        return pairs + [(other, one) for one, other in pairs]

    def _heal(self, pairs: list[tuple[str, str]]) -> None:
        for pair in pairs:
            self._blocked[pair] -= 1
            if not self._blocked[pair]:
                del self._blocked[pair]

    def _crash_for(self, node: _Node, life: int, seconds: float, is_in_step: bool = False) -> None:
        if node.is_up and node.life == life:
            if not is_in_step:
                self._look_for_unseen(node)
            self._crash(node)
            self._at(self.now + seconds, self._restart, node, node.life)

    def _crash(self, node: _Node) -> None:
        self.crashes += 1
        if self._trace is not None:
            self._trace(self.now, "crash", node.name, None)
        kept = int(self._disk_random() * (len(node.pending) + 1))
        for process, changes, _, _ in list(node.pending)[:kept]:
            apply(node.disks[process.id], changes)
        node.pending.clear()
        node.is_up = False
        node.life += 1
        node.paused = None
        self._wake(node)
        node.crash_due = None
        node.processes.clear()
        self._watch.refresh(self._all_processes())

    def _die(self, node: _Node) -> None:
        """It does not come back: nobody will start it, and a start that is due is void."""
        if node.is_up:
            self._look_for_unseen(node)
            self._crash(node)
        node.life += 1

    def _look_for_unseen(self, node: _Node) -> None:
        """Raises Violation for what would be lost though no crash may take it."""
        for process in node.processes.values():
            if said := process._host_unseen():
                raise Violation(UNSEEN, said, self.now)

    def _restart(self, node: _Node, life: int) -> None:
        if not node.is_up and node.life == life:
            self._start_node(node)

    def _resume(self, node: _Node, life: int) -> None:
        if node.life != life or node.paused is None:
            return
        waiting, node.paused = node.paused, None
        self._wake(node)
        for function, arguments in waiting:
            self._at(self.now, function, *arguments)

    def _wake(self, node: _Node) -> None:
        """Its clock goes on where it stood."""
        if node.asleep_s is not None:
            node.clock_base_s, since_s = node.asleep_s
            node.clock_since_s = self.now
            node.slept_s += self.now - since_s
            node.asleep_s = None

    def _mend_disk(self, node: _Node) -> None:
        node.commit_s = self.faults.commit_s

    def _begin_clock(self, node: _Node) -> None:
        """It begins anew, as when the machine is switched on: what was read of it before may
        be later than all that is read of it now."""
        chance = Chance(self.seed, f"clock of {node.name} {node.life}")
        node.clock_base_s = chance.uniform(0.0, CLOCK_ANEW_MAXIMUM_S)
        node.clock_since_s = self.now

    def _set_clock(self, node: _Node, ahead_s: float) -> None:
        """It jumps ahead; what timers were set for stays as it is."""
        if node.asleep_s is not None:
            node.asleep_s = (node.asleep_s[0] + ahead_s, node.asleep_s[1])
            return
        node.clock_base_s += node.clock_rate * (self.now - node.clock_since_s) + ahead_s
        node.clock_since_s = self.now

    @property
    def properties(self) -> list[Property]:
        """What is watched in this run."""
        return self._watch.properties


def _taker(layout: Layout) -> Callable[[Any], Any]:
    """What takes the values that processes send and keep; see ``Host``."""
    if any(group.is_simulated for group in layout.groups.values()):
        return lambda value: value
    return Values(Codec.of(layout)).taken
