"""The bridge as Maelstrom starts it: a process, JSON lines, its own kinds of errors."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, environment

PERSEUS = ROOT / "src/perseus/cli/bin/perseus"
PROGRAM = """
from dataclasses import dataclass
from typing import Any
from perseus.algo import Process, on

@dataclass(frozen=True)
class Echo:
    echo: Any

@dataclass(frozen=True)
class EchoOk:
    echo: Any

@dataclass(frozen=True)
class Read:
    pass

@dataclass(frozen=True)
class ReadOk:
    value: int

@dataclass(frozen=True)
class Ask:
    pass

@dataclass(frozen=True)
class Fail:
    pass

class Server(Process):
    def start(self):
        self.count = 0
        self.after(0.01, self.tell)

    def tell(self):
        self.broadcast(Read())

    @on(Echo)
    def echo(self, sender, message):
        self.count += 1
        self.reply(EchoOk(message.echo))

    @on(Read)
    def read(self, sender, message):
        self.reply(ReadOk(self.count))

    @on(Ask)
    def ask(self, sender, message):
        self.request(sender, Read(), timeout_s=60, on_reply=self.answered)

    def answered(self, sender, message):
        self.send(sender, EchoOk(message.value))

    @on(Fail)
    def fail(self, sender, message):
        raise ValueError("on purpose")
"""


class Node:
    """One node under the bridge."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def say(self, source: str, **body: Any) -> None:
        assert self.process.stdin is not None
        line = json.dumps({"src": source, "dest": "n1", "body": body})
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said


@contextmanager
def node(folder: Path, others: list[str], target: str = "server.py:Server") -> Iterator[Node]:
    (folder / "server.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [str(PERSEUS), "algo", "maelstrom", target],
        cwd=folder,
        env=environment(folder / "home"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        made = Node(process)
        made.say("c1", type="init", msg_id=1, node_id="n1", node_ids=["n1", *others])
        assert made.hear() == {
            "src": "n1",
            "dest": "c1",
            "body": {"type": "init_ok", "in_reply_to": 1},
        }
        yield made
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def test_echo_and_requests(tmp_path: Path) -> None:
    with node(tmp_path, []) as one:
        one.say("c2", type="echo", msg_id=7, echo={"a": [1, None]})
        body = {"type": "echo_ok", "echo": {"a": [1, None]}, "in_reply_to": 7}
        assert one.hear() == {"src": "n1", "dest": "c2", "body": body}
        one.say("c2", type="ask")
        asked = one.hear()["body"]
        assert asked["type"] == "read"
        one.say("c2", type="read_ok", value=5, in_reply_to=asked["msg_id"])
        assert one.hear()["body"] == {"type": "echo_ok", "echo": 5}
        one.say("c2", type="nonsense", msg_id=8)
        assert one.hear()["body"]["code"] == 10
        one.say("c2", type="read_ok", value="five", msg_id=9)
        assert one.hear()["body"]["code"] == 12
        assert one.process.stdin is not None
        one.process.stdin.close()
        assert one.process.wait(30) == 0


def test_timers_and_peers(tmp_path: Path) -> None:
    with node(tmp_path, ["n2", "n3"]) as one:
        assert {one.hear()["dest"] for _ in range(2)} == {"n2", "n3"}


@pytest.mark.parametrize("line", [b"not json\n", b'{"src": "c1"}\n'])
def test_what_is_no_message_ends_it(tmp_path: Path, line: bytes) -> None:
    with node(tmp_path, []) as one:
        assert one.process.stdin is not None
        one.process.stdin.write(line)
        one.process.stdin.flush()
        assert one.process.wait(30) == 125


def test_a_handler_that_raises_ends_it(tmp_path: Path) -> None:
    with node(tmp_path, []) as one:
        one.say("c1", type="fail")
        assert one.process.wait(30) == 125


def test_a_solution_of_the_problem_set_runs_as_it_is(tmp_path: Path) -> None:
    """Raft on one node; what is answered in a later step has the number of its question."""
    target = "perseus.algo.workloads.solutions.lin_kv:Node"
    with node(tmp_path, [], target) as one:
        for number, body, wanted in (
            (1, {"type": "write", "key": 0, "value": 3}, {"type": "write_ok"}),
            (2, {"type": "cas", "key": 0, "from": 3, "to": 4}, {"type": "cas_ok"}),
            (3, {"type": "read", "key": 0}, {"type": "read_ok", "value": 4}),
        ):
            one.say("c1", msg_id=number, **body)
            assert one.hear()["body"] == {**wanted, "in_reply_to": number}
        one.say("c1", msg_id=4, **{"type": "cas", "key": 0, "from": 3, "to": 5})
        assert one.hear()["body"]["code"] == 22
