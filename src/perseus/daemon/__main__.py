"""``python -m perseus.daemon --data DIR``: the daemon of one node, in the foreground."""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

from perseus.errors import PerseusError


def main() -> int:
    """Runs until SIGTERM. Exit code 0, or 1 with the reason on stderr and the ready pipe."""
    parser = argparse.ArgumentParser(prog="perseusd", description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="the node's data folder")
    parser.add_argument("--ready", type=int, help="a descriptor that is told when all answers")
    parser.add_argument(
        "--accept-old-state",
        action="store_true",
        help="go on with an old copy of the master's state, giving up what came after it",
    )
    options = parser.parse_args()
    ready = Ready(options.ready)
    from perseus.daemon.anew import Anew
    from perseus.daemon.node import SpawnerGoneError, run

    anew = Anew(options.data.resolve())
    try:
        run(options.data.resolve(), ready.tell, options.accept_old_state)
    except PerseusError as error:
        ready.fail(error)
        print(f"perseusd: {error}", file=sys.stderr)
        return 1
    except SpawnerGoneError as error:
        print(f"perseusd: {error}", file=sys.stderr)
        # Does not come back, unless that would go round and round.
        anew.begin()
        return 1
    return 0


class Ready:
    """The pipe on which whoever started the daemon waits."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)

    def tell(self) -> None:
        """All doors answer."""
        self._send(b"ready\n")

    def fail(self, error: PerseusError) -> None:
        """The daemon could not start."""
        said = {"code": error.code, "message": error.message, "hint": error.hint}
        self._send(json.dumps(said).encode() + b"\n")

    def _send(self, text: bytes) -> None:
        if self._descriptor is None:
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(self._descriptor, text)
        os.close(self._descriptor)
        self._descriptor = None


if __name__ == "__main__":
    raise SystemExit(main())
