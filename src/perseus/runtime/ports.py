"""Ports: what the rest of Perseus may ask of the outside world.

Every part that needs time, chance, a network, a disk or a process takes the
port as an argument and never reaches past it; the real forms stand in
``runtime.real``, simulated ones stand with the tests that need them.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Sent = TypeVar("Sent", contravariant=True)
Received = TypeVar("Received", covariant=True)


class Clock(Protocol):
    """Time. ``now_s`` only runs forward; ``time_s`` is since 1970 and may jump."""

    def now_s(self) -> float:
        """Monotonic seconds, also counted while the machine sleeps where the kernel can."""

    def time_s(self) -> float:
        """Seconds since 1970."""

    async def sleep(self, seconds: float) -> None:
        """Returns after ``seconds``."""


class Random(Protocol):
    """Chance, unpredictable to others."""

    def bits(self, count: int) -> int:
        """A number of ``count`` random bits."""

    def uniform(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``."""


class Link(Protocol[Sent, Received]):
    """One ordered, reliable, two-way stream of messages to a peer, until it breaks."""

    async def send(self, message: Sent) -> None:
        """Hands a message over; raises UnavailableError once the link is broken."""

    def __aiter__(self) -> AsyncIterator[Received]:
        """Messages in order; ends when the peer ends, raises when the link breaks."""

    async def close(self) -> None:
        """Ends the stream; safe to call twice."""


class Network(Protocol[Sent, Received]):
    """Dials peers."""

    async def dial(self, address: str) -> Link[Sent, Received]:
        """A link to "host:port"; raises UnavailableError or IncompatibleError."""


class Disk(Protocol):
    """Small durable files, replaced whole. Bulk bytes have their own code in ``filestore``."""

    def read(self, path: str) -> bytes:
        """The content; raises FileNotFoundError."""

    def write(self, path: str, content: bytes, mode: int = 0o600) -> None:
        """Replaces the file atomically; on disk when it returns."""

    def free_bytes(self, path: str) -> int:
        """Free space of the file system that holds ``path``."""


@dataclass(frozen=True, slots=True)
class SpawnRequest:
    """A program to start in a session (and process group) of its own."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    working_directory: str
    # Paths opened by the spawner: stdin for reading, the others for appending.
    stdin_path: str
    stdout_path: str
    stderr_path: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. One of ``exit_code`` and ``signal`` counts; the other is 0."""

    exit_code: int
    signal: int
    cpu_s: float
    # 0 when it was too small to tell.
    memory_peak_bytes: int
    # For certain no process that descends from it is left.
    left_nothing: bool = False


class Spawner(Protocol):
    """Starts programs, tells how they end, signals their process groups."""

    @property
    def is_dead(self) -> bool:
        """Nothing will ever start here again, and no end be known."""

    async def spawn(self, request: SpawnRequest, after: int = 0) -> int:
        """The process id; started as soon as the process ``after`` has ended. Raises
        NotFoundError (127), RefusedError (126), TooLargeError or UnavailableError when it cannot
        start; LeaseLostError when nothing may run here now, or ``after`` was freed."""

    def free(self, pid: int) -> None:
        """What is to start after that process does not, unless it did already."""

    async def wait(self, pid: int) -> Exit:
        """Returns when the process has ended; at most once for each pid. LeaseLostError when
        that cannot be known any more."""

    async def signal(self, pid: int, number: int) -> None:
        """Signals the whole process group; quiet when it is gone."""

    def send_signal(self, pid: int, number: int) -> None:
        """As ``signal``, without await; delivered in the order of the calls."""

    def kill_all(self) -> None:
        """SIGKILL to the process group of everything that ``spawn`` started."""

    def guard(self, until_s: float) -> None:
        """Stops all that ``spawn`` started, as ``freeze`` does, when the clock's ``now_s``
        passes ``until_s``, even if the caller hangs; a later call replaces it, 0 takes it
        away."""

    def freeze(self) -> None:
        """Stops all that ``spawn`` started where it is; ``spawn`` raises LeaseLostError."""

    def thaw(self, pids: Iterable[int]) -> None:
        """What was frozen of these processes goes on; ``spawn`` starts others again."""
