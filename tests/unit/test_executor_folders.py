"""Folders of attempts are removed whatever tasks leave in them, by root or anyone else."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from perseus.jobs.executor_folders import Folders

NOBODY = 65534


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder below folders that everyone may pass, unlike those of the tests."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    yield made
    shutil.rmtree(made)


def as_a_user(folder: Path, names: list[str]) -> None:
    """Removes the folders as somebody for whom permissions count."""
    if os.geteuid() != 0:
        asyncio.run(_remove(folder, names))
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    # What a thread takes is imported now: that user may not read this program's files.
    asyncio.run(asyncio.to_thread(os.getpid))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            asyncio.run(_remove(folder, names))
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


async def _remove(folder: Path, names: list[str]) -> None:
    folders = Folders(str(folder))
    folders.remove([str(folder / name) for name in names])
    await folders.wait()


def test_closed_folders_hold_up_no_others(root: Path) -> None:
    attempts = root / "attempts"
    (attempts / "a" / "work" / "closed" / "deeper").mkdir(parents=True)
    (attempts / "a" / "work" / "closed" / "file").write_text("x")
    (attempts / "b" / "work" / "left").mkdir(parents=True)
    for folder in (attempts, attempts / "a", attempts / "b"):
        folder.chmod(0o700)
    root.chmod(0o711)
    (attempts / "a" / "work" / "closed" / "deeper").chmod(0)
    (attempts / "a" / "work" / "closed").chmod(0)
    as_a_user(attempts, ["a", "b"])
    assert os.listdir(attempts) == []


def test_what_a_link_leads_to_is_left_alone(root: Path) -> None:
    outside = root / "outside"
    outside.write_text("mine")
    outside.chmod(0o640)
    attempts = root / "attempts"
    sealed = attempts / "a" / "work" / "sealed"
    sealed.mkdir(parents=True)
    (sealed / "link").symlink_to(outside)
    if os.geteuid() == 0:
        os.chown(outside, NOBODY, NOBODY)
    sealed.chmod(0o500)
    root.chmod(0o711)
    as_a_user(attempts, ["a"])
    assert os.listdir(attempts) == []
    assert outside.stat().st_mode & 0o777 == 0o640


def test_waiting_ends_with_a_removal_that_was_cancelled(root: Path) -> None:
    async def cancelled() -> None:
        folders = Folders(str(root))
        folders.remove([str(root / "gone")])
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait_for(folders.wait(), 5.0)

    asyncio.run(cancelled())
