"""Exactly once: a call has its effect, and that effect its consequences elsewhere, once.

No network delivers exactly once; what can be had is that the *effect* happens once
(Saltzer, Reed, Clark, "End-to-End Arguments in System Design", 1984). A client
numbers its calls and asks again until it is answered; who is called keeps the number
and the answer of each client's last call in the same transaction as the effect, and
answers a repetition from there (Birrell and Nelson, "Implementing Remote Procedure
Calls", 1984; Lee and others, "Implementing Linearizability at Large Scale and Low
Latency", 2015). What the effect sends on rides in the outbox of a perfect link, which is
part of that transaction too.

Promises: each call that is answered was done once, and its post is in the books once.
Assumes: a client has one call under way, and asks the same process again.
"""

from dataclasses import dataclass

from perseus.algo import Id, Process, View, always, durable, eventually, on, sometimes
from perseus.algo.library.ghosts import fresh, notes
from perseus.algo.library.links import PerfectLinks


@dataclass(frozen=True, slots=True)
class Call:
    """Adds to a total."""

    sequence: int
    amount: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The total after that call."""

    sequence: int
    total: int


@dataclass(frozen=True, slots=True)
class Post:
    """For the books: this call was done."""

    client: Id
    sequence: int
    amount: int


class Caller(Process):
    """Calls one or the other process, one call after the other."""

    calls = 15
    pause_s = (0.0, 3.0)
    patience_s = (0.5, 1.5)

    def start(self) -> None:
        self.sequence = 0
        # (who was called, the total it told) of each call.
        self.told: list[tuple[Id, int]] = []
        self.after(self.pause_s, self.call)

    def call(self) -> None:
        self.sequence += 1
        called = self.group("n")
        self.ask(called[self.random.below(len(called))])

    def ask(self, to: Id) -> None:
        self.send(to, Call(self.sequence, self.sequence))
        self.impatience = self.after(self.patience_s, self.ask, to)

    @on(Answer)
    def answer(self, sender: Id, message: Answer) -> None:
        if message.sequence == len(self.told) + 1:
            self.told.append((sender, message.total))
            self.impatience.cancel()
            if self.sequence < self.calls:
                self.after(self.pause_s, self.call)


class ExactlyOnce(PerfectLinks):
    """Each keeps a total; the first keeps the books."""

    client = Caller
    clients = 3

    total: int = durable(0)
    # The sequence of each client's last call, and its answer.
    answered: dict[Id, tuple[int, int]] = durable({})
    # (client, sequence, amount) of all calls to anybody.
    books: list[tuple[Id, int, int]] = durable([])

    def start(self) -> None:
        super().start()
        self.repeated = 0

    @on(Call)
    def call(self, sender: Id, message: Call) -> None:
        sequence, answer = self.answered.get(sender, (0, 0))
        if message.sequence > sequence:
            answer = self.do(sender, message)
        elif message.sequence < sequence:
            return  # its client has heard the answer long ago
        else:
            self.repeated += 1
        self.send(sender, Answer(message.sequence, answer))

    def do(self, client: Id, call: Call) -> int:
        """The effect, its memory and its consequences, in one step."""
        self.total += call.amount
        self.answered[client] = (call.sequence, self.total)
        self.convey(self.everyone[0], Post(client, call.sequence, call.amount))
        return self.total

    @on(Post)
    def post(self, sender: Id, message: Post) -> None:
        self.books.append((message.client, message.sequence, message.amount))


@always(ExactlyOnce)
def no_call_is_in_the_books_twice(view: View[ExactlyOnce]) -> None:
    """At most once."""
    books, seen = view.changed.books, notes(view)
    for place in fresh(view, books):
        client, sequence, _ = books[place]
        assert (client, sequence) not in seen, f"call {sequence} of {client} is there twice"
        seen[client, sequence] = True


@always(Caller)
def totals_that_are_told_grow(view: View[Caller]) -> None:
    """What was answered is not forgotten, nor a new call taken for an old one."""
    told, last = view.changed.told, notes(view)
    for place in fresh(view, told):
        called, total = told[place]
        assert total > last.get(called, 0), f"{called} said {total} after {last.get(called)}"
        last[called] = total


@eventually(ExactlyOnce, within_s=90.0)
def every_call_is_in_the_books(view: View[ExactlyOnce]) -> bool:
    """At least once; and the books agree with the totals."""
    calls = Caller.calls * len(view.changed.group("client"))
    books = [post for process in view.processes for post in process.books]
    posted = sum(amount for _, _, amount in books)
    return len(books) == calls and posted == sum(process.total for process in view.processes)


@eventually(Caller, within_s=90.0)
def every_call_is_answered(view: View[Caller]) -> bool:
    """Clients get through."""
    return all(len(caller.told) == caller.calls for caller in view.processes)


@sometimes(ExactlyOnce)
def a_call_is_answered_from_memory(view: View[ExactlyOnce]) -> bool:
    """Answers are lost, and calls come again."""
    return view.changed.repeated > 0


@sometimes(ExactlyOnce)
def a_call_is_answered_from_what_survived_a_crash(view: View[ExactlyOnce]) -> bool:
    """The memory of calls is as durable as their effect."""
    process = view.changed
    return process.repeated > 0 and process.restarts > 0
