"""A daemon that lost a part it cannot do without begins anew, in the same process.

Its spawner can only be forked before threads and gRPC begin, so the whole program is
executed again: with the process id, the environment and the limits that it had. What
the spawner left running is swept as after any other end. Nobody else would start the
daemon again where no service manager watches it.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from perseus.runtime import descriptors

# A daemon that ran for less does not begin anew: it would most likely end so again.
RAN_LEAST_S = 5.0


class Anew:
    """Made when the program begins."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._began_s = time.monotonic()
        self._limit = descriptors.soft_limit()

    def begin(self) -> None:
        """Executes the daemon of the data folder again; returns when it ran too short for that."""
        if time.monotonic() - self._began_s < RAN_LEAST_S:
            return
        descriptors.restore_limit(self._limit)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                # That of the listing itself is closed by now.
                with suppress(OSError):
                    os.set_inheritable(int(name), False)
        command = [sys.executable, "-m", "perseus.daemon", "--data", str(self._data)]
        os.execv(command[0], command)
