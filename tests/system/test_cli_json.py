"""Every command under --json against a real cluster: each line is JSON, with the keys told."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import LIMIT_S, Cluster, cluster

from perseus.cli import parser
from perseus.cli.json_answers import ANSWERS, LINES, LIST, NOTHING, Answer
from perseus.daemon import config, lifecycle

HOLDS = """
from perseus.algo import Process, always


class Quiet(Process):
    def start(self):
        self.after(0.5, self.start)


@always(Quiet)
def {name}(view):
    return {value}
"""


class Stage(dict[str, str]):
    """What the rows name in braces, made when it is first named."""

    def __init__(self, lab: Cluster, folder: Path) -> None:
        super().__init__(folder=str(folder), address=config.load(lab.folder / "node-1").advertise)
        self.lab = lab
        self.folder = folder
        for name, value in (("good", "True"), ("bad", "False")):
            (folder / f"{name}.py").write_text(HOLDS.format(name="it_is_well", value=value))
        (folder / "local").mkdir()
        (folder / "local" / "a.txt").write_text("a\n")
        os.mkfifo(folder / "local" / "fifo")

    def __missing__(self, name: str) -> str:
        make: Callable[[], str] = getattr(self, name)
        self[name] = make()
        return self[name]

    def _said(self, *arguments: str) -> str:
        return self.lab.perseus(*arguments).ok().text.strip()

    def ended(self) -> str:
        job = self._said("submit", "--", "echo", "hello")
        self.lab.perseus("wait", job).ok()
        return job

    def failed(self) -> str:
        job = self._said("submit", "--", "false")
        self.lab.perseus("wait", job)
        return job

    def running(self) -> str:
        return self._said("submit", "--", "sleep", "600")

    def token(self) -> str:
        return self._said("token", "create")

    def user_token(self) -> str:
        return self._said("token", "create", "--role", "user")

    def token_id(self) -> str:
        return self._said("token", "create").split(".")[1]

    def dev(self) -> str:
        folder = self.folder / "dev"
        self.lab.perseus("dev", "up", "--nodes", "1", "--dir", str(folder)).ok()
        return str(folder)

    def node(self) -> str:
        """The data folder of a node of a cluster of its own."""
        data = self.folder / "node"
        self.lab.perseus(
            "init", "--no-start", "--data", str(data), "--listen", "127.0.0.1:0", "--name", "alone"
        ).ok()
        return str(data)

    def third(self) -> str:
        """A node of the cluster that may be removed."""
        data = self.folder / "third"
        self.lab.perseus(
            "join", self["address"], "--token", self._said("token", "create"), "--no-start",
            "--data", str(data), "--listen", "127.0.0.1:0", "--name", "third",
        ).ok()  # fmt: skip
        return "third"

    def run(self) -> str:
        return self._said("algo", "run", f"{self.folder}/good.py:Quiet", "--nodes", "2")

    def close(self) -> None:
        if "dev" in self:
            self.lab.perseus("dev", "down", "--dir", self["dev"])
        for name in ("node", "init", "join"):
            if config.exists(self.folder / name):
                lifecycle.stop(self.folder / name)


# By command, and in the order of its answers in the table: what is typed after it.
ROWS: dict[str, list[str]] = {
    "run": ["-- echo hello", "--detach -- true"],
    "submit": ["-- true"],
    "ps": ["", "{ended}", "{ended} {failed}"],
    "logs": ["{ended}"],
    "wait": ["{ended}"],
    "kill": ["-s CONT {running}"],
    "attach": ["{ended}"],
    "retry": ["{failed}"],
    "why": ["{ended}"],
    "fs put": ["-p {folder}/local/a.txt /json/a.txt", "-r {folder}/local /json/"],
    "fs get": ["/json/a.txt {folder}/got", "/json/a.txt -"],
    "fs cat": ["/json/a.txt"],
    "fs tail": ["/json/a.txt"],
    "fs append": ["-p /json/log"],
    "fs ls": ["/json"],
    "fs stat": ["/json/a.txt", "/json /json/a.txt"],
    "fs mkdir": ["-p /json/new"],
    "fs mv": ["/json/new /json/moved"],
    "fs rm": ["-r /json/moved"],
    "fs df": [""],
    "init": ["--data {folder}/init --listen 127.0.0.1:0 --name first"],
    "join": ["{address} --token {token} --data {folder}/join --listen 127.0.0.1:0 --name second"],
    "start": ["--data {node}"],
    "stop": ["--data {node}"],
    "login": ["{address} --token {user_token} --name ada --as lab"],
    "token create": [""],
    "token ls": [""],
    "token revoke": ["{token_id}"],
    "nodes": [""],
    "nodes ls": [""],
    "nodes drain": ["node-2"],
    "nodes undrain": ["node-2"],
    "nodes label": ["node-2 room=attic"],
    "nodes rm": ["--force {third}"],
    "dev up": ["--nodes 1 --dir {dev}"],
    "dev status": ["--dir {dev}"],
    "dev pause": ["node-1 --dir {dev}"],
    "dev resume": ["node-1 --dir {dev}"],
    "dev kill": ["node-1 --dir {dev}"],
    "dev restart": ["node-1 --dir {dev}"],
    "dev down": ["--dir {dev}"],
    "sim": [
        "{folder}/good.py:Quiet --seeds 2 --time 2s --nodes 2",
        "{folder}/bad.py:Quiet --seeds 2 --time 2s --nodes 2",
        "{folder}/good.py:Quiet --seed 1 --time 2s --nodes 2",
        "{folder}/good.py:Quiet --explore --depth 3 --nodes 2",
    ],
    "algo run": ["{folder}/good.py:Quiet --nodes 1"],
    "algo ps": ["", "{run}"],
    "algo partition": ["{run} n1 n2"],
    "algo slow": ["{run} n1 --loss 0.1"],
    "algo heal": ["{run}"],
    "algo kill": ["{run} n1"],
    "algo pause": ["{run} n2"],
    "algo check": ["{run}"],
    "algo stop": ["{run}"],
    "doctor": [""],
    "context ls": [""],
    "context use": ["{folder}/../c/context.json"],
    "completion": ["bash"],
    "version": [""],
    "help": ["run"],
}
# They go on until they are ended, and are tried by tests of their own.
ENDLESS = {"algo watch", "algo maelstrom"}
# By which these end although all is well: what is told is a finding, or a file left out.
CODES = {("sim", 1): 1, ("fs put", 1): 1}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("json")
    with cluster(folder, nodes=2) as made:
        (folder / "stage").mkdir()
        found = Stage(made, folder / "stage")
        found["folder"] = str(folder / "stage")
        try:
            yield found
        finally:
            found.close()


def test_every_command_has_a_row_and_an_answer() -> None:
    commands = set(parser.leaves())
    assert commands == set(ANSWERS)
    assert commands - ENDLESS == set(ROWS)
    for words, rows in ROWS.items():
        assert len(rows) == len(ANSWERS[words]), words


def check(answer: Answer, lines: list[str]) -> None:
    values: list[Any] = [json.loads(line) for line in lines]
    if answer.form == NOTHING:
        assert values == []
        return
    assert values, "stdout is empty"
    if answer.form == LIST:
        assert len(values) == 1 and isinstance(values[0], list)
        values = values[0]
    elif answer.form != LINES:
        assert len(values) == 1
    for value in values:
        assert set(value) == set(answer.keys)


CASES = [
    pytest.param(words, place, id=f"{words} {place}")
    for words, rows in ROWS.items()
    for place in range(len(rows))
]


@pytest.mark.parametrize(("words", "place"), CASES)
def test_success_is_the_json_that_is_told(stage: Stage, words: str, place: int) -> None:
    typed = ROWS[words][place].format_map(stage).split()
    done = subprocess.run(
        [sys.executable, "-m", "perseus", *words.split(), "--json", *typed],
        env={**stage.lab.environment, "PERSEUS_CONTEXT": str(stage.lab.context)},
        input=b"more\n",
        capture_output=True,
        timeout=LIMIT_S,
        cwd=stage.folder,
    )
    assert done.returncode == CODES.get((words, place), 0), (done.stderr, done.stdout)
    lines = done.stdout.decode().splitlines()
    if (words, place) == ("fs put", 1):
        # A file, and what was left out.
        told = [line for line in lines if "left_out" in json.loads(line)]
        check(ANSWERS[words][0], [line for line in lines if line not in told])
        lines = told
    check(ANSWERS[words][place], lines)
