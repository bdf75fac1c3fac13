"""A property that raises what it should not is told by its name, with the place."""

import json
from pathlib import Path

import pytest

from perseus.cli import fast

ALGORITHM = """\
from dataclasses import dataclass

from perseus.algo import Process, always, at_end, eventually, on, sometimes


@dataclass(frozen=True)
class Hello:
    pass


class Node(Process):
    def start(self):
        self.broadcast(Hello())
        self.after(1.0, self.start)

    @on(Hello)
    def hello(self, message, sender):
        pass


@{kind}(Node)
def the_table_is_whole(view):
    return {{}}["no such key"]
"""


@pytest.fixture(autouse=True)
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # sim would begin this process anew.
    monkeypatch.setattr("perseus.cli.commands.simulation.fix_hashes", lambda: None)


def run(path: Path, *flags: str) -> int:
    return fast.main(["sim", f"{path}:Node", "--json", "--nodes", "2", *flags])


@pytest.mark.parametrize("kind", ["always", "sometimes", "eventually", "at_end"])
@pytest.mark.parametrize(
    "flags", [("--seeds", "2", "--time", "1s", "--no-shrink"), ("--seed", "0")]
)
def test_in_a_run_of_a_seed(
    kind: str, flags: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"broken_{kind}.py"
    path.write_text(ALGORITHM.format(kind=kind))
    assert run(path, *flags) == 1
    violation = json.loads(capfd.readouterr().out.splitlines()[-1])["violation"]
    assert violation["property"] == f"{kind} the table is whole"
    assert "KeyError" in violation["said"]
    assert f"broken_{kind}.py:23" in violation["said"]


@pytest.mark.parametrize("kind", ["always", "sometimes"])
def test_in_a_search_of_all_orders(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"broken_{kind}.py"
    path.write_text(ALGORITHM.format(kind=kind))
    assert run(path, "--explore", "--depth", "4") == 1
    violation = json.loads(capfd.readouterr().out.splitlines()[-1])["violation"]
    assert f"{kind} the table is whole" in violation
    assert "KeyError" in violation
