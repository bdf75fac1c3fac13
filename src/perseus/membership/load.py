"""How busy this machine is; measured at each heartbeat, so it must be quick.

psutil is imported when the first meter is made: the command line never pays for it.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from perseus.membership.capacity import memory_groups, memory_left_bytes
from perseus.proto.v1 import cluster_pb2

# Measurements after which the control groups' limits are looked up again.
GROUPS_FRESH = 60

_log = logging.getLogger("perseus.membership")


class LoadMeter:
    """Measures load; the share of CPU is over the time since the measurement before."""

    def __init__(self, folder: Path, attempts_running: Callable[[], int] = lambda: 0) -> None:
        """``folder`` lies on the disk whose free space counts."""
        import psutil

        self._psutil = psutil
        self._folder = folder
        self._attempts_running = attempts_running
        self._groups: list[tuple[int, Path]] = []
        self._measurements = 0
        self._last = cluster_pb2.Load()
        self._is_blind = False
        psutil.cpu_percent()

    def measure(self) -> cluster_pb2.Load:
        """The load now; the last that could be measured where the system gives no answer."""
        try:
            self._last = self._measure()
            self._is_blind = False
        except OSError as error:
            # No descriptor is free, or no memory: a heartbeat without news is still one.
            if not self._is_blind:
                _log.warning("the load cannot be measured for now: %s", error)
            self._is_blind = True
        return cluster_pb2.Load.FromString(self._last.SerializeToString())

    def _measure(self) -> cluster_pb2.Load:
        free_bytes = self._disk_free_bytes()
        return cluster_pb2.Load(
            cpu=self._psutil.cpu_percent() / 100.0,
            load_average=os.getloadavg()[0],
            memory_available_bytes=self._memory_available_bytes(),
            # A disk that cannot be asked has no room for anyone.
            disk_free_bytes=free_bytes or 0,
            disk_gone=free_bytes is None,
            attempts_running=self._attempts_running(),
        )

    def _memory_available_bytes(self) -> int:
        available = int(self._psutil.virtual_memory().available)
        if self._measurements % GROUPS_FRESH == 0:
            self._groups = list(memory_groups())
        self._measurements += 1
        left = memory_left_bytes(groups=self._groups)
        return available if left is None else min(available, left)

    def _disk_free_bytes(self) -> int | None:
        try:
            status = os.statvfs(self._folder)
        except OSError:
            return None
        return status.f_bavail * status.f_frsize
