"""Clients that are too old or too new for their cluster, over every door."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import LIMIT_S, Cluster, cluster

import perseus
from perseus import versions
from perseus.client import context as contexts
from perseus.client.context import Context
from perseus.errors import IncompatibleError
from perseus.identity.files import Identity
from perseus.proto.v1 import cluster_pb2
from perseus.rpc.channels import sync_channel
from perseus.rpc.stubs import Stub

# The command line of another version of Perseus.
OTHER = """\
import sys
from perseus import versions
versions.PROTOCOL_MINIMUM = versions.PROTOCOL_MAXIMUM = {version}
from perseus.cli.fast import start
start(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("two"), nodes=2) as made:
        yield made


def contexts_of(made: Cluster) -> list[Context]:
    """By the socket of each node, and by TLS."""
    owner = contexts.load(str(made.context))
    found = [
        Context("x", owner.cluster_id, socket=str(made.folder / node / "run" / "perseusd.sock"))
        for node in ("node-1", "node-2")
    ]
    parts = (owner.ca_pem, owner.certificate_pem, owner.key_pem)
    return [*found, Context("tls", owner.cluster_id, owner.address, "", *parts)]


@pytest.mark.parametrize(("version", "what"), [(0, "this machine"), (9, "nodes of the cluster")])
def test_a_program_is_refused_by_every_door(
    two: Cluster, version: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "PROTOCOL_MINIMUM", version)
    monkeypatch.setattr(versions, "PROTOCOL_MAXIMUM", version)
    for context in contexts_of(two):
        with perseus.connect(context) as client:
            with pytest.raises(IncompatibleError) as caught:
                client.nodes()
            assert f"version {version} of" in caught.value.message
            assert "version 1 of" in caught.value.message
            assert what in caught.value.hint
            # By this it learns what is spoken.
            assert client.info().protocol_maximum == 1


@pytest.mark.parametrize("arguments", [("run", "--", "true"), ("nodes",), ("fs", "put", "-", "/a")])
def test_a_command_is_refused(two: Cluster, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", OTHER.format(version=9), *arguments]
    done = subprocess.run(
        command, env=two.environment, input=b"", capture_output=True, timeout=LIMIT_S
    )
    assert done.returncode == 125, done.stderr
    assert b"version 9 of" in done.stderr and b"upgrade Perseus" in done.stderr


def test_metadata_of_grpc_counts_and_who_offers_nothing_is_served(
    two: Cluster, tmp_path: Path
) -> None:
    owner = contexts.load(str(two.context))
    parts = (owner.ca_pem, owner.certificate_pem, owner.key_pem)
    identity = Identity.of(tmp_path, *(part.encode() for part in parts))
    identity.save()
    with sync_channel(owner.address, identity, "master") as opened:
        stub = Stub(opened, "Cluster", owner.address)
        request = cluster_pb2.ListNodesRequest()
        assert len(stub.call("ListNodes", request, timeout_s=30.0).nodes) == 2
        with pytest.raises(IncompatibleError, match="versions 2 to 3"):
            stub.call("ListNodes", request, timeout_s=30.0, metadata={versions.OFFER: "2-3 0.9.0"})
    socket = str(two.folder / "node-1" / "run" / "perseusd.sock")
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "--unix-socket",
            socket,
            "-d",
            "{}",
            "http://p/perseus.v1.Cluster/ListNodes",
        ],
        capture_output=True,
        timeout=LIMIT_S,
    )
    assert len(json.loads(done.stdout)["nodes"]) == 2
