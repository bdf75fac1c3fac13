"""Where new replicas go.

The first goes to the writer's node when that has room; the others, and copies
made later, by weighted rendezvous: each node's chance grows with its free disk
and shrinks with the chunks being written there, and the same chunk always
draws the same lots, so no chance is needed from outside.
"""

import math
from collections.abc import Collection, Iterable
from hashlib import blake2b

from perseus.errors import FullError, PerseusError, UnavailableError
from perseus.filestore.replication_state import NodeView, State
from perseus.settings import CHUNK_MAXIMUM_BYTES

# What a node is taken to have before its first heartbeat.
UNKNOWN_ROOM_BYTES = 1 << 30


class Placement:
    """Choices over the nodes as they are now; it changes nothing."""

    def __init__(self, state: State, reserve_bytes: int) -> None:
        self._state = state
        self._reserve_bytes = reserve_bytes

    def chain(
        self, chunk: int, replicas: int, near_node: str, avoid_nodes: Iterable[str]
    ) -> tuple[str, ...]:
        """Distinct nodes for a new chunk, fewer than asked for when there are not enough.

        Nodes to avoid are taken only when there is no other. Raises FullError or
        UnavailableError when there is none at all.
        """
        avoided = set(avoid_nodes)
        usable = [node for node in self._usable() if self.has_room(node)]
        if not usable:
            raise self._none_usable()
        wanted = [node for node in usable if not avoided & {node.node_id, node.name}] or usable
        ranked = self.ranked(chunk, wanted)
        near = [
            node
            for node in ranked
            if near_node and near_node in (node.node_id, node.name) and not self._is_doubtful(node)
        ]
        ranked = near + [node for node in ranked if node not in near]
        return tuple(node.node_id for node in ranked[:replicas])

    def target(self, chunk: int, taken: Collection[str]) -> str | None:
        """A node for one more replica, none of ``taken``; None when there is none."""
        usable = [
            node
            for node in self._usable()
            if node.connected and node.node_id not in taken and self.has_room(node)
        ]
        ranked = self.ranked(chunk, usable)
        return ranked[0].node_id if ranked else None

    def usable(self) -> set[str]:
        """Ids of the nodes that may take new replicas at all."""
        return {node.node_id for node in self._usable()}

    def ranked(self, chunk: int, nodes: Iterable[NodeView]) -> list[NodeView]:
        """The best first; last those that others may not reach."""
        return sorted(
            nodes, key=lambda node: (self._is_doubtful(node), self._lot(chunk, node), node.node_id)
        )

    def _is_doubtful(self, node: NodeView) -> bool:
        cut_off = bool(node.unreachable or node.distrusts)
        return cut_off or node.node_id in self._state.suspect_until_s

    def is_doubtful_id(self, node_id: str) -> bool:
        """Whether others may not reach the node."""
        node = self._state.nodes.find(node_id)
        return node is not None and self._is_doubtful(node)

    def has_room(self, node: NodeView) -> bool:
        """Whether a whole chunk fits above the reserve, also counting those being written."""
        if node.node_id in self._state.full_until_s:
            return False
        return self._room_bytes(node) >= CHUNK_MAXIMUM_BYTES

    def _usable(self) -> list[NodeView]:
        return [
            node
            for node in self._state.nodes.nodes()
            if node.alive and not node.draining and node.chunk_address
        ]

    def _room_bytes(self, node: NodeView) -> int:
        promised = self._state.open_on.get(node.node_id, 0) * CHUNK_MAXIMUM_BYTES
        if not node.load.memory_available_bytes:
            # It has connected and not yet told its load; its chunkserver checks for itself.
            return UNKNOWN_ROOM_BYTES
        # A promise seldom comes to a whole chunk; half of the room is kept from promises.
        free = node.load.disk_free_bytes - self._reserve_bytes
        return max(free - promised, free // 2)

    def _lot(self, chunk: int, node: NodeView) -> float:
        digest = blake2b(f"{chunk}/{node.node_id}".encode(), digest_size=8).digest()
        chance = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
        busy = 1 + self._state.open_on.get(node.node_id, 0)
        return -math.log(chance) * busy / max(self._room_bytes(node), 1)

    def _none_usable(self) -> PerseusError:
        alive = [node for node in self._state.nodes.nodes() if node.alive]
        full = [node for node in alive if node.chunk_address and not self.has_room(node)]
        if full:
            room = ", ".join(
                f"{node.name} ({node.load.disk_free_bytes >> 20} MiB free)" for node in full
            )
            return FullError(
                f"no node has room for a chunk above the reserve of "
                f"{self._reserve_bytes >> 20} MiB: {room}",
                hint="perseus fs df; remove files with perseus fs rm, or join another node",
            )
        draining = ", ".join(node.name for node in alive if node.draining)
        return UnavailableError(
            "no node can take data now"
            + (f" ({draining} drains)" if draining else ": none is alive"),
            hint="perseus nodes",
        )
