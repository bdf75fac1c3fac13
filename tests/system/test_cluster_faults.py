"""What breaks, and what must hold then: real daemons, real signals, real disks.

In all of these: no acknowledged byte lost, no output doubled, and the person
told what happened.
"""

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import LIMIT_S, Cluster, cluster, until

from perseus.cli import devcluster
from perseus.daemon import lifecycle
from perseus.jobs.service import RELAY_PATIENCE_S
from perseus.runtime import processes


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as made:
        yield made


@pytest.fixture
def usual(tmp_path: Path) -> Iterator[Cluster]:
    """With the lease that nobody chose."""
    with cluster(tmp_path, settings={"replication_delay_s": "0.5"}) as made:
        yield made


def gated(gate: Path, log: Path) -> str:
    """A script that notes its start, says where it is, waits for a gate and ends well."""
    return f"echo start >> {log}; echo begin; while [ ! -e {gate} ]; do sleep 0.05; done; echo end"


def test_the_node_is_killed_in_the_middle_of_a_task(three: Cluster, tmp_path: Path) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    for node in ("node-2", "node-3"):
        three.perseus("nodes", "label", node, "pool=far").ok()
    script = gated(gate, log)
    running = three.start("run", "--label", "pool=far", "--", "sh", "-c", script)
    assert running.stdout is not None and running.stderr is not None
    assert running.stdout.readline() == b"begin\n"
    job = three.perseus("--json", "ps").ok().json()[0]["job_id"]
    lost = three.node_of(job)
    devcluster.kill(three.folder, lost)
    until(lambda: log.read_text().count("start") == 2, "a second attempt has begun")
    gate.touch()
    out, err = running.communicate(timeout=LIMIT_S)
    # What had been shown is not shown again.
    assert (running.returncode, out) == (0, b"end\n")
    assert lost in err.decode()
    assert three.perseus("logs", job).ok().text == "begin\nend\n"
    assert "lost" in " ".join(three.perseus("why", job).ok().text.splitlines())


def test_the_master_is_killed_with_tasks_running(usual: Cluster, tmp_path: Path) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    script = gated(gate, log)
    job = usual.perseus("submit", "--node", "node-2", "--", "sh", "-c", script).ok().text.strip()
    through(usual, "node-3")
    running = usual.start("run", "--node", "node-3", "--", "sh", "-c", script)
    assert running.stdout is not None and running.stdout.readline() == b"begin\n"
    until(lambda: log.read_text() == "start\n" * 2, "both tasks run")
    devcluster.restart(usual.folder, "node-1")
    through(usual, "node-1")
    gate.touch()
    assert usual.perseus("wait", job).code == 0
    out, err = running.communicate(timeout=LIMIT_S)
    assert (running.returncode, out) == (0, b"end\n"), err
    assert "waiting for it to come back" in err.decode()
    assert log.read_text() == "start\n" * 2
    assert usual.perseus("logs", job).ok().text == "begin\nend\n"


def stopped(log: Path) -> bool:
    """Whether the processes that noted their ids are stopped, all of them."""
    found = [processes.stat(int(pid)) for pid in log.read_text().split()]
    return all(each is not None and each.state == "T" for each in found)


def test_the_master_is_away_for_longer_than_a_lease(three: Cluster, tmp_path: Path) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    script = f"echo $$ >> {log}; echo begin; while [ ! -e {gate} ]; do sleep 0.05; done; echo end"
    submit = ("submit", "--node", "node-2", "--retries", "0", "--", "sh", "-c", script)
    job = three.perseus(*submit).ok().text.strip()
    through(three, "node-3")
    running = three.start("run", "--node", "node-3", "--", "sh", "-c", script)
    assert running.stdout is not None and running.stdout.readline() == b"begin\n"
    until(lambda: log.exists() and len(log.read_text().split()) == 2, "both tasks run")
    devcluster.kill(three.folder, "node-1")
    # For all that the nodes know the master may have leased their tasks to others.
    until(lambda: stopped(log), "both stand still")
    gate.touch()
    devcluster.restart(three.folder, "node-1")
    through(three, "node-1")
    assert three.perseus("wait", job).code == 0
    out, err = running.communicate(timeout=LIMIT_S)
    assert (running.returncode, out) == (0, b"end\n"), err
    assert len(log.read_text().split()) == 2
    assert three.perseus("logs", job).ok().text == "begin\nend\n"
    # And all this is told.
    assert "stood still on node-2" in three.perseus("why", job).ok().text
    assert "waiting for it to come back" in err.decode()


def test_what_ended_while_the_master_was_away_is_kept(three: Cluster, tmp_path: Path) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    # One whose output rides in the message that tells the end, and one that needs chunks.
    jobs = []
    for size in (10, 300_000):
        script = f"{gated(gate, log)}; head -c {size} /dev/zero"
        submit = ("submit", "--node", "node-2", "--cpu", "0.1", "--", "sh", "-c", script)
        jobs.append(three.perseus(*submit).ok().text.strip())
    still = tmp_path / "still"
    sleeper = ("submit", "--node", "node-2", "--cpu", "0.1", "--", "sh", "-c")
    three.perseus(*sleeper, f"echo $$ > {still}; exec sleep 1000").ok()
    until(lambda: log.read_text() == "start\n" * 2 and still.exists(), "all run")
    devcluster.kill(three.folder, "node-1")
    gate.touch()
    until(lambda: stopped(still), "the lease is over")
    devcluster.restart(three.folder, "node-1")
    for job, size in zip(jobs, (10, 300_000), strict=True):
        assert three.perseus("wait", job).code == 0
        assert len(three.perseus("logs", job).ok().stdout) == len("begin\nend\n") + size
    assert log.read_text() == "start\n" * 2


def through(made: Cluster, node: str) -> None:
    """From here on commands go to the daemon of ``node``."""
    values = json.loads(made.context.read_text())
    values["socket"] = str(made.folder / node / "run" / "perseusd.sock")
    path = made.folder.parent / f"through-{node}.json"
    path.write_text(json.dumps(values))
    path.chmod(0o600)
    made.environment["PERSEUS_CONTEXT"] = str(path)


def test_a_job_in_the_foreground_outlives_the_daemons_on_its_way(
    usual: Cluster, tmp_path: Path
) -> None:
    script = gated(tmp_path / "gate", tmp_path / "log")
    runs = []

    def begin() -> None:
        run = usual.start("run", "--cpu", "0.1", "--node", "node-3", "--", "sh", "-c", script)
        assert run.stdout is not None and run.stdout.readline() == b"begin\n"
        runs.append(run)

    def stop_and_start(node: str) -> None:
        lifecycle.stop(usual.folder / node)
        lifecycle.start(usual.folder / node)

    through(usual, "node-2")
    begin()
    stop_and_start("node-2")
    through(usual, "node-1")
    begin()
    stop_and_start("node-1")
    (tmp_path / "gate").touch()
    for run in runs:
        out, err = run.communicate(timeout=LIMIT_S)
        assert (run.returncode, out) == (0, b"end\n"), err
        assert b"waiting for it to come back" in err
    # But a caller that leaves while its node stays is missed at once.
    (tmp_path / "gate").unlink()
    through(usual, "node-2")
    until(lambda: usual.perseus("nodes").code == 0, "node-2 reaches the master again")
    begin()
    runs[-1].kill()
    runs[-1].communicate()
    gone_s = time.monotonic()
    job = usual.perseus("--json", "ps").ok().json()[0]["job_id"]
    until(lambda: usual.job(job)["state"] == "TASK_STATE_CANCELLED", "the job is cancelled")
    assert time.monotonic() - gone_s < RELAY_PATIENCE_S / 2


def test_a_frozen_node_comes_back_as_a_zombie(three: Cluster, tmp_path: Path) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    for node in ("node-2", "node-3"):
        three.perseus("nodes", "label", node, "pool=far").ok()
    script = f"echo $PERSEUS_NODE; {gated(gate, log)}"
    submit = ("submit", "--label", "pool=far", "--", "sh", "-c", script)
    job = three.perseus(*submit).ok().text.strip()
    until(lambda: log.exists(), "the task runs")
    frozen = three.node_of(job)
    devcluster.pause(three.folder, frozen)
    until(lambda: log.read_text().count("start") == 2, "a second attempt has begun")
    assert f"{frozen} is lost" in three.perseus("doctor").text
    assert f"lost with {frozen}" in three.perseus("why", job).ok().text
    gate.touch()
    assert three.perseus("wait", job).code == 0
    winner = three.node_of(job)
    assert winner != frozen
    devcluster.resume(three.folder, frozen)
    alive = {"state": "NODE_STATE_ALIVE"}.items()
    until(
        lambda: any(
            node["name"] == frozen and alive <= node.items()
            for node in three.perseus("--json", "nodes").ok().json()
        ),
        f"{frozen} is back",
    )
    assert three.perseus("logs", job).ok().text == f"{winner}\nbegin\nend\n"


def big_file(folder: Path, size_bytes: int) -> Path:
    path = folder / "big.bin"
    path.write_bytes(random.Random(7).randbytes(size_bytes))
    return path


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_node_dies_and_its_chunks_are_made_anew(three: Cluster, tmp_path: Path) -> None:
    local = big_file(tmp_path, 20 << 20)
    three.perseus("fs", "put", str(local), "/big.bin").ok()
    devcluster.kill(three.folder, "node-3")
    assert digest(three.perseus("fs", "cat", "/big.bin").ok().stdout) == digest(local.read_bytes())

    told = three.perseus("doctor").text
    assert "node-3 has no stream to the master" in told or "node-3 is lost" in told

    def whole() -> bool:
        about = three.perseus("--json", "fs", "stat", "/big.bin").ok().json()
        return bool(about["live_replicas"] == 2)

    until(whole, "the file has two live replicas again")


def holders(made: Cluster) -> set[str]:
    """The nodes that have any chunk."""
    found = made.folder.glob("node-*/chunks/*/*.data")
    return {path.relative_to(made.folder).parts[0] for path in found}


def test_a_chunkserver_dies_during_a_write(three: Cluster, tmp_path: Path) -> None:
    local = big_file(tmp_path, 48 << 20)
    reader, writer = os.pipe()
    running = three.start("fs", "put", "-", "/through.bin", stdin=reader)
    os.close(reader)
    data = local.read_bytes()
    with open(writer, "wb") as pipe:
        pipe.write(data[: 24 << 20])
        pipe.flush()
        until(lambda: len(holders(three)) == 2, "the first chunk is being written")
        # The writer is at node-1, so that is the first of the chain.
        (second,) = holders(three) - {"node-1"}
        devcluster.kill(three.folder, second)
        pipe.write(data[24 << 20 :])
    _, err = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 0, err
    assert f"the link node-1 -> {second} failed" in err.decode()
    until(lambda: f"{second} is lost" in three.perseus("doctor").text, "its loss is told")
    assert digest(three.perseus("fs", "cat", "/through.bin").ok().stdout) == digest(data)


def test_a_flipped_bit_is_found_healed_and_told(three: Cluster, tmp_path: Path) -> None:
    local = big_file(tmp_path, 3 << 20)
    three.perseus("fs", "put", str(local), "/precious.bin").ok()
    holders = sorted(three.folder.glob("node-*/chunks/*/*.data"))
    assert len(holders) == 2
    victim = holders[0]
    with open(victim, "r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)[0]
        file.seek(1_000_000)
        file.write(bytes([byte ^ 1]))

    # A task reads the replica of its own node, and gets the right bytes all the same.
    holder = victim.relative_to(three.folder).parts[0]
    done = three.perseus("run", "--node", holder, "--stdin", "/precious.bin", "--", "sha256sum")
    assert done.ok().text.split()[0] == digest(local.read_bytes())
    until(lambda: "checksum" in three.perseus("doctor").text, "doctor tells of the bad replica")

    def healed() -> bool:
        about = three.perseus("--json", "fs", "stat", "/precious.bin").ok().json()
        return bool(about["live_replicas"] == 2)

    until(healed, "two good replicas again")


def test_a_killed_put_leaves_nothing_under_its_name(three: Cluster) -> None:
    reader, writer = os.pipe()
    running = three.start("fs", "put", "-", "/half.bin", stdin=reader)
    os.close(reader)
    with open(writer, "wb") as pipe:
        pipe.write(b"x" * (8 << 20))
        pipe.flush()
        running.send_signal(signal.SIGKILL)
        running.wait()
        gone = three.perseus("fs", "stat", "/half.bin")
        assert gone.code == 125 and "/half.bin" in gone.stderr
    three.perseus("fs", "put", "-", "/half.bin", stdin=b"whole").ok()
    assert three.perseus("fs", "cat", "/half.bin").ok().stdout == b"whole"


def test_nothing_acknowledged_is_lost_when_the_master_dies_often(
    three: Cluster, tmp_path: Path
) -> None:
    kept = {}
    for number in range(4):
        data = random.Random(number).randbytes(10_000 + number)
        three.perseus("fs", "put", "-", f"/f{number}", stdin=data).ok()
        kept[number] = data
        devcluster.kill(three.folder, "node-1")
        away = three.perseus("fs", "cat", f"/f{number}")
        assert away.code == 125 and "is it running?  perseus doctor" in away.stderr
        devcluster.restart(three.folder, "node-1")
    for number, data in kept.items():
        assert three.perseus("fs", "cat", f"/f{number}").ok().stdout == data
