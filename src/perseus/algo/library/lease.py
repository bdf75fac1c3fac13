"""Leases with fencing tokens: exclusion that survives the death of its holder.

From Gray and Cheriton, "Leases: An Efficient Fault-Tolerant Mechanism for Distributed File
Cache Consistency" (1989): a lease is a promise for a time, so that who grants it can go on
without a holder that is gone. Each has a token, a number that only grows, and what is
guarded refuses tokens below the highest it has seen (Burrows, "The Chubby Lock Service",
2006, calls them sequencers).

Promises, always: one token is never two holders', and the fenced store accepts no write of
an older token after it has seen a newer one, so that no update is lost; whatever clocks do,
and however long a holder was paused between looking at its clock and writing. Clocks are
trusted for one thing only: while they run at nearly the same rate and do not jump, no two
processes believe that they hold the lease. Whoever takes up granting after a crash waits until
what it granted before is over. Liveness is the granter's: while it is down nobody gets in.

``leases`` is the whole: a granter, a store, and holders that each read a number from the store
and write one more.
"""

from dataclasses import dataclass

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
from perseus.algo.library.ghosts import fresh

LEASE_S = 1.0
# A holder stops so much earlier, as a share: its clock may be slow and the granter's fast.
MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class Acquire:
    """Let me have the lease, or have it longer. ``life`` tells starts of the holder apart."""

    life: int


@dataclass(frozen=True, slots=True)
class Granted:
    """It is yours, for LEASE_S from when you asked."""

    token: int


@dataclass(frozen=True, slots=True)
class Busy:
    """It is another's."""


@dataclass(frozen=True, slots=True)
class Read:
    """What is the value? ``number`` counts what is asked of the store under a token."""

    token: int
    number: int


@dataclass(frozen=True, slots=True)
class Write:
    """Let the value be this."""

    token: int
    number: int
    value: int


@dataclass(frozen=True, slots=True)
class Value:
    """What the store has now."""

    value: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Something newer has been here."""


class Granter(Process):
    """Grants the lease to one at a time."""

    token: int = durable(0)
    # The last holder, and its life.
    holder: tuple[Id, int] | None = durable(None)

    def start(self) -> None:
        # It does not know how long ago it granted the last one.
        self.until_s = self.now + LEASE_S if self.holder else self.now

    @on(Acquire)
    def acquire(self, sender: Id, message: Acquire) -> None:
        who, is_over = (sender, message.life), self.now >= self.until_s
        if self.holder != who and not is_over:
            self.reply(Busy())
            return
        if self.holder != who or is_over:
            self.token += 1
            self.holder = who
        self.until_s = self.now + LEASE_S
        self.reply(Granted(self.token))


class Store(Process):
    """A number that is fenced: what comes late, or of an older token, does nothing."""

    value: int = durable(0)
    # The highest (token, number) seen.
    highest: tuple[int, int] = durable((0, 0))
    # (token, value) of each write.
    written: list[tuple[int, int]] = durable([])

    def start(self) -> None:
        # How often an older token was refused.
        self.refused = 0

    def admit(self, token: int, number: int) -> bool:
        """Whether it is the newest thing so far; from then on it is."""
        if (token, number) <= self.highest:
            self.refused += token < self.highest[0]
            self.reply(Refused())
            return False
        self.highest = (token, number)
        return True

    @on(Read)
    def read(self, sender: Id, message: Read) -> None:
        if self.admit(message.token, message.number):
            self.reply(Value(self.value))

    @on(Write)
    def write(self, sender: Id, message: Write) -> None:
        if self.admit(message.token, message.number):
            self.value = message.value
            self.written.append((message.token, message.value))
            self.reply(Value(self.value))


class Holder(Process):
    """Gets the lease, works under it for some time, lets it go, and so on."""

    patience_s = 0.6
    pause_s = (0.02, 0.4)
    rest_s = (0.1, 1.5)
    # Chance that it gives up the lease when it might renew it.
    giving_up = 0.3

    def start(self) -> None:
        self.token = 0
        self.until_s = self.asked_s = self.now
        # What it has asked of the store under this token, and been told was written.
        self.number = 0
        self.told = 0
        self.after(self.rest_s, self.acquire)

    @property
    def holds(self) -> bool:
        """It believes so."""
        return self.token > 0 and self.now < self.until_s

    def acquire(self) -> None:
        self.asked_s = self.now
        self.request(
            self.group("granter")[0],
            Acquire(self.restarts),
            timeout_s=self.patience_s,
            on_reply=self.acquired,
            on_timeout=self.rest,
        )

    def rest(self) -> None:
        self.after(self.rest_s, self.acquire)

    def acquired(self, sender: Id, message: Granted | Busy) -> None:
        if isinstance(message, Busy):
            self.rest()
            return
        if message.token != self.token:
            self.token, self.number = message.token, 0
        # From when it asked: it does not know when the granter began to count.
        self.until_s = self.asked_s + LEASE_S * (1.0 - MARGIN)
        self.read()

    def read(self) -> None:
        if self.random.random() < self.giving_up:
            self.rest()
        elif not self.holds:
            self.acquire()
        else:
            self.number += 1
            self.ask_store(Read(self.token, self.number))

    def ask_store(self, message: Read | Write) -> None:
        self.request(
            self.group("store")[0],
            message,
            timeout_s=self.patience_s,
            on_reply=self.answered if isinstance(message, Read) else self.wrote,
            on_timeout=self.rest,
        )

    def answered(self, sender: Id, message: Value | Refused) -> None:
        """Thinks about it for a while. It looks at its clock, but that may jump right after."""
        if isinstance(message, Value):
            self.after(self.pause_s, self.write, message.value + 1)
        else:
            self.rest()

    def write(self, value: int) -> None:
        if self.holds:
            self.number += 1
            self.ask_store(Write(self.token, self.number, value))
        else:
            self.acquire()

    def wrote(self, sender: Id, message: Value | Refused) -> None:
        if isinstance(message, Value):
            self.told = message.value
            self.acquire()
        else:
            self.rest()


leases = Layout(granter=Group(Granter, 1), store=Group(Store, 1), holder=Group(Holder))


@always(Holder)
def a_token_is_one_holders(view: View[Holder]) -> None:
    """The granter never gives a token to two, through all its crashes."""
    holder = view.changed
    if holder.token:
        who = (holder.id, holder.restarts)
        first = view.ghost.setdefault(holder.token, who)
        assert first == who, f"{who} has token {holder.token} of {first}"


@always(Store)
def tokens_only_grow(view: View[Store]) -> None:
    """Fencing: no write of an older token after one of a newer."""
    written = view.changed.written
    for place in fresh(view, written):
        assert place == 0 or written[place - 1][0] <= written[place][0], written[place]


@always(Store)
def no_update_is_lost(view: View[Store]) -> None:
    """Each write is one more than the one before: who wrote had seen that."""
    written = view.changed.written
    for place in fresh(view, written):
        assert written[place][1] == place + 1, f"{written[place]} is write {place + 1}"


@eventually(Store)
def work_goes_on(view: View[Store]) -> bool:
    """Once all is well, holders get in and write."""
    written = len(view.changed.written)
    wanted: int = view.ghost.setdefault("wanted", written + 5)
    return written >= wanted


@sometimes(Store)
def an_old_token_is_refused(view: View[Store]) -> bool:
    """Somebody still believed in a lease that was over."""
    return view.changed.refused > 0


@sometimes(Holder)
def two_believe_that_they_hold_it(view: View[Holder]) -> bool:
    """A clock has jumped; and the store does not mind."""
    return bool(view.changed.holds) and sum(holder.holds for holder in view.processes) > 1
