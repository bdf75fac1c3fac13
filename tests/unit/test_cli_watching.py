"""The picture that ``perseus algo watch`` draws on a terminal."""

import threading
from collections.abc import Iterator

from perseus.cli.commands.watching import Counts, Latest, frame
from perseus.errors import UnavailableError
from perseus.hosting.runs import Process
from perseus.proto.v1 import algo_pb2
from perseus.sim.trace import Happened


def process(name: str, sent: int = 0, heard: int = 0, **more: object) -> Process:
    status = algo_pb2.ProcessStatus(process=name, state="up", sent=sent, heard=heard, **more)  # type: ignore[arg-type]
    return Process(name, "node-1", "j", status)


AWAY = Process("n2", "node-2", "j", None, "it has no address")


def test_columns_stand_below_their_heads_and_events_below_the_table() -> None:
    found = [process("n1", deaf_to=["n2", "n3"]), AWAY]
    lines = frame("run r", found, {"n1": (12.5, 0.0)}, ["an event"], 100, 20)
    assert lines == [
        "run r",
        "",
        "PROCESS  NODE    STATE        RESTARTS  SENT/s  HEARD/s  DROPPED  FAULTS",
        "n1       node-1  up           0         12.5    0.0      0        deaf to n2,n3",
        "n2       node-2  unreachable                                      it has no address",
        "",
        "an event",
    ]


def test_a_step_that_does_not_end_is_told_with_its_place() -> None:
    found = [process("n1", stuck_s=12.4, stuck_in="asked", stuck_at="lock.py:30", deaf_to=["n2"])]
    found.append(process("n2", stuck_s=5.2))
    for each in found:
        assert each.status is not None
        each.status.state = "stuck"
    lines = frame("run r", found, {}, [], 120, 20)
    assert lines[3].endswith("stuck in asked for 12 s at lock.py:30; deaf to n2")
    assert lines[4].endswith("stuck for 5 s")


def test_why_a_process_ended_is_said_also_when_it_is_up_again() -> None:
    found = [
        process("n1", ending="ended with exit code 70: ValueError: no"),
        process("n2", ending="killed by signal 9"),
    ]
    first, second = frame("run r", found, {}, [], 200, 20)[3:]
    assert first.endswith("before: ended with exit code 70: ValueError: no")
    assert "killed" not in second, "somebody killed it, and that is over"


def test_it_fits_the_terminal() -> None:
    found = [process(f"n{number}") for number in range(30)]
    lines = frame("run r " * 30, found, {}, ["event"] * 50, 40, 12)
    assert len(lines) == 11 and max(map(len, lines)) <= 40
    lines = frame("run r", found[:2], {}, [f"event {number}" for number in range(50)], 40, 12)
    assert len(lines) == 11 and lines[-1] == "event 49"


def test_what_others_chose_does_not_move_the_cursor() -> None:
    assert "\033" not in "".join(frame("run \033[2J", [], {}, ["\033[H"], 80, 20))


def test_rates_are_of_the_time_between_two_looks() -> None:
    counts = Counts()
    assert counts.rates([process("n1", 10, 20)], 1.0) == {}
    assert counts.rates([process("n1", 30, 20)], 3.0) == {"n1": (10.0, 0.0)}
    assert counts.rates([process("n1", 5, 0)], 4.0) == {}, "its task is another"
    assert counts.rates([AWAY], 5.0) == {}


def test_the_latest_events_end_with_the_run() -> None:
    gate = threading.Event()

    def events() -> object:
        yield Happened(1.0, "timer", "n1", "tick")
        gate.wait(60)

    latest = Latest(events())  # type: ignore[arg-type]
    assert not latest.is_over.is_set()
    gate.set()
    assert latest.is_over.wait(60)
    assert [line.split() for line in latest.lines()] == [["1.0000", "n1", "timer", "tick"]]
    assert latest.error is None


def test_why_there_are_no_more_events_is_kept() -> None:
    def events() -> Iterator[Happened]:
        yield Happened(1.0, "timer", "n1", "tick")
        raise UnavailableError("nobody answers")

    latest = Latest(events())
    assert latest.is_over.wait(60)
    assert latest.error is not None and latest.error.message == "nobody answers"
