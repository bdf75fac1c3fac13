"""A disk that takes seconds for an fsync makes the cluster slow, and nothing else."""

import os
from pathlib import Path

import pytest
from harness import FAST_LEASE, cluster, preloaded

# Longer than the part of the lease after which a node gives a silent master up.
SLOW_MS = 1_500
# Longer than the lease itself.
SLOWER_MS = 3_200


@pytest.fixture
def pace(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says how slow the disk of every daemon is."""
    pace = short_folder / "pace"
    pace.write_text("0")
    monkeypatch.setitem(os.environ, "LD_PRELOAD", str(preloaded("slow_disk.c", short_folder)))
    monkeypatch.setitem(os.environ, "SLOW_DISK_FILE", str(pace))
    return pace


def test_a_slow_disk_loses_no_node_and_is_told(short_folder: Path, pace: Path) -> None:
    with cluster(short_folder / "slow", settings=FAST_LEASE) as lab:
        pace.write_text(str(SLOW_MS))
        job = lab.perseus("submit", "--", "echo", "done").ok().text.strip()
        lab.perseus("wait", job).ok()
        assert lab.perseus("logs", job).ok().text == "done\n"
        assert "never began" not in lab.perseus("why", job).ok().text
        lab.perseus("fs", "put", "-", "/slow", stdin=b"x" * 100_000).ok()
        told = lab.perseus("doctor")
        pace.write_text("0")
        assert "to keep a change" in told.text, told
        assert lab.perseus("fs", "cat", "/slow").ok().stdout == b"x" * 100_000


def test_a_node_comes_back_though_an_fsync_takes_longer_than_the_lease(
    short_folder: Path, pace: Path
) -> None:
    with cluster(short_folder / "slower", settings=FAST_LEASE) as lab:
        pace.write_text(str(SLOWER_MS))
        lab.perseus("dev", "restart", "node-2", "--dir", str(lab.folder)).ok()
        # It holds its lease, else it would run nothing.
        lab.perseus("run", "--node", "node-2", "--", "true").ok()
        states = [node["state"] for node in lab.perseus("--json", "nodes").ok().json()]
        assert states == ["NODE_STATE_ALIVE"] * 3
        pace.write_text("0")
