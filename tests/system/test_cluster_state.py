"""The master's state harmed while its daemon is down: it says so, and no node loses anything."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import FAST_LEASE, ROOT, Cluster, cluster, until

from perseus.cli import devcluster
from perseus.daemon import lifecycle, state_mark
from perseus.errors import CorruptError, NotFoundError


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, nodes=1, settings=FAST_LEASE) as made:
        yield made


def test_a_master_without_its_state_does_not_start_as_an_empty_one(one: Cluster) -> None:
    large = random.Random(5).randbytes(100_000)
    one.perseus("fs", "put", "-", "/large", stdin=large).ok()
    devcluster.kill(one.folder, "node-1")
    files = {path: path.read_bytes() for path in (one.folder / "node-1").glob("state.db*")}
    for path in files:
        path.unlink()
    with pytest.raises(NotFoundError, match=r"node-1/state\.db is missing") as raised:
        devcluster.restart(one.folder, "node-1")
    assert "newest backup" in raised.value.hint
    for path, content in files.items():
        path.write_bytes(content)
    devcluster.restart(one.folder, "node-1")
    assert one.perseus("fs", "cat", "/large").ok().stdout == large


def test_a_flipped_bit_in_the_log_does_not_roll_the_master_back(one: Cluster) -> None:
    for number in range(4):
        one.perseus("fs", "put", "-", f"/{number}", stdin=b"some words").ok()
    devcluster.kill(one.folder, "node-1")
    log = one.folder / "node-1" / "state.db-wal"
    sound = log.read_bytes()
    harmed = bytearray(sound)
    harmed[len(harmed) * 6 // 10] ^= 1
    log.write_bytes(harmed)
    with pytest.raises(CorruptError, match=r"state\.db-wal is damaged"):
        devcluster.restart(one.folder, "node-1")
    assert log.read_bytes() == harmed
    log.write_bytes(sound)
    devcluster.restart(one.folder, "node-1")
    assert len(one.perseus("--json", "fs", "ls", "/").ok().json()) == 4


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Cluster]:
    """One node on a disk of 64 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        with cluster(disk, nodes=1, settings={**FAST_LEASE, "disk_reserve_bytes": "1M"}) as made:
            yield made
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_master_whose_disk_is_full_refuses_and_goes_on_with_room(small: Cluster) -> None:
    pid = lifecycle.running_pid(small.folder / "node-1")
    kept = ["/0"]
    small.perseus("fs", "put", "-", "/0", stdin=b"some words").ok()
    filler = small.folder / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    # What is under way when the room ends still goes in; then nothing new is begun.
    while (put := small.perseus("fs", "put", "-", f"/{len(kept)}", stdin=b"some words")).code == 0:
        kept.append(f"/{len(kept)}")
        assert len(kept) < 50
    assert "the master's disk is full" in put.stderr and "free at least 32 MiB" in put.stderr
    assert "the master's disk is full" in small.perseus("doctor").text
    for path in kept:
        assert small.perseus("fs", "cat", path).ok().stdout == b"some words"
    small.perseus("fs", "rm", kept.pop()).ok()
    filler.unlink()
    until(lambda: small.perseus("fs", "put", "-", "/after", stdin=b"x").code == 0, "room again")
    assert len(small.perseus("--json", "fs", "ls", "/").ok().json()) == len(kept) + 1
    assert lifecycle.running_pid(small.folder / "node-1") == pid


def _chunk_files(cluster: Cluster) -> set[Path]:
    return set(cluster.folder.glob("node-*/chunks/*/*.data"))


def _stop(cluster: Cluster, *names: str) -> None:
    for name in names:
        lifecycle.stop(cluster.folder / name)


def _known_number(data: Path) -> int:
    """The number of the change that a node keeps as the master's latest."""
    return state_mark.load(data / "state.mark").number


def _last_number(state: Path) -> int:
    """The number of the latest change in a master's state."""
    with sqlite3.connect(state) as connection:
        query = "SELECT value FROM pairs WHERE key = CAST('history/number' AS BLOB)"
        return int.from_bytes(connection.execute(query).fetchone()[0][1:], "big")


def _put_back(data: Path, files: dict[str, bytes]) -> None:
    for path in data.glob("state.db*"):
        path.unlink()
    for name, content in files.items():
        (data / name).write_bytes(content)


def test_an_old_backup_put_back_deletes_nothing_until_somebody_says_so(tmp_path: Path) -> None:
    before, after = (random.Random(seed).randbytes(100_000) for seed in (5, 6))
    with cluster(tmp_path, nodes=2, settings=FAST_LEASE) as two:
        master = two.folder / "node-1"
        two.perseus("fs", "put", "-", "/before", stdin=before).ok()
        with sqlite3.connect(master / "state.db") as state, sqlite3.connect(tmp_path / "b") as copy:
            state.backup(copy)
        old = {"state.db": (tmp_path / "b").read_bytes()}
        known = _last_number(tmp_path / "b")
        held = _chunk_files(two)
        two.perseus("fs", "put", "-", "/after", stdin=after).ok()
        newer = _chunk_files(two) - held
        assert len(newer) == 2
        folders = [two.folder / name for name in ("node-1", "node-2")]
        until(lambda: min(map(_known_number, folders)) > known, "both nodes keep a later mark")
        _stop(two, "node-1")
        newest = {path.name: path.read_bytes() for path in master.glob("state.db*")}

        # The machine remembers by itself that there was more.
        _put_back(master, old)
        started = two.perseus("start", "--data", str(master))
        assert started.code != 0 and "the master's state is an old copy" in started.stderr
        assert "--accept-old-state" in started.stderr
        _put_back(master, newest)
        two.perseus("start", "--data", str(master)).ok()
        assert two.perseus("fs", "cat", "/after").ok().stdout == after

        # Where its folder is an old copy as a whole, its nodes remember.
        _stop(two, "node-1")
        _put_back(master, old)
        (master / "state.mark").unlink()
        two.perseus("start", "--data", str(master))
        until(lambda: "old copy: node node-2" in two.perseus("doctor").text, "doctor tells of it")
        assert "old copy: node node-1" in two.perseus("doctor").text
        assert newer <= _chunk_files(two)

        _stop(two, "node-1", "node-2")
        two.perseus("start", "--data", str(master), "--accept-old-state").ok()
        two.perseus("start", "--data", str(two.folder / "node-2")).ok()
        until(lambda: not newer & _chunk_files(two), "what came after the backup is deleted")
        assert two.perseus("fs", "cat", "/before").ok().stdout == before
        assert "old copy" not in two.perseus("doctor").text


def _documented(page: str, heading: str) -> list[str]:
    """The lines to type in a page's section, with those that they go on in."""
    section = (ROOT / "docs" / page).read_text().partition(f"\n## {heading}\n")[2]
    text = section.partition("\n## ")[0].replace("\\\n", "")
    return [line[2:] for line in text.splitlines() if line.startswith("$ ")]


def test_a_master_whose_disk_died_goes_on_from_the_documented_backup(tmp_path: Path) -> None:
    large = random.Random(7).randbytes(100_000)
    with cluster(tmp_path, nodes=2, settings=FAST_LEASE) as two:
        master = two.folder / "node-1"
        *make, put_back = (
            f"D={master}; {line}".replace("/backup", str(tmp_path / "backup"))
            for line in _documented("faults.md", "A backup of the master")
        )
        two.perseus("fs", "put", "-", "/large", stdin=large).ok()
        job = two.perseus("submit", "--", "echo", "short").ok().text.strip()
        two.perseus("wait", job).ok()
        for line in make:
            two.shell(line, tmp_path).ok()
        known = _last_number(master / "state.db")
        two.perseus("fs", "put", "-", "/later", stdin=b"some words").ok()
        until(lambda: _known_number(two.folder / "node-2") > known, "node-2 keeps a later mark")
        devcluster.kill(two.folder, "node-1")
        shutil.rmtree(master)

        two.shell(put_back, tmp_path).ok()
        until(lambda: "node-2" in _alive(two), "node-2 is back")
        assert two.perseus("fs", "cat", "/large").ok().stdout == large
        assert two.perseus("logs", job).ok().text == "short\n"
        assert two.perseus("fs", "stat", "/later").code == 125
        assert two.perseus("run", "--node", "node-2", "--", "echo", "on").ok().text == "on\n"


def _alive(made: Cluster) -> set[str]:
    nodes = made.perseus("--json", "nodes").ok().json()
    return {node["name"] for node in nodes if node["state"] == "NODE_STATE_ALIVE"}
