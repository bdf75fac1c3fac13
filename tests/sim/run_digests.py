"""What happens in one run of each algorithm, as a digest: by any Python, without its packages.

``python tests/sim/run_digests.py`` prints the digests as JSON; ``--write`` puts them into
``run_digests.json``, with which every Python on every machine has to agree. That is to be
done when the simulator or an algorithm was changed so that its runs are others.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).with_suffix(".json")
SEED = 3
UNTIL_S = 15.0


def targets() -> list[str]:
    """All of the library that runs."""
    import soak

    return [f"perseus.algo.library.{name}" for name in ("kv:Kv", *soak.ALGORITHMS)]


class Nothing:
    """Takes everything and does nothing; unlike a mock it keeps no book of it."""

    def __init__(self, *given: object, **named: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *given: object, **named: object) -> Any:
        return self

    def __len__(self) -> int:
        return 0


def digests() -> dict[str, str]:
    """By target; the packages that judge what can be sent stand aside where they are not."""
    try:
        import msgspec  # noqa: F401
    except ModuleNotFoundError:
        # What it encodes is looked at by the other Python; here nothing depends on it.
        sys.modules["msgspec"] = Nothing()  # type: ignore[assignment]
    from perseus.sim import faults, runner, trace

    found = {}
    for target in targets():
        taken = trace.Trace()
        plan = runner.Plan(target, faults.PRESETS["all"], until_s=UNTIL_S)
        runner.run_one(plan, SEED, taken)
        found[target] = taken.digest
    return found


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]
    text = json.dumps(digests(), indent=1) + "\n"
    if "--write" in sys.argv[1:]:
        FILE.write_text(text)
    else:
        print(text)
