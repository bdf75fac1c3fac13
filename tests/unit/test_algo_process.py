"""The API of perseus.algo: what a handler can do, and what its mistakes are told."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pytest

from perseus.algo import Group, Layout, Process, durable, on
from perseus.algo import process as process_module
from perseus.errors import InvalidError
from perseus.sim.explore import Explorer
from tests.unit.algo_lab import alone, processes, world


@dataclass(frozen=True)
class Ping:
    number: int


@dataclass(frozen=True)
class Pong:
    number: int


class Asker(Process):
    patience_s = 1.0

    def start(self) -> None:
        self.said: list[Any] = []
        for peer in self.peers:
            self.request(
                peer,
                Ping(1),
                timeout_s=self.patience_s,
                on_reply=self.answered,
                on_timeout=self.gave_up,
            )

    def answered(self, sender: str, message: Pong) -> None:
        self.said.append((sender, message.number))

    def gave_up(self) -> None:
        self.said.append("nothing")

    @on(Ping)
    def ping(self, sender: str, message: Ping) -> None:
        self.reply(Pong(message.number + 1))


def test_requests_and_replies() -> None:
    made = world(Asker, until_s=5.0)
    made.run()
    said = processes(made)["n1"].said
    assert sorted(said) == [("n2", 2), ("n3", 2)]


def test_a_request_without_a_reply_is_given_up_once() -> None:
    class Deaf(Asker):
        @on(Ping)
        def ping(self, sender: str, message: Ping) -> None:
            pass

    made = world(Deaf, until_s=5.0)
    made.run()
    assert processes(made)["n1"].said == ["nothing", "nothing"]


def test_a_late_reply_is_dropped() -> None:
    class Slow(Asker):
        patience_s = 0.001

        @on(Ping)
        def ping(self, sender: str, message: Ping) -> None:
            self.after(2.0, self.send, sender, Pong(9))

        @on(Pong)
        def pong(self, sender: str, message: Pong) -> None:
            self.said.append("as a message")

    made = world(Slow, until_s=5.0)
    made.run()
    # What was sent later is a message like any other, not the reply.
    assert processes(made)["n1"].said == ["nothing"] * 2 + ["as a message"] * 2


class Parent(Process):
    def start(self) -> None:
        self.child = self.spawn(Child, "helper", step=5)
        self.after(0.5, self.send, self.child, Ping(1))
        self.heard: list[int] = []

    @on(Pong)
    def pong(self, sender: str, message: Pong) -> None:
        assert sender == f"{self.id}/helper"
        self.heard.append(message.number)


class Child(Process):
    step = 1
    total: int = durable(0)

    @on(Ping)
    def ping(self, sender: str, message: Ping) -> None:
        self.total += self.step
        self.reply(Pong(self.total))
        if self.total > 5:
            self.stop()


def test_spawned_processes() -> None:
    made = world(Parent, nodes=2, until_s=3.0)
    made.run()
    assert processes(made)["n2"].heard == [5]
    assert "n2/helper" in processes(made)


def test_what_a_spawned_process_kept_survives_with_its_node() -> None:
    from perseus.sim.faults import Fault

    crash = Fault("crash", 1.0, 0.5, ("n1",))
    made = world(Parent, nodes=1, until_s=4.0, faults_plan=[crash])
    made.run()
    assert processes(made)["n1"].heard == [10]
    # It stopped when it had enough.
    assert "n1/helper" not in processes(made)


def test_groups_and_names() -> None:
    class Voter(Process):
        def start(self) -> None:
            self.got = 0

        @on(Ping)
        def ping(self, sender: str, message: Ping) -> None:
            self.got += message.number

    class Caller(Process):
        def start(self) -> None:
            self.broadcast(Ping(1), to="voters")
            self.send(self.group("voters")[0], Ping(10))

    made = world(Layout(callers=Group(Caller, 2), voters=Group(Voter, 3)), until_s=1.0)
    made.run()
    assert [processes(made)[f"voters{n}"].got for n in (1, 2, 3)] == [22, 2, 2]
    with pytest.raises(InvalidError, match="groups are: n"):
        alone(Voter, {}).group("voters")


def test_majority_and_peers() -> None:
    process = alone(Asker, {}, ("n1", "n2", "n3", "n4"))
    assert process.peers == ("n2", "n3", "n4")
    assert process.everyone == ("n1", "n2", "n3", "n4")
    assert process.majority == 3


def test_a_subclass_handles_what_it_takes_over() -> None:
    class Loud(Asker):
        @on(Ping)
        def ping(self, sender: str, message: Ping) -> None:
            self.reply(Pong(100))

    made = world(Loud, nodes=2, until_s=1.0)
    made.run()
    assert processes(made)["n1"].said == [("n2", 100)]


def test_what_overrides_a_handler_is_the_handler() -> None:
    class Quiet(Asker):
        def ping(self, sender: str, message: Ping) -> None:
            self.reply(Pong(7))

    made = world(Quiet, nodes=2, until_s=1.0)
    made.run()
    assert processes(made)["n1"].said == [("n2", 7)]


def test_handlers_come_from_all_bases() -> None:
    class Other(Process):
        heard = 0

        @on(Pong)
        def pong(self, sender: str, message: Pong) -> None:
            self.heard += 1

    class Both(Other, Asker):
        def start(self) -> None:
            super().start()
            self.send(self.id, Pong(1))
            self.send(self.id, Ping(1))

    made = world(Both, nodes=1, until_s=1.0)
    assert made.run().errors == {}
    assert processes(made)["n1"].heard == 2


@dataclass(frozen=True)
class Wrapped:
    message: Any


def test_what_a_layer_carries_finds_its_handler_in_the_same_step() -> None:
    class Layered(Asker):
        def start(self) -> None:
            self.said = []
            if self.id == "n1":
                self.request("n2", Wrapped(Ping(4)), timeout_s=1.0, on_reply=self.answered)

        @on(Wrapped)
        def unwrap(self, sender: str, message: Wrapped) -> None:
            self.handle(sender, message.message)

    made = world(Layered, nodes=2, until_s=1.0)
    assert made.run().errors == {}
    assert processes(made)["n1"].said == [("n2", 5)]


def test_an_exception_is_a_crash() -> None:
    class Clumsy(Process):
        starts: int = durable(0)

        def start(self) -> None:
            self.starts += 1
            self.after(1.0, self.stumble)

        def stumble(self) -> None:
            self.starts += 100
            if self.restarts < 2:
                raise ValueError("oh")

    made = world(Clumsy, nodes=1, until_s=20.0)
    outcome = made.run()
    ((said, count),) = outcome.errors.items()
    assert (said.process, said.error, said.said) == ("Clumsy", "ValueError", "oh")
    assert count == 2 and outcome.crashes == 2
    # What the broken steps changed is gone with them.
    assert processes(made)["n1"].starts == 103


def test_mistakes_are_told() -> None:
    with pytest.raises(InvalidError, match="set what is volatile in start"):

        class _WithInit(Process):
            def __init__(self) -> None:
                pass

    with pytest.raises(InvalidError, match="handles Ping twice"):

        class _Twice(Process):
            @on(Ping)
            def one(self, sender: str, message: Ping) -> None:
                pass

            @on(Ping)
            def two(self, sender: str, message: Ping) -> None:
                pass

    with pytest.raises(InvalidError, match="needs the class of the message"):
        on("Ping")  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="no option 'speed'"):
        alone(Asker, {}, speed=3)
    with pytest.raises(InvalidError, match="nothing to reply to"):
        alone(Asker, {}).reply(Pong(1))
    with pytest.raises(InvalidError, match="no timer can be set for that"):
        alone(Asker, {}).after(-1.0, print)
    with pytest.raises(InvalidError, match="no handler for Pong"):
        alone(Asker, {})._host_deliver("n2", Pong(1))
    with pytest.raises(InvalidError, match="is no algorithm"):
        Layout.of(int)  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="at least one Group"):
        Layout()


def test_options_are_class_attributes() -> None:
    made = world(Layout(n=Group(Asker, 2, options={"patience_s": 7.0})), until_s=1.0)
    made.run()
    assert processes(made)["n1"].patience_s == 7.0


def _handler(kind: type) -> Any:
    return on(kind)(lambda self, sender, message: None)


@pytest.mark.parametrize(
    ("base", "body", "words"),
    [
        (Process, {"group": "mine"}, "takes the place of Process.group"),
        (Process, {"_requests": {}}, "takes the place of Process._requests"),
        (Process, {"peers": durable(())}, "takes the place of Process.peers"),
        (Asker, {"ping": _handler(Pong)}, "Asker.ping, which handles Ping"),
        (Asker, {"answered": _handler(Wrapped)}, "Asker.answered, which is called by other"),
        (Asker, {"ping": lambda self: None}, "does not take (self, sender, message)"),
    ],
)
def test_a_name_that_is_taken_is_told(base: type[Process], body: Any, words: str) -> None:
    with pytest.raises(InvalidError) as caught:
        type("Mine", (base,), body)
    assert words in caught.value.message and "another name" in caught.value.hint


def test_what_is_meant_to_be_replaced_is() -> None:
    class Counts(Asker):
        sent = 0

        def reply(self, message: Any, to: Any = None) -> None:
            self.sent += 1
            super().reply(message, to)

        def ping(self, sender: str, message: Ping) -> None:
            self.reply(Pong(7))

    made = world(Counts, nodes=2, until_s=1.0)
    assert made.run().errors == {}
    assert processes(made)["n1"].sent == 1 and processes(made)["n1"].said == [("n2", 7)]


@pytest.mark.parametrize("name", ["send", "_requests", "id"])
def test_start_that_takes_a_name_is_told(name: str) -> None:
    class Takes(Process):
        def start(self) -> None:
            setattr(self, name, {})

    (said,) = world(Takes, nodes=1, until_s=1.0).run().errors
    assert f"start sets self.{name}, which is Process's own" in said.said


class Place(NamedTuple):
    row: int


class Names(Process):
    where: tuple[Any, ...] = durable(())
    what: ClassVar[Any] = Place(1)
    keeps: ClassVar[bool] = False

    def start(self) -> None:
        if self.id == "n1" and self.keeps:
            self.where = (self.what,)
        elif self.id == "n1":
            self.send("n2", self.what)


class NamesWithin(Names):
    what = Wrapped((Ping(1), Place(1)))


class NamesKept(Names):
    keeps = True


@pytest.mark.parametrize("kind", [Names, NamesWithin])
def test_what_could_not_be_sent_for_real_is_not_sent_here(kind: type[Process]) -> None:
    with pytest.raises(InvalidError, match="a Place cannot be sent or kept"):
        world(kind, nodes=2, until_s=1.0).run()
    with pytest.raises(InvalidError, match="a Place cannot be sent or kept"):
        Explorer(Layout.of(kind), 2).run()


def test_what_could_not_be_kept_for_real_is_not_kept_here() -> None:
    (said,) = world(NamesKept, nodes=2, until_s=1.0).run().errors
    assert "durable where cannot hold a Place" in said.said


class Stray(Process):
    """It has something on its way to the disk while it sends."""

    count: int = durable(0)
    asks = False

    def start(self) -> None:
        self.count += 1
        self.after(0.0, self.stray)

    def stray(self) -> None:
        self.count += 1
        self.go()

    def go(self) -> None:
        if self.asks:
            self.request("n9", Ping(1), timeout_s=1.0, on_reply=self.stray)
        self.send("n9", Ping(1))


class StrayAsks(Stray):
    asks = True


@pytest.mark.parametrize("kind", [Stray, StrayAsks])
def test_what_is_sent_to_nobody_is_told_with_its_handler_and_line(kind: type[Process]) -> None:
    first = Stray.go.__code__.co_firstlineno
    line = first + (2 if kind is StrayAsks else 3)
    said = f"Stray.stray at test_algo_process.py:{line} sends to 'n9', which is nobody"
    with pytest.raises(InvalidError, match=said):
        world(kind, nodes=2, until_s=1.0).run()
    with pytest.raises(InvalidError, match=said):
        Explorer(Layout.of(kind), 2).run()


def test_a_handler_that_does_not_take_its_message_is_told_when_it_is_made() -> None:
    def pinged(self: Process, message: Ping) -> None:
        """It wants the sender too."""

    with pytest.raises(InvalidError, match=r"pinged, below @on\(Ping\), does not take") as told:
        on(Ping)(pinged)
    assert told.value.hint == "a method (self, sender, message)"


def test_the_two_in_the_wrong_order_are_told() -> None:
    class Turned(Process):
        def start(self) -> None:
            self.send(Ping(1), "n2")  # type: ignore[arg-type]

    with pytest.raises(InvalidError, match=r"sends to Ping\(.*\), which is nobody") as told:
        world(Turned, nodes=2, until_s=1.0).run()
    assert told.value.hint.startswith("send(to, message)")


async def waits(self: Process, sender: str, message: Ping) -> None:
    return None


def yields(self: Process, sender: str, message: Ping) -> Any:
    yield message


@pytest.mark.parametrize(("handler", "what"), [(waits, "async def"), (yields, "yield")])
def test_a_handler_that_a_call_does_not_run_is_refused(handler: Any, what: str) -> None:
    with pytest.raises(InvalidError, match=what) as refused:
        on(Ping)(handler)
    assert "on_reply" in refused.value.hint
    with pytest.raises(InvalidError, match=what):
        type("Waits", (Process,), {"start": handler})


class Endless(Process):
    how = "send"

    def start(self) -> None:
        while True:
            if self.how == "send":
                self.send(self.id, Ping(1))
            elif self.how == "broadcast":
                self.broadcast(Ping(1))
            else:
                self.request(self.id, Ping(1), timeout_s=1.0, on_reply=self.answered)

    def answered(self, sender: str, message: Pong) -> None:
        return None


@pytest.mark.parametrize("how", ["send", "broadcast", "request"])
def test_a_step_that_sends_without_end_is_ended(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "OUTBOX_MAXIMUM", 20)
    with pytest.raises(InvalidError, match=r"n1: one step of Endless sends 20 messages.*Ping"):
        alone(Endless, {}, ("n1", "n2"), how=how).start()
