"""Frames between agent and spawner: whole, in order, with their descriptors."""

import os
import socket

import pytest

from perseus.runtime.spawner_wire import (
    Ended,
    Failed,
    Forked,
    FromSpawner,
    Signal,
    Start,
    Started,
    ToSpawner,
    Wire,
)


def pair() -> tuple[Wire[FromSpawner], Wire[ToSpawner]]:
    agent, spawner = socket.socketpair()
    return Wire(agent, list[FromSpawner]), Wire(spawner, list[ToSpawner])


def close(*wires: Wire[FromSpawner] | Wire[ToSpawner]) -> None:
    for wire in wires:
        wire.connection.close()


def test_messages_cross_in_order_and_in_batches() -> None:
    agent, spawner = pair()
    start = Start(1, ["a", "b"], {"K": "V"}, "/", "/dev/null", "/o", "/e")
    agent.queue([start, Signal(5, 15)], [])
    agent.queue([Signal(6, 9)], [])
    assert agent.flush()
    assert spawner.receive() == [start, Signal(5, 15), Signal(6, 9)]
    assert spawner.receive() == []
    spawner.queue([Started(1, 5), Ended(5, -9, 0.5, 7, True), Failed(2, "full", "m", "h")], [])
    assert spawner.flush()
    assert agent.receive() == [
        Started(1, 5),
        Ended(5, -9, 0.5, 7, True),
        Failed(2, "full", "m", "h"),
    ]
    close(agent, spawner)


def test_what_the_socket_does_not_take_waits() -> None:
    agent, spawner = pair()
    starts = [Start(n, ["x" * 100_000], {}, "/", "", "", "") for n in range(30)]
    for start in starts:
        agent.queue([start], [])
    received: list[ToSpawner] = []
    assert not agent.flush()
    for _ in range(1000):
        received += spawner.receive()
        if agent.flush() and len(received) == len(starts):
            break
    assert received == starts
    close(agent, spawner)


def test_descriptors_ride_along_in_order() -> None:
    agent, spawner = pair()
    kept = []
    for number in range(3):
        ours, theirs = socket.socketpair()
        kept.append(ours)
        spawner.queue([Forked(number, 100 + number)], [theirs])
    assert spawner.flush()
    messages: list[FromSpawner] = []
    while len(messages) < 3:
        messages += agent.receive()
    assert [message.pid for message in messages if isinstance(message, Forked)] == [100, 101, 102]
    for number, ours in enumerate(kept):
        theirs = socket.socket(fileno=agent.descriptors.popleft())
        assert not os.get_inheritable(theirs.fileno())
        ours.send(b"%d" % number)
        assert theirs.recv(10) == b"%d" % number
        ours.close()
        theirs.close()
    close(agent, spawner)


def test_the_end_comes_after_the_last_messages() -> None:
    agent, spawner = pair()
    spawner.queue([Started(1, 2)], [])
    spawner.flush()
    spawner.connection.close()
    assert agent.receive() == [Started(1, 2)]
    with pytest.raises(EOFError):
        agent.receive()
    close(agent)
