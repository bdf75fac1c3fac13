"""The node that a client is on: its replica is written first, and read."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from harness import Cluster, cluster

from perseus.client.cluster import Cluster as Client
from perseus.client.context import Context
from perseus.client.spec import BULK_MINIMUM_BYTES
from perseus.daemon import config
from perseus.filestore.client_channels import Channels, Chunks

CONTENT = bytes(range(256)) * (2 * BULK_MINIMUM_BYTES // 256)
# By chance all of them are on one of three nodes, with two replicas, in one of eleven runs; the
# first of all chains is it in one of 729.
FILES = 6


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("near"), nodes=3) as made:
        yield made


def client_at(made: Cluster, node: str, has_certificate: bool) -> Client:
    """A client on the machine of that node, at its socket."""
    about = config.load(made.folder / node)
    socket = str(config.Paths(made.folder / node).socket)
    owner = json.loads(made.context.read_text())
    given = {**owner, "socket": socket} if has_certificate else {"socket": socket}
    return Client(Context(**{**given, "name": node, "cluster_id": about.cluster_id}))


def chunk_address(made: Cluster, node: str) -> str:
    nodes = made.perseus("--json", "nodes").ok().json()
    return next(str(found["chunk_address"]) for found in nodes if found["name"] == node)


def put(client: Client, path: str) -> None:
    with client.open(path, "w") as file:
        file.write(CONTENT)


def holders(client: Client, path: str) -> list[set[str]]:
    """The names of the nodes that hold each of its chunks."""
    chunks = client.transport.call("Files/Locate", {"path": path})["chunks"]
    return [{replica["node_name"] for replica in chunk["replicas"]} for chunk in chunks]


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The chunkservers that clients of this process spoke to, in order."""
    addresses: list[str] = []
    chunks = Channels.chunks

    def noted(self: Channels, address: str) -> Chunks:
        addresses.append(address)
        return chunks(self, address)

    monkeypatch.setattr(Channels, "chunks", noted)
    return addresses


@pytest.mark.parametrize("node", ["node-1", "node-2", "node-3"])
def test_a_client_writes_to_its_own_node_and_reads_from_it(
    three: Cluster, node: str, dialled: list[str]
) -> None:
    with client_at(three, node, has_certificate=True) as client:
        assert client.info().node_name == node
        for number in range(FILES):
            put(client, f"/{node}-{number}")
            assert b"".join(client.fs.cat(f"/{node}-{number}")) == CONTENT
    assert len(dialled) >= 2 * FILES and set(dialled) == {chunk_address(three, node)}


def test_what_goes_through_the_daemon_has_its_first_replica_on_its_node(three: Cluster) -> None:
    with client_at(three, "node-2", has_certificate=False) as client:
        for number in range(FILES):
            put(client, f"/daemon-{number}")
            assert all("node-2" in names for names in holders(client, f"/daemon-{number}"))


def test_who_names_no_node_gets_the_chain_of_the_one_that_is_asked(three: Cluster) -> None:
    with client_at(three, "node-2", has_certificate=False) as client:
        for number in range(FILES):
            lease: dict[str, Any] = client.transport.call(
                "Files/Create", {"path": f"/plain-{number}"}
            )
            asked = {"inode": lease["inode"], "epoch": lease["epoch"]}
            chain = client.transport.call("Files/AllocateChunk", asked)["chain"]
            assert chain[0]["node_name"] == "node-2"
            client.transport.call("Files/Abandon", asked)
