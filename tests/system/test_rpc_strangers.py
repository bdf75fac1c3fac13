"""Strangers at the TLS port: who is not of the cluster gets at most a TLS alert."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from rpc_lab import LIMIT_S, Lab, curl_socket

from perseus.errors import (
    InvalidError,
    RefusedError,
    UnavailableError,
)
from perseus.identity import roles
from perseus.identity.authority import Authority
from perseus.identity.subject import Subject
from perseus.proto.v1 import cluster_pb2
from perseus.rpc import tls_client
from perseus.rpc.channels import sync_channel
from perseus.rpc.front import Front
from perseus.rpc.relay import relay
from perseus.rpc.strangers import Bounds
from perseus.rpc.stubs import Stub


@pytest.fixture
def lab(short_folder: Path) -> Iterator[Lab]:
    made = Lab(short_folder)
    yield made
    made.close()


def _exchange(front: Front, data: bytes) -> bytes:
    """All that the front answers to ``data``; it may end the connection at any moment."""
    got = b""
    with _connect(front) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                got += piece
        except TimeoutError:
            pytest.fail("the front neither answers nor ends the connection")
        except OSError:
            pass
    return got


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(4000), b"\x16"],
)
def test_no_tls_no_answer(lab: Lab, data: bytes) -> None:
    assert _exchange(lab.front(), data) == b""


@pytest.mark.parametrize("protocols", [[], ["-alpn", "h2"], ["-alpn", "h2,http/1.1"]])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_without_a_certificate(lab: Lab, protocols: list[str], version: str) -> None:
    front = lab.front()
    done = subprocess.run(
        ["openssl", "s_client", "-connect", front.address, version, "-ign_eof", *protocols],
        input=b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        capture_output=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert b"HTTP/1.1" not in done.stdout and b"SERVING" not in done.stdout
    # The gRPC server ends the connection without so much as an alert.
    expected = b"unexpected eof" if protocols == ["-alpn", "h2"] else b"alert"
    assert expected in done.stderr, done.stderr


def test_grpc_without_a_certificate(lab: Lab) -> None:
    front = lab.front()
    credentials = grpc.ssl_channel_credentials(lab.authority.ca_pem)
    name = (("grpc.ssl_target_name_override", "node.lab.perseus.internal"),)
    with grpc.secure_channel(front.address, credentials, name) as channel:
        stub = Stub(channel, "Cluster", front.address)
        with pytest.raises((UnavailableError, RefusedError)):
            stub.call("GetInfo", cluster_pb2.GetInfoRequest(), timeout_s=LIMIT_S)


@pytest.mark.parametrize("kind", ["another", "expired"])
def test_certificates_that_do_not_hold(lab: Lab, kind: str) -> None:
    front = lab.front()
    subject = Subject("user", "eve", roles.ADMIN)
    other = Authority.create("lab", time.time())
    if kind == "another":
        eve = lab.identity("eve", subject, authority=other)
    else:
        eve = lab.identity("eve", subject, lifetime_s=10.0, time_s=time.time() - 3600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=lab.authority.ca_pem.decode())
    context.load_cert_chain(eve.folder / "node.pem", eve.folder / "node.key")
    name = "node.lab.perseus.internal"
    connection = tls_client.TlsConnection(front.address, context, name, LIMIT_S)
    with pytest.raises(RefusedError, match="refuses us"):
        connection.call("Cluster.GetInfo", {})
    credentials = grpc.ssl_channel_credentials(
        lab.authority.ca_pem, eve.key_pem, eve.certificate_pem
    )
    options = (("grpc.ssl_target_name_override", name),)
    with (
        grpc.secure_channel(front.address, credentials, options) as channel,
        pytest.raises((UnavailableError, RefusedError)),
    ):
        request = cluster_pb2.GetInfoRequest()
        Stub(channel, "Cluster").call("GetInfo", request, timeout_s=LIMIT_S)


def test_a_server_of_another_cluster_is_told(lab: Lab) -> None:
    other = Authority.create("lab", time.time())
    lab.identity("master", Subject("node", "x", roles.NODE, "x", True), authority=other)
    front = lab.front()
    with (
        pytest.raises(RefusedError, match="another cluster"),
        tls_client.TlsConnection.of(front.address, lab.folder / "user") as connection,
    ):
        connection.call("Cluster.GetInfo", {})
    with (
        lab.stub(front.address, "user", "Cluster") as cluster,
        pytest.raises(RefusedError, match="not of this cluster"),
    ):
        cluster.call("GetInfo", cluster_pb2.GetInfoRequest(), timeout_s=LIMIT_S)


def test_a_node_cannot_pass_for_the_master(lab: Lab) -> None:
    front = lab.front("node")
    with pytest.raises(RefusedError, match="not the node or master"):
        connection = tls_client.TlsConnection.of(front.address, lab.folder / "user", "master")
        connection.call("Cluster.GetInfo", {})
    with (
        lab.stub(front.address, "user", "Cluster", to="master") as cluster,
        pytest.raises(RefusedError, match="not the master"),
    ):
        cluster.call("GetInfo", cluster_pb2.GetInfoRequest(), timeout_s=LIMIT_S)


def test_a_hello_in_drips_is_understood(lab: Lab) -> None:
    front = lab.front()
    context = lab.load("user").client_ssl_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="node.lab.perseus.internal")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    host, _, port = front.address.rpartition(":")
    with socket.create_connection((host, int(port)), LIMIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in outgoing.read():
            connection.sendall(bytes([byte]))
        assert connection.recv(1) == b"\x16"


def test_silence_is_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perseus.rpc.front.HELLO_TIMEOUT_S", 0.2)
    front = lab.front()
    host, _, port = front.address.rpartition(":")
    with socket.create_connection((host, int(port)), LIMIT_S) as connection:
        connection.sendall(b"\x16\x03\x01\x02")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nho"])
def test_who_ends_tls_is_let_go(lab: Lab, version: ssl.TLSVersion, said: bytes) -> None:
    """As does a client that turns away after the handshake: curl when the name is wrong."""
    front = lab.front()
    context = lab.load("user").client_ssl_context()
    context.maximum_version = version
    with (
        _connect(front) as plain,
        context.wrap_socket(plain, server_hostname="node.lab.perseus.internal") as connection,
    ):
        connection.sendall(said)
        # Sends close_notify, and returns when the front has answered by its own.
        with contextlib.suppress(ssl.SSLError):
            connection.unwrap()
    assert b"SERVING" in curl_socket(lab, "/healthz")


def _connect(front: Front) -> socket.socket:
    host, _, port = front.address.rpartition(":")
    return socket.create_connection((host, int(port)), LIMIT_S)


def _is_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_handshake_that_stalls_is_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perseus.rpc.tls_transport.HANDSHAKE_TIMEOUT_S", 0.2)
    front = lab.front()
    context = lab.load("user").client_ssl_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="node.lab.perseus.internal")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with _connect(front) as connection:
        connection.sendall(outgoing.read())
        while connection.recv(65536):
            pass


def test_a_relayed_peer_that_never_closes_is_ended(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when gRPC gives up a handshake that stalls: its end alone would be closed."""
    monkeypatch.setattr("perseus.rpc.relay.LINGER_S", 0.1)
    path = str(short_folder / "inner.sock")

    async def run() -> None:
        server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), path)
        silent, connection = socket.socketpair()
        connection.setblocking(False)
        with silent:
            await asyncio.wait_for(relay(connection, path, lambda: None), LIMIT_S)
        server.close()

    asyncio.run(run())


def test_a_request_that_drips_is_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perseus.rpc.http_connection.FIRST_REQUEST_TIMEOUT_S", 0.3)
    lab.front()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LIMIT_S)
        connection.connect(str(lab.folder / "master.sock"))
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\n")
        assert _is_ended(connection)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 20_000,
        b"POST /perseus.v1.Files/Write HTTP/1.1\r\nhost: x\r\n"
        b"transfer-encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
def test_broken_http_is_refused(lab: Lab, data: bytes) -> None:
    lab.front()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LIMIT_S)
        connection.connect(str(lab.folder / "master.sock"))
        connection.sendall(data)
        got = b""
        while piece := connection.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 4")


def _hello(protocols: list[str]) -> bytes:
    """What a client says first, and a flood of strangers says no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("says", [b"", _hello(["http/1.1"]), _hello(["h2"])])
def test_the_oldest_stranger_makes_room(lab: Lab, says: bytes) -> None:
    """Also for those who were passed on to gRPC and have said nothing there."""
    front = lab.front(bounds=Bounds(connections=8, strangers=3, strangers_of_one=2, local=8))
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(_connect(front)) for _ in range(4)]
        for stranger in strangers:
            stranger.sendall(says)
        for stranger in strangers[:2]:
            while not _is_ended(stranger):
                pass
        # While the last two are there, members come and stay.
        user = lab.folder / "user"
        members = [tls_client.TlsConnection.of(front.address, user) for _ in range(3)]
        for connection in members:
            assert stack.enter_context(connection).call("Cluster.GetInfo", {})
        for _ in range(3):
            cluster = stack.enter_context(lab.stub(front.address, "user", "Cluster"))
            assert cluster.call("GetInfo", cluster_pb2.GetInfoRequest(), timeout_s=LIMIT_S)
        for connection in members:
            assert connection.call("Cluster.GetInfo", {})


def test_local_connections_are_bounded(lab: Lab) -> None:
    lab.front(bounds=Bounds(connections=8, strangers=4, strangers_of_one=4, local=2))
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(str(lab.folder / "master.sock"))
        assert b"too many connections" in curl_socket(lab, "/healthz")
    # Those who left are soon forgotten.
    end_s = time.monotonic() + LIMIT_S
    while b"SERVING" not in curl_socket(lab, "/healthz"):
        assert time.monotonic() < end_s


def test_a_message_that_is_none_is_invalid(lab: Lab) -> None:
    front = lab.front()
    for who, method in (
        ("admin", "Cluster/GetInfo"),
        ("admin", "Jobs/Follow"),
        ("admin", "Files/Write"),
        ("node", "Agents/Connect"),
    ):
        with (
            sync_channel(front.address, lab.load(who), "node") as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            call = channel.stream_stream(f"/perseus.v1.{method}")
            list(call(iter([b"\xff\xff\xff"]), timeout=LIMIT_S))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, method
        assert "perseus-error-bin" in dict(caught.value.trailing_metadata())


def test_a_socket_path_that_is_too_long_is_told(lab: Lab) -> None:
    lab.folder /= "x" * 90
    lab.identity("master", Subject("node", "n1", roles.NODE, "id1"))
    with pytest.raises(InvalidError, match="too long"):
        lab.front()
