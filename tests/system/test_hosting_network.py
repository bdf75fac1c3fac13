"""Who is heard: processes of the same run, each in its own name; and soon again after a break."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from harness import LIMIT_S

from perseus.algo.process import Id
from perseus.hosting.certificate import RunCertificate
from perseus.hosting.network import METHODS, Network, Server
from perseus.identity.authority import Authority
from perseus.identity.files import new_key_and_request
from perseus.identity.subject import RunSubject
from perseus.proto.v1 import algo_pb2

AUTHORITY = Authority.create("lab", time.time())
HOST = "127.0.0.1"


def certificate(run: str, name: str, is_control: bool = False) -> RunCertificate:
    key_pem, request_pem = new_key_and_request(name)
    subject = RunSubject(run, name, is_control)
    signed = AUTHORITY.sign_of_run(request_pem, subject, 3600.0, time.time())
    return RunCertificate(run, "lab", AUTHORITY.ca_pem, signed, key_pem)


class Ear:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Id, algo_pb2.Letter]] = []
        self.some = asyncio.Event()

    def arrive(self, letters: Iterable[algo_pb2.Letter], sender: Id) -> None:
        self.heard += [(sender, letter) for letter in letters]
        self.some.set()

    async def befall(self, request: algo_pb2.BefallRequest) -> algo_pb2.ProcessStatus:
        return algo_pb2.ProcessStatus(process="n1", state="paused")

    def status(self) -> algo_pb2.ProcessStatus:
        return algo_pb2.ProcessStatus(process="n1", state="up")


@asynccontextmanager
async def _served(ear: Ear) -> AsyncIterator[str]:
    """The address of n1 of run r1, for the length of a block."""
    server = Server(ear, certificate("r1", "n1"))
    try:
        yield await server.start(HOST)
    finally:
        await server.stop()


def _to(address: str) -> Callable[[Id], Awaitable[str]]:
    async def find(process: Id) -> str:
        return address

    return find


async def _call(asking: RunCertificate, address: str, name: str, request: Any) -> Any:
    method = METHODS[name]
    async with asking.channel(address) as channel:
        kind = channel.stream_unary if method.client_streaming else channel.unary_unary
        call = kind(
            method.path,
            request_serializer=method.request_class.SerializeToString,
            response_deserializer=method.response_class.FromString,
        )
        return await call(request, timeout=LIMIT_S)


def test_a_process_of_the_run_is_heard_in_its_own_name() -> None:
    async def main() -> None:
        ear = Ear()
        async with _served(ear) as address, asyncio.timeout(LIMIT_S):
            network = Network(_to(address), certificate("r1", "n2"), lambda count: None)
            network.send(algo_pb2.Letter(to="n1", sender="n2", content=b"hello"))
            await ear.some.wait()
            await network.close()
        ((sender, letter),) = ear.heard
        assert (sender, letter.content) == ("n2", b"hello")

    asyncio.run(main())


def _failure(asking: RunCertificate, name: str, request: Any) -> grpc.StatusCode:
    """The code with which a call to n1 of run r1 ends; nothing of it may be heard."""

    async def main() -> grpc.StatusCode:
        async with _served(ear := Ear()) as address:
            with pytest.raises(grpc.RpcError) as failed:
                await _call(asking, address, name, request)
            assert ear.heard == []
            code = failed.value.code()
            assert isinstance(code, grpc.StatusCode)
            return code

    return asyncio.run(main())


LETTERS = [algo_pb2.Letters(letters=[algo_pb2.Letter(to="n1", sender="n2")])]


@pytest.mark.parametrize(
    ("asking", "name", "given"),
    [
        (("r1", "ann", True), "Carry", LETTERS),
        (("r1", "n2", False), "Befall", algo_pb2.BefallRequest()),
        (("r1", "n2", False), "Look", algo_pb2.LookRequest()),
    ],
)
def test_nobody_may_do_what_is_for_others(
    asking: tuple[str, str, bool], name: str, given: Any
) -> None:
    assert _failure(certificate(*asking), name, given) is grpc.StatusCode.PERMISSION_DENIED


def test_a_process_of_another_run_takes_this_one_for_false() -> None:
    """The name that the server proves is of its run."""
    assert _failure(certificate("r2", "n2"), "Carry", LETTERS) is grpc.StatusCode.UNAVAILABLE


def test_a_process_of_another_run_is_not_heard_whatever_it_believes() -> None:
    foreign = certificate("r2", "n2")
    parts = (foreign.ca_pem, foreign.certificate_pem, foreign.key_pem)
    posing = RunCertificate("r1", "lab", *parts)
    assert _failure(posing, "Carry", LETTERS) is grpc.StatusCode.PERMISSION_DENIED


def test_who_controls_the_run_is_answered() -> None:
    async def main() -> None:
        control = certificate("r1", "ann", is_control=True)
        async with _served(Ear()) as address:
            looked = await _call(control, address, "Look", algo_pb2.LookRequest())
            befallen = await _call(control, address, "Befall", algo_pb2.BefallRequest())
        assert (looked.state, befallen.state) == ("up", "paused")

    asyncio.run(main())


def test_pauses_between_two_connects_are_ours_and_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC's own grow to two minutes."""
    given: dict[str, Any] = {}

    def channel(address: str, credentials: Any, options: Any) -> None:
        given.update(options)

    monkeypatch.setattr(grpc.aio, "secure_channel", channel)
    certificate("r1", "n2").channel("127.0.0.1:1")
    assert given["grpc.initial_reconnect_backoff_ms"] == 50
    assert given["grpc.max_reconnect_backoff_ms"] == 250
    # What gRPC calls the least pause is how long one attempt may take.
    assert given["grpc.min_reconnect_backoff_ms"] == 1000


def test_a_peer_that_moved_is_found_again() -> None:
    """It begins anew on another port, as a task does that is started again."""

    async def main() -> None:
        places: list[str] = []

        async def find(process: Id) -> str:
            return places[-1]

        network = Network(find, certificate("r1", "n2"), lambda count: None)
        async with asyncio.timeout(LIMIT_S):
            for _ in range(2):
                ear = Ear()
                async with _served(ear) as address:
                    places.append(address)
                    while not ear.heard:
                        network.send(algo_pb2.Letter(to="n1", sender="n2"))
                        await asyncio.sleep(0.01)
        await network.close()

    asyncio.run(main())


def test_what_cannot_be_sent_is_dropped_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perseus.hosting.network.QUEUE_MAXIMUM_LETTERS", 10)
    dropped: list[int] = []

    async def main() -> None:
        network = Network(_to(""), certificate("r1", "n2"), dropped.append)
        for _ in range(25):
            network.send(algo_pb2.Letter(to="n1", sender="n2"))
        await network.close()

    asyncio.run(main())
    assert sum(dropped) == 15
