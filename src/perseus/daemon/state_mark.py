"""The node's memory of how far the master's state was, in ``state.mark`` of its data folder.

It is a witness against an old copy of that state; see ``membership.history``. It follows
what the master tells within a few seconds, so that no heartbeat costs a sync of the disk.
"""

import asyncio
import json
import logging
from pathlib import Path

from perseus.membership.history import Mark
from perseus.runtime.ports import Clock
from perseus.runtime.real import RealDisk

# Between two writes of the file.
PAUSE_S = 5.0

_log = logging.getLogger("perseus.daemon")


def load(path: Path) -> Mark:
    """The mark that is kept there; none when there is no such file, or it cannot be read."""
    try:
        values = json.loads(path.read_text())
        return Mark(int(values["run"]), int(values["number"]))
    except FileNotFoundError:
        return Mark()
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s cannot be read, and bears no witness: %s", path, error)
        return Mark()


class MarkKeeper:
    """Keeps the latest mark that the master has told."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._changed = asyncio.Event()
        self._kept = self.mark = load(path)

    def take(self, mark: Mark) -> None:
        """The master has told how far its state is."""
        if mark.run and mark != self.mark:
            self.mark = mark
            self._changed.set()

    async def run(self) -> None:
        """Writes what has changed, now and then; for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.to_thread(self._keep, self.mark)
            await self._clock.sleep(PAUSE_S)

    def close(self) -> None:
        """Writes what has changed."""
        self._keep(self.mark)

    def _keep(self, mark: Mark) -> None:
        if mark == self._kept:
            return
        text = json.dumps({"run": mark.run, "number": mark.number}) + "\n"
        try:
            RealDisk().write(str(self._path), text.encode())
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error)
            return
        self._kept = mark
