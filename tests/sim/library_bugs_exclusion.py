"""Elections, mutual exclusion and leases with one mistake each."""

from perseus.algo import Group, Id, Layout, Process, View, always
from perseus.algo.library.clocks import Stamp
from perseus.algo.library.election import Answer, Bully, Coordinator, Ring, Token
from perseus.algo.library.lease import (
    Acquire,
    Busy,
    Granted,
    Granter,
    Holder,
    Read,
    Store,
    Value,
)
from perseus.algo.library.links import Carry, PerfectLinks
from perseus.algo.library.mutex import Ask, LamportMutex, RicartAgrawala


class FollowsAnybody(Bully):
    """Believes whoever says that it leads."""

    def coordinator(self, sender: Id, message: Coordinator) -> None:
        self.leader = sender
        self.wait(self.patience_s, self.elect)


class WaitsForTheLeaderForGood(Bully):
    """Trusts that who answered will lead."""

    def answer(self, sender: Id, message: Answer) -> None:
        if self.leader is None:
            self.clock.cancel()


class LeadsInSilence(Bully):
    """Tells once that it leads, and trusts the network."""

    def beat(self) -> None:
        self.broadcast(Coordinator())
        self.clock.cancel()


class PassesEverythingOn(Ring):
    """Lets lower numbers go around too."""

    def token(self, sender: Id, token: Token) -> None:
        if token.round == self.round and token.process != self.id and self.leader is None:
            self.convey(self.next, token)
        else:
            super().token(sender, token)


class DrawsAgain(Ring):
    """Forgets its number in a crash, while it is on its way."""

    def start(self) -> None:
        self.number = self.random.below(1_000_000)
        super().start()


class StandsOnce(Ring):
    """Swallows a lower number, and forgets to send its own instead."""

    def stand(self) -> None:
        if self.swallowed == 0:
            super().stand()


class EntersAtTheHead(LamportMutex):
    """Does not wait to hear from everybody."""

    def is_granted(self, mine: Stamp) -> bool:
        return all(mine <= stamp for stamp in self.queue.values())


class OrderDoesNotMatter(LamportMutex):
    """Uses links without order."""

    def take(self, sender: Id, carry: Carry) -> None:
        PerfectLinks.take(self, sender, carry)


class ForgetsTheQueue(LamportMutex):
    """Begins with an empty queue after a crash."""

    def start(self) -> None:
        self.queue = {self.id: self.mine} if self.mine else {}
        super().start()


class ComparesTimesOnly(RicartAgrawala):
    """Two that ask at one time let each other in."""

    def asked(self, sender: Id, message: Ask) -> None:
        mine = self.mine
        if mine is not None and mine.time == message.stamp.time:
            message = Ask(Stamp(message.stamp.time, ""))
        super().asked(sender, message)


class GivesLeaveInside(RicartAgrawala):
    """Looks only whether it waits, not whether it is inside."""

    def asked(self, sender: Id, message: Ask) -> None:
        mine = self.mine
        if self.is_inside:
            self.mine = None
        super().asked(sender, message)
        self.mine = mine


class ForgetsWhoWaits(RicartAgrawala):
    """Does not know after a crash whom it owes an answer."""

    def start(self) -> None:
        self.deferred = []
        super().start()


class Unfenced(Store):
    """Believes whoever believes that it has the lease."""

    def admit(self, token: int, number: int) -> bool:
        self.highest = max(self.highest, (token, number))
        return True


class ReadsDoNotFence(Store):
    """Looks at tokens only where something is written."""

    def read(self, sender: Id, message: Read) -> None:
        self.reply(Value(self.value))


class ForgetsTheToken(Granter):
    """Counts tokens from 1 again after a crash."""

    def start(self) -> None:
        super().start()
        self.token = 0


class GrantsAtOnce(Granter):
    """Does not wait after a crash until what it had granted is over."""

    def start(self) -> None:
        self.until_s = self.now


class ForgetsTheHoldersLife(Granter):
    """Gives a holder that has begun anew the token of its former life."""

    def acquire(self, sender: Id, message: Acquire) -> None:
        super().acquire(sender, Acquire(0))


class CountsFromTheAnswer(Holder):
    """Counts its lease from when it hears of it."""

    def acquired(self, sender: Id, message: Granted | Busy) -> None:
        self.asked_s = self.now
        super().acquired(sender, message)


class Alone(Holder):
    """As it is, but where clocks do not jump more is promised."""


def one_believes(view: View[Holder]) -> bool:
    """Without jumps of clocks no two hold the lease, nor believe it."""
    return not view.changed.holds or sum(holder.holds for holder in view.processes) == 1


always(Alone)(one_believes)
always(CountsFromTheAnswer)(one_believes)


def _leases(
    granter: type[Process] = Granter, store: type[Process] = Store, holder: type[Process] = Holder
) -> Layout:
    return Layout(granter=Group(granter, 1), store=Group(store, 1), holder=Group(holder))


unfenced = _leases(store=Unfenced)
reads_do_not_fence = _leases(store=ReadsDoNotFence)
forgets_the_token = _leases(granter=ForgetsTheToken)
forgets_the_holders_life = _leases(granter=ForgetsTheHoldersLife)
# Where clocks do not jump.
alone = _leases(holder=Alone)
grants_at_once = _leases(granter=GrantsAtOnce, holder=Alone)
counts_from_the_answer = _leases(holder=CountsFromTheAnswer)

ALL: list[type[Process]] = [
    FollowsAnybody,
    WaitsForTheLeaderForGood,
    LeadsInSilence,
    PassesEverythingOn,
    DrawsAgain,
    StandsOnce,
    EntersAtTheHead,
    OrderDoesNotMatter,
    ForgetsTheQueue,
    ComparesTimesOnly,
    GivesLeaveInside,
    ForgetsWhoWaits,
]
LEASES = ["unfenced", "reads_do_not_fence", "forgets_the_token", "forgets_the_holders_life"]
STEADY_LEASES = ["grants_at_once", "counts_from_the_answer"]
