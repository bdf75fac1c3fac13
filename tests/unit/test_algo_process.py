"""The API of perseus.algo: what a handler can do, and what its mistakes are told."""

from dataclasses import dataclass
from typing import Any

import pytest

from perseus.algo import Group, Layout, Process, durable, on
from perseus.errors import InvalidError
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


def test_what_a_layer_carries_finds_its_handler_in_the_same_step() -> None:
    @dataclass(frozen=True)
    class Wrapped:
        message: Any

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
    assert outcome.errors == {"Clumsy: ValueError: oh": 2} and outcome.crashes == 2
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
    with pytest.raises(InvalidError, match="does not run backward"):
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
