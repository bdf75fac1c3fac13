"""Deleting replicas, at a pace that a node can follow.

A folder of a million files goes in one step, and a node that was away brings as many
replicas back that were made anew meanwhile; what that asks of the nodes must not fill
their outboxes. Of a chunk that is gone, or of an old version, the order waits here:
nothing can make such a replica good again. One that is merely extra may be needed
before its turn comes, so its chunk is looked at again then. A node that is not there is
asked nothing: when it is back it lists what it holds, and all is decided anew.
"""

from collections import deque
from itertools import islice

from perseus.filestore.replication_state import Chunk, State, delete_directive

# Deletions asked of each node in one Tick.
DELETES_PER_TICK = 200
# Deletions that wait for one node; those above are found at its next session.
WAITING_MAXIMUM = 1_000_000


class Garbage:
    """Replicas to delete, by node."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: dict[str, deque[tuple[int, int]]] = {}
        # Chunks of which the node has a replica too many, for when there is room to ask.
        self._extra: dict[str, dict[int, None]] = {}
        # Asked since the last Tick.
        self._asked: dict[str, int] = {}

    def add(self, node_id: str, chunk: int, below_version: int) -> None:
        """The node's replica is to go: its chunk is gone, or has a newer version for good."""
        if self._has_room(node_id):
            self._ask(node_id, chunk, below_version)
        elif self._state.is_alive(node_id):
            waiting = self._waiting.setdefault(node_id, deque(maxlen=WAITING_MAXIMUM))
            waiting.append((chunk, below_version))

    def drop(self, chunk: Chunk, node_id: str) -> bool:
        """Takes the node's replica, one too many, out of the set and asks for its deletion.

        False, with nothing changed, when the node has enough to do; ``tick`` names the chunk.
        """
        if not self._has_room(node_id):
            self._extra.setdefault(node_id, {})[chunk.id] = None
            return False
        rest = tuple(other for other in chunk.nodes if other != node_id)
        self._state.set_nodes(chunk, rest)
        self._ask(node_id, chunk.id, chunk.version + 1)
        return True

    def _has_room(self, node_id: str) -> bool:
        is_first = node_id not in self._waiting
        return is_first and self._asked.get(node_id, 0) < DELETES_PER_TICK

    def forget_node(self, node_id: str) -> None:
        """The node is down, or will say anew what it holds."""
        self._waiting.pop(node_id, None)
        self._extra.pop(node_id, None)
        self._asked.pop(node_id, None)

    def tick(self) -> list[int]:
        """Asks for some more; the chunks to look at again, for one may be dropped now."""
        self._asked.clear()
        for node_id, waiting in list(self._waiting.items()):
            for _ in range(min(DELETES_PER_TICK, len(waiting))):
                self._ask(node_id, *waiting.popleft())
            if not waiting:
                del self._waiting[node_id]
        return [chunk for node_id in list(self._extra) for chunk in self._due(node_id)]

    def _due(self, node_id: str) -> list[int]:
        extra = self._extra[node_id]
        room = 0 if node_id in self._waiting else DELETES_PER_TICK - self._asked.get(node_id, 0)
        due = list(islice(extra, room))
        for chunk in due:
            del extra[chunk]
        if not extra:
            del self._extra[node_id]
        return due

    def _ask(self, node_id: str, chunk: int, below_version: int) -> None:
        self._asked[node_id] = self._asked.get(node_id, 0) + 1
        self._state.direct(node_id, delete_directive(chunk, below_version))
