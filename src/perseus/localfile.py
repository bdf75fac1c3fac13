"""A local file that bytes are copied to, whatever already stands at its name.

A new file, or one that is replaced, appears whole or not at all, and keeps the
permissions of the one before it. Symbolic links are followed: what they lead to
is written, the links stay. What is no regular file (a FIFO, a terminal) is
written in place. Light imports only.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import BinaryIO

PERMISSIONS = 0o777


@contextmanager
def writing(target: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to; when the block ends well, what was written is at ``target``."""
    name = os.fspath(target)
    path = os.path.realpath(name)
    before = _status(name)
    if before is not None and not _may_be_replaced(before, path):
        with open(name, "wb") as opened:
            yield opened
        return
    with _replacing(path, before) as opened:
        yield opened


def _status(name: str) -> os.stat_result | None:
    try:
        return os.stat(name)
    except FileNotFoundError:
        return None


def _may_be_replaced(before: os.stat_result, path: str) -> bool:
    """Whether it is a regular file that ``path`` names: /dev/stdout may lead to one without."""
    after = _status(path)
    return stat.S_ISREG(before.st_mode) and after is not None and os.path.samestat(before, after)


@contextmanager
def _replacing(path: str, before: os.stat_result | None) -> Iterator[BinaryIO]:
    # Short, for the target's own name may be as long as a name can be.
    partial = os.path.join(os.path.dirname(path), f".{token_hex(8)}.part")
    opened = open(partial, "xb")  # noqa: SIM115 (closed below, before it is renamed)
    try:
        with opened:
            if before is not None:
                _keep_owner_and_mode(opened.fileno(), before)
            yield opened
        os.replace(partial, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def _keep_owner_and_mode(descriptor: int, before: os.stat_result) -> None:
    # Only root may give a file away; to others a file that they replace becomes theirs.
    with suppress(OSError):
        os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, before.st_mode & PERMISSIONS)
