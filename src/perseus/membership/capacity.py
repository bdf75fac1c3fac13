"""What this machine can do: cores, memory, disk and the speed of one core.

Limits that somebody has set for this process count: CPU affinity and control
groups, of version 2 and 1.
"""

import os
import platform
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from perseus.membership.values import Capacity

# The benchmark compresses this often, and the best round counts: noise only ever slows.
BENCHMARK_ROUNDS = 10
BENCHMARK_BLOCK_BYTES = 64 << 10
# CPU seconds that one round takes on the reference core, a desktop's of 2020.
REFERENCE_ROUND_S = 0.0042


def measure_capacity(folder: Path, cgroup_root: Path = Path("/sys/fs/cgroup")) -> Capacity:
    """Measures for about 50 ms, blocking. ``folder`` lies on the disk that is offered."""
    status = os.statvfs(folder)
    return Capacity(
        cpu=_cores(cgroup_root),
        memory_bytes=memory_limit_bytes(cgroup_root),
        disk_bytes=status.f_blocks * status.f_frsize,
        speed=_speed(),
        architecture=platform.machine(),
        operating_system=_operating_system(),
    )


def memory_limit_bytes(cgroup_root: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory of the machine, or of the tightest control group around this process."""
    limits = [limit for limit, _ in memory_groups(cgroup_root)]
    return min([_physical_bytes(), *limits])


CGROUP_ROOT = Path("/sys/fs/cgroup")


def memory_left_bytes(
    cgroup_root: Path = CGROUP_ROOT, groups: Sequence[tuple[int, Path]] | None = None
) -> int | None:
    """What the control groups leave to this process; None when none limits its memory.

    Cached files that can be dropped count as free, as the kernel treats them. ``groups``
    are those that limit it, where ``memory_groups`` was asked before.
    """
    left = []
    for limit, folder in memory_groups(cgroup_root) if groups is None else groups:
        used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
        statistics = dict(
            line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines() if " " in line
        )
        cached = statistics.get("total_inactive_file") or statistics.get("inactive_file", "0")
        if used.isdigit() and cached.isdigit():
            left.append(max(0, limit - int(used) + int(cached)))
    return min(left) if left else None


def memory_groups(root: Path = CGROUP_ROOT) -> Iterator[tuple[int, Path]]:
    """Control groups that limit memory below what the machine has, and their limits."""
    for folder in _control_groups(root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            if text.isdigit() and int(text) < _physical_bytes():
                yield int(text), folder


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cores(cgroup_root: Path) -> float:
    limits = [float(len(os.sched_getaffinity(0)))]
    for folder in _control_groups(cgroup_root):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):
            limits.append(int(quota) / int(period))
    return min(limits)


def _control_groups(root: Path) -> Iterator[Path]:
    """Folders of the control groups that this process is in, inner before outer."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        top = root / controllers if controllers else root
        folder = top / path.lstrip("/")
        # In a container the path may lie outside of what is mounted; its top is then ours.
        while True:
            if folder.is_dir():
                yield folder
            if folder == top or top not in folder.parents:
                break
            folder = folder.parent


def _speed() -> float:
    block = _benchmark_block()
    best_s = float("inf")
    for _ in range(BENCHMARK_ROUNDS):
        # Time of this thread alone, so that other programs do not count.
        start_s = time.thread_time()
        zlib.compress(block, 6)
        best_s = min(best_s, time.thread_time() - start_s)
    return round(REFERENCE_ROUND_S / max(best_s, 1e-6), 3)


def _benchmark_block() -> bytes:
    """The same bytes everywhere, as compressible as text."""
    state = 12345
    words = []
    for _ in range(BENCHMARK_BLOCK_BYTES // 8):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        words.append(b"%07d " % (state % 4096))
    return b"".join(words)


def _operating_system() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return f"{platform.system()} {platform.release()}"
    return release.get("PRETTY_NAME", release["NAME"])


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
