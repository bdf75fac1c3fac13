"""Which processes an algorithm is made of.

A class alone means a group of it, as many as ``--nodes`` says, named n1, n2, ....
``Layout`` names more than one group::

    paxos = Layout(proposers=Group(Proposer, 2), acceptors=Group(Acceptor, 3))

makes proposers1, proposers2, acceptors1, ...; ``self.group("acceptors")`` has their ids.
Properties of the whole stand beside it: ``@always(paxos)``. A client
(``clients=Group(Client, 2, is_client=True)``) is a process that faults spare.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perseus.algo.process import Id, Process
from perseus.errors import InvalidError

if TYPE_CHECKING:
    from perseus.algo.properties import Property

PROCESSES_MAXIMUM = 1000
DEFAULT_GROUP = "n"


@dataclass(frozen=True, slots=True)
class Group:
    """Processes of one class. ``count`` 0 means as many as are asked for."""

    kind: type[Process]
    count: int = 0
    # Stands outside: it is not killed, paused or cut off, nor has its clock skewed.
    is_client: bool = False
    # What it exchanges with others may be lost or late, but does not come twice: as over a
    # connection of its own.
    is_connected: bool = False
    # Lives in the simulator alone: what it sends and keeps may be of any kind.
    is_simulated: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


class Layout:
    """Named groups; every process may know all of them."""

    def __init__(self, **groups: Group) -> None:
        if not groups:
            raise InvalidError("a Layout has at least one Group", hint="Layout(n=Group(Echo, 3))")
        self.groups = groups
        self._properties: list[Property] = []

    @staticmethod
    def of(subject: "type[Process] | Layout") -> "Layout":
        """The layout of a class is a group of it, with the class's own ``clients`` beside."""
        if isinstance(subject, Layout):
            return subject
        if not (isinstance(subject, type) and issubclass(subject, Process)):
            raise InvalidError(
                f"{getattr(subject, '__name__', subject)} is no algorithm",
                hint="name a class derived from perseus.algo.Process, or a perseus.algo.Layout",
            )
        groups = {DEFAULT_GROUP: Group(subject)}
        if subject.client is not None:
            groups["client"] = Group(subject.client, subject.clients, is_client=True)
        return Layout(**groups)

    def members(self, nodes: int) -> dict[str, tuple[Id, ...]]:
        """The ids of each group when ``nodes`` are asked for."""
        members = {}
        for name, group in self.groups.items():
            count = group.count or nodes
            if not 1 <= count <= PROCESSES_MAXIMUM:
                raise InvalidError(
                    f"a group of {count} processes is not possible",
                    hint=f"1 to {PROCESSES_MAXIMUM}",
                )
            members[name] = tuple(f"{name}{number}" for number in range(1, count + 1))
        return members

    def servers(self, nodes: int) -> dict[str, tuple[Id, ...]]:
        """Of those the groups that faults may befall: all but clients."""
        members = self.members(nodes)
        return {name: ids for name, ids in members.items() if not self.groups[name].is_client}
