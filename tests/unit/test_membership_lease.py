"""The lease as its holder keeps it, and one stream's reports, on a clock set by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.errors import LeaseLostError, UnavailableError
from perseus.membership import stream as stream_module
from perseus.membership.lease import LEASE_MARGIN_SHARE, HeldLease
from perseus.membership.stream import AgentStream
from perseus.membership.waiting import first_to_end, within
from perseus.proto.v1 import agent_pb2, cluster_pb2
from perseus.runtime.real import RealClock


class HandClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def now_s(self) -> float:
        return self.now

    def time_s(self) -> float:
        return 5e8 + self.now

    async def sleep(self, seconds: float) -> None:
        """Passes the time at once, letting others run."""
        self.now += seconds
        await asyncio.sleep(0)


class Tape:
    """A link that keeps what is sent, and gives what it was given."""

    def __init__(self, *answers: agent_pb2.MasterMessage) -> None:
        self.sent: list[agent_pb2.AgentMessage] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._answers = answers

    async def send(self, message: agent_pb2.AgentMessage) -> None:
        await self.gate.wait()
        self.sent.append(message)

    async def close(self) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[agent_pb2.MasterMessage]:
        for answer in self._answers:
            yield answer


def held(clock: HandClock) -> tuple[HeldLease, list[float], list[float]]:
    renewed: list[float] = []
    lost: list[float] = []
    return HeldLease(clock, renewed.append, lambda: lost.append(clock.now)), renewed, lost


def test_a_lease_counts_from_when_it_was_asked_for() -> None:
    clock = HandClock()
    lease, renewed, lost = held(clock)
    assert not lease.check() and lease.ends_at_s == float("-inf") and not lost
    clock.now = 103.0
    lease.begin(10.0, sent_at_s=100.0)
    assert lease.ends_at_s == 110.0 and renewed == [108.0]
    clock.now = 107.9
    assert lease.check()
    clock.now = 108.0
    assert not lease.check() and not lease.check()
    assert lost == [108.0] and lease.losses == 1
    lease.renew(sent_at_s=107.0)
    assert not lease.check() and renewed == [108.0]
    lease.begin(10.0, sent_at_s=108.0)
    assert lease.check()
    lease.lose()
    assert lost == [108.0, 108.0]


def test_a_new_session_may_shorten_the_lease() -> None:
    clock = HandClock()
    lease, renewed, _ = held(clock)
    lease.begin(60.0, 100.0)
    lease.begin(10.0, 101.0)
    assert lease.ends_at_s == 111.0 and renewed == [148.0, 109.0]


def test_a_welcome_that_took_the_lease_is_followed_by_one_that_is_answered() -> None:
    clock = HandClock()
    lease, renewed, lost = held(clock)
    clock.now = 108.0
    assert not lease.begin(10.0, sent_at_s=100.0)
    assert not lease.check() and not renewed and not lost
    clock.now = 109.0
    lease.renew(sent_at_s=108.5)
    assert lease.check() and renewed == [116.5]
    # Once lost, no answer of that stream brings it back.
    clock.now = 117.0
    assert not lease.check() and lost == [117.0]
    lease.renew(sent_at_s=116.9)
    assert not lease.check()


@given(st.lists(st.tuples(st.floats(0.01, 6.0), st.floats(0.0, 3.0))))
def test_a_holder_never_acts_past_the_margin(beats: list[tuple[float, float]]) -> None:
    """Whatever the delays: while ``check`` is true, the last renewal's margin has not begun,
    and the loss is told exactly once for each time it becomes false."""
    clock = HandClock()
    lease, _, lost = held(clock)
    lease.begin(10.0, clock.now)
    newest_s = clock.now
    was_held = True
    for pause_s, answer_s in beats:
        clock.now += pause_s
        sent_at_s = clock.now
        clock.now += answer_s
        is_held = lease.check()
        assert is_held == (was_held and clock.now < newest_s + 10.0 * (1 - LEASE_MARGIN_SHARE))
        assert len(lost) == (0 if is_held else 1)
        if is_held:
            lease.renew(sent_at_s)
            newest_s = max(newest_s, sent_at_s)
        was_held = is_held


def test_the_watch_wakes_in_time_and_often() -> None:
    async def act() -> None:
        clock = HandClock()
        lease, _, lost = held(clock)
        lease.begin(10.0, 100.0)
        watching = asyncio.ensure_future(lease.watch(0.3))
        while not lost:
            await asyncio.sleep(0)
        watching.cancel()
        assert lost == [pytest.approx(108.0)]

    asyncio.run(act())


def run_stream(act: Callable[[AgentStream, Tape, HandClock], Awaitable[None]]) -> None:
    async def whole() -> None:
        clock = HandClock()
        lease, _, _ = held(clock)
        lease.begin(10.0, clock.now)
        tape = Tape()
        await act(AgentStream(tape, clock, lease), tape, clock)

    asyncio.run(whole())


def event(name: str, size: int = 0) -> agent_pb2.AttemptEvent:
    return agent_pb2.AttemptEvent(attempt=name + "x" * size)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_comes_during_a_send_rides_together() -> None:
    async def act(stream: AgentStream, tape: Tape, clock: HandClock) -> None:
        sending = asyncio.ensure_future(stream.send(cluster_pb2.Load))
        stream.post([event("a")], [])
        await settle()
        tape.gate.clear()
        stream.post([event("b")], [])
        await settle()
        for name in "cde":
            stream.post([event(name)], [agent_pb2.ChunkEvent(deleted=1)])
            await settle()
        tape.gate.set()
        await settle()
        names = [[e.attempt for e in message.attempt_events] for message in tape.sent]
        assert names == [["a"], ["b"], ["c", "d", "e"]]
        assert len(tape.sent[2].chunk_events) == 3
        sending.cancel()

    run_stream(act)


def test_messages_are_bounded_in_bytes_and_events() -> None:
    async def act(stream: AgentStream, tape: Tape, clock: HandClock) -> None:
        sending = asyncio.ensure_future(stream.send(cluster_pb2.Load))
        stream.post([event("large", 300_000) for _ in range(10)], [])
        stream.post([event("small") for _ in range(3000)], [])
        while sum(len(message.attempt_events) for message in tape.sent) < 3010:
            await asyncio.sleep(0)
        assert max(message.ByteSize() for message in tape.sent) < 2 << 20
        sizes = [len(message.attempt_events) for message in tape.sent]
        assert max(sizes) <= stream_module.MESSAGE_MAXIMUM_EVENTS
        sending.cancel()

    run_stream(act)


def test_too_many_reports_give_the_stream_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "OUTBOX_MAXIMUM_EVENTS", 10)

    async def act(stream: AgentStream, tape: Tape, clock: HandClock) -> None:
        stream.post([event(str(number)) for number in range(11)], [])
        with pytest.raises(UnavailableError, match="more than 10 reports"):
            await stream.send(cluster_pb2.Load)
        assert not tape.sent

    run_stream(act)


def test_nothing_is_sent_or_taken_in_after_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(stream: AgentStream, tape: Tape, clock: HandClock) -> None:
        stream.post([event("late")], [])
        clock.now += 9.0
        with pytest.raises(LeaseLostError):
            await stream.send(cluster_pb2.Load)
        assert not tape.sent
        with pytest.raises(LeaseLostError):
            stream.check()

    run_stream(act)


def test_a_silent_master_is_noticed_while_the_lease_holds() -> None:
    async def act(stream: AgentStream, tape: Tape, clock: HandClock) -> None:
        started_s = clock.now
        with pytest.raises(UnavailableError, match="has not answered"):
            await first_to_end(stream.beat(0.5, 10.0), stream.send(cluster_pb2.Load))
        assert clock.now - started_s < 10.0 * (1 - LEASE_MARGIN_SHARE) - 3.0
        numbers = [message.heartbeat.number for message in tape.sent]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 5

    run_stream(act)


def test_waiting_for_the_first_leaves_nothing_running() -> None:
    async def act() -> None:
        ended: list[str] = []

        async def forever() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("forever")

        async def fails() -> None:
            raise UnavailableError("it broke")

        with pytest.raises(UnavailableError, match="it broke"):
            await first_to_end(forever(), fails())
        assert ended == ["forever"]
        with pytest.raises(UnavailableError, match=r"tea took longer than 0\.01 s"):
            await within(RealClock(), 0.01, "tea", forever())
        assert ended == ["forever", "forever"]
        assert await within(RealClock(), 5.0, "tea", asyncio.sleep(0, "poured")) == "poured"

    asyncio.run(act())
