"""Who is heard: processes of the same run, each in its own name; and soon again after a break."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
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


async def _serve(ear: Ear, run: str = "r1") -> tuple[Server, str]:
    server = Server(ear, certificate(run, "n1"))
    return server, await server.start(HOST)


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
        server, address = await _serve(ear)
        network = Network(_to(address), certificate("r1", "n2"), lambda count: None)
        network.send(algo_pb2.Letter(to="n1", sender="n2", content=b"hello"))
        async with asyncio.timeout(LIMIT_S):
            await ear.some.wait()
        ((sender, letter),) = ear.heard
        assert (sender, letter.content) == ("n2", b"hello")
        await network.close()
        await server.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("asking", "name", "request_", "code"),
    [
        # The name that the server proves is of another run.
        (("r2", "n2", False), "Carry", algo_pb2.Letters(), grpc.StatusCode.UNAVAILABLE),
        (("r1", "ann", True), "Carry", algo_pb2.Letters(), grpc.StatusCode.PERMISSION_DENIED),
        (("r1", "n2", False), "Befall", algo_pb2.BefallRequest(), None),
        (("r1", "n2", False), "Look", algo_pb2.LookRequest(), None),
    ],
)
def test_others_are_not_heard(
    asking: tuple[str, str, bool], name: str, request_: Any, code: grpc.StatusCode | None
) -> None:
    async def main() -> None:
        server, address = await _serve(ear := Ear())
        given = [request_] if name == "Carry" else request_
        with pytest.raises(grpc.RpcError) as failed:
            await _call(certificate(*asking), address, name, given)
        assert failed.value.code() is (code or grpc.StatusCode.PERMISSION_DENIED)
        assert ear.heard == []
        await server.stop()

    asyncio.run(main())


def test_a_certificate_of_another_run_is_refused_though_it_takes_this_one_for_true() -> None:
    """What a process believes of the other side does not let it in."""

    async def main() -> None:
        server, address = await _serve(ear := Ear())
        foreign = certificate("r2", "n2")
        parts = (foreign.ca_pem, foreign.certificate_pem, foreign.key_pem)
        posing = RunCertificate("r1", "lab", *parts)
        with pytest.raises(grpc.RpcError) as failed:
            await _call(posing, address, "Carry", [algo_pb2.Letters()])
        assert failed.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert ear.heard == []
        await server.stop()

    asyncio.run(main())


def test_who_controls_the_run_is_answered() -> None:
    async def main() -> None:
        server, address = await _serve(Ear())
        control = certificate("r1", "ann", is_control=True)
        answer = await _call(control, address, "Look", algo_pb2.LookRequest())
        assert answer.state == "up"
        answer = await _call(control, address, "Befall", algo_pb2.BefallRequest())
        assert answer.state == "paused"
        await server.stop()

    asyncio.run(main())


def test_a_peer_that_moved_is_found_again_at_once() -> None:
    """It begins anew on another port, as a task does that is started again."""

    async def main() -> None:
        first = Ear()
        server, address = await _serve(first)
        places = [address]

        async def find(process: Id) -> str:
            return places[-1]

        network = Network(find, certificate("r1", "n2"), lambda count: None)
        network.send(algo_pb2.Letter(to="n1", sender="n2"))
        async with asyncio.timeout(LIMIT_S):
            await first.some.wait()
            await server.stop()
            second = Ear()
            server, address = await _serve(second)
            places.append(address)
            while not second.heard:
                network.send(algo_pb2.Letter(to="n1", sender="n2"))
                await asyncio.sleep(0.01)
        await network.close()
        await server.stop()

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
