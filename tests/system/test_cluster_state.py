"""The master's state harmed while its daemon is down: it says so, and no node loses anything."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import FAST_LEASE, Cluster, cluster

from perseus.cli import devcluster
from perseus.errors import CorruptError, NotFoundError


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, nodes=1, settings=FAST_LEASE) as made:
        yield made


def test_a_master_without_its_state_does_not_start_as_an_empty_one(one: Cluster) -> None:
    large = random.Random(5).randbytes(100_000)
    one.perseus("fs", "put", "-", "/large", stdin=large).ok()
    devcluster.kill(one.folder, "node-1")
    files = {path: path.read_bytes() for path in (one.folder / "node-1").glob("state.db*")}
    for path in files:
        path.unlink()
    with pytest.raises(NotFoundError, match=r"node-1/state\.db is missing") as raised:
        devcluster.restart(one.folder, "node-1")
    assert "newest backup" in raised.value.hint
    for path, content in files.items():
        path.write_bytes(content)
    devcluster.restart(one.folder, "node-1")
    assert one.perseus("fs", "cat", "/large").ok().stdout == large


def test_a_flipped_bit_in_the_log_does_not_roll_the_master_back(one: Cluster) -> None:
    for number in range(4):
        one.perseus("fs", "put", "-", f"/{number}", stdin=b"some words").ok()
    devcluster.kill(one.folder, "node-1")
    log = one.folder / "node-1" / "state.db-wal"
    sound = log.read_bytes()
    harmed = bytearray(sound)
    harmed[len(harmed) * 6 // 10] ^= 1
    log.write_bytes(harmed)
    with pytest.raises(CorruptError, match=r"state\.db-wal is damaged"):
        devcluster.restart(one.folder, "node-1")
    assert log.read_bytes() == harmed
    log.write_bytes(sound)
    devcluster.restart(one.folder, "node-1")
    assert len(one.perseus("--json", "fs", "ls", "/").ok().json()) == 4
