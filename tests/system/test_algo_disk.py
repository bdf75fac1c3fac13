"""A disk that gets full under a journal or a trace: the process waits for room, the others go on,
and nothing of the run is untrue afterwards."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from algo_harness import Lab
from harness import FAST_LEASE, until

from perseus.cli import devcluster
from perseus.hosting.check import fetch
from perseus.hosting.run import Run

KV = "perseus.algo.library.kv:Kv"
SMALL_BYTES = 8 << 20
SETTINGS = {**FAST_LEASE, "disk_reserve_bytes": "4096"}


@pytest.fixture(params=["algo", "attempts"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Lab, Path]]:
    """Three nodes, of which node-2 has 8 MiB for journals, or for traces; and where these lie."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    with harness.cluster(tmp_path, 3, SETTINGS) as cluster:
        devcluster.kill(cluster.folder, "node-2")
        folder = cluster.folder / "node-2" / request.param
        folder.mkdir(mode=0o700, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True).returncode != 0:
            pytest.skip("tmpfs cannot be mounted here")
        try:
            devcluster.up(3, cluster.folder)
            lab = Lab(cluster)
            with lab.client:
                yield lab, folder
            devcluster.kill(cluster.folder, "node-2")
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path) -> Path:
    """Writes until the file system has no room."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(SMALL_BYTES // 512):
            file.write(bytes(4096))
    with open(filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(SMALL_BYTES):
            file.write(b"x")
    return filler


def _lives(lab: Lab, run: Run, process: str) -> int:
    lines = fetch(lab.runs, run).lines[process]
    return sum(line["k"] == "start" for line in lines)


def test_a_process_whose_disk_is_full_comes_back_when_there_is_room(
    small: tuple[Lab, Path],
) -> None:
    lab, folder = small
    run = lab.start(KV, 3)
    lab.go_on(run)
    (full,) = (process for process, node in run.nodes.items() if node == "node-2")
    filler = _fill(folder)

    def is_told() -> bool:
        # It is seen while it is down: each life may find the room that the one before left.
        said = "exit code 74: its journal or trace cannot be written, the disk is full"
        return said in lab.algo("ps", run.run).ok().text

    until(is_told, "it has ended for want of room")
    lab.go_on(run)
    before = _lives(lab, run, full)
    filler.unlink()
    until(lambda: _lives(lab, run, full) > before, "it is back")
    lab.go_on(run)
    starts = [line for line in fetch(lab.runs, run).lines[full] if line["k"] == "start"]
    assert starts[-1]["d"], "what it had is there"
    code, said = lab.check(run)
    assert (code, said["verdict"]) == (0, "held"), said
    lab.algo("stop", run.run).ok()
