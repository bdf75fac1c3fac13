"""A node whose clock is wrong: it is told, and the node goes on with its work."""

import json
import os
from pathlib import Path

import pytest
from harness import FAST_LEASE, cluster, preloaded, until

from perseus.cli import devcluster

HOUR_S = 3600


@pytest.fixture
def clock(short_folder: Path) -> tuple[Path, Path]:
    """The library that sets a process's clock off, and the file that says by how much."""
    off = short_folder / "off"
    off.write_text("0")
    return preloaded("wrong_clock.c", short_folder), off


def test_a_node_an_hour_ahead_keeps_the_output_of_its_tasks(
    short_folder: Path, clock: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, off = clock
    with cluster(short_folder / "clock", nodes=2, settings=FAST_LEASE) as lab:
        devcluster.kill(lab.folder, "node-2")
        with monkeypatch.context() as wrong:
            wrong.setitem(os.environ, "LD_PRELOAD", str(library))
            wrong.setitem(os.environ, "WRONG_CLOCK_FILE", str(off))
            devcluster.restart(lab.folder, "node-2")
        # While it runs, as a clock is set wrong by hand or by a time server.
        off.write_text(str(HOUR_S))
        until(
            lambda: "node-2 has a clock 3600" in lab.perseus("doctor").text,
            "the clock that is off is told",
        )
        # Too long for the event that ends the task: a file with chunks, which need grants.
        done = lab.perseus("run", "--node", "node-2", "--", "head", "-c", "200000", "/dev/zero")
        assert done.ok().stdout == bytes(200_000)
        assert "attempt" not in done.stderr
        lab.perseus("fs", "put", "-", "/after", stdin=b"x" * 200_000).ok()
        about = lab.perseus("--json", "fs", "stat", "/after").ok().json()
        assert about["live_replicas"] == 2


def test_a_node_an_hour_behind_gets_no_tasks_and_its_clock_is_named(
    short_folder: Path, clock: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, off = clock
    wrong = {"LD_PRELOAD": str(library), "WRONG_CLOCK_FILE": str(off)}
    with cluster(short_folder / "clock", nodes=2, settings=FAST_LEASE) as lab:
        devcluster.kill(lab.folder, "node-2")
        with monkeypatch.context() as setting:
            for name, value in wrong.items():
                setting.setitem(os.environ, name, value)
            devcluster.restart(lab.folder, "node-2")
        until(lambda: not lab.perseus("doctor").text, "all is well")
        off.write_text(str(-HOUR_S))
        # All certificates of this cluster are younger than that.
        said = "the certificates of node-1 are not valid yet"
        until(lambda: said in lab.perseus("doctor").text, "doctor names the clock")
        assert "node-2 has a clock 3600.0 s behind" in lab.perseus("doctor").text
        assert "node-2 has a clock 3600 s behind" in lab.perseus("nodes").stderr
        job = lab.perseus("submit", "--node", "node-2", "--", "echo", "here").ok().text.strip()
        why = lab.perseus("why", job).ok().text
        assert "node-2 has a clock 3600 s behind the master's" in why
        lab.perseus("fs", "put", "-", "/without", stdin=b"x" * 200_000).ok()
        # On the node itself; what a person types there has its clock.
        values = json.loads(lab.context.read_text())
        values["socket"] = str(lab.folder / "node-2" / "run" / "perseusd.sock")
        there = short_folder / "there.json"
        there.write_text(json.dumps(values))
        there.chmod(0o600)
        told = lab.perseus("doctor", extra={**wrong, "PERSEUS_CONTEXT": str(there)})
        assert told.code == 1 and "this machine's clock is off" in told.text
        # With its clock set right it goes on by itself.
        off.write_text("0")
        assert lab.perseus("wait", job).code == 0
        assert lab.perseus("logs", job).ok().text == "here\n"
        # Restarted with a clock that is behind, it does not start, and says why.
        off.write_text(str(-HOUR_S))
        until(lambda: said in lab.perseus("doctor").text, "the clock is off again")
        devcluster.kill(lab.folder, "node-2")
        begun = lab.perseus("start", "--data", str(lab.folder / "node-2"), extra=wrong)
        assert begun.code == 125 and "set this machine's clock (`date`)" in begun.stderr
        until(lambda: "node-2 is lost" in lab.perseus("doctor").text, "it is lost")
        assert "it had a clock 3600.0 s behind the master's" in lab.perseus("doctor").text


@pytest.mark.parametrize("off_s", [-HOUR_S, 400 * 24 * HOUR_S])
def test_a_person_whose_clock_is_off_is_told_so(
    short_folder: Path, clock: tuple[Path, Path], off_s: int
) -> None:
    library, off = clock
    off.write_text(str(off_s))
    wrong = {"LD_PRELOAD": str(library), "WRONG_CLOCK_FILE": str(off)}
    with cluster(short_folder / "clock", nodes=1) as lab:
        # As from a laptop: over TLS, which looks at dates.
        values = json.loads(lab.context.read_text())
        values["socket"] = ""
        laptop = short_folder / "laptop.json"
        laptop.write_text(json.dumps(values))
        laptop.chmod(0o600)
        away = {"PERSEUS_CONTEXT": str(laptop)}
        lab.perseus("nodes", extra=away).ok()
        address = lab.perseus("--json", "nodes").ok().json()[0]["address"]
        words = lab.perseus("token", "create").ok().text.split()
        token = next(word for word in words if word.startswith("perseus1."))
        join = ("join", address, "--token", token, "--data", str(short_folder / "d"))
        for arguments in (
            ("nodes",),
            ("run", "--", "true"),
            (*join, "--listen", "127.0.0.1:0"),
        ):
            done = lab.perseus(*arguments, extra=away | wrong)
            assert done.code == 125 and "clock" in done.stderr and "`date`" in done.stderr
        assert not (short_folder / "d").exists()
