"""The folders of attempts: ``work`` (its working folder) and ``tmp`` (its TMPDIR) in each.

Making and removing folders costs more than starting a small program. So a
folder in which an attempt left nothing, and none of whose processes lives on,
is kept and given to the next one under its new name. All others are removed
by a thread, for a big one must not stall control.
"""

import asyncio
import logging
import os
import shutil
import stat
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

# Empty folders kept for attempts to come.
SPARE_MAXIMUM = 64
# Folders are removed in batches of at most this many.
_BATCH_MAXIMUM = 1000
# Between two batches: what ends meanwhile shares the thread's start.
_PAUSE_S = 0.1
_FILES = ("stdout", "stderr", "stdin")
_FOLDERS = ("work", "tmp")
_SPARE_PREFIX = "spare."

_log = logging.getLogger("perseus.jobs.executor")


class Folders:
    """Makes, recycles and removes the folders of attempts."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._spare: list[str] = []
        self._number = 0
        self._removing: deque[str] = deque()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Makes the root and empties it of what an earlier agent left."""
        os.makedirs(self.root, 0o700, exist_ok=True)
        with os.scandir(self.root) as entries:
            old = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        self.remove(old)
        await self.wait()

    async def close(self) -> None:
        """Returns when all that is to be removed is gone, spare ones too."""
        self.remove(self._spare)
        self._spare = []
        await self.wait()

    def make(self, folder: str) -> None:
        """A new empty folder for an attempt. Raises OSError."""
        if self._spare:
            os.rename(self._spare.pop(), folder)
            return
        os.mkdir(folder, 0o700)
        for name in _FOLDERS:
            os.mkdir(f"{folder}/{name}", 0o700)

    def recycle(self, folder: str) -> None:
        """Keeps the folder of an attempt none of whose processes is left, if it is as made;
        else removes it."""
        try:
            is_spare = len(self._spare) < SPARE_MAXIMUM and _is_as_made(folder)
            if is_spare:
                self._number += 1
                spare = os.path.join(self.root, f"{_SPARE_PREFIX}{self._number}")
                os.rename(folder, spare)
                self._spare.append(spare)
        except OSError:
            is_spare = False
        if not is_spare:
            self.remove([folder])

    def remove(self, folders: Iterable[str]) -> None:
        """Soon; quiet about what is not there."""
        self._removing.extend(folders)
        if self._removing and self._task is None:
            self._task = asyncio.create_task(self._work())

    async def wait(self) -> None:
        """Returns when all that is to be removed is gone."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while self._removing:
                count = min(len(self._removing), _BATCH_MAXIMUM)
                batch = [self._removing.popleft() for _ in range(count)]
                await asyncio.to_thread(_remove_all, batch)
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._task = None


def empty(folder: str) -> None:
    """Removes what a task that has ended left in ``work`` and ``tmp``; for a thread. Quiet."""
    for name in _FOLDERS:
        shutil.rmtree(f"{folder}/{name}", ignore_errors=True)


def _is_as_made(folder: str) -> bool:
    """Takes away outputs that have content; whether the rest is as ``make`` leaves it."""
    names = set(os.listdir(folder))
    if not names.issubset((*_FILES, *_FOLDERS)):
        return False
    if not all(_is_own(path) for path in (folder, f"{folder}/work", f"{folder}/tmp")):
        return False
    if os.listdir(f"{folder}/work") or os.listdir(f"{folder}/tmp"):
        return False
    for name in names.intersection(_FILES):
        if not _is_empty_output(f"{folder}/{name}"):
            os.unlink(f"{folder}/{name}")
    return True


def _is_own(folder: str) -> bool:
    status = os.lstat(folder)
    return status.st_mode == stat.S_IFDIR | 0o700 and status.st_uid == os.geteuid()


def _is_empty_output(path: str) -> bool:
    """Whether the next attempt may append to it as if it were new."""
    status = os.lstat(path)
    return (
        status.st_mode == stat.S_IFREG | 0o600
        and status.st_size == 0
        and status.st_nlink == 1
        and status.st_uid == os.geteuid()
    )


def _remove_all(folders: Sequence[str]) -> None:
    for folder in folders:
        if not _remove_small(folder):
            _remove_tree(folder)


def _remove_tree(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        # A task may have left folders that may not be read or written.
        _open_up(folder)
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.lexists(folder):
            _log.warning("%s cannot be removed whole", folder)


def _open_up(folder: str) -> None:
    """Lets the owner into all folders; links are left alone, for they may lead elsewhere."""
    waiting = [folder]
    while waiting:
        with suppress(OSError):
            current = waiting.pop()
            os.chmod(current, 0o700)
            with os.scandir(current) as entries:
                waiting += [each.path for each in entries if each.is_dir(follow_symlinks=False)]


def _remove_small(folder: str) -> bool:
    """Removes a folder in which the task left nothing of its own: a handful of calls."""
    try:
        for name in _FILES:
            with suppress(FileNotFoundError):
                os.unlink(f"{folder}/{name}")
        for name in _FOLDERS:
            os.rmdir(f"{folder}/{name}")
        os.rmdir(folder)
    except FileNotFoundError:
        return not os.path.exists(folder)
    except OSError:
        return False
    return True
