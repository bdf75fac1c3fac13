"""``make sim`` and ``make soak``: many seeds of all that is simulated, on all cores.

Prints a line for each; ends with 1 and the command that shows it again when a
property breaks, or when a "sometimes" is never reached.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What is run, and with which faults.
SUBJECTS = {
    "tests.sim.cluster.layout:cluster": "steady",
    "perseus.algo.library.kv:Kv": "all",
}
SEEDS_QUICK = 100
SEEDS_SOAK = 1000


def main() -> int:
    seeds = SEEDS_SOAK if "--soak" in sys.argv[1:] else SEEDS_QUICK
    codes = [simulate(target, faults, seeds) for target, faults in SUBJECTS.items()]
    return max(codes)


def simulate(target: str, faults: str, seeds: int) -> int:
    print(f"{target}: {seeds} seeds", flush=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "perseus", "sim", target),
            *("--seeds", str(seeds), "--faults", faults),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=False,
    )
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
