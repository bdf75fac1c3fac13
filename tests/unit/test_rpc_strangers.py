"""Who of the connections that have not proved themselves makes room for the next."""

from functools import partial

from perseus.rpc.admission import Admission
from perseus.rpc.strangers import (
    CONNECTIONS_MAXIMUM,
    CONNECTIONS_MINIMUM,
    RELAY_DESCRIPTORS,
    STRANGERS_MAXIMUM,
    Strangers,
    bounds_for,
)


def _strangers(maximum: int, of_one: int) -> tuple[Strangers, list[str]]:
    return Strangers(maximum, of_one), []


def test_the_oldest_of_an_address_makes_room_for_its_newest() -> None:
    strangers, left = _strangers(10, 2)
    for name in ("first", "second", "third"):
        strangers.add("10.0.0.1", partial(left.append, name))
    assert left == ["first"] and len(strangers) == 2


def test_the_address_with_most_makes_room() -> None:
    strangers, left = _strangers(4, 3)
    for host, name in [("10.0.0.1", "a"), ("10.0.0.2", "b"), ("10.0.0.2", "c"), ("10.0.0.2", "d")]:
        strangers.add(host, partial(left.append, name))
    strangers.add("10.0.0.3", lambda: left.append("e"))
    assert left == ["b"] and len(strangers) == 4


def test_who_is_known_makes_no_room() -> None:
    strangers, left = _strangers(2, 2)
    known = strangers.add("10.0.0.1", lambda: left.append("known"))
    strangers.discard(known)
    strangers.discard(known)
    for _ in range(3):
        strangers.add("10.0.0.1", lambda: left.append("stranger"))
    assert left == ["stranger"] and len(strangers) == 2
    assert strangers.drop_one() and strangers.drop_one() and not strangers.drop_one()


def test_one_machine_has_many_addresses_of_version_6() -> None:
    strangers, left = _strangers(10, 1)
    for host in (
        "2001:db8::1",
        "2001:db8::2%eth0",
        "2001:db8:0:1::1",
        "::ffff:10.0.0.1",
        "10.0.0.1",
    ):
        strangers.add(host, partial(left.append, host))
    assert left == ["2001:db8::1", "::ffff:10.0.0.1"]


def test_bounds_fit_into_the_descriptors() -> None:
    for descriptors in (600, 1024, 4096, 20_000):
        bounds = bounds_for(descriptors)
        assert bounds.connections * RELAY_DESCRIPTORS + bounds.local < descriptors - 200
        assert 0 < bounds.strangers_of_one < bounds.strangers < bounds.connections
    assert bounds_for(65536).connections == CONNECTIONS_MAXIMUM
    assert bounds_for(65536).strangers == STRANGERS_MAXIMUM
    assert bounds_for(64).connections == CONNECTIONS_MINIMUM


def _record(kind: int, length: int) -> bytes:
    return bytes([kind, 3, 3]) + length.to_bytes(2, "big") + bytes(length)


def _admitted(*turns: bytes) -> bool:
    admission = Admission()
    for turn in turns:
        admission.client_spoke()
        admission.server_spoke(memoryview(turn))
    return admission.is_admitted


HELLO, ALERT, WORDS = _record(22, 90), _record(23, 19), _record(23, 60)


def test_a_client_is_admitted_by_the_servers_own_words() -> None:
    assert _admitted(HELLO + WORDS, WORDS)
    # Asked to begin anew (HelloRetryRequest), or TLS 1.2.
    assert _admitted(HELLO, HELLO + WORDS, WORDS)
    assert not _admitted(HELLO, HELLO + WORDS)


def test_nobody_is_admitted_by_an_alert_or_for_talking() -> None:
    assert not _admitted(HELLO + WORDS, ALERT)
    assert not _admitted(WORDS)
    admission = Admission()
    admission.client_spoke()
    for piece in (HELLO, WORDS, WORDS):
        admission.server_spoke(memoryview(piece))
    assert not admission.is_admitted
