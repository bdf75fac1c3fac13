"""A run of the library follows from its seed alone, whatever the order of hashes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import soak

ROOT = Path(__file__).resolve().parents[2]
TARGETS = soak.ALGORITHMS

PROGRAM = """
import json, sys
from perseus.sim import faults, runner, trace
said = {}
for target in json.loads(sys.argv[1]):
    plan = runner.Plan(f"perseus.algo.library.{target}", faults.PRESETS["all"], until_s=15.0)
    taken = trace.Trace()
    runner.world(plan, 3, taken).run()
    said[target] = taken.digest
print(json.dumps(said))
"""


def test_the_order_of_hashes_does_not_matter() -> None:
    one, other = _digests("1"), _digests("7")
    assert one == other
    # Two detectors send the same messages.
    assert len(set(one.values())) == len(TARGETS) - 1


def _digests(hashes: str) -> dict[str, str]:
    environment = {**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", PROGRAM, json.dumps(TARGETS)]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    digests: dict[str, str] = json.loads(done.stdout)
    return digests
