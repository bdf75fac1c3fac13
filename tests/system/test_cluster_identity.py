"""Certificates that are renewed, and strangers: on a real cluster."""

import base64
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from harness import FAST_LEASE, Cluster, cluster, until

from perseus.client import store
from perseus.identity.files import Identity
from perseus.rpc.http_client import UnixConnection


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes whose certificates last half a minute beyond the backdating."""
    settings = {**FAST_LEASE, "certificate_s": "30"}
    with cluster(tmp_path_factory.mktemp("short"), nodes=2, settings=settings) as made:
        yield made


def expiry(made: Cluster, node: str) -> float:
    return Identity.load(made.folder / node / "identity").expires_at_s


def renewed(made: Cluster, node: str, since_s: float) -> bool:
    return expiry(made, node) > since_s + 1


def test_certificates_are_renewed_and_everything_goes_on(short: Cluster) -> None:
    before = {node: expiry(short, node) for node in ("node-1", "node-2")}
    short.perseus("fs", "put", "-", "/before", stdin=b"x" * 100_000).ok()
    for node, ends_at_s in before.items():
        until(partial(renewed, short, node, ends_at_s), f"the certificate of {node} is renewed")
    for node in before:
        done = short.perseus("run", "--node", node, "--stdin", "/before", "--", "wc", "-c")
        assert done.ok().text.strip() == "100000"
    short.perseus("fs", "put", "-", "/after", stdin=b"y" * 100_000).ok()
    about = short.perseus("--json", "fs", "stat", "/after").ok().json()
    assert about["live_replicas"] == 2


def test_a_stranger_gets_an_alert_from_every_port(short: Cluster, tmp_path: Path) -> None:
    for node in short.perseus("--json", "nodes").ok().json():
        for address in (node["address"], node["chunk_address"]):
            done = subprocess.run(
                ["curl", "-sk", "--max-time", "10", f"https://{address}/healthz"],
                capture_output=True,
            )
            assert done.returncode != 0 and done.stdout == b"", address
            plain = subprocess.run(
                ["curl", "-s", "--http0.9", "--max-time", "10", f"http://{address}/"],
                capture_output=True,
            )
            assert b"HTTP" not in plain.stdout and b"erseus" not in plain.stdout, address


def test_a_users_certificate_is_renewed_by_use(short: Cluster, tmp_path: Path) -> None:
    from perseus.client import context as contexts
    from perseus.identity import roles
    from perseus.identity.authority import Authority
    from perseus.identity.files import new_key_and_request
    from perseus.identity.subject import Subject, validity_of

    authority = Authority.load(short.folder / "node-1" / "identity")
    key_pem, request_pem = new_key_and_request("ada")
    # Made so long ago that less than a third is left.
    subject = Subject("user", "ada", roles.USER)
    old = authority.sign(request_pem, subject, 1000.0, time.time() - 900.0)
    owner = contexts.load(str(short.context))
    path = str(tmp_path / "ada.json")
    context = contexts.Context(
        "ada", owner.cluster_id, owner.address, "", owner.ca_pem, old.decode(), key_pem.decode()
    )
    store.save(context, path)
    assert (
        short.perseus("run", "--", "echo", "on", extra={"PERSEUS_CONTEXT": path}).ok().text
        == "on\n"
    )
    kept = contexts.load(path).certificate_pem.encode()
    assert validity_of(kept)[1] > validity_of(old)[1] + 86400
    assert (
        short.perseus("run", "--", "echo", "still", extra={"PERSEUS_CONTEXT": path}).ok().text
        == "still\n"
    )


def test_bytes_through_the_master_outlive_its_first_certificate(short: Cluster) -> None:
    short.perseus("fs", "put", "-", "/through", stdin=b"z" * 100_000).ok()
    data = short.folder / "node-1"
    # What the daemon was started with has expired then.
    ends_at_s = (data / "cluster.json").stat().st_mtime + 30
    until(lambda: time.time() > ends_at_s + 1, "the first certificate has expired")
    with UnixConnection(str(data / "run" / "perseusd.sock")) as connection:
        pieces = list(connection.stream("Files.Read", {"path": "/through"}))
    assert b"".join(base64.b64decode(piece["data"]) for piece in pieces) == b"z" * 100_000
