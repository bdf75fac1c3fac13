"""Long files: put, get, and a task from filestore to filestore, with two replicas."""

import os
from pathlib import Path

from bench.base import MIB, Bench, Row, local_cluster, perseus_command, run, sample_file

PUT_TARGET = 150.0
GET_TARGET = 300.0
TASK_TARGET = 150.0


def bulk(bench: Bench) -> list[Row]:
    """Put, get and ``perseus run --stdin FILE -- cat`` of one long file, beside plain ``cp``."""
    size = bench.bulk_bytes
    source = sample_file(bench.folder / "source", size)
    copy, back = bench.folder / "copy", bench.folder / "back"
    copy_s = run(["sh", "-c", 'cp "$0" "$1" && sync "$1"', str(source), str(copy)])
    copy.unlink()
    command = perseus_command()
    with local_cluster(bench, 2) as environment:
        put_s = run([command, "fs", "put", str(source), "/source"], environment)
        get_s = run([command, "fs", "get", "/source", str(back)], environment)
        _same(source, back)
        task_s = _task(command, environment)
    for path in (source, back):
        path.unlink()
    floor = _rate(size, copy_s)
    name = f"{size // MIB} MiB"
    return [
        _row(f"fs put of {name}, 2 replicas", _rate(size, put_s), PUT_TARGET, floor),
        _row(f"fs get of {name}", _rate(size, get_s), GET_TARGET, floor),
        _row(f"run -- cat of {name}, 2 replicas", _rate(size, task_s), TASK_TARGET, floor),
        Row(f"cp of {name} and sync", floor, "MB/s"),
    ]


def _task(command: str, environment: dict[str, str]) -> float:
    """From submit until the output is whole in the filestore; it is not fetched."""
    script = '"$0" wait "$("$0" submit --stdin /source -- cat)"'
    return run(["sh", "-c", script, command], environment)


def _rate(size_bytes: int, seconds: float) -> float:
    """MB/s, of 10^6 bytes."""
    return size_bytes / seconds / 1e6


def _row(what: str, rate: float, target: float, floor: float) -> Row:
    return Row(what, rate, "MB/s", f">= {target:.0f}", rate >= target, "cp", rate / floor)


def _same(one: Path, other: Path) -> None:
    """What came back is what was put; a fast wrong answer counts for nothing."""
    if os.path.getsize(one) != os.path.getsize(other):
        raise RuntimeError("fs get gave another length than fs put took")
    run(["cmp", str(one), str(other)])
