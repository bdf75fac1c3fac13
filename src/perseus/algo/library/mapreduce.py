"""The master of MapReduce: tasks leased to nodes that crash, each output committed once.

From Dean and Ghemawat, "MapReduce: Simplified Data Processing on Large Clusters" (2004).
The job counts: split ``i`` is a run of numbers, a mapper sends each to the partition of its
rest, and a reducer adds up one partition. Layout ``mapreduce`` is a master and nodes.

Promises: each task's output is committed once, whatever became of its attempts; the result
is that of a run without faults; the job ends, once the nodes and the master are up. A node
keeps a mapper's output on its own disk; while it cannot be had, the mapper runs again
elsewhere (3.3). When no task is left to begin, idle nodes make backup attempts of those
that run (3.6). The paper's master starts anew after a crash; this one is durable.
"""

from dataclasses import dataclass
from enum import Enum

from perseus.algo import (
    Group,
    Id,
    Layout,
    Process,
    View,
    always,
    durable,
    eventually,
    on,
    sometimes,
)

SPLITS = 12
PARTITIONS = 4
SPLIT_SIZE = 50
MASTER = "master"


class Kind(Enum):
    """The two kinds of tasks."""

    MAP = "map"
    REDUCE = "reduce"


@dataclass(frozen=True, slots=True)
class Task:
    """One split to map, or one partition to reduce."""

    kind: Kind
    number: int


@dataclass(frozen=True, slots=True)
class Idle:
    """A node asks for work."""


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt. A reducer is told which node has each split's output, of which attempt."""

    task: Task
    attempt: int
    sources: tuple[tuple[Id, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Working:
    """The attempt goes on: its lease is renewed."""

    task: Task
    attempt: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The attempt's output is on the node's disk; a reducer's is in here."""

    task: Task
    attempt: int
    output: int = 0


@dataclass(frozen=True, slots=True)
class Missing:
    """A reducer cannot get the output of a mapper's attempt."""

    split: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The master has heard, and the node need not say it again."""

    task: Task
    attempt: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """A reducer asks for its partition of a mapper's output."""

    split: int
    attempt: int
    partition: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """The numbers of that partition, or None when they are not here."""

    split: int
    partition: int
    numbers: tuple[int, ...] | None


def mapped(split: int) -> dict[int, tuple[int, ...]]:
    """A mapper: the numbers of a split by partition."""
    numbers = range(split * SPLIT_SIZE, (split + 1) * SPLIT_SIZE)
    return {
        partition: tuple(number for number in numbers if number % PARTITIONS == partition)
        for partition in range(PARTITIONS)
    }


def reduced(partition: int) -> int:
    """What a reducer of a partition has to find."""
    return sum(sum(mapped(split)[partition]) for split in range(SPLITS))


EXPECTED = tuple(reduced(partition) for partition in range(PARTITIONS))
MAPS = tuple(Task(Kind.MAP, number) for number in range(SPLITS))
REDUCES = tuple(Task(Kind.REDUCE, number) for number in range(PARTITIONS))


class Master(Process):
    """Leases tasks, and commits what their attempts bring."""

    lease_s = 2.0

    # The last attempt of all: each has a number of its own, also after a crash.
    attempt: int = durable(0)
    # Of committed mappers, the node and the attempt that have the output.
    maps: dict[Task, tuple[Id, int]] = durable({})
    # Of committed reducers, the attempt and its output.
    reduces: dict[Task, tuple[int, int]] = durable({})

    def start(self) -> None:
        # The lease of each attempt under way: its task, and when it ends unless renewed.
        self.leases: dict[int, tuple[Task, float]] = {}
        # What happened in the last step, for the properties.
        self.has_backup = False
        self.has_rerun = False

    @property
    def is_done(self) -> bool:
        return len(self.reduces) == PARTITIONS

    @on(Idle)
    def idle(self, sender: Id, message: Idle) -> None:
        task = self._choose()
        if task is None:
            return
        self.attempt += 1
        self.leases[self.attempt] = (task, self.now + self.lease_s)
        sources = tuple(self.maps[each] for each in MAPS) if task.kind is Kind.REDUCE else ()
        self.send(sender, Run(task, self.attempt, sources))

    def _choose(self) -> Task | None:
        """A task that nobody runs, else the one that the fewest run: a backup attempt."""
        tasks: tuple[Task, ...] = tuple(each for each in MAPS if each not in self.maps)
        if not tasks:
            tasks = tuple(each for each in REDUCES if each not in self.reduces)
        running = dict.fromkeys(tasks, 0)
        for attempt, (task, until) in list(self.leases.items()):
            if until < self.now:
                del self.leases[attempt]
            elif task in running:
                running[task] += 1
        if not tasks:
            return None
        chosen = min(tasks, key=lambda task: running[task])
        self.has_backup = running[chosen] > 0
        return chosen if running[chosen] < 2 else None

    @on(Working)
    def working(self, sender: Id, message: Working) -> None:
        """A master that was down takes the lease up again."""
        if message.task not in self.maps and message.task not in self.reduces:
            self.leases[message.attempt] = (message.task, self.now + self.lease_s)

    @on(Finished)
    def finished(self, sender: Id, message: Finished) -> None:
        """The first attempt to finish is committed; of later ones nothing is kept."""
        task = message.task
        self.leases.pop(message.attempt, None)
        if task.kind is Kind.MAP:
            self.maps.setdefault(task, (sender, message.attempt))
        else:
            self.reduces.setdefault(task, (message.attempt, message.output))
        self.send(sender, Taken(task, message.attempt))

    @on(Missing)
    def missing(self, sender: Id, message: Missing) -> None:
        """That mapper has to run again, unless it has already."""
        task = MAPS[message.split]
        if not self.is_done and self.maps.get(task, ("", 0))[1] == message.attempt:
            del self.maps[task]
            self.has_rerun = True


class Node(Process):
    """Runs one attempt at a time."""

    idle_s = 0.5
    # Some attempts take long: stragglers.
    map_s = (0.2, 1.0)
    straggle_s = (5.0, 20.0)
    fetch_s = 1.0
    # Times that a fetch is tried before the output is given up.
    fetches = 3

    # By split and attempt, the mapper's output by partition.
    kept: dict[tuple[int, int], tuple[tuple[int, ...], ...]] = durable({})
    # What is finished, and not yet known to be so by the master.
    unheard: dict[Task, tuple[int, int]] = durable({})

    def start(self) -> None:
        self.run: Run | None = None
        self.got: dict[int, tuple[int, ...]] = {}
        self.tries = 0
        self._beat()

    def _beat(self) -> None:
        self.after(self.idle_s, self._beat)
        master = self.group(MASTER)[0]
        for task, (attempt, output) in self.unheard.items():
            self.send(master, Finished(task, attempt, output))
        if self.run is not None:
            self.send(master, Working(self.run.task, self.run.attempt))
        elif not self.unheard:
            self.send(master, Idle())

    @on(Run)
    def begin(self, sender: Id, message: Run) -> None:
        if self.run is not None:
            return
        self.run = message
        is_slow = self.random.random() < 0.1
        seconds = self.straggle_s if is_slow else self.map_s
        if message.task.kind is Kind.MAP:
            self.after(seconds, self._map, message)
        else:
            self.got, self.tries = {}, 0
            self.after(seconds, self._fetch, message)

    def _map(self, run: Run) -> None:
        output = mapped(run.task.number)
        partitions = tuple(output[partition] for partition in range(PARTITIONS))
        self.kept[run.task.number, run.attempt] = partitions
        self._finish(run, 0)

    def _finish(self, run: Run, output: int) -> None:
        self.unheard[run.task] = (run.attempt, output)
        self.run = None
        self.send(self.group(MASTER)[0], Finished(run.task, run.attempt, output))

    @on(Taken)
    def taken(self, sender: Id, message: Taken) -> None:
        if self.unheard.get(message.task, (0, 0))[0] == message.attempt:
            del self.unheard[message.task]

    # A reducer.

    def _fetch(self, run: Run) -> None:
        """Asks for what it has not; after some times it gives the attempt up."""
        if self.run is not run:
            return
        missing = [split for split in range(SPLITS) if split not in self.got]
        self.tries += 1
        if self.tries > self.fetches:
            for split in missing:
                self.send(self.group(MASTER)[0], Missing(split, run.sources[split][1]))
            self.run = None
            return
        for split in missing:
            node, attempt = run.sources[split]
            self.send(node, Fetch(split, attempt, run.task.number))
        self.after(self.fetch_s, self._fetch, run)

    @on(Fetch)
    def fetch(self, sender: Id, message: Fetch) -> None:
        output = self.kept.get((message.split, message.attempt))
        numbers = output[message.partition] if output is not None else None
        self.send(sender, Fetched(message.split, message.partition, numbers))

    @on(Fetched)
    def fetched(self, sender: Id, message: Fetched) -> None:
        run = self.run
        if run is None or run.task != Task(Kind.REDUCE, message.partition):
            return
        if message.numbers is not None:
            self.got[message.split] = message.numbers
        if len(self.got) == SPLITS:
            self._finish(run, sum(sum(numbers) for numbers in self.got.values()))


@always(Master)
def an_output_is_committed_once(view: View[Master]) -> bool:
    """What was committed for a partition is not replaced, in one life of the master."""
    master = view.changed
    before = view.ghost.setdefault(master.restarts, {})
    return all(before.setdefault(task, done) == done for task, done in master.reduces.items())


@always(Master)
def outputs_are_those_of_a_run_without_faults(view: View[Master]) -> bool:
    """Whatever attempts they come from."""
    outputs = view.changed.reduces.items()
    return all(output == EXPECTED[task.number] for task, (_, output) in outputs)


@eventually(Master, within_s=120.0)
def the_job_ends(view: View[Master]) -> bool:
    """Every partition is reduced."""
    return any(master.is_done for master in view.processes)


@sometimes(Master)
def a_backup_attempt_begins(view: View[Master]) -> bool:
    """A straggler is not waited for."""
    return view.changed.has_backup


@sometimes(Master)
def a_mapper_runs_again(view: View[Master]) -> bool:
    """The node that has its output is not there."""
    return view.changed.has_rerun


mapreduce = Layout(master=Group(Master, 1), n=Group(Node))
