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
            status = Path(f"/proc/{process.pid}/status").read_text()
            line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            found[process.pid] = int(line.split()[1]) * 1024
    return found


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
    # It ends when the command does, and so within the command's time.
    said = running.stdout.read()
    _, status, usage = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    feeding.join(LIMIT_S)
    assert running.returncode == 0, running.stderr.read()
    assert said.split()[0].decode() == digests[0]
    assert usage.ru_maxrss * 1024 < CLIENT_MAXIMUM_BYTES
    for pid, peak in peaks(one).items():
        assert peak - before.get(pid, peak) < DAEMON_GROWTH_MAXIMUM_BYTES, pid


def test_100_000_lines_each_second_arrive_in_order(one: Cluster) -> None:
    running = one.start("run", "--", sys.executable, "-c", PRODUCER)
    out, err = running.communicate(timeout=LIMIT_S)
    assert (running.returncode, err) == (0, b"")
    assert out == "".join(f"{n}\n" for n in range(SECONDS * LINES_PER_S)).encode()
    assert one.perseus("logs", "@last").ok().stdout == out
