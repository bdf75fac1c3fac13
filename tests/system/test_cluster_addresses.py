"""By which address others reach a node, between hosts that are network namespaces."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import until
from netcluster import PREFIX, WIFI_PREFIX, NetworkCluster, network_cluster, require_namespaces


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[NetworkCluster]:
    require_namespaces()
    with network_cluster(tmp_path, 3, {}, joined=2) as made:
        yield made


def address(hosts: NetworkCluster, name: str) -> str:
    nodes = hosts.on(1, "--json", "nodes").ok().json()
    return next(str(node["address"]) for node in nodes if node["name"] == name)


def findings(hosts: NetworkCluster, name: str) -> str:
    told = hosts.on(1, "--json", "doctor").json()
    return " ".join(each["message"] for each in told if each["subject"] == name)


def test_a_machine_on_two_networks_joins_by_the_masters(hosts: NetworkCluster) -> None:
    hosts.give_wifi(3)
    hosts.join(3).ok()
    assert address(hosts, "n3") == f"{PREFIX}.3:7700"
    done = hosts.on(1, "run", "--node", "n3", "--", "echo", "here")
    assert done.ok().text == "here\n"


def test_a_network_without_a_gateway_needs_no_word_more(hosts: NetworkCluster) -> None:
    hosts.join(3).ok()
    assert address(hosts, "n3") == f"{PREFIX}.3:7700"


def test_a_node_at_an_address_that_nobody_reaches_is_told_and_left_out(
    hosts: NetworkCluster,
) -> None:
    hosts.give_wifi(3)
    hosts.join(3, "--advertise", f"{WIFI_PREFIX}.3:7700").ok()
    until(lambda: "cannot be reached" in findings(hosts, "n3"), "doctor names it")
    job = hosts.on(1, "submit", "--node", "n3", "--", "true").ok().text.strip()
    assert "cannot be reached" in hosts.on(1, "why", job).ok().text
    data = str(hosts.folder / "n3")
    running = hosts.perseus(3, "start", "--data", data, "--advertise", f"{PREFIX}.3:7700")
    assert running.code == 125 and "perseus stop" in running.stderr
    hosts.perseus(3, "stop", "--data", data).ok()
    hosts.perseus(3, "start", "--data", data, "--advertise", f"{PREFIX}.3:7700").ok()
    assert hosts.on(1, "wait", job).ok()
    assert "cannot be reached" not in findings(hosts, "n3")


def test_a_master_keeps_its_address(hosts: NetworkCluster) -> None:
    data = str(hosts.folder / "n1")
    hosts.perseus(1, "stop", "--data", data).ok()
    refused = hosts.perseus(1, "start", "--data", data, "--advertise", f"{PREFIX}.9:7700")
    assert refused.code == 125 and "is the master" in refused.stderr
    hosts.perseus(1, "start", "--data", data).ok()
