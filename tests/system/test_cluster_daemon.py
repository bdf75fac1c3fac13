"""One daemon of a cluster: refused, drained, removed, and when one of its processes dies."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from harness import FAST_LEASE, LIMIT_S, ROOT, Cluster, Result, cluster, until

from perseus import settings
from perseus.cli import devcluster
from perseus.daemon import config, lifecycle, setup
from perseus.errors import IncompatibleError

ALIVE = "NODE_STATE_ALIVE"
# A daemon as the next version of Perseus would have it, which speaks no version of ours.
NEXT_VERSION = """
import sys
from perseus import settings
settings.PROTOCOL_MINIMUM = settings.PROTOCOL_MAXIMUM = settings.PROTOCOL_MAXIMUM + 1
from perseus.daemon.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("daemon"), nodes=2, settings=FAST_LEASE) as made:
        yield made


def data_of(made: Cluster, node: str) -> Path:
    return made.folder / node


def at_node(made: Cluster, node: str, *arguments: str) -> Result:
    """A command typed on the machine of that node."""
    about = config.load(data_of(made, node))
    context = made.home / f"{node}.json"
    context.write_text(
        json.dumps(
            {
                "name": node,
                "cluster_id": about.cluster_id,
                "address": about.master_address,
                "socket": str(config.Paths(data_of(made, node)).socket),
            }
        )
    )
    return made.perseus(*arguments, extra={"PERSEUS_CONTEXT": str(context)})


def state_of(made: Cluster, node: str) -> str:
    for found in made.perseus("--json", "nodes").ok().json():
        if found["name"] == node:
            return str(found["state"])
    return "gone"


def child(made: Cluster, node: str, name: str) -> psutil.Process:
    """The daemon's process of that name: "spawner" or "chunkserver"."""
    pid = lifecycle.running_pid(data_of(made, node))
    assert pid is not None
    (found,) = [
        process
        for process in psutil.Process(pid).children(recursive=True)
        if process.name().startswith(f"perseus-{name}"[:15])
    ]
    return found


def test_a_node_of_another_version_is_told_at_its_own_door(two: Cluster) -> None:
    data = data_of(two, "node-2")
    lifecycle.stop(data)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", NEXT_VERSION, "--data", str(data)]
    newer = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        told = until(
            lambda: _doctor_that_says(two, "refuses this node"),
            "doctor on that machine tells of the refusal",
        )
        assert told.code == 1
        assert "version" in told.text and "upgrade Perseus on the master" in told.text
    finally:
        newer.terminate()
        assert newer.wait(LIMIT_S) == 0
    lifecycle.start(data)
    until(lambda: state_of(two, "node-2") == ALIVE, "node-2 is back")
    assert at_node(two, "node-2", "doctor").text.count("refuses") == 0


def _doctor_that_says(made: Cluster, words: str) -> Result | None:
    done = at_node(made, "node-2", "doctor")
    return done if words in done.text else None


@pytest.mark.parametrize("version", [0, settings.PROTOCOL_MAXIMUM + 1])
def test_a_machine_of_another_version_does_not_join(
    two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    token, address = setup.create_token(data_of(two, "node-1"))
    monkeypatch.setattr(settings, "PROTOCOL_MAXIMUM", version)
    with pytest.raises(IncompatibleError, match="protocol") as raised:
        setup.join(address, token, tmp_path / "d", "127.0.0.1:0", "late")
    assert "upgrade Perseus" in raised.value.hint
    assert not (tmp_path / "d").exists() and state_of(two, "late") == "gone"


def test_a_chunkserver_that_dies_is_started_again(two: Cluster) -> None:
    died = child(two, "node-2", "chunkserver")
    died.send_signal(signal.SIGKILL)
    until(lambda: not died.is_running(), "the chunkserver is gone")

    def put() -> bool:
        two.perseus("fs", "put", "-", "/again", stdin=b"x" * 50_000).ok()
        about = two.perseus("--json", "fs", "stat", "/again").ok().json()
        return bool(about["live_replicas"] == 2)

    until(put, "a new chunkserver takes replicas")
    assert child(two, "node-2", "chunkserver").pid != died.pid


@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_a_daemon_whose_spawner_dies_begins_anew(
    two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    data = data_of(two, node)
    lifecycle.stop(data)
    monkeypatch.setenv("PERSEUS_EXIT_WITH_PID", str(os.getpid()))
    monkeypatch.setattr(lifecycle, "command", _any_age)
    pid = lifecycle.start(data)
    limit = psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)
    until(lambda: state_of(two, node) == ALIVE, f"{node} is back")
    mark, go = tmp_path / "pids", tmp_path / "go"
    script = f"echo $$ >> {mark}; echo begun; until [ -e {go} ]; do sleep 0.05; done; echo done"
    running = two.start(
        "run", "--node", node, "--", "sh", "-c", script, stdout=subprocess.PIPE, stderr=None
    )
    assert running.stdout is not None and running.stdout.readline() == b"begun\n"
    died = child(two, node, "spawner")
    died.send_signal(signal.SIGKILL)
    until(lambda: len(mark.read_text().split()) == 2, "the task runs once more")
    # What the spawner left, the daemon has swept before it began.
    first = int(mark.read_text().split()[0])
    assert not psutil.pid_exists(first) or psutil.Process(first).status() == psutil.STATUS_ZOMBIE
    go.touch()
    # Shown once, over all of that.
    assert running.communicate(timeout=LIMIT_S)[0] == b"done\n" and running.returncode == 0
    assert lifecycle.running_pid(data) == pid and child(two, node, "spawner").pid != died.pid
    assert psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE) == limit
    assert "the spawner is gone" in config.Paths(data).log.read_text()


def _any_age(data: Path, _accept_old_state: bool) -> list[str]:
    """A daemon that begins anew however short it ran; the one that follows is the real one."""
    program = (
        "import sys\nfrom perseus.daemon import __main__, anew\nanew.RAN_LEAST_S = 0.0\n"
        "sys.exit(__main__.main())"
    )
    return [sys.executable, "-c", program, "--data", str(data)]


def test_a_daemon_that_lost_its_spawner_at_once_does_not_go_round(tmp_path: Path) -> None:
    executed = subprocess.run(
        [
            sys.executable,
            "-c",
            "from pathlib import Path\nfrom perseus.daemon.anew import Anew\n"
            f"Anew(Path({str(tmp_path)!r})).begin()\nprint('did not')",
        ],
        capture_output=True,
        timeout=LIMIT_S,
    )
    assert executed.stdout == b"did not\n"


def test_a_daemon_that_is_paused_is_stopped_in_order(two: Cluster) -> None:
    devcluster.pause(two.folder, "node-2")
    assert lifecycle.stop(data_of(two, "node-2")) is True
    assert "ending: SIGTERM" in config.Paths(data_of(two, "node-2")).log.read_text()
    lifecycle.start(data_of(two, "node-2"))
    until(lambda: state_of(two, "node-2") == ALIVE, "node-2 is back")


def test_a_draining_node_ends_what_it_has_and_gets_no_more(two: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    waiting = f"until [ -e {go} ]; do sleep 0.05; done; echo done"
    job = two.perseus("submit", "--node", "node-2", "--", "sh", "-c", waiting).ok().text.strip()
    until(lambda: two.job(job)["state"] == "TASK_STATE_RUNNING", "the task runs")
    two.perseus("nodes", "drain", "node-2").ok()
    for _ in range(3):
        placed = two.perseus("submit", "--", "true").ok().text.strip()
        assert two.perseus("wait", placed).code == 0
        assert two.node_of(placed) == "node-1"
    # A cluster with a draining node is up all the same.
    devcluster.up(2, two.folder)
    go.touch()
    assert two.perseus("wait", job).code == 0
    assert two.perseus("logs", job).ok().text == "done\n"
    two.perseus("nodes", "undrain", "node-2").ok()


def test_a_removed_node_is_told_and_its_task_runs_elsewhere(two: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    # It would like to run on node-2, by a label that node-1 gets only later.
    two.perseus("nodes", "label", "node-2", "here=yes").ok()
    waiting = f"until [ -e {go} ]; do sleep 0.05; done; echo once"
    job = two.perseus("submit", "--label", "here=yes", "--", "sh", "-c", waiting).ok().text.strip()
    until(lambda: two.job(job)["state"] == "TASK_STATE_RUNNING", "the task runs")
    two.perseus("nodes", "rm", "--force", "node-2").ok()
    assert state_of(two, "node-2") == "gone"
    two.perseus("nodes", "label", "node-1", "here=yes").ok()
    go.touch()
    assert two.perseus("wait", job).code == 0
    assert two.node_of(job) == "node-1" and two.perseus("logs", job).ok().text == "once\n"
    told = at_node(two, "node-2", "doctor")
    assert told.code == 1 and "no longer" in told.text and "token" in told.text
    data = data_of(two, "node-2")
    lifecycle.stop(data)
    for _ in ("just started", "running"):
        started = two.perseus("start", "--data", str(data))
        assert started.code == 125 and lifecycle.running_pid(data) is not None
        assert "refuses this node" in started.stderr and "token" in started.stderr
