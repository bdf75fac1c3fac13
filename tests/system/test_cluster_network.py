"""Cut links, between hosts that are network namespaces."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import FAST_LEASE, LIMIT_S, until
from netcluster import NetworkCluster, network_cluster, require_namespaces


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[NetworkCluster]:
    require_namespaces()
    with network_cluster(tmp_path, 3, FAST_LEASE) as made:
        yield made


def test_a_node_cut_from_the_master_stops_and_its_task_runs_elsewhere(
    hosts: NetworkCluster, tmp_path: Path
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    # Each attempt notes its start and, as long as it lives, that it lives.
    script = (
        f"echo $PERSEUS_NODE >> {log}; echo from $PERSEUS_NODE; "
        f"while [ ! -e {gate} ]; do date +%s.%N > {log}.$PERSEUS_NODE; sleep 0.05; done"
    )
    for node in ("n2", "n3"):
        hosts.on(1, "nodes", "label", node, "far=yes").ok()
    submit = ("submit", "--label", "far=yes", "--", "sh", "-c", script)
    job = hosts.on(1, *submit).ok().text.strip()
    until(log.exists, "the task runs")
    first = log.read_text().strip()
    hosts.cut(1, int(first[1:]))
    until(lambda: log.read_text().count("\n") == 2, "it runs on another node")
    # The cut node ended its attempt before the next could begin.
    stamp = Path(f"{log}.{first}").read_text()
    second = log.read_text().split()[1]
    assert second != first
    gate.touch()
    assert hosts.on(1, "wait", job).code == 0
    assert hosts.on(1, "logs", job).ok().text == f"from {second}\n"
    assert Path(f"{log}.{first}").read_text() == stamp
    assert hosts.state(first) == "NODE_STATE_LOST"
    assert f"{first} is lost" in hosts.on(1, "doctor").text
    assert f"lost with {first}" in hosts.on(1, "why", job).ok().text
    hosts.mend(1, int(first[1:]))
    until(lambda: hosts.state(first) == "NODE_STATE_ALIVE", "the node is back")
    assert hosts.on(1, "logs", job).ok().text == f"from {second}\n"


def test_a_cut_between_two_chunkservers_during_a_write(hosts: NetworkCluster) -> None:
    data = random.Random(5).randbytes(24 << 20)
    # So that the chain is of the other two, and the first of it the writer's own node.
    hosts.on(1, "nodes", "drain", "n1").ok()
    running = hosts.popen(2, "fs", "put", "-", "/cut.bin", through="n2")
    assert running.stdin is not None
    running.stdin.write(data[: 12 << 20])
    running.stdin.flush()
    until(lambda: hosts.holders() == [{"n2", "n3"}], "the first chunk is being written")
    hosts.on(1, "nodes", "undrain", "n1").ok()
    hosts.cut(2, 3)
    _, err = running.communicate(data[12 << 20 :], timeout=LIMIT_S)
    assert running.returncode == 0, err
    told = [line for line in err.decode().splitlines() if "the link n2 -> n3 failed" in line]
    assert len(told) == 1 and "going on through others" in told[0], err
    assert "n2 could not bring bytes to n3" in hosts.on(1, "doctor").text
    # What came after the cut lies in a new chunk, which n3 has no part in.
    assert {"n1", "n2"} in hosts.holders()
    for reader in (1, 2):
        got = hosts.on(reader, "fs", "cat", "/cut.bin").ok().stdout
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def test_a_client_on_a_laptop(hosts: NetworkCluster, tmp_path: Path) -> None:
    created = hosts.on(1, "token", "create", "--role", "user").ok().text.split()
    token = next(word for word in created if word.startswith("perseus1."))
    laptop = {"XDG_CONFIG_HOME": str(tmp_path / "laptop")}
    hosts.perseus(3, "login", "10.77.0.1:7700", "--token", token, extra=laptop).ok()
    done = hosts.perseus(3, "run", "--", "cat", stdin=b"x" * 300_000, extra=laptop)
    assert done.ok().stdout == b"x" * 300_000
    done = hosts.perseus(3, "nodes", "drain", "n2", extra=laptop)
    assert done.code == 125 and "role" in done.stderr
