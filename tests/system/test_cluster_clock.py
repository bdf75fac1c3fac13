"""A node whose clock is wrong: it is told, and the node goes on with its work."""

import os
from pathlib import Path

import pytest
from harness import FAST_LEASE, cluster, preloaded, until

from perseus.cli import devcluster

HOUR_S = 3600


@pytest.fixture
def clock(short_folder: Path) -> tuple[Path, Path]:
    """The library that sets a process's clock off, and the file that says by how much."""
    off = short_folder / "off"
    off.write_text("0")
    return preloaded("wrong_clock.c", short_folder), off


def test_a_node_an_hour_ahead_keeps_the_output_of_its_tasks(
    short_folder: Path, clock: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, off = clock
    with cluster(short_folder / "clock", nodes=2, settings=FAST_LEASE) as lab:
        devcluster.kill(lab.folder, "node-2")
        with monkeypatch.context() as wrong:
            wrong.setitem(os.environ, "LD_PRELOAD", str(library))
            wrong.setitem(os.environ, "WRONG_CLOCK_FILE", str(off))
            devcluster.restart(lab.folder, "node-2")
        # While it runs, as a clock is set wrong by hand or by a time server.
        off.write_text(str(HOUR_S))
        until(
            lambda: "node-2 has a clock 3600" in lab.perseus("doctor").text,
            "the clock that is off is told",
        )
        # Too long for the event that ends the task: a file with chunks, which need grants.
        done = lab.perseus("run", "--node", "node-2", "--", "head", "-c", "200000", "/dev/zero")
        assert done.ok().stdout == bytes(200_000)
        assert "attempt" not in done.stderr
        lab.perseus("fs", "put", "-", "/after", stdin=b"x" * 200_000).ok()
        about = lab.perseus("--json", "fs", "stat", "/after").ok().json()
        assert about["live_replicas"] == 2
