"""A full disk on one chunkserver: a small file system of its own under its replicas."""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from harness import FAST_LEASE, LIMIT_S, Cluster, cluster, until

from perseus.cli import devcluster

SMALL_BYTES = 24 << 20
SETTINGS = {**FAST_LEASE, "disk_reserve_bytes": str(1 << 20)}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes, of which node-3 has 24 MiB for replicas."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    with cluster(tmp_path, settings=SETTINGS) as made:
        chunks = made.folder / "node-3" / "chunks"
        devcluster.kill(made.folder, "node-3")
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", str(chunks)]
        if subprocess.run(mount, capture_output=True).returncode != 0:
            pytest.skip("tmpfs cannot be mounted here")
        try:
            devcluster.restart(made.folder, "node-3")
            until(lambda: alive(made) == 3, "node-3 is back")
            yield made
            devcluster.kill(made.folder, "node-3")
        finally:
            subprocess.run(["umount", "-l", str(chunks)], check=True)


def test_a_task_that_fills_the_disk_is_ended_and_the_daemons_live(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        settings = {**FAST_LEASE, "disk_reserve_bytes": str(64 << 20)}
        with cluster(tmp_path, nodes=1, settings=settings) as made:
            for script in ("cat /dev/zero > junk; sleep 60", "cat /dev/zero"):
                done = made.perseus("run", "--", "sh", "-c", script)
                assert done.code == 153, done.stderr
                assert "fills the disk of node node-1" in done.stderr
                until(lambda: shutil.disk_usage(tmp_path).free > 96 << 20, "its space is free")
            asked = made.perseus("run", "--disk", "8M", "--", "sh", "-c", "cat /dev/zero > junk")
            assert asked.code == 153 and "it asked for 8 MB" in asked.stderr
            assert made.perseus("run", "--", "echo", "well").ok().text == "well\n"
            jobs = made.perseus("--json", "ps").ok().json()
            assert all(made.job(job["job_id"])["tasks"][0]["attempt"] == 1 for job in jobs)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def alive(made: Cluster) -> int:
    nodes = made.perseus("--json", "nodes").ok().json()
    return sum(1 for node in nodes if node["state"] == "NODE_STATE_ALIVE")


def fill(folder: Path) -> None:
    """Writes until the file system has no room."""
    with open(folder / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(SMALL_BYTES // 4096 + 1):
            file.write(bytes(4096))


def test_a_disk_fills_up_in_the_middle_of_writes(small: Cluster) -> None:
    parts = [random.Random(number).randbytes(6 << 20) for number in range(2)]
    writers = [
        small.start("fs", "put", "-", f"/f{number}", stdin=subprocess.PIPE) for number in range(3)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(parts[0])
        writer.stdin.flush()
    fill(small.folder / "node-3" / "chunks")
    for writer in writers:
        _, err = writer.communicate(parts[1], timeout=LIMIT_S)
        assert writer.returncode == 0, err
    for number in range(3):
        assert small.perseus("fs", "cat", f"/f{number}").ok().stdout == b"".join(parts)
        until(partial(whole, small, f"/f{number}"), "two replicas")
    until(lambda: "node-3" in small.perseus("doctor").text, "doctor tells of the full disk")
    # A node without room gets no new chunk, and nothing fails for it.
    small.perseus("fs", "put", "-", "/after", stdin=b"".join(parts)).ok()
    assert replicas(small, "/after") == 2


def whole(made: Cluster, path: str) -> bool:
    return replicas(made, path) == 2


def replicas(made: Cluster, path: str) -> int:
    return int(made.perseus("--json", "fs", "stat", path).ok().json()["live_replicas"])
