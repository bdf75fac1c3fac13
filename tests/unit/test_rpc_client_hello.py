"""The front's look at a ClientHello: whatever comes, it is read, waited for or refused."""

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perseus.rpc.client_hello import (
    HELLO_MAXIMUM_BYTES,
    ClientHello,
    Incomplete,
    NotTlsError,
    parse,
)

NAME = "abcdefgh-proof.join.perseus.internal"


def _real_hello(server_name: str | None, protocols: list[str]) -> bytes:
    """What OpenSSL sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(protocols)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


REAL = _real_hello(NAME, ["h2"])


@pytest.mark.parametrize("name", [None, NAME])
@pytest.mark.parametrize("protocols", [[], ["h2"], ["h2", "http/1.1"], ["http/1.1"]])
def test_real_hellos(name: str | None, protocols: list[str]) -> None:
    expected = ClientHello(name or "", tuple(p.encode() for p in protocols))
    assert parse(_real_hello(name, protocols)) == expected


def _in_records(handshake: bytes, size: int) -> bytes:
    pieces = [handshake[at : at + size] for at in range(0, len(handshake), size)]
    return b"".join(b"\x16\x03\x01" + len(p).to_bytes(2, "big") + p for p in pieces)


@given(st.integers(40, 600))
def test_a_hello_may_span_records(size: int) -> None:
    split = _in_records(REAL[5:], size)
    assert parse(split) == parse(REAL)
    assert parse(split + b"\x14\x03\x03\x00\x01\x01") == parse(REAL)


@given(st.integers(1, 600), st.data())
def test_any_beginning_asks_for_more_and_never_for_too_much(size: int, data: st.DataObject) -> None:
    whole = _in_records(REAL[5:], size)
    cut = data.draw(st.integers(0, len(whole) - 1))
    found = parse(whole[:cut])
    assert isinstance(found, Incomplete)
    assert cut < found.needed_bytes <= len(whole)


def test_waiting_for_what_is_needed_ends_in_few_steps() -> None:
    whole = _in_records(REAL[5:], 100)
    have, steps = 0, 0
    while isinstance(found := parse(whole[:have]), Incomplete):
        have, steps = found.needed_bytes, steps + 1
    assert steps <= 2 * (len(REAL) // 100 + 1)


@given(st.binary(max_size=2000))
def test_garbage_never_crashes(data: bytes) -> None:
    try:
        found = parse(data)
    except NotTlsError:
        return
    assert isinstance(found, ClientHello) or found.needed_bytes <= HELLO_MAXIMUM_BYTES


@given(st.data())
def test_damaged_hellos_never_crash(data: st.DataObject) -> None:
    damaged = bytearray(REAL)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(REAL) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NotTlsError):
        parse(bytes(damaged))


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x02\x00",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x02",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x15\x03\x01\x00\x02\x02\x28",
    ],
)
def test_what_is_no_hello_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(NotTlsError):
        parse(data)


def test_endless_hellos_are_refused() -> None:
    endless = b"\x16\x03\x01\x00\x01\x01" + b"\x16\x03\x01\x00\x01\x00" * 5000
    with pytest.raises(NotTlsError):
        parse(endless[:HELLO_MAXIMUM_BYTES])
    long = (b"\x01" + (15 << 10).to_bytes(3, "big")) + bytes(15 << 10)
    with pytest.raises(NotTlsError):
        parse(_in_records(long, 20)[:HELLO_MAXIMUM_BYTES])
