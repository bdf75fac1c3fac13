"""What tests of runs of algorithms ask of a real cluster."""

from pathlib import Path
from typing import Any

import harness
from harness import Cluster, until

from perseus.algo.process import Id
from perseus.client import cluster as clients
from perseus.client import context as contexts
from perseus.hosting.check import fetch
from perseus.hosting.run import Run
from perseus.hosting.runs import Runs


class Lab:
    """A cluster, and what tests ask of its runs."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.client = clients.Cluster(contexts.load(str(cluster.context)))
        self.runs = Runs(self.client)

    def start(self, target: str, nodes: int, workload: str = "") -> Run:
        """By the command line."""
        words = ["--json", "algo", "run", target, "--nodes", str(nodes)]
        if workload:
            words += ["--workload", workload]
        return self.runs.get(self.cluster.perseus(*words).ok().json()["run"])

    def algo(self, *arguments: str) -> harness.Result:
        return self.cluster.perseus("algo", *arguments)

    def check(self, run: Run) -> tuple[int, Any]:
        """The exit code and what it says."""
        found = self.cluster.perseus("--json", "algo", "check", run.run)
        return found.code, found.json()

    def answers(self, run: Run) -> int:
        """How much clients have been told."""
        lines = fetch(self.runs, run).lines
        return sum(
            line["k"] == "receive" and line["what"].startswith("Done(")
            for client in run.clients
            for line in lines[client]
        )

    def go_on(self, run: Run) -> None:
        """Returns when clients have been told more than they were."""
        before = self.answers(run)
        until(lambda: self.answers(run) > before + 2, "clients get answers again")

    def leader(self, run: Run) -> Id:
        """Who appended to others last."""
        lines = fetch(self.runs, run).lines
        last: tuple[float, Id] = max(
            (line["at"], process)
            for process in run.nodes
            for line in lines[process]
            if any(said.startswith("Append(") for _, _, said, _ in line.get("s", ()))
        )
        return last[1]

    def leftovers(self) -> list[Path]:
        """What is durable to runs, on any node."""
        return list(self.cluster.folder.glob("node-*/algo/*"))
