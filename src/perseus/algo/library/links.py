"""Links between processes that crash and come back, over a network that loses messages.

From Cachin, Guerraoui, Rodrigues, "Introduction to Reliable and Secure Distributed
Programming" (2011), chapter 2: stubborn links (module 2.2, "retransmit forever"), and
perfect links on top of them (module 2.3, "eliminate duplicates"), with what they know on
disk, as processes come back (2.7). Numbers for each receiver tell messages apart, let the
sender stop when all up to one have arrived, and make FIFO links of perfect ones.

*Stubborn*: what a process insists on arrives again and again at who is up for long
enough. *Perfect*: what is conveyed arrives at a receiver that comes back, once, and
nothing else arrives. *FIFO*: and in the order in which it was conveyed. A delivery and
what its handler does are one step, so its effect too happens exactly once.

Assumes that the sender comes back after a crash. What is for a receiver that never
comes back is kept for ever.
"""

from dataclasses import dataclass
from typing import Any

from perseus.algo import Id, Process, View, always, durable, eventually, on, sometimes
from perseus.algo.library.ghosts import fresh, notes

# Messages to one receiver that are sent again at one time, and kept early by the receiver.
WINDOW = 32


@dataclass(frozen=True, slots=True)
class Carry:
    """The message with this number, counted from 1 for each receiver."""

    number: int
    message: Any


@dataclass(frozen=True, slots=True)
class Carried:
    """All up to this number have arrived."""

    number: int


class StubbornLinks(Process):
    """Sends until told to cease, also after a crash."""

    resend_s = (0.3, 0.6)

    # By receiver and number: what is sent again and again.
    insisted: dict[tuple[Id, int], Any] = durable({})

    def start(self) -> None:
        super().start()
        self.after(self.resend_s, self._resend)

    def insist(self, to: Id, number: int, message: Any) -> None:
        """Sends, now and again; ``number`` tells it from others to the same receiver."""
        self.insisted[to, number] = message
        self.send(to, message)

    def cease(self, to: Id, number: int) -> None:
        """No more of it."""
        self.insisted.pop((to, number), None)

    def _resend(self) -> None:
        self.after(self.resend_s, self._resend)
        sent: dict[Id, int] = {}
        for to, number in sorted(self.insisted):
            sent[to] = sent.get(to, 0) + 1
            if sent[to] <= WINDOW:
                self.send(to, self.insisted[to, number])


class PerfectLinks(StubbornLinks):
    """``convey`` instead of ``send``; what arrives finds its handler as any message does."""

    # The number of the last message conveyed to each.
    conveyed: dict[Id, int] = durable({})
    # The number up to which all has been delivered from each, and (sender, number) beyond it.
    received: dict[Id, int] = durable({})
    ahead: set[tuple[Id, int]] = durable(set())

    def convey(self, to: Id, message: Any) -> None:
        """It arrives, and once."""
        number = self.conveyed.get(to, 0) + 1
        self.conveyed[to] = number
        self.insist(to, number, Carry(number, message))

    def convey_all(self, message: Any) -> None:
        """To each peer."""
        for peer in self.peers:
            self.convey(peer, message)

    @on(Carry)
    def carry(self, sender: Id, carry: Carry) -> None:
        last = self.received.get(sender, 0)
        if last < carry.number <= last + WINDOW:
            self.take(sender, carry)
        self.send(sender, Carried(self.received.get(sender, 0)))

    def take(self, sender: Id, carry: Carry) -> None:
        """Delivers it, unless it has been."""
        if (sender, carry.number) in self.ahead:
            return
        self.ahead.add((sender, carry.number))
        last = self.received.get(sender, 0)
        while (sender, last + 1) in self.ahead:
            last += 1
            self.ahead.remove((sender, last))
        self.received[sender] = last
        self.arrive(sender, carry.message)

    def arrive(self, sender: Id, message: Any) -> None:
        """Delivers; for layers above that look at whatever arrives."""
        self.handle(sender, message)

    @on(Carried)
    def carried(self, sender: Id, message: Carried) -> None:
        arrived = [key for key in self.insisted if key[0] == sender and key[1] <= message.number]
        for key in arrived:
            self.cease(*key)


class FifoLinks(PerfectLinks):
    """Perfect, and in order: what comes early waits, and is not yet counted as arrived."""

    def start(self) -> None:
        super().start()
        # By sender and number: what came before its turn. It would be sent again.
        self.early: dict[tuple[Id, int], Any] = {}

    def take(self, sender: Id, carry: Carry) -> None:
        self.early[sender, carry.number] = carry.message
        number = self.received.get(sender, 0) + 1
        while (sender, number) in self.early:
            self.received[sender] = number
            self.arrive(sender, self.early.pop((sender, number)))
            number += 1


# Who talks over them while they are simulated.


@dataclass(frozen=True, slots=True)
class Word:
    """The so-manieth word of its sender to the receiver."""

    number: int


class StubbornTalk(StubbornLinks):
    """Each insists on a few words to the next in the circle."""

    words = 5
    pause_s = (0.5, 8.0)

    said: int = durable(0)

    def start(self) -> None:
        super().start()
        self.next = self.everyone[(self.everyone.index(self.id) + 1) % len(self.everyone)]
        # How often each word was heard since the start.
        self.heard: dict[int, int] = {}
        self.after(self.pause_s, self.talk)

    def talk(self) -> None:
        if self.said < self.words:
            self.said += 1
            self.insist(self.next, self.said, Word(self.said))
            self.after(self.pause_s, self.talk)

    @on(Word)
    def word(self, sender: Id, message: Word) -> None:
        self.heard[message.number] = self.heard.get(message.number, 0) + 1


@eventually(StubbornTalk, within_s=90.0)
def each_word_is_heard_again_and_again(view: View[StubbornTalk]) -> bool:
    """Stubborn delivery: what is insisted on arrives without end."""
    return all(
        len(process.heard) == process.words and min(process.heard.values()) >= 3
        for process in view.processes
    )


@sometimes(StubbornTalk)
def a_word_is_insisted_on_after_a_crash(view: View[StubbornTalk]) -> bool:
    """What was to be sent survives."""
    return view.changed.restarts > 0 and bool(view.changed.insisted)


class PerfectTalk(PerfectLinks):
    """Each says numbered words to the others, which write down what they hear."""

    words = 30
    pause_s = (0.1, 1.5)

    said: dict[Id, int] = durable({})
    # (who said it, the number of the word), in the order of arrival.
    heard: list[tuple[Id, int]] = durable([])

    def start(self) -> None:
        super().start()
        self.repeats = 0
        self.after(self.pause_s, self.talk)

    def talk(self) -> None:
        if sum(self.said.values()) < self.words:
            to = self.everyone[self.random.below(len(self.everyone))]
            self.said[to] = self.said.get(to, 0) + 1
            self.convey(to, Word(self.said[to]))
            self.after(self.pause_s, self.talk)

    @on(Carry)
    def carry(self, sender: Id, carry: Carry) -> None:
        self.repeats += carry.number <= self.received.get(sender, 0)
        super().carry(sender, carry)

    @on(Word)
    def word(self, sender: Id, message: Word) -> None:
        self.heard.append((sender, message.number))


class FifoTalk(FifoLinks, PerfectTalk):
    """The same over links that keep the order."""


@always(PerfectTalk)
def words_come_once(view: View[PerfectTalk]) -> None:
    """No duplication, also through crashes."""
    heard, seen = view.changed.heard, notes(view)
    for place in fresh(view, heard):
        assert heard[place] not in seen, f"{heard[place]} comes again"
        seen[heard[place]] = True


@always(FifoTalk)
def words_come_in_order(view: View[FifoTalk]) -> None:
    """FIFO: from each sender 1, 2, 3, ...."""
    heard, last = view.changed.heard, notes(view)
    for place in fresh(view, heard):
        sender, number = heard[place]
        assert number == last.get(sender, 0) + 1, f"{number} of {sender} after {last.get(sender)}"
        last[sender] = number


@always(PerfectTalk)
def nothing_comes_that_was_not_said(view: View[PerfectTalk]) -> None:
    """No creation."""
    process, said = view.changed, view.ghost.setdefault("said", {})
    for to, number in process.said.items():
        said[process.id, to] = max(number, said.get((process.id, to), 0))
    for place in fresh(view, process.heard):
        sender, number = process.heard[place]
        assert number <= said.get((sender, process.id), 0), f"{sender} never said {number}"


@eventually(PerfectTalk, within_s=90.0)
def all_that_was_said_is_heard(view: View[PerfectTalk]) -> bool:
    """Reliable delivery."""
    said = sum(sum(process.said.values()) for process in view.processes)
    heard = sum(len(process.heard) for process in view.processes)
    return said == heard == PerfectTalk.words * len(view.processes)


@sometimes(PerfectTalk)
def a_duplicate_is_dropped(view: View[PerfectTalk]) -> bool:
    """The network doubles messages, and links send them again."""
    return view.changed.repeats > 0


@sometimes(PerfectTalk)
def a_word_overtakes_another(view: View[PerfectTalk]) -> bool:
    """The network changes their order."""
    return bool(view.changed.ahead) or bool(getattr(view.changed, "early", None))
