"""How a machine without a certificate begins: by a token, which pins the authority."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rpc_lab import LIMIT_S, Lab

from perseus.errors import InvalidError, PerseusError, RefusedError, UnavailableError
from perseus.identity import files, roles
from perseus.identity.authority import Authority
from perseus.identity.files import Identity
from perseus.identity.subject import Subject
from perseus.identity.token_text import parse_token
from perseus.identity.tokens import RevokeToken, make_token
from perseus.rpc.http_client import Message
from perseus.rpc.tls_client import TlsConnection, bootstrap


@pytest.fixture
def lab(short_folder: Path) -> Iterator[Lab]:
    made = Lab(short_folder)
    yield made
    made.close()


def _join(address: str, token: str, name: str = "attic-pc") -> tuple[Message, bytes]:
    key_pem, request_pem = files.new_key_and_request(name)
    connection, parts = bootstrap(address, token)
    with connection:
        request = {
            "token": parts.secret,
            "name": name,
            "certificate_request_pem": request_pem.decode(),
        }
        return connection.call("Cluster.Join", request), key_pem


def test_joining(lab: Lab) -> None:
    front = lab.front()
    answer, key_pem = _join(front.address, lab.token("tok00001", roles.NODE))
    certificate_pem = answer["certificate_pem"].encode()
    made = Identity.of(lab.folder / "new", lab.authority.ca_pem, certificate_pem, key_pem)
    made.save()
    with TlsConnection.of(front.address, lab.folder / "new", "master") as connection:
        assert connection.call("Cluster.GetInfo", {})["caller_role"] == "ROLE_NODE"


def test_a_token_opens_nothing_else(lab: Lab) -> None:
    front = lab.front()
    connection, _ = bootstrap(front.address, lab.token("tok00001", roles.ADMIN))
    with connection:
        for method in ("Cluster.GetInfo", "Jobs.Submit", "Cluster.CreateToken"):
            with pytest.raises(RefusedError, match="tok00001"):
                connection.call(method, {})
        for page in ("/", "/healthz"):
            with pytest.raises(PerseusError):
                connection.get(page)
        assert connection.get("/ca") == lab.authority.ca_pem


def _refusal(address: str, token: str) -> str:
    with pytest.raises(RefusedError) as caught:
        _join(address, token)
    return caught.value.message


def test_refusals_are_distinct(lab: Lab) -> None:
    front = lab.front()
    used, revoked, expired, unknown, mistyped = (
        lab.token(token_id, roles.NODE, ttl_s)
        for token_id, ttl_s in (
            ("usedused", 60.0),
            ("revorevo", 60.0),
            ("overover", 1e-6),
            ("goneaway", 60.0),
            ("mistyped", 60.0),
        )
    )
    _join(front.address, used)
    lab.tokens.step(lab.instant(), RevokeToken("revorevo"))
    assert "used already" in _refusal(front.address, used)
    assert "revoked" in _refusal(front.address, revoked)
    assert "expired" in _refusal(front.address, expired)
    assert "does not know" in _refusal(front.address, unknown.replace("goneaway", "nonesuch"))
    parts = parse_token(mistyped)
    swapped = make_token("mistyped", parts.secret[::-1], parts.ca_fingerprint)
    assert "mistyped" in _refusal(front.address, swapped)
    other = Authority.create("lab", time.time())
    foreign = make_token("mistyped", parts.secret, other.fingerprint)
    assert "another cluster" in _refusal(front.address, foreign)
    unknown_foreign = make_token("nonesuch", parts.secret, other.fingerprint)
    assert "another cluster" in _refusal(front.address, unknown_foreign)
    with pytest.raises(InvalidError, match="cut short"):
        bootstrap(front.address, used[:-1])


def test_a_node_that_is_not_the_master_is_told(lab: Lab) -> None:
    front = lab.front("node")
    assert "not its master" in _refusal(front.address, lab.token("tok00001", roles.NODE))
    unknown = lab.token("tok00002", roles.NODE).replace("tok00002", "tok00003")
    assert "not its master" in _refusal(front.address, unknown)


def test_nobody_there(lab: Lab) -> None:
    token = lab.token("tok00001", roles.NODE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(UnavailableError, match="nothing listens"):
        bootstrap(address, token)
    with pytest.raises(InvalidError, match="not an address"):
        bootstrap("nonsense", token)
    with pytest.raises(UnavailableError, match="no host"):
        bootstrap("nonsense.invalid:1", token)


def _serve_once(listener: socket.socket, context: ssl.SSLContext | None, ca_pem: bytes) -> None:
    """Something that is not Perseus: a plain server, or one that shows a CA not its own."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        try:
            if context is None:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.recv(4096)
            else:
                with context.wrap_socket(connection, server_side=True) as wrapped:
                    wrapped.recv(4096)
                    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(ca_pem)}\r\n\r\n"
                    wrapped.sendall(head.encode() + ca_pem)
        except OSError:
            pass
        finally:
            connection.close()


@pytest.mark.parametrize("kind", ["ssh", "impostor"])
def test_an_impostor_never_sees_the_secret(lab: Lab, kind: str) -> None:
    other = Authority.create("lab", time.time())
    master = Subject("node", "x", roles.NODE, "x", is_master=True)
    lab.identity("impostor", master, authority=other)
    context = lab.load("impostor").bootstrap_ssl_context() if kind == "impostor" else None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(
            target=_serve_once, args=(listener, context, lab.authority.ca_pem)
        )
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        token = lab.token("tok00001", roles.NODE)
        with pytest.raises((RefusedError, UnavailableError)) as caught:
            bootstrap(address, token, LIMIT_S)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(LIMIT_S)
    expected = "another cluster" if kind == "impostor" else "not a Perseus daemon"
    assert expected in caught.value.message
