"""How fast bulk bytes go: put and get through two chunkservers over mutual TLS.

``PYTHONPATH=src python tests/system/chunkserver_bench.py [MIB] [FOLDER]`` prints MB/s;
nothing is asserted.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chunkserver_harness import cluster

from perseus.filestore.client import FilestoreClient

MIB = 1 << 20


def rate(what: str, size_bytes: int, work: Callable[[], object]) -> None:
    started_s = time.monotonic()
    work()
    print(f"{what:>24}: {size_bytes / 1e6 / (time.monotonic() - started_s):6.0f} MB/s")


def put(client: FilestoreClient, source: Path, path: str) -> None:
    with open(source, "rb", buffering=0) as file, client.open_write(path) as out:
        while piece := file.read(MIB):
            out.write(piece)


def main(size_mib: int, folder: str | None) -> None:
    size_bytes = size_mib * MIB
    with tempfile.TemporaryDirectory(dir=folder) as name, cluster(Path(name)) as made:
        source, target = Path(name, "source"), Path(name, "target")
        block = os.urandom(MIB)
        with open(source, "wb") as file:
            for _ in range(size_mib):
                file.write(block)
        os.sync()
        client = made.client
        rate("put, 2 replicas", size_bytes, lambda: put(client, source, "/file"))
        rate("get", size_bytes, lambda: client.get_file("/file", target))
        rate("read, not kept", size_bytes, lambda: sum(map(len, client.open_read("/file"))))


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 1024,
        sys.argv[2] if len(sys.argv) > 2 else None,
    )
