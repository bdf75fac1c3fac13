"""The node's disk and the folders of its attempts: the reserve stays free, and no attempt
holds more than it asked for.

The guard looks at the free space while attempts run, sooner the closer the reserve is at
the speed seen: every 0.1 s when it is far, every 10 ms when it is near. A folder is walked
only where that may tell something, in a thread, and at most for a twentieth of the time:

- that of an attempt with a limit (``--disk``) as soon as the disk has lost what the
  attempt has left, and once a second in any case;
- others once a second, while the reserve is near, so that it is known who grows.

When the reserve is reached, those that have grown most since their last walk are ended,
and the disk is given time to get their space back. Where nobody has grown, something else
fills the disk, and nobody is ended for it. What a walk does not see (files already
unlinked, other folders) counts for nobody.
"""

import asyncio
import errno
import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from perseus.jobs.attempt_endings import limit_passed, node_failure
from perseus.jobs.spool import in_background
from perseus.jobs.state_ends import size
from perseus.proto.v1 import jobs_pb2
from perseus.runtime.ports import Clock, Disk

# Bounds of the time between two looks at the free space.
LOOK_MINIMUM_S = 0.01
LOOK_MAXIMUM_S = 0.1
# A program may begin to write this fast between two looks, whatever was seen before.
_BURST_BYTES_S = 1 << 30
# The reserve is near when so much more is free.
_NEAR_BYTES = 8 << 30
# Between two walks of a folder, and how many times as long as the walk took.
_WALK_PAUSE_S = 1.0
_WALK_SHARE = 20
# A walk ends here, and what it found is the least that is held.
WALK_ENTRIES_MAXIMUM = 100_000
# Who has grown less is not taken for who fills the disk.
GROWTH_MINIMUM_BYTES = 1 << 20
# Nor is who has grown by less than this part of what the one that grew most did.
_GROWTH_SHARE = 4
# How long the space of those ended may take to come back before others are ended.
_PATIENCE_S = 5.0
# While the disk is low and nobody was ended.
_JUDGE_PAUSE_S = 0.1
_BLOCK_BYTES = 4096
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Of programs that nobody ended.
_OWN_ENDINGS = (jobs_pb2.ENDING_EXITED, jobs_pb2.ENDING_SIGNALED)


class Tenant(Protocol):
    """What the guard needs of an attempt that runs."""

    @property
    def id(self) -> str:
        """JOB.TASK.ATTEMPT."""

    @property
    def folder(self) -> str:
        """Holds its outputs, ``work`` and ``tmp``."""

    @property
    def disk_limit_bytes(self) -> int:
        """The most that ``work`` and ``tmp`` may hold; 0: no limit."""

    def end_for_disk(self, message: str) -> None:
        """Ends it; once is enough."""


class Held(NamedTuple):
    """What an attempt has on the disk."""

    # In its folders ``work`` and ``tmp``.
    files_bytes: int = 0
    # In its outputs.
    outputs_bytes: int = 0

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.files_bytes + self.outputs_bytes


@dataclass(slots=True)
class _Member:
    """An attempt that is watched."""

    tenant: Tenant
    # As walked last, or what was placed for it; when that was, and how long it took.
    held: Held
    walked_s: float
    walk_s: float = 0.0
    # What was free on the disk then.
    free_bytes: int = 0
    is_ended: bool = False


class DiskGuard:
    """Watches the disk for the attempts of one node; belongs to one event loop."""

    def __init__(self, root: str, node: str, reserve_bytes: int, disk: Disk, clock: Clock) -> None:
        self._root = root
        self._node = node
        self._reserve_bytes = reserve_bytes
        self._disk = disk
        self._clock = clock
        self._members: dict[str, _Member] = {}
        self._timer: asyncio.TimerHandle | None = None
        # Walks go one after the other; this is the latest.
        self._walk: asyncio.Task[None] | None = None
        self._free_bytes = 0
        self._looked_s = 0.0
        # Nobody is ended for the reserve before this time, or before less than that is free.
        self._patient_until_s = 0.0
        self._patient_bytes = 0

    def add(self, tenant: Tenant, placed_bytes: int) -> None:
        """Watches an attempt from its start on; ``placed_bytes`` are in its folder already."""
        now_s = self._clock.now_s()
        if self._timer is None:
            self._free_bytes, self._looked_s = self._measured(), now_s
            self._plan(LOOK_MINIMUM_S)
        member = _Member(tenant, Held(placed_bytes), now_s, free_bytes=self._free_bytes)
        self._members[tenant.id] = member

    def drop(self, tenant: Tenant) -> None:
        """It has ended."""
        self._members.pop(tenant.id, None)

    def close(self) -> None:
        """Looks no more."""
        self._members.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_low(self) -> bool:
        """Whether less than the reserve is free now."""
        return self._measured() < self._reserve_bytes

    def at_end(self, tenant: Tenant, ending: jobs_pb2.Ending) -> jobs_pb2.Ending:
        """How it ended, the disk being low. Where nothing more can be written, what it wrote may
        be missing, whatever it says of itself: it did not end as it says. Blocks."""
        if ending.kind not in _OWN_ENDINGS or has_room(tenant.folder):
            return ending
        disk = f"the disk of node {self._node} is full, so what it wrote may be missing"
        holds_bytes = held(tenant.folder).bytes
        if holds_bytes < GROWTH_MINIMUM_BYTES:
            return node_failure(disk)
        said = f"{disk}: {tenant.folder} holds {size(holds_bytes)}"
        if 0 < tenant.disk_limit_bytes < holds_bytes:
            said += f"; it asked for {size(tenant.disk_limit_bytes)}: ask for more with --disk SIZE"
        else:
            said += "; perseus run --disk SIZE asks for a node with room"
        return limit_passed(jobs_pb2.ENDING_DISK_LIMIT, said)

    def _measured(self) -> int:
        try:
            return self._disk.free_bytes(self._root)
        except OSError:
            # It cannot be told, as on a share that is away; then nobody is to blame.
            return self._reserve_bytes

    def _plan(self, pause_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._members:
            return
        now_s = self._clock.now_s()
        before_bytes, elapsed_s = self._free_bytes, max(now_s - self._looked_s, 1e-3)
        self._free_bytes, self._looked_s = self._measured(), now_s
        speed = max((before_bytes - self._free_bytes) / elapsed_s, 0.0)
        self._plan(pause_s(self._free_bytes - self._reserve_bytes, speed))
        if self._walk is not None and not self._walk.done():
            return
        # However small the reserve, the disk must not be full before the look after next.
        if self._free_bytes < max(self._reserve_bytes, speed * 2 * LOOK_MINIMUM_S):
            if now_s >= self._patient_until_s or self._free_bytes < self._patient_bytes:
                self._walk = in_background(self._judge())
            return
        due = [each for each in self._members.values() if self._is_due(each, now_s)]
        if due:
            self._walk = in_background(self._walk_all(due))

    def _is_due(self, member: _Member, now_s: float) -> bool:
        since_s = now_s - member.walked_s
        if member.is_ended or since_s < member.walk_s * _WALK_SHARE:
            return False
        limit_bytes = member.tenant.disk_limit_bytes
        if not limit_bytes:
            is_near = self._free_bytes - self._reserve_bytes < _NEAR_BYTES
            return is_near and since_s >= _WALK_PAUSE_S
        lost_bytes = member.free_bytes - self._free_bytes
        return lost_bytes > limit_bytes - member.held.files_bytes or since_s >= _WALK_PAUSE_S

    async def _walk_all(self, members: Iterable[_Member]) -> None:
        """Walks the folders anew and ends those that hold more than they asked for."""
        for member in members:
            free_bytes, began_s = self._free_bytes, self._clock.now_s()
            member.held = await asyncio.to_thread(held, member.tenant.folder)
            member.walked_s = self._clock.now_s()
            member.walk_s = member.walked_s - began_s
            member.free_bytes = free_bytes
            limit_bytes = member.tenant.disk_limit_bytes
            if limit_bytes and member.held.files_bytes > limit_bytes:
                self._end(member, _over_limit(member, self._node))

    async def _judge(self) -> None:
        """The reserve is reached: ends those that fill the disk."""
        members = [each for each in self._members.values() if not each.is_ended]
        now = [await asyncio.to_thread(held, each.tenant.folder) for each in members]
        growth = [new.bytes - each.held.bytes for each, new in zip(members, now, strict=True)]
        least_bytes = max(max(growth, default=0) / _GROWTH_SHARE, GROWTH_MINIMUM_BYTES)
        self._patient_until_s = self._clock.now_s() + _JUDGE_PAUSE_S
        self._patient_bytes = 0
        # What was walked last stays what growth is counted from, so that slow ones show too.
        for member, new, grown_bytes in zip(members, now, growth, strict=True):
            if grown_bytes < least_bytes:
                continue
            member.held = new
            self._end(member, self._filled(member))
            self._patient_until_s = self._clock.now_s() + _PATIENCE_S
            self._patient_bytes = self._free_bytes // 2

    def _end(self, member: _Member, message: str) -> None:
        member.is_ended = True
        if member.tenant.id in self._members:
            member.tenant.end_for_disk(message)

    def _filled(self, member: _Member) -> str:
        tenant = member.tenant
        return (
            f"{_task(tenant)} was ended because it fills the disk of node {self._node}: "
            f"{tenant.folder} holds {size(member.held.bytes)}, {size(self._free_bytes)} were free "
            f"and {size(self._reserve_bytes)} are kept in reserve (disk_reserve_bytes); "
            f"perseus run --disk SIZE asks for a node with room"
        )


def pause_s(left_bytes: float, speed: float) -> float:
    """Until the next look: at double the speed seen, and in a burst, the reserve holds so long."""
    due_s = left_bytes / max(speed * 2, _BURST_BYTES_S)
    return min(max(due_s, LOOK_MINIMUM_S), LOOK_MAXIMUM_S)


def _over_limit(member: _Member, node: str) -> str:
    tenant = member.tenant
    return (
        f"{_task(tenant)} was ended because its working folder and TMPDIR, in {tenant.folder} "
        f"on node {node}, hold {size(member.held.files_bytes)}; it asked for "
        f"{size(tenant.disk_limit_bytes)}: ask for more with --disk SIZE"
    )


def has_room(folder: str) -> bool:
    """Whether a block more can be written in ``folder``; True where it cannot be told."""
    # A name that the task could not foresee, and make a FIFO or a link.
    path = f"{folder}/room-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return error.errno not in _FULL
    try:
        os.write(descriptor, bytes(_BLOCK_BYTES))
    except OSError as error:
        return error.errno not in _FULL
    finally:
        os.close(descriptor)
        with suppress(OSError):
            os.unlink(path)
    return True


def _task(tenant: Tenant) -> str:
    return f"task {tenant.id.rpartition('.')[0]}"


def held(folder: str) -> Held:
    """What an attempt's folder holds; the least it holds where there is very much."""
    outputs_bytes = 0
    for name in ("stdout", "stderr"):
        with suppress(OSError):
            outputs_bytes += os.stat(f"{folder}/{name}").st_blocks * 512
    return Held(_files_bytes([f"{folder}/work", f"{folder}/tmp"]), outputs_bytes)


def _files_bytes(folders: list[str]) -> int:
    total_bytes = 0
    left = WALK_ENTRIES_MAXIMUM
    # Files of several names are counted once.
    seen: set[int] = set()
    while folders:
        # A folder may go, or not be readable, while we walk.
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    return total_bytes
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    folders.append(entry.path)
                elif status.st_nlink > 1:
                    if status.st_ino in seen:
                        continue
                    seen.add(status.st_ino)
                total_bytes += status.st_blocks * 512
    return total_bytes
