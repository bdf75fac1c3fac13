"""What the simulated cluster's processes say to each other, and its settings."""

from dataclasses import dataclass
from typing import Any

from perseus.algo import Id
from perseus.settings import Settings

SETTINGS = Settings(
    lease_s=4.0, heartbeat_s=0.5, write_lease_s=6.0, replication_delay_s=1.0, keep_jobs_s=1e6
)
# Since 1970, when the simulation begins.
EPOCH_S = 1.7e9


@dataclass(frozen=True, slots=True)
class Dial:
    """A connection is asked for, and opened: what a network's handshake does. What comes on an
    older one is not heard any more."""

    stream: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer to Dial."""

    stream: int


@dataclass(frozen=True, slots=True)
class Up:
    """From an agent to the master, number ``number`` of a stream; the first is its Hello."""

    stream: int
    number: int
    what: Any


@dataclass(frozen=True, slots=True)
class Down:
    """From the master to an agent, in answer to that stream."""

    stream: int
    number: int
    what: Any


@dataclass(frozen=True, slots=True)
class Call:
    """A client asks the master for an event of its machines."""

    event: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply, or the code of the error."""

    value: Any
    error: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes for a chunk, passed down the chain; the last of it answers the writer."""

    chunk: int
    version: int
    offset: int
    data: bytes
    chain: tuple[Id, ...]
    writer: Id


@dataclass(frozen=True, slots=True)
class Written:
    """All of the chain have the chunk on disk up to ``length``."""

    chunk: int
    length: int


@dataclass(frozen=True, slots=True)
class Look:
    """Asks for a replica, to copy it, or to see whether the node answers."""

    chunk: int
    version: int


@dataclass(frozen=True, slots=True)
class Found:
    """The replica, None where there is none that will do."""

    chunk: int
    held: "Held | None"


@dataclass(frozen=True, slots=True)
class Held:
    """A replica on a node's disk."""

    version: int
    data: bytes
    sealed: bool = False
    # Told that its writer is gone: takes no more.
    fenced: bool = False


class Ordered:
    """One direction of a stream: hands on in their order what the network mixed up."""

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self._next = 0
        self._early: dict[int, Any] = {}

    def take(self, number: int, what: Any) -> list[Any]:
        """What can be handed on now."""
        if number >= self._next:
            self._early[number] = what
        ready = []
        while self._next in self._early:
            ready.append(self._early.pop(self._next))
            self._next += 1
        return ready
