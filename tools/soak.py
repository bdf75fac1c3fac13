"""``make sim`` and ``make soak``: many seeds of all that is simulated, on all cores.

Prints a line for each; ends with 1 and the command that shows it again when a
property breaks, or when a "sometimes" is never reached.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = "perseus.algo.library"
# What is run with all seeds, and with which faults.
SUBJECTS = {
    "tests.sim.cluster.layout:cluster": "steady",
    f"{LIBRARY}.kv:Kv": "all",
}
# The rest of the library, with fewer.
ALGORITHMS = (
    "links:StubbornTalk",
    "links:PerfectTalk",
    "links:FifoTalk",
    "exactly_once:ExactlyOnce",
    "clocks:LamportClock",
    "clocks:VectorClock",
    "detectors:Heartbeat",
    "detectors:PhiAccrual",
    "swim:Swim",
    "broadcast:BestEffort",
    "broadcast:Reliable",
    "broadcast:Causal",
    "broadcast:TotalOrder",
    "snapshot:Bank",
    "election:Bully",
    "election:Ring",
    "mutex:LamportMutex",
    "mutex:RicartAgrawala",
    "lease:leases",
    "paxos:Paxos",
    "vsr:Vsr",
    "vsr:InMemory",
    "register:Register",
    "commit:TwoPhaseCommit",
    "commit:ThreePhaseCommit",
    "crdt:Replica",
    "merkle:AntiEntropy",
    "mapreduce:mapreduce",
)
# Solutions of the problem set, by problem.
SOLUTIONS = {
    "echo": "echo",
    "unique-ids": "unique_ids",
    "broadcast": "broadcast",
    "g-set": "g_set",
    "g-counter": "counters",
    "pn-counter": "counters",
    "kafka": "kafka",
    "lin-kv": "lin_kv",
    "txn-list-append": "txn_list_append",
}
FAULTS = {
    # It assumes a network that loses nothing and is never late.
    "commit:ThreePhaseCommit": "crash",
    # What it knows is in the memories of a majority.
    "vsr:InMemory": "minority",
}
SEEDS_QUICK = 100
SEEDS_SOAK = 1000
# The share of the seeds that the rest of the library gets.
SHARE = 5


def main() -> int:
    seeds = SEEDS_SOAK if "--soak" in sys.argv[1:] else SEEDS_QUICK
    codes = [simulate(target, faults, seeds) for target, faults in SUBJECTS.items()]
    for name in ALGORITHMS:
        codes.append(simulate(f"{LIBRARY}.{name}", FAULTS.get(name, "all"), seeds // SHARE))
    for workload, name in SOLUTIONS.items():
        target = f"perseus.algo.workloads.solutions.{name}:Node"
        codes.append(simulate(target, "all", seeds // SHARE, "--workload", workload))
    return max(codes)


def simulate(target: str, faults: str, seeds: int, *more: str) -> int:
    print(" ".join((f"{target}: {seeds} seeds", *more)), flush=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "perseus", "sim", target),
            *("--seeds", str(seeds), "--faults", faults, *more),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=False,
    )
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
