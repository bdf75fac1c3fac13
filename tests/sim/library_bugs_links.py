"""Links, exactly-once and broadcasts with one mistake each: the simulator has to find them."""

from perseus.algo import Id, Process, View, eventually
from perseus.algo.library.broadcast import BestEffort, Causal, Reliable, TotalOrder
from perseus.algo.library.broadcast.properties import all_agree
from perseus.algo.library.broadcast.reliable import Item
from perseus.algo.library.exactly_once import Call, ExactlyOnce, Post
from perseus.algo.library.links import (
    Carried,
    Carry,
    FifoTalk,
    PerfectLinks,
    PerfectTalk,
    StubbornTalk,
)
from perseus.algo.library.raft import Propose


class ForgetsWhatItInsistsOn(StubbornTalk):
    """Gives up in a crash what it was to send."""

    def start(self) -> None:
        self.insisted = {}
        super().start()


class ForgetsWhatArrived(PerfectTalk):
    """Delivers again after a crash what is sent again."""

    def start(self) -> None:
        self.received, self.ahead = {}, set()
        super().start()


class AcknowledgesTooMuch(PerfectTalk):
    """Says of the highest number that all up to it have arrived."""

    def carry(self, sender: Id, carry: Carry) -> None:
        super().carry(sender, carry)
        self.send(sender, Carried(carry.number))


class DeliversAsItComes(FifoTalk):
    """Does not wait for what was conveyed before."""

    def take(self, sender: Id, carry: Carry) -> None:
        PerfectLinks.take(self, sender, carry)


class CountsAnew(FifoTalk):
    """Begins again with number 1 after a crash: the receiver takes it for a repetition."""

    def start(self) -> None:
        self.conveyed = {}
        super().start()


class ForgetsAnswers(ExactlyOnce):
    """Does a call again that comes again after a crash."""

    def start(self) -> None:
        self.answered = {}
        super().start()


class PostsPastTheOutbox(ExactlyOnce):
    """Sends the consequence as a plain message."""

    def do(self, client: Id, call: Call) -> int:
        self.total += call.amount
        self.answered[client] = (call.sequence, self.total)
        self.send(self.everyone[0], Post(client, call.sequence, call.amount))
        return self.total


class AnswersFirst(ExactlyOnce):
    """Has its memory of calls on disk one step before their effect."""

    def do(self, client: Id, call: Call) -> int:
        self.answered[client] = (call.sequence, self.total + call.amount)
        self.after(0.0, self.do_later, client, call)
        return self.total + call.amount

    def do_later(self, client: Id, call: Call) -> None:
        self.total += call.amount
        self.convey(self.everyone[0], Post(client, call.sequence, call.amount))


class SendsWithoutLinks(BestEffort):
    """Trusts the network."""

    def announce(self, item: Item) -> None:
        for process in self.everyone:
            self.send(process, item)


class PassesNothingOn(Reliable):
    """Lets the origin do it all, which may die."""

    def item(self, sender: Id, item: Item) -> None:
        if item.key not in self.known:
            self.known.add(item.key)
            self.deliver_item(item)


class ForgetsWhatItKnew(Reliable):
    """Takes what is passed on for something new, after a crash."""

    def start(self) -> None:
        self.known = set()
        super().start()


class WaitsForNothing(Causal):
    """Delivers effects before their causes."""

    def is_ready(self, item: Item) -> bool:
        return True


class ForgetsWhatWaits(Causal):
    """What waits is lost in a crash, and the links will not bring it again."""

    def start(self) -> None:
        self.waiting = []
        super().start()


class ProposesAnew(TotalOrder):
    """Gives a repetition a new number, so that Raft's sessions do not know it."""

    def propose_next(self, leader: Id | None = None) -> None:
        super().propose_next(leader)
        if self.is_proposing:
            self.tries = getattr(self, "tries", self.restarts * 1000) + 1
            number = self.done + 1
            again = Propose(number + 1000 * self.tries, (self.id, number))
            self.send(self.leader or self.id, again)


class BestEffortAgreement(BestEffort):
    """No mistake of best effort: it does not promise what is asked of it here."""


@eventually(BestEffortAgreement, within_s=90.0)
def the_living_agree(view: View[BestEffortAgreement]) -> bool:
    return all_agree(view)


ALL: list[type[Process]] = [
    ForgetsWhatItInsistsOn,
    ForgetsWhatArrived,
    AcknowledgesTooMuch,
    DeliversAsItComes,
    CountsAnew,
    ForgetsAnswers,
    PostsPastTheOutbox,
    AnswersFirst,
    SendsWithoutLinks,
    PassesNothingOn,
    ForgetsWhatItKnew,
    WaitsForNothing,
    ForgetsWhatWaits,
    ProposesAnew,
]
