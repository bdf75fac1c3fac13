"""Room that is kept on the store's disk, and given up when there is no other.

A step that was taken in memory must be committed, whatever the disk says. So the
store keeps a file that is of no use but its size: when a commit finds no room,
the file goes and the very same commit is tried again in its place.
"""

import contextlib
import os
from pathlib import Path

# What the steps under way, and those that cannot be refused, may need meanwhile.
BALLAST_BYTES = 16 << 20
# Free room that it takes to be kept again, so that it is not given up at once.
FREE_BYTES = 2 * BALLAST_BYTES


class Ballast:
    """The file ``path``; of its store's writer alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self) -> bool:
        """Makes sure of it; False while the disk has too little room."""
        if self._is_whole():
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            # Asked of the disk itself: what is said to be free need not be ours.
            os.posix_fallocate(descriptor, 0, FREE_BYTES)
            os.ftruncate(descriptor, BALLAST_BYTES)
            return True
        except OSError:
            self._path.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)

    def give_up(self) -> bool:
        """Its room is free now; False when it was not there."""
        with contextlib.suppress(OSError):
            self._path.unlink()
            return True
        return False

    def _is_whole(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            status = self._path.stat()
            # A copy of the folder may have its size and none of its blocks.
            return status.st_size == BALLAST_BYTES <= status.st_blocks * 512
        return False
