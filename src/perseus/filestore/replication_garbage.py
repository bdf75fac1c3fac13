"""Deleting replicas whose chunks no file holds any more, at a pace that a node can follow.

A folder of a million files goes in one step; what its removal asks of the nodes
must not fill their outboxes. A node that is not there is asked nothing: when it
is back it lists what it holds, and what is unknown then is garbage again.
"""

from collections import deque

from perseus.filestore.replication_state import State, delete_directive

# Deletions asked of each node in one Tick.
DELETES_PER_TICK = 200
# Deletions that wait for one node; those above are found at its next session.
WAITING_MAXIMUM = 1_000_000


class Garbage:
    """Replicas to delete, by node."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: dict[str, deque[tuple[int, int]]] = {}
        # Asked since the last Tick.
        self._asked: dict[str, int] = {}

    def add(self, node_id: str, chunk: int, below_version: int) -> None:
        """The node's replica of a chunk that is gone, or will never be known, is to go."""
        waiting = self._waiting.get(node_id)
        if waiting is None and self._asked.get(node_id, 0) < DELETES_PER_TICK:
            self._ask(node_id, chunk, below_version)
        elif self._state.is_alive(node_id):
            waiting = self._waiting.setdefault(node_id, deque(maxlen=WAITING_MAXIMUM))
            waiting.append((chunk, below_version))

    def forget_node(self, node_id: str) -> None:
        """The node is down, or will say anew what it holds."""
        self._waiting.pop(node_id, None)
        self._asked.pop(node_id, None)

    def tick(self) -> None:
        """Asks for some more."""
        self._asked.clear()
        for node_id, waiting in list(self._waiting.items()):
            for _ in range(min(DELETES_PER_TICK, len(waiting))):
                self._ask(node_id, *waiting.popleft())
            if not waiting:
                del self._waiting[node_id]

    def _ask(self, node_id: str, chunk: int, below_version: int) -> None:
        self._asked[node_id] = self._asked.get(node_id, 0) + 1
        self._state.direct(node_id, delete_directive(chunk, below_version))
