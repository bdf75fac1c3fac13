"""Idle memory and processor time, and the time from nothing to the first task's end."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import psutil

from bench.base import (
    MIB,
    Bench,
    Row,
    environment,
    local_cluster,
    perseus_command,
    run,
    sample_file,
)

MASTER_TARGET_MB = 90.0
NODE_TARGET_MB = 60.0
# Beside the idle node: what the allocator cannot give back.
AFTER_TARGET_MB = 90.0
AFTER_ROUNDS = 2
AFTER_QUIET_S = 30.0
CPU_TARGET_PERCENT = 1.0
COLD_TARGET_S = 1.5
SETTLE_S = 5.0


def footprint(bench: Bench) -> list[Row]:
    """PSS of all processes of an idle node, and their share of one core."""
    with local_cluster(bench, 2) as context:
        run([perseus_command(), "run", "true"], context)
        master, node = _processes(context, "node-1"), _processes(context, "node-2")
        time.sleep(SETTLE_S)
        before, start = _cpu_s(master), time.monotonic()
        time.sleep(5 if bench.quick else 30)
        cpu = 100 * (_cpu_s(master) - before) / (time.monotonic() - start)
        master_mb, node_mb = _pss_mb(master), _pss_mb(node)
        moved = _move(bench, context)
        after_mb = _pss_mb(_processes(context, "node-2"))
    return [
        _most("idle memory, master and node", master_mb, "MB", MASTER_TARGET_MB),
        _most("idle memory, a node alone", node_mb, "MB", NODE_TARGET_MB),
        _most(f"the same, {AFTER_QUIET_S:.0f} s after {moved}", after_mb, "MB", AFTER_TARGET_MB),
        _most("idle CPU, master and node", cpu, "% of a core", CPU_TARGET_PERCENT),
    ]


def _move(bench: Bench, context: dict[str, str]) -> str:
    """Puts and gets of long files, then quiet; says how much was moved."""
    command, size = perseus_command(), bench.bulk_bytes
    source, back = sample_file(bench.folder / "moved", size), bench.folder / "back"
    for number in range(AFTER_ROUNDS):
        run([command, "fs", "put", str(source), f"/moved{number}"], context)
        run([command, "fs", "get", f"/moved{number}", str(back)], context)
    for path in (source, back):
        path.unlink()
    time.sleep(AFTER_QUIET_S)
    return f"{AFTER_ROUNDS} puts and gets of {size // MIB} MiB"


def _most(what: str, value: float, unit: str, target: float) -> Row:
    return Row(what, value, unit, f"<= {target:g}", value <= target)


def _processes(context: dict[str, str], name: str) -> list[psutil.Process]:
    """All processes of a node of the local cluster."""
    folder = str(Path(context["PERSEUS_CONTEXT"]).parent)
    told = subprocess.run(
        [perseus_command(), "dev", "status", "--json", "--dir", folder],
        env=context,
        capture_output=True,
        check=True,
    )
    (node,) = (node for node in _nodes(told.stdout) if node["name"] == name)
    agent = psutil.Process(int(node["pid"]))
    return [agent, *agent.children(recursive=True)]


def _nodes(text: bytes) -> list[dict[str, str]]:
    """The nodes, whether told as one document or a line each."""
    documents = [json.loads(line) for line in text.splitlines() if line.strip()]
    if len(documents) == 1 and isinstance(documents[0], dict) and "nodes" in documents[0]:
        return list(documents[0]["nodes"])
    return list(documents[0]) if isinstance(documents[0], list) else documents


def _pss_mb(processes: list[psutil.Process]) -> float:
    return sum(process.memory_full_info().pss for process in processes) / MIB


def _cpu_s(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def cold_start(bench: Bench) -> list[Row]:
    """From no data folder to the end of the first task: embedded, and ``dev up``."""
    command = perseus_command()
    taken = []
    for number in range(1 if bench.quick else 3):
        home = bench.folder / f"cold{number}"
        home.mkdir()
        own = environment(home)
        taken.append(run([command, "run", "true"], own))
        _stop_embedded(own)
        shutil.rmtree(home, ignore_errors=True)
    start = time.monotonic()
    with local_cluster(bench, 1) as context:
        run([command, "run", "true"], context)
        dev_s = time.monotonic() - start
    return [
        _most(
            "cold start, embedded, first task done",
            sorted(taken)[len(taken) // 2],
            "s",
            COLD_TARGET_S,
        ),
        _most("cold start, dev up of one node, first task done", dev_s, "s", COLD_TARGET_S),
    ]


def _stop_embedded(own: dict[str, str]) -> None:
    """Ends the daemon that the first command started, by its pid file."""
    pid = Path(own["XDG_DATA_HOME"], "perseus", "embedded", "run", "perseusd.pid")
    process = psutil.Process(int(pid.read_text().split()[0]))
    process.terminate()
    process.wait(30)
