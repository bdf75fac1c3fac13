"""Certificates that are renewed, and strangers: on a real cluster."""

import base64
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from harness import FAST_LEASE, Cluster, cluster, until

from perseus.client import context as contexts
from perseus.client import store
from perseus.daemon import config, lifecycle
from perseus.errors import RefusedError
from perseus.identity import roles
from perseus.identity.authority import Authority
from perseus.identity.files import Identity, new_key_and_request
from perseus.identity.subject import Subject, validity_of
from perseus.rpc.http_client import UnixConnection


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes whose certificates last ten seconds, the least that they may."""
    settings = {**FAST_LEASE, "certificate_s": "10"}
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
    ends_at_s = (data / "cluster.json").stat().st_mtime + 10
    until(lambda: time.time() > ends_at_s + 1, "the first certificate has expired")
    with UnixConnection(str(data / "run" / "perseusd.sock")) as connection:
        pieces = list(connection.stream("Files.Read", {"path": "/through"}))
    assert b"".join(base64.b64decode(piece["data"]) for piece in pieces) == b"z" * 100_000


def expire(folder: Path, authority: Path) -> None:
    """As if the identity in ``folder`` had not been used for longer than it lasts."""
    identity = Identity.load(folder)
    key_pem, request_pem = new_key_and_request(identity.subject.name)
    made_s = time.time() - 7200
    pem = Authority.load(authority).sign(request_pem, identity.subject, 3600.0, made_s)
    identity.renewed(pem, identity.ca_pem, key_pem).save()


def test_a_cluster_that_was_off_for_longer_than_its_certificates(tmp_path: Path) -> None:
    settings = {"lease_s": "1", "heartbeat_s": "0.2"}
    with cluster(tmp_path, nodes=2, settings=settings) as made:
        made.perseus("fs", "put", "-", "/kept", stdin=b"k" * 100_000).ok()
        master, node = made.folder / "node-1", made.folder / "node-2"
        for data in (master, node):
            lifecycle.stop(data)
            expire(data / "identity", master / "identity")
        context = contexts.load(str(made.context))
        authority = Authority.load(master / "identity")
        key_pem, request_pem = new_key_and_request("owner")
        subject = Subject("user", "owner", roles.ADMIN)
        old = authority.sign(request_pem, subject, 3600.0, time.time() - 7200)
        context.certificate_pem, context.key_pem = old.decode(), key_pem.decode()
        store.save(context, context.path)

        # The master mends itself and its owner's context; the node is told how to come back.
        lifecycle.start(master)
        with pytest.raises(RefusedError) as refused:
            lifecycle.start(node)
        assert f"--data {node}" in refused.value.hint

        def states() -> list[str]:
            return [each["state"] for each in made.perseus("--json", "nodes").ok().json()]

        until(
            lambda: states() == ["NODE_STATE_ALIVE", "NODE_STATE_LOST"], "the node's lease is over"
        )
        before = made.perseus("--json", "nodes").ok().json()
        token = made.perseus("token", "create").ok().text.strip()
        address = config.load(master).advertise
        made.perseus("join", address, "--token", token, "--data", str(node)).ok()

        def two_replicas() -> bool:
            about = made.perseus("--json", "fs", "stat", "/kept").ok().json()
            return bool(about["live_replicas"] == 2)

        until(two_replicas, "both replicas are back")
        after = made.perseus("--json", "nodes").ok().json()
        assert [each["node_id"] for each in after] == [each["node_id"] for each in before]
        assert made.perseus("fs", "cat", "/kept").ok().stdout == b"k" * 100_000


def near_its_end(path: Path, authority: Path) -> bytes:
    """The owner's context at ``path``, made so long ago that less than a third is left."""
    context = contexts.load(str(path))
    subject = Identity.of(
        path.parent,
        context.ca_pem.encode(),
        context.certificate_pem.encode(),
        context.key_pem.encode(),
    ).subject
    key_pem, request_pem = new_key_and_request(subject.name)
    old = Authority.load(authority).sign(request_pem, subject, 1000.0, time.time() - 900.0)
    context.certificate_pem, context.key_pem = old.decode(), key_pem.decode()
    store.save(context, context.path)
    return old


def test_the_owners_copies_are_renewed_by_the_master_and_by_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster(tmp_path, nodes=1) as made:
        master = made.folder / "node-1"
        authority = master / "identity"
        # Where `perseus init` keeps the owner's copy, and one of somebody who has logged in.
        values = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(made.home)}
        copy = Path(store.install(contexts.load(str(master / "context.json")), values))
        near_its_end(copy, authority)
        near_its_end(made.context, authority)
        key_pem, request_pem = new_key_and_request("ada")
        ada = contexts.load(str(copy))
        subject = Subject("user", "ada", roles.USER)
        pem = Authority.load(authority).sign(request_pem, subject, 1000.0, time.time() - 900.0)
        ada.name, ada.certificate_pem, ada.key_pem = "ada", pem.decode(), key_pem.decode()
        other = Path(store.install(ada, values))

        lifecycle.stop(master)
        monkeypatch.setenv("XDG_CONFIG_HOME", values["XDG_CONFIG_HOME"])
        lifecycle.start(master)
        for path in (copy, made.context):
            kept = contexts.load(str(path))
            assert validity_of(kept.certificate_pem.encode())[1] > time.time() + 86400, path
            made.perseus("nodes", extra={"PERSEUS_CONTEXT": str(path)}).ok()
        assert contexts.load(str(other)).certificate_pem == pem.decode()

        # The daemon runs on for long; bytes are what the certificate is used for.
        old = near_its_end(made.context, authority)
        made.perseus("fs", "put", "-", "/big", stdin=b"b" * (5 << 20)).ok()
        kept_pem = contexts.load(str(made.context)).certificate_pem.encode()
        assert validity_of(kept_pem)[1] > validity_of(old)[1] + 86400


def test_a_master_without_the_authoritys_key_is_told_what_can_be_done(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=1) as made:
        master = made.folder / "node-1"
        lifecycle.stop(master)
        expire(master / "identity", master / "identity")
        key = master / "identity" / "ca.key"
        key.rename(tmp_path / "ca.key")
        with pytest.raises(RefusedError, match="cannot sign") as refused:
            lifecycle.start(master)
        assert "token" not in refused.value.hint and str(master) in refused.value.hint
        (tmp_path / "ca.key").rename(key)
        lifecycle.start(master)


def test_a_node_that_was_removed_comes_back_by_what_it_is_told(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=2) as made:
        node = made.folder / "node-2"
        address = config.load(made.folder / "node-1").advertise
        token = made.perseus("token", "create").ok().text.strip()
        # Still a node: nothing is asked of it, and the token is not used up.
        there = made.perseus("join", address, "--token", token, "--data", str(node))
        assert there.code == 125 and "already" in there.stderr and "mv " not in there.stderr
        before = made.perseus("--json", "nodes").ok().json()[1]["node_id"]
        made.perseus("nodes", "rm", "--force", "node-2").ok()
        told = made.perseus("join", address, "--token", token, "--data", str(node))
        assert told.code == 125 and "no longer" in told.stderr
        line = told.stderr.partition("join as a new node: ")[2].strip()
        done = made.shell(line.replace("--token T", f"--token {token}"), tmp_path)
        assert done.code == 0, done.stderr

        def node_2() -> str:
            found = made.perseus("--json", "nodes").ok().json()
            alive = [each for each in found if each["state"] == "NODE_STATE_ALIVE"]
            return next((str(each["node_id"]) for each in alive if each["name"] == "node-2"), "")

        assert until(node_2, "node-2 is back") != before
        assert (made.folder / "node-2.old" / "cluster.json").exists()
        (made.folder / "node-2.old").rename(tmp_path / "aside")


def test_a_node_that_was_given_up_cannot_come_back_as_itself(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=2) as made:
        master, node = made.folder / "node-1", made.folder / "node-2"
        lifecycle.stop(node)
        expire(node / "identity", master / "identity")
        made.perseus("nodes", "rm", "--force", "node-2").ok()
        token = made.perseus("token", "create").ok().text.strip()
        address = config.load(master).advertise
        told = made.perseus("join", address, "--token", token, "--data", str(node))
        assert told.code != 0 and "any more" in told.stderr and "empty folder" in told.stderr
