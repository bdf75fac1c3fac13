"""Leader election without a majority: the bully, and the ring.

``Bully``: Garcia-Molina, "Elections in a Distributed Computing System" (1982). Who misses the
leader asks all that rank higher; when none of them answers it leads, and tells all. Assumes
crash-stop or processes that come back with nothing, and a *synchronous* network: who does
not answer in time is down. In an asynchronous one, where slow looks like down, nothing says
that only one leads: two may, on two sides of a partition or after a pause. (His paper has
the Invitation algorithm for that case, where each leads a group of its own.) Promised all the
same: nobody follows one that ranks lower than itself; and when messages are timely again,
the highest of the living leads and all follow it.

``Ring``: Chang and Roberts, "An Improved Algorithm for Decentralized Extrema-Finding in
Circular Configurations of Processes" (1979). Each sends its number around the ring, and passes
on higher ones only; whose number comes home leads. Assumes reliable FIFO channels from each to
the next (``links.FifoLinks``, with durable state) and no bound on time whatever.
Promised, always: in one election nobody but the highest is elected. The price is
liveness: while one process is down no election ends, and one that is gone for good
ends them all. Whoever needs one leader at most *and* progress needs a majority: see Raft.
"""

from collections.abc import Callable
from dataclasses import dataclass

from perseus.algo import Id, Timer, View, always, durable, eventually, on, sometimes
from perseus.algo.library.ghosts import lasts
from perseus.algo.library.links import FifoLinks
from perseus.algo.library.mortal import Mortal


@dataclass(frozen=True, slots=True)
class Election:
    """Is anybody there who ranks higher than I?"""


@dataclass(frozen=True, slots=True)
class Answer:
    """Yes."""


@dataclass(frozen=True, slots=True)
class Coordinator:
    """I lead. Said again and again: it is the leader's heartbeat too."""


class Bully(Mortal):
    """The higher in the order of the group, the higher the rank."""

    beat_s = 0.4
    # Longer than a question and its answer take.
    answer_s = 0.6
    # For a leader to be heard of.
    patience_s = (1.5, 2.0)

    leader: Id | None

    def start(self) -> None:
        super().start()
        self.ranks = {process: rank for rank, process in enumerate(self.everyone)}
        self.leader = None
        # Either a wait for answers, or for the leader.
        self.clock: Timer = self.after((0.0, self.answer_s), self.elect)

    def is_above(self, process: Id) -> bool:
        return self.ranks[process] > self.ranks[self.id]

    def wait(self, seconds: float | tuple[float, float], then: Callable[[], None]) -> None:
        self.clock.cancel()
        self.clock = self.after(seconds, then)

    def elect(self) -> None:
        self.leader = None
        higher = [peer for peer in self.peers if self.is_above(peer)]
        for peer in higher:
            self.send(peer, Election())
        self.wait(self.answer_s if higher else 0.0, self.lead)

    @on(Election)
    def election(self, sender: Id, message: Election) -> None:
        if self.is_above(sender):
            return
        self.send(sender, Answer())
        if self.leader == self.id:
            self.send(sender, Coordinator())
        elif self.leader is not None:
            # Somebody misses the leader; better look.
            self.elect()

    @on(Answer)
    def answer(self, sender: Id, message: Answer) -> None:
        if self.leader is None:
            self.wait(self.patience_s, self.elect)

    def lead(self) -> None:
        self.leader = self.id
        self.beat()

    def beat(self) -> None:
        self.broadcast(Coordinator())
        self.wait(self.beat_s, self.beat)

    @on(Coordinator)
    def coordinator(self, sender: Id, message: Coordinator) -> None:
        """Follows who ranks higher; bullies who does not."""
        if self.is_above(sender):
            self.leader = sender
            self.wait(self.patience_s, self.elect)
        elif self.leader == self.id:
            self.send(sender, Coordinator())
        elif self.leader is not None:
            self.elect()


@always(Bully)
def nobody_follows_a_lower_one(view: View[Bully]) -> bool:
    """What the bully promises in any network."""
    process = view.changed
    return process.leader in (None, process.id) or process.is_above(process.leader)


@eventually(Bully, within_s=60.0)
def the_highest_of_the_living_leads(view: View[Bully]) -> bool:
    """And all follow it, for as long as one looks."""
    some = view.changed
    living = {process.id for process in view.processes}
    highest = next(each for each in reversed(some.everyone) if each in living)
    is_over = len(living) <= len(some.everyone) - some.deaths
    right = is_over and all(process.leader == highest for process in view.processes)
    return lasts(view, right, 5.0)


@sometimes(Bully)
def two_lead_at_once(view: View[Bully]) -> bool:
    """What the bully does not promise."""
    return sum(process.leader == process.id for process in view.processes) > 1


@dataclass(frozen=True, slots=True)
class Token:
    """The highest number seen so far on the way around, and whose it is."""

    round: int
    number: int
    process: Id


@dataclass(frozen=True, slots=True)
class Elected:
    """Goes around once when a token has come home."""

    round: int
    process: Id


class Ring(FifoLinks):
    """Several elections one after the other, each with numbers drawn anew."""

    rounds = 5
    pause_s = (0.5, 10.0)

    round: int = durable(0)
    # The own number of this round, whether it is among those on the way, and who won.
    number: int = durable(0)
    takes_part: bool = durable(False)
    leader: Id | None = durable(None)

    def start(self) -> None:
        super().start()
        place = self.everyone.index(self.id)
        self.next = self.everyone[(place + 1) % len(self.everyone)]
        # Tokens that did not come further than here.
        self.swallowed = 0
        self.after(self.pause_s, self.begin)

    def begin(self) -> None:
        """Anybody may, and several at once; the next round when this one is over."""
        if self.round == 0 or (self.leader is not None and self.round < self.rounds):
            self.enter(self.round + 1)
            self.stand()

    def enter(self, round: int) -> None:
        self.round, self.leader, self.takes_part = round, None, False
        self.number = self.random.below(1_000_000)

    def stand(self) -> None:
        """Sends the own number on its way, once a round."""
        if not self.takes_part:
            self.takes_part = True
            self.convey(self.next, Token(self.round, self.number, self.id))

    @on(Token)
    def token(self, sender: Id, token: Token) -> None:
        if token.round > self.round:
            self.enter(token.round)
        if token.round < self.round or self.leader is not None:
            return
        if token.process == self.id:
            self.win(self.id)
        elif (token.number, token.process) > (self.number, self.id):
            self.takes_part = True
            self.convey(self.next, token)
        else:
            self.swallowed += 1
            self.stand()

    def win(self, leader: Id) -> None:
        self.leader = leader
        self.convey(self.next, Elected(self.round, leader))
        self.after(self.pause_s, self.begin)

    @on(Elected)
    def elected(self, sender: Id, message: Elected) -> None:
        if message.round == self.round and self.leader is None:
            self.win(message.process)


@always(Ring)
def only_the_highest_is_elected(view: View[Ring]) -> None:
    """One leader of an election at most, and the right one."""
    process = view.changed
    numbers: dict[Id, int] = view.ghost.setdefault(process.round, {})
    numbers[process.id] = process.number
    if process.leader is not None and process.round:
        highest = max(numbers, key=lambda each: (numbers[each], each))
        assert len(numbers) == len(process.everyone), "not all were asked"
        assert process.leader == highest, f"{process.leader} is not {highest}"


@eventually(Ring, within_s=90.0)
def every_election_ends(view: View[Ring]) -> bool:
    """And all know how."""
    return all(
        process.round == process.rounds and process.leader is not None for process in view.processes
    )


@sometimes(Ring)
def a_number_is_swallowed(view: View[Ring]) -> bool:
    """A lower one than one's own does not come further."""
    return view.changed.swallowed > 0
