"""A node's memory after transfers."""

from pathlib import Path

import psutil
from harness import cluster, until

from perseus.cli import devcluster
from perseus.daemon import lifecycle

MIB = 1 << 20
ROUNDS = 3
# What a busy chunkserver's allocator holds beside; without giving back it stays for good.
HELD_MAXIMUM_MB = 30


def test_what_transfers_took_is_given_back_when_they_are_over(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=1) as lab:
        (node,) = devcluster.status(lab.folder)
        pid = lifecycle.running_pid(lab.folder / node.name)
        assert pid is not None
        (chunkserver,) = [
            child
            for child in psutil.Process(pid).children(recursive=True)
            if child.name().startswith("perseus-chunk")
        ]

        def private_mb() -> float:
            return float(chunkserver.memory_full_info().uss) / MIB

        before_mb = private_mb()
        local = tmp_path / "large"
        with local.open("wb") as file:
            file.truncate(256 * MIB)
        for number in range(ROUNDS):
            lab.perseus("fs", "put", str(local), f"/large{number}").ok()
            lab.perseus("fs", "get", f"/large{number}", str(tmp_path / "copy")).ok()
        until(lambda: private_mb() < before_mb + HELD_MAXIMUM_MB, "memory is given back")
