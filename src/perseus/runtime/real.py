"""The real forms of the ports: this machine's clock, chance and disk."""

import asyncio
import os
import secrets
import time

_random = secrets.SystemRandom()


class RealClock:
    """This machine's clocks; the monotonic one also counts while it is suspended."""

    def now_s(self) -> float:
        """Seconds of CLOCK_BOOTTIME."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def time_s(self) -> float:
        """Seconds since 1970."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Returns after ``seconds``."""
        await asyncio.sleep(seconds)


class RealRandom:
    """The kernel's random numbers."""

    def bits(self, count: int) -> int:
        """A number of ``count`` random bits."""
        return secrets.randbits(count)

    def uniform(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``."""
        return _random.uniform(low, high)


class RealDisk:
    """Small files, replaced by write, fsync, rename, fsync of the folder."""

    def read(self, path: str) -> bytes:
        """The content; raises FileNotFoundError."""
        with open(path, "rb") as file:
            return file.read()

    def write(self, path: str, content: bytes, mode: int = 0o600) -> None:
        """Replaces the file atomically; on disk when it returns."""
        folder = os.path.dirname(path) or "."
        temporary = f"{path}.{os.getpid()}.{secrets.token_hex(4)}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_folder(folder)

    def free_bytes(self, path: str) -> int:
        """Free space for unprivileged writers on the file system of ``path``."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
