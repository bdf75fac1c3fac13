"""Streams that are large or fast, through the command line on real daemons.

``make soak`` sends 5 GB through the first of them: PERSEUS_TEST_STDIN_BYTES.
"""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from harness import LIMIT_S, Cluster, cluster

from perseus.cli import devcluster

MIB = 1 << 20
STDIN_BYTES = int(os.environ.get("PERSEUS_TEST_STDIN_BYTES", 300 * MIB))
# What the person's command may take in all, and what a daemon may take beyond what it had.
CLIENT_MAXIMUM_BYTES = 160 * MIB
DAEMON_GROWTH_MAXIMUM_BYTES = 160 * MIB
LINES_PER_S = 100_000
SECONDS = 3
# A tick of 10 ms: so many lines, then a rest until the next is due.
PRODUCER = f"""
import sys, time
begun = time.monotonic()
for tick in range({SECONDS} * 100):
    first = tick * {LINES_PER_S // 100}
    sys.stdout.write("".join(f"{{n}}\\n" for n in range(first, first + {LINES_PER_S // 100})))
    sys.stdout.flush()
    time.sleep(max(0.0, begun + (tick + 1) / 100 - time.monotonic()))
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("streams"), nodes=1) as made:
        yield made


def peaks(one: Cluster) -> dict[int, int]:
    """The most memory that each process of the node ever had, by pid."""
    (node,) = devcluster.status(one.folder)
    assert node.pid is not None
    daemon = psutil.Process(node.pid)
    found = {}
    for process in (daemon, *daemon.children(recursive=True)):
        if process.name().startswith(("perseus", "python")):
            found[process.pid] = peak(process.pid)
    return found


def peak(pid: int) -> int:
    """The most memory in bytes that the process had since its program began; 0 when it is over."""
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(
        int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")
    )


def feed(pipe: int, digests: list[str]) -> None:
    """Writes STDIN_BYTES that do not repeat in each MiB, and says what they come to."""
    digest, block = hashlib.sha256(), bytearray(os.urandom(MIB))
    with open(pipe, "wb", buffering=0) as file:
        for number in range(STDIN_BYTES // MIB):
            block[:8] = number.to_bytes(8, "little")
            digest.update(block)
            view = memoryview(block)
            while view:
                view = view[file.write(view) :]
    digests.append(digest.hexdigest())


def test_a_stdin_larger_than_memory_may_be_comes_from_a_pipe(one: Cluster) -> None:
    before = peaks(one)
    reader, writer = os.pipe()
    digests: list[str] = []
    feeding = threading.Thread(target=feed, args=(writer, digests))
    feeding.start()
    command = [sys.executable, "-m", "perseus", "run", "--", "sha256sum"]
    with open(reader, "rb") as stdin:
        running = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=one.environment,
        )  # fmt: skip
    assert running.stdout is not None and running.stderr is not None
    # Not ru_maxrss, which begins with what this process had when it was forked.
    most = 0
    while feeding.is_alive():
        most = max(most, peak(running.pid))
        feeding.join(0.05)
    said, err = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 0, err
    assert said.split()[0].decode() == digests[0]
    assert 0 < most < CLIENT_MAXIMUM_BYTES
    for pid, most in peaks(one).items():
        assert most - before.get(pid, most) < DAEMON_GROWTH_MAXIMUM_BYTES, pid


def test_100_000_lines_each_second_arrive_in_order(one: Cluster) -> None:
    running = one.start("run", "--", sys.executable, "-c", PRODUCER)
    out, err = running.communicate(timeout=LIMIT_S)
    assert (running.returncode, err) == (0, b"")
    assert out == "".join(f"{n}\n" for n in range(SECONDS * LINES_PER_S)).encode()
    assert one.perseus("logs", "@last").ok().stdout == out
