"""SWIM: who is a member, found out by few messages, however many members there are.

From Das, Gupta, Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group
Membership Protocol" (2002), with suspicion and incarnation numbers (4.2) and
round-robin probing (4.3). In each period a member pings one other; one that does not answer
is pinged through helpers, then *suspected*, and after a while declared *dead* if it has
not refuted that by a higher incarnation, which only the member itself may choose.
Opinions ride on the pings and their answers.

Promises: who is dead is found dead by all (each member pings every other once a round); in a
timely network nobody else is, for good. Until then anybody may be suspected.
The paper's members crash for good. Here they come back: incarnations are durable, a member
starts with a higher one, and a higher incarnation overrides even a death. The dead are
pinged too, in their turn, or two halves of a network would never find together again.
"""

from dataclasses import dataclass
from enum import IntEnum

from perseus.algo import Id, Timer, View, always, durable, eventually, on, sometimes
from perseus.algo.library.ghosts import lasts, notes
from perseus.algo.library.mortal import Mortal

# Opinions that ride on one message.
NEWS_MAXIMUM = 6


class State(IntEnum):
    """What is thought of a member. In one incarnation, the later overrides the earlier."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2


@dataclass(frozen=True, slots=True)
class Opinion:
    """What is thought of a member in its incarnation."""

    member: Id
    incarnation: int
    state: State

    def overrides(self, other: "Opinion") -> bool:
        """The rules of 4.2, but that a new incarnation overrides a death."""
        return (self.incarnation, self.state) > (other.incarnation, other.state)


News = tuple[Opinion, ...]


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? ``asker`` is who wants to know, perhaps through a helper."""

    number: int
    asker: Id
    news: News


@dataclass(frozen=True, slots=True)
class Ack:
    """``member`` is there."""

    number: int
    asker: Id
    member: Id
    news: News


@dataclass(frozen=True, slots=True)
class PingRequest:
    """Ping ``target`` for me."""

    number: int
    target: Id
    news: News


class Swim(Mortal):
    """One member."""

    period_s = 0.6
    # Less than the period: then helpers are asked.
    patience_s = 0.2
    helpers = 2
    suspicion_s = 2.5
    # How often each opinion is passed on; the paper's lambda log n.
    repeats = 8

    incarnation: int = durable(0)

    def start(self) -> None:
        super().start()
        self.incarnation += 1
        self.number = 0
        self.target: Id | None = None
        self.round: list[Id] = []
        self.opinions = {peer: Opinion(peer, 0, State.ALIVE) for peer in self.peers}
        # By member, how often its opinion is still to be passed on.
        self.hot: dict[Id, int] = {}
        self.suspicions: dict[Id, Timer] = {}
        # How often it refuted a suspicion, and was told of another by a helper.
        self.refuted = self.helped = 0
        self.after((0.0, self.period_s), self.period)

    # Probing.

    def period(self) -> None:
        """Judges the last target, and takes the next."""
        if self.target is not None:
            self.suspect(self.target)
        self.number += 1
        self.target = self._next_target()
        if self.target is not None:
            self.send(self.target, Ping(self.number, self.id, self.news_for(self.target)))
            self.after(self.patience_s, self.ask_helpers, self.number)
        self.after(self.period_s, self.period)

    def _next_target(self) -> Id | None:
        """Each once a round, in an order that changes."""
        if not self.round:
            self.round = list(self.peers)
        return self.round.pop(self.random.below(len(self.round))) if self.round else None

    def ask_helpers(self, number: int) -> None:
        if self.target is None or number != self.number:
            return
        others = [peer for peer in self.peers if peer != self.target]
        for _ in range(min(self.helpers, len(others))):
            helper = others.pop(self.random.below(len(others)))
            self.send(helper, PingRequest(number, self.target, self.news_for(self.target)))

    @on(PingRequest)
    def ping_request(self, sender: Id, message: PingRequest) -> None:
        self.take_all(message.news)
        ping = Ping(message.number, sender, self.news_for(message.target))
        self.send(message.target, ping)

    @on(Ping)
    def ping(self, sender: Id, message: Ping) -> None:
        self.take_all(message.news)
        ack = Ack(message.number, message.asker, self.id, self.news_for(sender))
        self.send(sender, ack)

    @on(Ack)
    def ack(self, sender: Id, message: Ack) -> None:
        self.take_all(message.news)
        if message.asker != self.id:
            self.send(message.asker, message)
        elif message.number == self.number and message.member == self.target:
            self.target = None
            self.helped += sender != message.member

    # Opinions.

    def suspect(self, member: Id) -> None:
        self.take(Opinion(member, self.opinions[member].incarnation, State.SUSPECT))

    def declare_dead(self, suspicion: Opinion) -> None:
        if self.opinions[suspicion.member] == suspicion:
            self.take(Opinion(suspicion.member, suspicion.incarnation, State.DEAD))

    def take_all(self, news: News) -> None:
        for opinion in news:
            self.take(opinion)

    def take(self, opinion: Opinion) -> None:
        member = opinion.member
        if member == self.id:
            self.refute(opinion)
        elif opinion.overrides(self.opinions[member]):
            self.opinions[member] = opinion
            self.hot[member] = self.repeats
            if member in self.suspicions:
                self.suspicions.pop(member).cancel()
            if opinion.state is State.SUSPECT:
                timer = self.after(self.suspicion_s, self.declare_dead, opinion)
                self.suspicions[member] = timer

    def refute(self, opinion: Opinion) -> None:
        """Others think worse of it than is so: only a higher incarnation overrides that."""
        if opinion.state is not State.ALIVE and opinion.incarnation >= self.incarnation:
            self.incarnation = opinion.incarnation + 1
            self.refuted += 1

    def news_for(self, receiver: Id) -> News:
        """That it is alive, what it thinks of the receiver, and what is new."""
        news = [Opinion(self.id, self.incarnation, State.ALIVE)]
        if receiver in self.opinions:
            news.append(self.opinions[receiver])
        hottest = sorted(self.hot, key=lambda member: (-self.hot[member], member))
        for member in hottest[:NEWS_MAXIMUM]:
            news.append(self.opinions[member])
            self.hot[member] -= 1
            if not self.hot[member]:
                del self.hot[member]
        return tuple(news)


@always(Swim)
def only_a_member_raises_its_incarnation(view: View[Swim]) -> None:
    """Nobody thinks of an incarnation that never was."""
    process, highest = view.changed, view.ghost
    highest[process.id] = max(process.incarnation, highest.get(process.id, 0))
    for opinion in process.opinions.values():
        most = highest.get(opinion.member, 0)
        assert opinion.incarnation <= most, f"{process.id} has {opinion}, which never was"


@always(Swim)
def opinions_only_go_forward(view: View[Swim]) -> None:
    """Old news does not override newer."""
    mine = notes(view)
    for member, opinion in view.changed.opinions.items():
        before = mine.get(member, opinion)
        assert opinion == before or opinion.overrides(before), f"{opinion} after {before}"
        mine[member] = opinion


@eventually(Swim, within_s=90.0)
def all_know_who_is_dead(view: View[Swim]) -> bool:
    """Completeness, and accuracy once messages are timely; for as long as one looks."""
    living = {process.id for process in view.processes}
    some = view.changed
    right = len(living) <= len(some.everyone) - some.deaths and all(
        opinion.state is (State.ALIVE if member in living else State.DEAD)
        for process in view.processes
        for member, opinion in process.opinions.items()
    )
    return lasts(view, right, 5.0)


@sometimes(Swim)
def a_suspicion_is_refuted(view: View[Swim]) -> bool:
    """By who was suspected."""
    return view.changed.refuted > 0


@sometimes(Swim)
def a_helper_saves_a_member(view: View[Swim]) -> bool:
    """A ping gets through by another way."""
    return view.changed.helped > 0


@sometimes(Swim)
def the_dead_come_back(view: View[Swim]) -> bool:
    """A new incarnation of who was declared dead."""
    mine = notes(view)
    for member, opinion in view.changed.opinions.items():
        if mine.get(member) is State.DEAD and opinion.state is State.ALIVE:
            return True
        mine[member] = opinion.state
    return False
