"""The driver: what it does before a step, when the disk is full."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from perseus.errors import FullError
from perseus.filestore.namespace_events import Append, Barrier, Close, Create, Remove
from perseus.identity.tokens import RedeemToken
from perseus.jobs.state_events import Kill, Submit
from perseus.membership.commands import RemoveNode
from perseus.proto.v1 import jobs_pb2
from perseus.runtime.machine import Driver, Event, Instant, Step, Tick, Write
from perseus.runtime.real import RealClock

FULL = FullError("no room", hint="free some")


@dataclass
class Fake:
    """A machine that remembers its steps, and a committer without room."""

    steps: list[Event] = field(default_factory=list)
    full: FullError | None = FULL
    prefixes: Sequence[bytes] = ()
    events: Sequence[type[Event]] = ()

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Nothing."""

    def step(self, at: Instant, event: Event) -> Step:
        self.steps.append(event)
        return Step(reply="done")

    async def commit(self, writes: Sequence[Write]) -> None:
        """Durable."""

    def shortage(self) -> FullError | None:
        return self.full


def do(fake: Fake, event: Event) -> object:
    failures: list[BaseException] = []
    driver = Driver(fake, fake, RealClock(), lambda effect: None, failures.append)
    try:
        return asyncio.run(driver.do(event))
    finally:
        assert not failures


@pytest.mark.parametrize(
    "event",
    [
        Create("/a", "me"),
        Append("/a", "me"),
        Submit("j", "me", jobs_pb2.TaskSpec()),
        RedeemToken("t", b"", "me"),
    ],
)
def test_what_is_new_is_refused_before_its_step(event: Event) -> None:
    fake = Fake()
    with pytest.raises(FullError, match="no room"):
        do(fake, event)
    assert fake.steps == []
    fake.full = None
    assert do(fake, event) == "done"


@pytest.mark.parametrize(
    "event",
    [
        Tick(),
        Barrier(),
        Remove("/a", False),
        RemoveNode("n"),
        Kill("j", 15),
        Close(1, 1, b"", 0),
        Create("", "node", attempt="j.0.1"),
    ],
)
def test_what_ends_or_frees_or_only_looks_goes_on(event: Event) -> None:
    fake = Fake()
    assert do(fake, event) == "done"
    assert fake.steps == [event]
