"""A process by itself, and small worlds, for the tests of perseus.algo."""

from collections.abc import Mapping
from typing import Any, TypeVar

from perseus.algo import Layout, Process
from perseus.algo.process import Handler, Place
from perseus.sim.chance import Chance
from perseus.sim.faults import PRESETS, Faults
from perseus.sim.world import World

Some = TypeVar("Some", bound=Process)


class NoTimer:
    def cancel(self) -> None:
        return None


class Still:
    """A host in which no time passes."""

    def __init__(self) -> None:
        self.set: list[tuple[float, Handler, tuple[Any, ...]]] = []

    def now_s(self, process: Process) -> float:
        return 0.0

    def after(
        self, process: Process, seconds: float, handler: Handler, arguments: tuple[Any, ...]
    ) -> NoTimer:
        self.set.append((seconds, handler, arguments))
        return NoTimer()

    def taken(self, value: Any) -> Any:
        return value

    def knows(self, to: str) -> bool:
        return True


def alone(
    kind: type[Some], disk: Mapping[Any, Any], ids: tuple[str, ...] = ("n1",), **options: Any
) -> Some:
    """A process that nobody drives, not started."""
    place = Place(ids[0], "n", {"n": ids})
    return kind._host_create(place, Still(), Chance(1), disk, options)


def world(
    subject: Any, nodes: int = 3, seed: int = 1, faults: Faults | str = "none", **options: Any
) -> World:
    """A world that is quiet unless told otherwise."""
    chosen = PRESETS[faults] if isinstance(faults, str) else faults
    return World(Layout.of(subject), nodes, seed, chosen, **options)


def processes(made: World) -> dict[str, Any]:
    """All that are up, by id."""
    return {process.id: process for process in made._all_processes()}
