"""What goes wrong, and when: drawn from the seed before the run begins.

The network loses, doubles and delays single messages all along (``Faults``). What
befalls nodes stands in a *plan*, a list of ``Fault`` with fixed times, so that a
failing run can be made smaller by leaving faults out (``shrink``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from perseus.errors import InvalidError
from perseus.sim.chance import Chance

Kind = Literal[
    "crash",
    "crash-before-commit",
    "crash-after-send",
    "power-cut",
    "pause",
    "sleep",
    "partition",
    "isolate",
    "one-way",
    "slow-disk",
    "clock",
    "death",
]
# What comes again and again. A death and a sleep are drawn apart: see ``Faults``.
KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in ("death", "sleep"))
# What takes a node's memory.
CRASHES: tuple[Kind, ...] = ("crash", "crash-before-commit", "crash-after-send", "power-cut")
FAULTS_MAXIMUM = 10_000


@dataclass(frozen=True, slots=True)
class Faults:
    """How bad the world is. Times are in seconds of true time."""

    # Of single messages: the share that is lost, and that comes twice.
    loss: float = 0.02
    duplication: float = 0.02
    # A message takes between these, but one in `late_share` takes up to `late_s`.
    delay_least_s: float = 0.0005
    delay_most_s: float = 0.01
    late_share: float = 0.02
    late_s: float = 0.5
    # A commit of a disk takes up to this long.
    commit_s: float = 0.002
    slow_commit_s: float = 1.0
    # Clocks run off by up to this share, and jump ahead by up to this much.
    clock_drift: float = 0.02
    clock_jump_s: float = 2.0
    # The mean pause between two faults of the plan; how long one lasts, but for those that are
    # over in a moment; and which are drawn.
    every_s: float = 4.0
    lasts_s: float = 3.0
    kinds: tuple[Kind, ...] = KINDS
    moment_s: float = 0.05
    # The share of worlds in which a pause is of the whole machine, which sleeps: its clock and
    # its timers stand still.
    sleep_share: float = 0.15
    # Nodes that one fault befalls at most; 0 means fewer than half. A power cut befalls all.
    at_once: int = 0
    # Some nodes, fewer than half of each group, die for good: they do not come back, not even
    # when the faults are over.
    is_deadly: bool = False
    # What takes a node's memory befalls the same nodes all along, fewer than half of each group:
    # for what keeps its state in the memories of a majority.
    spares_majority: bool = False
    # Each seed draws a world of its own from these; see ``of_seed``.
    is_swarm: bool = False

    def of_seed(self, chance: Chance) -> "Faults":
        """The world of one seed. With ``is_swarm`` some are slow, some lossy, some know only
        crashes, and so on: runs that differ find more than runs that are all average (Groce
        and others, "Swarm Testing", 2012)."""
        if not self.is_swarm:
            return self
        kinds = tuple(kind for kind in self.kinds if chance.random() < 0.5)
        return replace(
            self,
            loss=_rarely(chance, 0.001, 0.2),
            duplication=_rarely(chance, 0.001, 0.2),
            delay_most_s=_between(chance, self.delay_least_s, 1.0),
            late_share=_rarely(chance, 0.01, 0.2),
            late_s=_between(chance, 0.1, 5.0),
            commit_s=_between(chance, 0.0005, 0.1),
            every_s=_between(chance, 0.3, 10.0),
            lasts_s=_between(chance, 0.1, 8.0),
            kinds=kinds or self.kinds,
        )

    def quiet(self) -> "Faults":
        """A good network, and no faults of nodes."""
        usual = Faults()
        return replace(
            self,
            loss=0.0,
            duplication=0.0,
            late_share=0.0,
            delay_most_s=min(self.delay_most_s, usual.delay_most_s),
            commit_s=min(self.commit_s, usual.commit_s),
            kinds=(),
        )


def _between(chance: Chance, least: float, most: float) -> float:
    """Each order of magnitude is as likely as the others."""
    return least * float((most / least) ** chance.random())


def _rarely(chance: Chance, least: float, most: float) -> float:
    return _between(chance, least, most) if chance.random() < 0.7 else 0.0


PRESETS: dict[str, Faults] = {
    "none": Faults(loss=0, duplication=0, late_share=0, clock_drift=0, kinds=()),
    "network": Faults(kinds=("partition", "isolate", "one-way")),
    "crash": Faults(loss=0, duplication=0, kinds=(*CRASHES, "slow-disk")),
    "some": Faults(),
    "all": Faults(is_swarm=True),
    "deadly": Faults(is_swarm=True, is_deadly=True),
    "minority": Faults(is_swarm=True, is_deadly=True, spares_majority=True),
    # For what stands on clocks that only run, fast or slow: Linux's monotonic ones.
    "steady": Faults(
        is_swarm=True, kinds=tuple(kind for kind in KINDS if kind != "clock"), sleep_share=0.0
    ),
}


def preset(name: str) -> Faults:
    """Faults by their name; raises InvalidError."""
    try:
        return PRESETS[name]
    except KeyError:
        raise InvalidError(
            f"there are no faults named {name!r}", hint=f"--faults {'|'.join(PRESETS)}"
        ) from None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that befalls nodes at a time, for a while."""

    kind: Kind
    at_s: float
    lasts_s: float
    # Whom it befalls. Partition: one side. One-way: who is not heard.
    nodes: tuple[str, ...]
    # Clock: by how much it jumps ahead. Slow-disk: how long a commit takes.
    amount: float = 0.0

    def __str__(self) -> str:
        who = ",".join(self.nodes)
        if self.kind == "death":
            return f"{self.at_s:.3f} s: death of {who}"
        return f"{self.at_s:.3f} s: {self.kind} of {who} for {self.lasts_s:.3f} s"


def plan_of(
    faults: Faults, groups: Mapping[str, Sequence[str]], until_s: float, seed: int
) -> list[Fault]:
    """All that befalls the nodes of these groups in the run of one seed."""
    nodes = [node for group in groups.values() for node in group]
    chance = Chance(seed, "deaths")
    weak = [node for group in groups.values() for node in _minority(group, chance)]
    made = plan(faults, nodes, until_s, Chance(seed, "faults"))
    if Chance(seed, "sleeps").random() < faults.sleep_share:
        made = [_as_sleep(fault) for fault in made]
    if faults.spares_majority:
        made = [_of_the_weak(fault, weak) for fault in made]
        made = [fault for fault in made if fault.nodes]
    if faults.is_deadly and weak:
        for node in chance.sample(weak, 1 + chance.below(len(weak))):
            made.append(Fault("death", chance.uniform(0.0, until_s), 0.0, (node,)))
    return made


def _as_sleep(fault: Fault) -> Fault:
    """A pause of the process, as one of its machine."""
    return replace(fault, kind="sleep") if fault.kind == "pause" else fault


def _minority(group: Sequence[str], chance: Chance) -> list[str]:
    """Fewer than half, at random."""
    return chance.sample(group, (len(group) - 1) // 2)


def _of_the_weak(fault: Fault, weak: Sequence[str]) -> Fault:
    """What takes memory takes no other's; whom it spares in vain, one of the weak stands in."""
    if fault.kind not in CRASHES:
        return fault
    mine = tuple(node for node in fault.nodes if node in weak)
    return replace(fault, nodes=mine or tuple(weak[:1]))


def plan(faults: Faults, nodes: Sequence[str], until_s: float, chance: Chance) -> list[Fault]:
    """The faults that come again and again; all of them are over at ``until_s``."""
    made: list[Fault] = []
    if not faults.kinds or not nodes:
        return made
    most = faults.at_once or max(1, (len(nodes) - 1) // 2)
    at_s = chance.exponential(faults.every_s)
    while at_s < until_s and len(made) < FAULTS_MAXIMUM:
        kind = chance.choice(faults.kinds)
        usual_s = faults.lasts_s if chance.random() < 0.6 else faults.moment_s
        lasts_s = min(chance.uniform(0.1, 2.0) * usual_s, until_s - at_s)
        made.append(_draw(kind, at_s, lasts_s, nodes, most, faults, chance))
        at_s += chance.exponential(faults.every_s)
    return made


def _draw(
    kind: Kind,
    at_s: float,
    lasts_s: float,
    nodes: Sequence[str],
    most: int,
    faults: Faults,
    chance: Chance,
) -> Fault:
    count, amount = 1, 0.0
    if kind == "power-cut":
        return Fault(kind, at_s, lasts_s, tuple(nodes))
    if kind in ("crash", "crash-before-commit", "crash-after-send", "pause"):
        count = 1 + chance.below(most)
    elif kind == "partition":
        count = 1 + chance.below(max(1, len(nodes) // 2))
    elif kind == "clock":
        amount = chance.uniform(0.0, faults.clock_jump_s)
    elif kind == "slow-disk":
        amount = chance.uniform(0.1, 1.0) * faults.slow_commit_s
    return Fault(kind, at_s, lasts_s, tuple(chance.sample(nodes, count)), amount)
