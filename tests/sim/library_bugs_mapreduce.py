"""MapReduce with one mistake each, for the simulator to find."""

from perseus.algo import Group, Id, Layout, Process, on
from perseus.algo.library.mapreduce import (
    PARTITIONS,
    SPLITS,
    Fetched,
    Finished,
    Kind,
    Master,
    Node,
    Run,
    Task,
)


class CommitsTheLast(Master):
    """Commits a backup attempt's output over the first one's."""

    @on(Finished)
    def finished(self, sender: Id, message: Finished) -> None:
        if message.task.kind is Kind.REDUCE:
            self.reduces.pop(message.task, None)
        super().finished(sender, message)


class LeasesForEver(Master):
    """Waits for a node that is down, however long."""

    lease_s = 1e9


class AddsWhatComesTwice(Node):
    """Adds up numbers as they come."""

    @on(Fetched)
    def fetched(self, sender: Id, message: Fetched) -> None:
        run = self.run
        if run is None or run.task != Task(Kind.REDUCE, message.partition):
            return
        if message.numbers is not None:
            self.got[message.split] = (*self.got.get(message.split, ()), *message.numbers)
        if len(self.got) == SPLITS:
            self._finish(run, sum(sum(numbers) for numbers in self.got.values()))


class FinishesWithWhatItHas(Node):
    """Leaves out what it cannot get."""

    def _fetch(self, run: Run) -> None:
        if self.run is run and self.tries == self.fetches:
            self._finish(run, sum(sum(numbers) for numbers in self.got.values()))
        else:
            super()._fetch(run)


class MixesPartitions(Node):
    """Takes an answer to its last task for one to this."""

    @on(Fetched)
    def fetched(self, sender: Id, message: Fetched) -> None:
        if self.run is not None and self.run.task.kind is Kind.REDUCE:
            number = self.run.task.number % PARTITIONS
            super().fetched(sender, Fetched(message.split, number, message.numbers))


def _with(master: type[Process] = Master, node: type[Process] = Node) -> Layout:
    return Layout(master=Group(master, 1), n=Group(node))


commits_the_last = _with(master=CommitsTheLast)
leases_for_ever = _with(master=LeasesForEver)
adds_what_comes_twice = _with(node=AddsWhatComesTwice)
finishes_with_what_it_has = _with(node=FinishesWithWhatItHas)
mixes_partitions = _with(node=MixesPartitions)
