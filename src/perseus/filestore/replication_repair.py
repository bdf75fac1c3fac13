"""Keeping as many replicas as are wanted: which chunks need one, who makes it, what is extra.

Chunks with the fewest good replicas come first. At most one copy of a chunk is
made at a time; copies in flight are bounded for each node, at both ends, and in
all. A replica is deleted only while enough good ones, sealed and alive, remain.

A corrupt replica is kept until it is made good: that the others are good is
assumed, until one of them has been copied, and where they are not its blocks are
wanted. So a copy is taken from all holders, block by block, the good ones first;
it goes to another node or, where there is none, in the place of the corrupt one.
"""

from itertools import islice
from typing import Any, NamedTuple

from perseus.filestore.replication_garbage import Garbage
from perseus.filestore.replication_placement import Placement
from perseus.filestore.replication_state import Chunk, State, delete_directive
from perseus.proto.v1 import agent_pb2
from perseus.runtime.machine import Instant

FETCHES_MAXIMUM = 64
FETCHES_PER_NODE = 4
# A copy that is not made by then is given up and tried anew; the node's own limit is shorter.
FETCH_DEADLINE_S = 400.0
# A node that failed to make a copy is not asked for the same one again for so long.
FETCH_RETRY_S = 30.0
# The same when all replicas are corrupt: it is not likely to succeed and reads a lot.
MEND_RETRY_S = 600.0
# With a corrupt replica about, so many good ones are made sure of before it goes.
SURE_REPLICAS = 2
FULL_BELIEVED_S = 60.0
# Chunks looked at for new copies in one Tick.
STARTS_PER_TICK = 64
FAILURES_MAXIMUM = 10_000


class Fetch(NamedTuple):
    """A copy being made."""

    target: str
    sources: tuple[str, ...]
    deadline_s: float


class Repair:
    """Which chunks lack replicas, and the copies under way."""

    def __init__(self, state: State, placement: Placement, garbage: Garbage) -> None:
        self._state = state
        self._placement = placement
        self._garbage = garbage
        # Nodes that are down and may be back soon: until when that is hoped (monotonic).
        self.hoped_until_s: dict[str, float] = {}
        # Chunks to copy, by how many good replicas they have.
        self._needy: dict[int, dict[int, None]] = {}
        self._rank: dict[int, int] = {}
        # Sealed chunks without a good replica on a live node.
        self.lost: dict[int, None] = {}
        self.fetches: dict[int, Fetch] = {}
        self._busy: dict[str, int] = {}
        # (chunk, node) that failed, until when it is not asked again.
        self._failed_until_s: dict[tuple[int, str], float] = {}
        # Chunks that had a corrupt or missing replica, and what to say once all is well.
        self._healing: dict[int, str] = {}

    @property
    def under_replicated(self) -> list[int]:
        """Chunks that lack a replica and have at least one."""
        return [chunk_id for chunk_id, good in self._rank.items() if good]

    def look(self, at: Instant, chunk: Chunk) -> None:
        """Files the chunk where it belongs; drops what is extra or corrupt of it."""
        self._unfile(chunk.id)
        if chunk.is_open or not self._drop_corrupt(chunk):
            return
        good = self._state.good(chunk)
        damaged = self._state.damaged(chunk)
        hoped = [node_id for node_id in chunk.nodes if self._is_hoped(node_id)]
        if not good:
            if not hoped:
                self.lost[chunk.id] = None
            if len(damaged) > 1:
                self._file(chunk, 0)
        elif len(good) + len(hoped) < self._wanted(chunk, damaged):
            self._file(chunk, len(good))
        else:
            if len(good) >= chunk.replicas:
                self._healed(at, chunk)
            self._drop_extra(chunk)

    def _wanted(self, chunk: Chunk, damaged: list[str]) -> int:
        """How many good replicas there should be now."""
        return max(chunk.replicas, SURE_REPLICAS) if damaged else chunk.replicas

    def _file(self, chunk: Chunk, good: int) -> None:
        self._needy.setdefault(good, {})[chunk.id] = None
        self._rank[chunk.id] = good

    def forget(self, chunk: Chunk) -> None:
        """The chunk is garbage; so is what is being copied of it."""
        self._unfile(chunk.id)
        self._healing.pop(chunk.id, None)
        fetch = self._end_fetch(chunk.id)
        if fetch is not None and fetch.target not in chunk.nodes:
            self._state.direct(fetch.target, delete_directive(chunk.id, chunk.version + 1))

    def heal(self, chunk: Chunk, why: str) -> None:
        """Says ``why`` in a note once the chunk has all its replicas again."""
        if len(self._healing) < FAILURES_MAXIMUM:
            self._healing[chunk.id] = why

    def arrived(self, chunk: Chunk, node_id: str) -> None:
        """A replica is whole on the node."""
        fetch = self.fetches.get(chunk.id)
        if fetch is not None and fetch.target == node_id:
            self._end_fetch(chunk.id)

    def failed(self, at: Instant, chunk: int, node_id: str, disk_full: bool) -> bool:
        """Whether a copy was being made there; it is not asked for there again for a while."""
        if disk_full:
            self._state.full_until_s[node_id] = at.now_s + FULL_BELIEVED_S
        fetch = self.fetches.get(chunk)
        if fetch is None or fetch.target != node_id:
            return False
        self._end_fetch(chunk)
        if len(self._failed_until_s) < FAILURES_MAXIMUM:
            retry_s = FETCH_RETRY_S if self._rank.get(chunk) else MEND_RETRY_S
            self._failed_until_s[chunk, node_id] = at.now_s + retry_s
        return True

    def node_gone(self, node_id: str) -> None:
        """Copies that the node was making will not come."""
        for chunk_id, fetch in list(self.fetches.items()):
            if fetch.target == node_id:
                self._end_fetch(chunk_id)

    def tick(self, at: Instant) -> None:
        """Gives up what is overdue, then starts what is needed most."""
        for chunk_id, fetch in list(self.fetches.items()):
            if fetch.deadline_s > at.now_s:
                break
            self.failed(at, chunk_id, fetch.target, disk_full=False)
        _expire(self._failed_until_s, at.now_s)
        _expire(self._state.full_until_s, at.now_s)
        _expire(self._state.suspect_until_s, at.now_s)
        self._start(at)

    def _start(self, at: Instant) -> None:
        looked = 0
        usable = self._placement.usable()
        for rank in sorted(self._needy):
            waiting = self._needy[rank]
            for chunk_id in list(islice(waiting, STARTS_PER_TICK - looked)):
                if len(self.fetches) >= FETCHES_MAXIMUM:
                    return
                looked += 1
                # To the end of its rank, so that one that cannot be helped holds up none.
                del waiting[chunk_id]
                waiting[chunk_id] = None
                chunk = self._state.chunks[chunk_id]
                if chunk_id not in self.fetches and not usable.issubset(self._kept(chunk)):
                    self._fetch(at, chunk)

    def _fetch(self, at: Instant, chunk: Chunk) -> None:
        sources = self._sources(chunk)
        target = self._target(chunk)
        if target is None or len(sources) < (1 if self._state.confirmed(chunk) else 2):
            return
        fetch = Fetch(target, tuple(sources), at.now_s + FETCH_DEADLINE_S)
        self.fetches[chunk.id] = fetch
        for node_id in (target, sources[0]):
            self._busy[node_id] = self._busy.get(node_id, 0) + 1
        addresses = [
            node.chunk_address
            for node_id in sources
            if (node := self._state.nodes.find(node_id)) is not None
        ]
        message = agent_pb2.FetchChunk(
            chunk=chunk.id,
            version=chunk.version,
            length_bytes=chunk.length_bytes,
            sources=addresses,
        )
        self._state.direct(target, agent_pb2.Directive(fetch=message))

    def _sources(self, chunk: Chunk) -> list[str]:
        """Holders to copy from, the good ones first."""
        sources = []
        for nodes in (self._state.confirmed(chunk), self._state.damaged(chunk)):
            free = [node for node in nodes if self._busy.get(node, 0) < FETCHES_PER_NODE]
            sources += sorted(free, key=lambda node_id: self._busy.get(node_id, 0))
        return sources

    def _target(self, chunk: Chunk) -> str | None:
        """A node without a replica; failing that, one whose replica is corrupt."""
        barred = {node_id for node_id, count in self._busy.items() if count >= FETCHES_PER_NODE}
        barred.update(node_id for key, node_id in self._failed_until_s if key == chunk.id)
        elsewhere = self._placement.target(chunk.id, barred.union(chunk.nodes))
        return elsewhere or self._placement.target(chunk.id, barred.union(self._kept(chunk)))

    def _kept(self, chunk: Chunk) -> set[str]:
        """Holders whose replica is not known to be corrupt."""
        return {
            node_id for node_id in chunk.nodes if (chunk.id, node_id) not in self._state.corrupt
        }

    def _end_fetch(self, chunk_id: int) -> Fetch | None:
        fetch = self.fetches.pop(chunk_id, None)
        if fetch is not None:
            for node_id in (fetch.target, fetch.sources[0]):
                self._busy[node_id] -= 1
                if not self._busy[node_id]:
                    del self._busy[node_id]
        return fetch

    def _unfile(self, chunk_id: int) -> None:
        self.lost.pop(chunk_id, None)
        rank = self._rank.pop(chunk_id, None)
        if rank is not None:
            del self._needy[rank][chunk_id]
            if not self._needy[rank]:
                del self._needy[rank]

    def _is_hoped(self, node_id: str) -> bool:
        return node_id in self.hoped_until_s and not self._state.is_alive(node_id)

    def _drop_corrupt(self, chunk: Chunk) -> bool:
        """Corrupt replicas go once good ones enough, sealed and alive, stand.

        False when one of them has to wait, so that nothing else is left to do.
        """
        if not self._state.corrupt or chunk.id in self.fetches:
            return True
        damaged = self._state.damaged(chunk)
        if len(self._state.confirmed(chunk)) < self._wanted(chunk, damaged):
            return True
        waiting = [node_id for node_id in damaged if not self._garbage.drop(chunk, node_id)]
        return not waiting

    def _drop_extra(self, chunk: Chunk) -> None:
        sure = self._state.confirmed(chunk)
        if len(sure) <= chunk.replicas:
            return
        views = [node for n in sure if (node := self._state.nodes.find(n)) is not None]
        draining = [node for node in views if node.draining]
        ranked = self._placement.ranked(chunk.id, draining or views)
        self._garbage.drop(chunk, ranked[-1].node_id)

    def _healed(self, at: Instant, chunk: Chunk) -> None:
        why = self._healing.pop(chunk.id, None)
        if why is not None:
            names = ", ".join(self._state.name(node_id) for node_id in chunk.nodes)
            self._state.note("note", chunk, f"{why}; healed, now on {names}", at.time_s)


def _expire(table: dict[Any, float], now_s: float) -> None:
    for key in [key for key, until_s in table.items() if until_s <= now_s]:
        del table[key]
