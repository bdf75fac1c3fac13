"""Solutions of the problem set with one mistake each: the problems' clients have to find them."""

from typing import Any

from perseus.algo import Asker, Id, Process, on
from perseus.algo.library.crdt.sets import GSet
from perseus.algo.library.raft import Done, Role
from perseus.algo.workloads import broadcast, counters, echo, g_set, kafka, lin_kv, unique_ids
from perseus.algo.workloads import txn_list_append as lists
from perseus.algo.workloads.caller import CONFLICT, Error
from perseus.algo.workloads.solutions import broadcast as gossip
from perseus.algo.workloads.solutions import counters as merged_counters
from perseus.algo.workloads.solutions import g_set as merged_sets
from perseus.algo.workloads.solutions import kafka as logs
from perseus.algo.workloads.solutions import lin_kv as map_on_raft
from perseus.algo.workloads.solutions import txn_list_append as lists_on_raft


class EchoesTheLast(Process):
    """echo: answers with what it was told before."""

    def start(self) -> None:
        self.last: Any = None

    @on(echo.Echo)
    def echo(self, sender: Id, message: echo.Echo) -> None:
        said, self.last = self.last or message.echo, message.echo
        self.reply(echo.EchoOk(said))


class SaysNothing(Process):
    """echo: never answers."""

    @on(echo.Echo)
    def echo(self, sender: Id, message: echo.Echo) -> None:
        return


class AnswersWithAnother(Process):
    """echo: the answer is of another class."""

    @on(echo.Echo)
    def echo(self, sender: Id, message: echo.Echo) -> None:
        self.reply(message)


class CountsInMemory(Process):
    """unique-ids: begins again after a crash."""

    def start(self) -> None:
        self.given = 0

    @on(unique_ids.Generate)
    def generate(self, sender: Id, message: unique_ids.Generate) -> None:
        self.given += 1
        self.reply(unique_ids.GenerateOk(f"{self.id}-{self.given}"))


class TellsTheTime(Process):
    """unique-ids: two may ask at the same time."""

    @on(unique_ids.Generate)
    def generate(self, sender: Id, message: unique_ids.Generate) -> None:
        self.reply(unique_ids.GenerateOk(int(self.now)))


class TellsOnce(gossip.Node):
    """broadcast: what is lost on the way is not sent again."""

    def gossip(self) -> None:
        return

    @on(broadcast.Broadcast)
    def add(self, sender: Id, message: broadcast.Broadcast) -> None:
        super().add(sender, message)
        self.broadcast(gossip.Gossip((message.message,)))


class HearsInMemory(gossip.Node):
    """broadcast: forgets in a crash what it has acknowledged."""

    def start(self) -> None:
        super().start()
        self.messages.clear()


class TakesArrivalForGranted(gossip.Node):
    """broadcast: takes what it has sent for known there."""

    def gossip(self) -> None:
        super().gossip()
        for peer in self.peers:
            self.known[peer] |= self.messages


class ReplacesWhatItHas(merged_sets.Node):
    """g-set: the set that comes takes the place of its own."""

    @on(merged_sets.Merge)
    def merge(self, sender: Id, message: merged_sets.Merge) -> None:
        self.elements = message.elements


class AddsInMemory(merged_sets.Node):
    """g-set: what it was told is lost in a crash."""

    def start(self) -> None:
        super().start()
        self.elements = GSet()


class ListsTwice(merged_sets.Node):
    """g-set: what is read has an element twice."""

    @on(g_set.Read)
    def read(self, sender: Id, message: g_set.Read) -> None:
        elements = tuple(self.elements.value)
        self.reply(g_set.ReadOk((*elements, *elements[:1])))


class CountsWhatComes(merged_counters.Node):
    """Counters: sends additions on, and counts them as often as they come."""

    def gossip(self) -> None:
        return

    @on(counters.Add)
    def add(self, sender: Id, message: counters.Add) -> None:
        self.counter = self.counter.add("all", message.delta)
        if sender in self.group("client"):
            self.broadcast(message)
            self.reply(counters.AddOk())


class LosesUpdates(merged_counters.Node):
    """Counters: a crash takes additions back that were acknowledged."""

    def start(self) -> None:
        super().start()
        self.counter = type(self.counter)()


class OneNumberForAll(merged_counters.Node):
    """Counters: all nodes raise the same number, and the highest wins."""

    @on(counters.Add)
    def add(self, sender: Id, message: counters.Add) -> None:
        self.counter = self.counter.add("all", message.delta)
        self.reply(counters.AddOk())


class OffsetsOfItsOwn(Process):
    """kafka: each node counts for itself."""

    def start(self) -> None:
        self.logs: dict[str, list[Any]] = {}

    @on(kafka.Send)
    def send_message(self, sender: Id, message: kafka.Send) -> None:
        log = self.logs.setdefault(message.key, [])
        log.append(message.msg)
        self.reply(kafka.SendOk(len(log) - 1))

    @on(kafka.Poll)
    def poll(self, sender: Id, message: kafka.Poll) -> None:
        self.reply(
            kafka.PollOk(
                {
                    key: tuple(enumerate(self.logs.get(key, [])[first:], first))
                    for key, first in message.offsets.items()
                }
            )
        )

    @on(kafka.CommitOffsets)
    def commit(self, sender: Id, message: kafka.CommitOffsets) -> None:
        self.reply(kafka.CommitOffsetsOk())

    @on(kafka.ListCommittedOffsets)
    def list_committed(self, sender: Id, message: kafka.ListCommittedOffsets) -> None:
        self.reply(kafka.ListCommittedOffsetsOk({}))


class PollsSkip(logs.Node):
    """kafka: a poll leaves out a message now and then."""

    def _from(self, key: str, first: int) -> tuple[tuple[int, Any], ...]:
        return tuple(pair for pair in super()._from(key, first) if self.random.below(20))


class PollsBackward(logs.Node):
    """kafka: a poll gives the newest first, at times."""

    def _from(self, key: str, first: int) -> tuple[tuple[int, Any], ...]:
        return super()._from(key, first)[:: 1 if self.random.below(5) else -1]


class CommitsGoBack(logs.Node):
    """kafka: the commit that comes last counts."""

    def apply(self, command: Any) -> Any:
        if isinstance(command, kafka.CommitOffsets):
            self.committed |= command.offsets
            return kafka.CommitOffsetsOk()
        return super().apply(command)


class ReadsItsOwnCopy(map_on_raft.Node):
    """lin-kv: any node answers reads from its own copy, which may be behind."""

    @on(lin_kv.Read)
    def answer_at_once(self, sender: Id, message: lin_kv.Read) -> None:
        self.reply(self.apply(message))


class ReadsAtTheLeader(map_on_raft.Node):
    """lin-kv: a leader answers reads from its own copy, and does not ask whether it still leads.
    It is wrong only while another leads already, for less than a second."""

    @on(lin_kv.Read)
    def answer_at_once(self, sender: Id, message: lin_kv.Read) -> None:
        if self.role is Role.LEADER and self.term_at(self.commit) == self.term:
            self.reply(self.apply(message))
        else:
            self.submit(message)


class SwapsWithoutLooking(map_on_raft.Node):
    """lin-kv: a compare-and-set that does not compare."""

    def apply(self, command: Any) -> Any:
        if isinstance(command, lin_kv.Cas):
            self.state[command.key] = command.to
            return lin_kv.CasOk()
        return super().apply(command)


class AnswersTooEarly(map_on_raft.Node):
    """lin-kv: a write is acknowledged before it is in the log."""

    @on(lin_kv.Write)
    def write(self, sender: Id, message: lin_kv.Write) -> None:
        self.reply(lin_kv.WriteOk())
        self.submit(message)


class _OnCopies(Process):
    """Lists of which each node has its own copy; appends are sent on."""

    def start(self) -> None:
        self.state: dict[Any, tuple[Any, ...]] = {}

    def _do(self, what: str, key: Any, value: Any) -> lists.Step:
        values = self.state.get(key, ())
        if what == "r":
            return what, key, values
        if value not in values:
            self.state[key] = (*values, value)
        return what, key, value

    @on(lists.Txn)
    def txn(self, sender: Id, message: lists.Txn) -> None:
        done = tuple(self._do(*step) for step in message.txn)
        if sender in self.group("client"):
            self.broadcast(message)
            self.reply(lists.TxnOk(done))


class AppendsToCopies(_OnCopies):
    """txn-list-append: the copies see appends in different orders."""


class ReadsBeforeItWrites(lists_on_raft.Node):
    """txn-list-append: reads come from this node's copy, appends go through the log: G-single
    and lost updates."""

    def start(self) -> None:
        super().start()
        self.found: dict[Asker, tuple[lists.Step, ...]] = {}

    @on(lists.Txn)
    def txn(self, sender: Id, message: lists.Txn) -> None:
        reads = tuple(
            (what, key, self.state.get(key, ())) if what == "r" else (what, key, value)
            for what, key, value in message.txn
        )
        self.found[self.asker] = reads
        self.submit(message)

    def reply(self, message: Any, to: Asker | None = None) -> None:
        found = self.found.pop(to, ()) if to else ()
        super().reply(lists.TxnOk(_with_own(found)) if found else message, to)


def _with_own(steps: tuple[lists.Step, ...]) -> tuple[lists.Step, ...]:
    """A transaction at least sees its own appends."""
    own: dict[Any, tuple[Any, ...]] = {}
    made: list[lists.Step] = []
    for what, key, value in steps:
        if what == "append":
            own[key] = (*own.get(key, ()), value)
            made.append((what, key, value))
        else:
            made.append((what, key, (*value, *own.get(key, ()))))
    return tuple(made)


class AppliesStepByStep(lists_on_raft.Node):
    """txn-list-append: each step is a command of its own, others' come between: G1c."""

    def start(self) -> None:
        super().start()
        self.steps: dict[Asker, list[lists.Step]] = {}

    @on(lists.Txn)
    def txn(self, sender: Id, message: lists.Txn) -> None:
        self.steps[self.asker] = []
        for step in message.txn:
            self.submit(lists.Txn((step,)))

    def reply(self, message: Any, to: Asker | None = None) -> None:
        if to is None or not isinstance(message, lists.TxnOk):
            super().reply(message, to)
            return
        done = self.steps.setdefault(to, [])
        done += message.txn
        if not any(asker == to for asker, _ in self.requests):
            super().reply(lists.TxnOk(tuple(done)), to)


class SaysItFailed(lists_on_raft.Node):
    """txn-list-append: says that some transactions were aborted, which were done: G1a."""

    @on(Done)
    def done(self, sender: Id, message: Done) -> None:
        if isinstance(message.result, lists.TxnOk) and self.random.below(5) == 0:
            message = Done(message.sequence, Error(CONFLICT))
        super().done(sender, message)


# Each with the problem that it does not solve.
ALL: dict[type[Process], str] = {
    EchoesTheLast: "echo",
    SaysNothing: "echo",
    AnswersWithAnother: "echo",
    CountsInMemory: "unique-ids",
    TellsTheTime: "unique-ids",
    TellsOnce: "broadcast",
    HearsInMemory: "broadcast",
    TakesArrivalForGranted: "broadcast",
    ReplacesWhatItHas: "g-set",
    AddsInMemory: "g-set",
    ListsTwice: "g-set",
    CountsWhatComes: "g-counter",
    LosesUpdates: "g-counter",
    OneNumberForAll: "pn-counter",
    OffsetsOfItsOwn: "kafka",
    PollsSkip: "kafka",
    PollsBackward: "kafka",
    CommitsGoBack: "kafka",
    ReadsItsOwnCopy: "lin-kv",
    ReadsAtTheLeader: "lin-kv",
    SwapsWithoutLooking: "lin-kv",
    AnswersTooEarly: "lin-kv",
    AppendsToCopies: "txn-list-append",
    ReadsBeforeItWrites: "txn-list-append",
    AppliesStepByStep: "txn-list-append",
    SaysItFailed: "txn-list-append",
}
