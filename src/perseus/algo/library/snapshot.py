"""Global snapshots: a state of all processes and of what is between them that could have been.

From Chandy and Lamport, "Distributed Snapshots: Determining Global States of Distributed
Systems" (1985). Who begins one saves its state and sends a marker on all its channels; who
gets the first marker does the same, and each saves what came on a channel between its own
saving and that channel's marker. No process stops meanwhile.

Promises: each snapshot is a consistent cut: it holds what was received only with its sending,
and what was sent and not yet received as being on its way. So whatever is conserved is
conserved in it; here money. Any number of snapshots, by anybody, may be under way.
Assumes channels that are reliable and FIFO: ``links.FifoLinks``. All that a snapshot has
gathered so far is durable, so crashes delay it only.
"""

from dataclasses import dataclass
from typing import Any

from perseus.algo import Id, View, always, durable, eventually, on, sometimes
from perseus.algo.library.ghosts import fresh
from perseus.algo.library.links import FifoLinks

# Names a snapshot: who began it, and which of its own it is.
Cut = tuple[Id, int]
# (sender, what was on its way from it).
Channel = tuple[Id, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Marker:
    """What comes before it on its channel belongs before the cut."""

    cut: Cut


@dataclass(frozen=True, slots=True)
class Part:
    """One process's part of a snapshot."""

    cut: Cut
    state: Any
    channels: tuple[Channel, ...]


class Snapshots(FifoLinks):
    """``begin`` takes a snapshot, ``taken`` is told of it; a subclass has a ``state``."""

    begun: int = durable(0)
    # The own state at each cut that is being saved.
    saved: dict[Cut, Any] = durable({})
    # What came since, on the channels whose marker has not come; and on those whose has.
    recording: dict[tuple[Cut, Id], tuple[Any, ...]] = durable({})
    recorded: dict[tuple[Cut, Id], tuple[Any, ...]] = durable({})
    # The parts of the own snapshots, from each process.
    parts: dict[tuple[Cut, Id], Part] = durable({})

    def state(self) -> Any:
        """What is saved of this process, as an immutable value."""
        raise AssertionError("a subclass has a state")

    def taken(self, cut: Cut, parts: tuple[Part, ...]) -> None:
        """A snapshot that this process began is whole."""

    def begin(self) -> None:
        """Takes a snapshot of all."""
        self.begun += 1
        self.save((self.id, self.begun))

    def save(self, cut: Cut) -> None:
        """The marker leaves before anything else that this process sends."""
        self.saved[cut] = self.state()
        for peer in self.peers:
            self.recording[cut, peer] = ()
        self.convey_all(Marker(cut))
        self.report_when_whole(cut)

    def arrive(self, sender: Id, message: Any) -> None:
        """Whatever comes on a channel that is being recorded was on its way."""
        if not isinstance(message, Marker | Part):
            for (cut, channel), came in list(self.recording.items()):
                if channel == sender:
                    self.recording[cut, channel] = (*came, message)
        super().arrive(sender, message)

    @on(Marker)
    def marker(self, sender: Id, message: Marker) -> None:
        if message.cut not in self.saved:
            self.save(message.cut)
        self.recorded[message.cut, sender] = self.recording.pop((message.cut, sender))
        self.report_when_whole(message.cut)

    def report_when_whole(self, cut: Cut) -> None:
        """When all markers have come, who began the snapshot is told."""
        channels = [(peer, self.recorded.get((cut, peer))) for peer in self.peers]
        whole = tuple((peer, came) for peer, came in channels if came is not None)
        if len(whole) < len(channels):
            return
        for peer in self.peers:
            del self.recorded[cut, peer]
        self.convey(cut[0], Part(cut, self.saved[cut], whole))

    @on(Part)
    def part(self, sender: Id, message: Part) -> None:
        cut = message.cut
        self.parts[cut, sender] = message
        parts = [self.parts.get((cut, process)) for process in self.everyone]
        whole = tuple(part for part in parts if part is not None)
        if len(whole) == len(parts):
            self.taken(cut, whole)
            for process in self.everyone:
                del self.parts[cut, process]


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money on its way."""

    amount: int


@dataclass(frozen=True, slots=True)
class Total:
    """What a snapshot says: how much there was, and how much of it was on its way."""

    cut: Cut
    amount: int
    on_its_way: int


class Bank(Snapshots):
    """Each has an account, sends some of it to others, and takes snapshots now and then."""

    opening = 100
    transfers = 25
    pause_s = (0.1, 1.5)
    snapshots = 3
    snapshot_s = (1.0, 10.0)

    balance: int = durable(opening)
    sent: int = durable(0)
    totals: list[Total] = durable([])

    def start(self) -> None:
        super().start()
        self.after(self.pause_s, self.pay)
        self.after(self.snapshot_s, self.look)

    def pay(self) -> None:
        if self.sent < self.transfers and self.peers:
            self.sent += 1
            amount = self.random.below(self.balance // 2 + 1)
            self.balance -= amount
            self.convey(self.peers[self.random.below(len(self.peers))], Transfer(amount))
            self.after(self.pause_s, self.pay)

    @on(Transfer)
    def transfer(self, sender: Id, message: Transfer) -> None:
        self.balance += message.amount

    def look(self) -> None:
        if self.begun < self.snapshots:
            self.begin()
            self.after(self.snapshot_s, self.look)

    def state(self) -> int:
        return self.balance

    def taken(self, cut: Cut, parts: tuple[Part, ...]) -> None:
        held = sum(part.state for part in parts)
        moving = sum(
            transfer.amount for part in parts for _, came in part.channels for transfer in came
        )
        self.totals.append(Total(cut, held + moving, moving))


@always(Bank)
def no_snapshot_makes_or_loses_money(view: View[Bank]) -> None:
    """A consistent cut conserves what is conserved."""
    process = view.changed
    for place in fresh(view, process.totals):
        total, wanted = process.totals[place], process.opening * len(process.everyone)
        assert total.amount == wanted, f"{total} where there is {wanted}"


@eventually(Bank, within_s=90.0)
def every_snapshot_is_taken(view: View[Bank]) -> bool:
    """Those that were begun, and all money is in an account again."""
    done = all(len(process.totals) == process.snapshots for process in view.processes)
    wanted = view.changed.opening * len(view.changed.everyone)
    return done and sum(process.balance for process in view.processes) == wanted


@sometimes(Bank)
def a_snapshot_finds_money_on_its_way(view: View[Bank]) -> bool:
    """Else it would be enough to add up accounts."""
    return any(total.on_its_way for total in view.changed.totals[-1:])


@sometimes(Bank)
def two_snapshots_are_under_way(view: View[Bank]) -> bool:
    """They do not disturb each other."""
    recording = view.changed.recording
    return len(recording) > 1 and len({cut for cut, _ in recording}) > 1
