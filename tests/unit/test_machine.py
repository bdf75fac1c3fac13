"""The contract of machines: a refusal changes nothing, a defect ends the driver."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass

import pytest

from perseus.errors import FullError, InvalidError
from perseus.runtime.machine import Composite, Driver, Effect, Event, Instant, Step, Write
from perseus.runtime.real import RealClock

AT = Instant(1.0, 1e9)


@dataclass(frozen=True, slots=True)
class Ask(Event):
    what: str = ""
    count: int = 0


@dataclass(frozen=True, slots=True)
class Follow(Event):
    what: str = ""


@dataclass(frozen=True, slots=True)
class Note(Effect):
    number: int


class Machine:
    """Does what the event says."""

    prefixes: Sequence[bytes] = (b"x",)

    def __init__(self, *events: type[Event]) -> None:
        self.events: Sequence[type[Event]] = events

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        return None

    def step(self, at: Instant, event: Event) -> Step:
        what = getattr(event, "what", "")
        if what == "refuse":
            raise InvalidError("no")
        if what == "break":
            raise KeyError("a defect")
        if isinstance(event, Ask) and what.startswith("then "):
            return Step(effects=[Follow(what.removeprefix("then "))])
        count = event.count if isinstance(event, Ask) else 0
        return Step(effects=[Note(number) for number in range(count)])


class Store:
    """Commits at once."""

    def commit(self, writes: Sequence[Write]) -> Awaitable[None]:
        return asyncio.sleep(0)

    def shortage(self) -> FullError | None:
        return None


def do(*events: Event) -> tuple[list[BaseException], list[BaseException]]:
    """What the callers were raised, and what the driver told as its end."""
    raised: list[BaseException] = []
    ends: list[BaseException] = []

    async def run() -> None:
        machine = Composite([Machine(Ask), Machine(Follow)])
        driver = Driver(machine, Store(), RealClock(), lambda effect: None, ends.append)
        for event in events:
            try:
                await driver.do(event)
            except Exception as error:
                raised.append(error)

    asyncio.run(run())
    return raised, ends


def test_a_refusal_is_the_callers_alone() -> None:
    raised, ends = do(Ask("refuse"), Ask())
    assert [type(error) for error in raised] == [InvalidError] and ends == []


def test_a_defect_ends_the_driver() -> None:
    raised, ends = do(Ask("break"), Ask())
    assert [type(error) for error in raised] == [KeyError, KeyError]
    assert ends == [raised[0]]


def test_a_follow_up_that_is_refused_is_a_defect() -> None:
    raised, ends = do(Ask("then refuse"))
    assert len(ends) == 1 and "Machine refused Follow" in str(raised[0])


def test_effects_do_not_count_as_follow_ups() -> None:
    count = Composite.FOLLOW_UP_LIMIT + 10
    assert len(Composite([Machine(Ask)]).step(AT, Ask(count=count)).effects) == count


def test_follow_ups_without_end_are_a_defect() -> None:
    class Loop(Machine):
        def step(self, at: Instant, event: Event) -> Step:
            return Step(effects=[event])

    with pytest.raises(RuntimeError, match="follow-ups of one event"):
        Composite([Loop(Ask)]).step(AT, Ask())
