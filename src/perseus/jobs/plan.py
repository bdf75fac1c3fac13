"""The values between the state machine and the scheduler: a snapshot in, a plan out.

Cores are counted in thousandths, so that sums are exact.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# Of JobView.slots, when a job has no limit.
UNLIMITED = 1 << 30


@dataclass(frozen=True, slots=True)
class Needs:
    """What a task asks of a node: two tasks of equal needs fit the same nodes."""

    priority: int
    cpu_milli: int
    memory_bytes: int
    disk_bytes: int
    labels: tuple[tuple[str, str], ...]
    architecture: str
    # Name (or id) of the one node it must run on; empty means any.
    node: str


@dataclass(slots=True)
class NodeView:
    """A node as the scheduler sees it; the scheduler changes nothing of it."""

    node_id: str
    name: str
    # Alive, connected, reached by others and not draining.
    accepts: bool
    # In words, why it does not; empty when it does.
    refusal: str
    cpu_milli: int
    memory_bytes: int
    disk_bytes: int
    # Share of all cores in use, 0 to 1, by whomever.
    load_cpu: float
    # Measured; 0 when not known.
    memory_available_bytes: int
    disk_free_bytes: int
    speed: float
    labels: Mapping[str, str]
    architecture: str
    # Leased to tasks: cores of those that may run now, memory and disk of all.
    used_cpu_milli: int = 0
    used_memory_bytes: int = 0
    used_disk_bytes: int = 0
    # Attempts leased, and those of them that wait there for others to end.
    leased: int = 0
    ahead: int = 0


class JobView(NamedTuple):
    """A job with waiting tasks."""

    job_id: str
    # Rises with each placement; the lowest goes first.
    turn: int
    # Tasks that wait.
    waiting: int
    # How many more may run at once (UNLIMITED without a limit).
    slots: int
    # By node id: attempts leased there, and how many of them may run at once.
    at: Mapping[str, tuple[int, int]]
    # How long its tasks run; None when that is not known.
    duration_s: float | None
    # Bytes of its inputs that lie on each node, by id.
    bytes_by_node: Mapping[str, int]
    # The node that an attempt of the next task was lost or failed on.
    avoid: str


class Line(NamedTuple):
    """Jobs of equal needs, in the order of their turns."""

    needs: Needs
    jobs: Iterable[JobView]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the scheduler looks at."""

    nodes: Sequence[NodeView]
    lines: Sequence[Line]
    # The turn that the next placement takes.
    turn: int
    # The most placements of one plan.
    limit: int


class Placement(NamedTuple):
    """The job's next task goes to the node. ``ahead``: to wait there until another ends."""

    job_id: str
    node_id: str
    ahead: bool
    # Bytes of its inputs that lie there.
    local_bytes: int


@dataclass(slots=True)
class Plan:
    """What is to be leased, in this order; and whose needs found no room."""

    placements: list[Placement] = field(default_factory=list)
    blocked: list[Needs] = field(default_factory=list)
    # Nodes kept free for a task that has waited while others passed it.
    reserved: dict[str, Needs] = field(default_factory=dict)
    # Stopped at the snapshot's limit: there may be more.
    more: bool = False
