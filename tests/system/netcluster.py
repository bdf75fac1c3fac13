"""A cluster whose nodes are hosts of their own: network namespaces on one bridge.

Made and set up as a person would: ``perseus init`` on the first host, a token,
``perseus join`` on the others. Links are cut by routes into nowhere. Needs root
and iproute2; the tests say so when they are skipped.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import LIMIT_S, Result, environment, until

PREFIX = "10.77.0"
WIFI_PREFIX = "10.78.0"


def require_namespaces() -> None:
    """Skips, loudly, where no network namespace can be made."""
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is not installed (tools/system-packages.sh installs it)")
    probe = f"perseus-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True)
    if made.returncode != 0:
        pytest.skip("network namespaces need root")
    subprocess.run(["ip", "netns", "del", probe], check=True)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class NetworkCluster:
    """Hosts 1 to n at 10.77.0.N; host 1 is the master."""

    def __init__(self, folder: Path, nodes: int, settings: dict[str, str]):
        self.folder = folder
        self.nodes = nodes
        self.tag = f"p{os.getpid() % 100000}"
        self.settings = [f"--set={name}={value}" for name, value in settings.items()]
        self.environment = environment(folder / "home")
        self.context = folder / "n1" / "context.json"

    def namespace(self, host: int) -> str:
        return f"{self.tag}-n{host}"

    def prepare(self) -> None:
        """Namespaces, a bridge in one more, and a pair of links for each host."""
        hub = self.namespace(0)
        ip("netns", "add", hub)
        ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", hub, "link", "set", "bridge", "up")
        for host in range(1, self.nodes + 1):
            name = self.namespace(host)
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", f"h{host}", "netns", hub)
            ip("-n", hub, "link", "set", f"h{host}", "master", "bridge", "up")
            ip("-n", name, "addr", "add", f"{PREFIX}.{host}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")

    def give_wifi(self, host: int) -> None:
        """One more network, which no other host is on, and the default route over it."""
        name, hub = self.namespace(host), self.namespace(0)
        ip("-n", name, "link", "add", "wifi0", "type", "veth", "peer", f"w{host}", "netns", hub)
        ip("-n", name, "addr", "add", f"{WIFI_PREFIX}.{host}/24", "dev", "wifi0")
        ip("-n", hub, "link", "set", f"w{host}", "up")
        ip("-n", name, "link", "set", "wifi0", "up")
        ip("-n", name, "route", "add", "default", "via", f"{WIFI_PREFIX}.254")

    def join(self, host: int, *arguments: str) -> Result:
        """The line that the quickstart says."""
        token = self.on(1, "token", "create").ok().text.split()
        text = next(word for word in token if word.startswith("perseus1."))
        return self.perseus(
            host, "join", f"{PREFIX}.1:7700", "--token", text, "--name", f"n{host}",
            "--data", str(self.folder / f"n{host}"), *self.settings, *arguments,
        )  # fmt: skip

    def start(self, nodes: int) -> None:
        data = str(self.folder / "n1")
        self.perseus(
            1, "init", "--data", data, "--listen", f"{PREFIX}.1:7700", "--name", "n1",
            *self.settings,
        ).ok()  # fmt: skip
        for host in range(2, nodes + 1):
            self.join(host, "--listen", f"{PREFIX}.{host}:7700").ok()
        until(lambda: self.alive() == nodes, "all nodes are alive")

    def alive(self) -> int:
        nodes = self.on(1, "--json", "nodes").ok().json()
        return sum(1 for node in nodes if node["state"] == "NODE_STATE_ALIVE")

    def state(self, name: str) -> str:
        nodes = self.on(1, "--json", "nodes").ok().json()
        return next(str(node["state"]) for node in nodes if node["name"] == name)

    def command(self, host: int, *arguments: str) -> list[str]:
        inside = ["ip", "netns", "exec", self.namespace(host)]
        return [*inside, sys.executable, "-m", "perseus", *arguments]

    def perseus(
        self, host: int, *arguments: str, stdin: bytes = b"", extra: dict[str, str] | None = None
    ) -> Result:
        """The command line on a host, to its end."""
        done = subprocess.run(
            self.command(host, *arguments),
            input=stdin,
            capture_output=True,
            timeout=LIMIT_S,
            env={**self.environment, **(extra or {})},
        )
        return Result(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def on(self, host: int, *arguments: str, stdin: bytes = b"") -> Result:
        """The command line on a host with the owner's context."""
        return self.perseus(
            host, *arguments, stdin=stdin, extra={"PERSEUS_CONTEXT": str(self.context)}
        )

    def popen(self, host: int, *arguments: str, through: str = "n1") -> subprocess.Popen[bytes]:
        """The command line with the owner's context, by way of the daemon of ``through``."""
        values = json.loads(self.context.read_text())
        values["socket"] = str(self.folder / through / "run" / "perseusd.sock")
        context = self.folder / f"through-{through}.json"
        context.write_text(json.dumps(values))
        context.chmod(0o600)
        return subprocess.Popen(
            self.command(host, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.environment, "PERSEUS_CONTEXT": str(context)},
        )

    def holders(self) -> list[set[str]]:
        """The nodes on whose disks each chunk lies, the oldest chunk first."""
        found: dict[str, set[str]] = {}
        for path in self.folder.glob("n*/chunks/*/*.data"):
            found.setdefault(path.name, set()).add(path.relative_to(self.folder).parts[0])
        return [found[name] for name in sorted(found)]

    def cut(self, one: int, other: int) -> None:
        """No packet passes between two hosts any more, either way."""
        ip("-n", self.namespace(one), "route", "add", "blackhole", f"{PREFIX}.{other}")
        ip("-n", self.namespace(other), "route", "add", "blackhole", f"{PREFIX}.{one}")

    def mend(self, one: int, other: int) -> None:
        ip("-n", self.namespace(one), "route", "del", "blackhole", f"{PREFIX}.{other}")
        ip("-n", self.namespace(other), "route", "del", "blackhole", f"{PREFIX}.{one}")

    def close(self) -> None:
        for host in range(self.nodes, 0, -1):
            self.perseus(host, "stop", "--data", str(self.folder / f"n{host}"))
        for host in range(self.nodes + 1):
            subprocess.run(["ip", "netns", "del", self.namespace(host)], capture_output=True)


@contextmanager
def network_cluster(
    folder: Path, nodes: int, settings: dict[str, str], joined: int | None = None
) -> Iterator[NetworkCluster]:
    """A cluster of hosts for the length of a block; hosts beyond ``joined`` are of no use yet."""
    made = NetworkCluster(folder, nodes, settings)
    try:
        made.prepare()
        made.start(nodes if joined is None else joined)
        yield made
    finally:
        made.close()
