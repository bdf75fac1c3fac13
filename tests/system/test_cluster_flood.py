"""A cluster that may open few files, while strangers hold all the connections they can get."""

import contextlib
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import LIMIT_S, Result, environment, until

from perseus.cli import devcluster

FILES_MAXIMUM = 512


class Small:
    """One node, started with a limit of descriptors, as a shell's ``ulimit -n`` sets it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "c"
        os.environ["PERSEUS_EXIT_WITH_PID"] = str(os.getpid())
        self.environment = environment(folder / "home")
        command = f"ulimit -n {FILES_MAXIMUM}; exec {sys.executable} -m perseus "
        command += f"dev up --nodes 1 --dir {self.folder}"
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, env=self.environment, timeout=LIMIT_S
        )
        assert done.returncode == 0, done.stderr
        self.node = self.folder / "node-1"
        about = json.loads((self.node / "cluster.json").read_text())
        self.context = self.node / "context.json"
        self.addresses = {name: about[name] for name in ("listen", "chunk_listen")}

    def perseus(self, *arguments: str) -> Result:
        """A command of a member, over TLS."""
        values = {**self.environment, "PERSEUS_CONTEXT": str(self.context)}
        done = subprocess.run(
            [sys.executable, "-m", "perseus", *arguments],
            capture_output=True,
            env=values,
            timeout=LIMIT_S,
        )
        return Result(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def pids(self) -> list[int]:
        """Of the daemon and its children's children: the chunkserver among them."""
        daemon = int((self.node / "run" / "perseusd.pid").read_text().split()[0])
        found = [daemon]
        for pid in found:
            with contextlib.suppress(FileNotFoundError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                found += [int(each) for each in children.split()]
        return found


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small(tmp_path)
    try:
        yield made
    finally:
        devcluster.down(made.folder)


def _hello() -> bytes:
    """Of a client that offers h2 alone, and so is relayed to gRPC."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


@contextlib.contextmanager
def flood(address: str, says: bytes, count: int = 2 * FILES_MAXIMUM) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, soft + count), hard))
    host, _, port = address.rpartition(":")
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex((host, int(port)))
            # On loopback it is made at once, unless it is dropped.
            with contextlib.suppress(OSError):
                connection.sendall(says)
        yield


@pytest.mark.parametrize("door", ["listen", "chunk_listen"])
def test_a_flood_of_strangers_ends_no_daemon_and_shuts_nobody_out(small: Small, door: str) -> None:
    before = small.pids()
    with flood(small.addresses[door], _hello()):
        told = small.perseus("run", "--", "sh", "-c", "ulimit -n; head -c 100000 /dev/zero").ok()
        assert told.stdout.startswith(f"{FILES_MAXIMUM}\n".encode())
        assert len(told.stdout) == 100_000 + len(f"{FILES_MAXIMUM}\n")
    until(lambda: small.perseus("nodes").code == 0, "the daemon answers")
    assert set(before) <= set(small.pids())
