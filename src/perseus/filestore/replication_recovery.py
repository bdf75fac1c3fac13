"""Sealing chunks whose writer is gone, at what all live replicas have.

Every live holder is asked how long its replica is, under the next version, by
which it also stops taking bytes. What was acknowledged is on every replica of
the chain, so the least length of any of them holds it. A chunk none of whose
holders is alive waits until one is.
"""

from dataclasses import dataclass, field

from perseus.filestore.replication_events import ChunkRecovered
from perseus.filestore.replication_state import Chunk, State, probe_directive
from perseus.runtime.machine import Instant

# A live holder that has not answered by then is asked again, or done without.
PROBE_S = 10.0


@dataclass(slots=True)
class Probe:
    """The answers so far."""

    deadline_s: float
    lengths: dict[str, int] = field(default_factory=dict)
    # Live holders that have no replica: nothing was acknowledged through them, or it is lost.
    missing: set[str] = field(default_factory=set)


class Recovery:
    """The chunks being sealed for lost writers."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.probes: dict[int, Probe] = {}

    def begin(self, at: Instant, chunk: Chunk) -> None:
        """Asks all live holders; does nothing when that was done."""
        if chunk.id not in self.probes:
            self.probes[chunk.id] = Probe(at.now_s + PROBE_S)
            self._ask(chunk, self._silent(chunk))

    def forget(self, chunk_id: int) -> None:
        """The chunk is garbage."""
        self.probes.pop(chunk_id, None)

    def answer(self, chunk: Chunk, node_id: str, length_bytes: int | None) -> bool:
        """A holder's word, None for "not here". Whether the chunk was sealed by it."""
        probe = self.probes.get(chunk.id)
        if probe is None or node_id not in chunk.nodes:
            return False
        if length_bytes is None:
            probe.lengths.pop(node_id, None)
            probe.missing.add(node_id)
        else:
            probe.missing.discard(node_id)
            probe.lengths[node_id] = length_bytes
        return self.settle(chunk)

    def node_up(self, node_id: str) -> None:
        """A holder is back: it is asked again."""
        for chunk_id, probe in self.probes.items():
            chunk = self._state.chunks[chunk_id]
            if node_id in chunk.nodes:
                probe.missing.discard(node_id)
                probe.lengths.pop(node_id, None)
                self._ask(chunk, [node_id])

    def tick(self, at: Instant) -> list[Chunk]:
        """Settles or asks again what is overdue; the chunks that were sealed."""
        sealed = []
        for chunk_id, probe in list(self.probes.items()):
            chunk = self._state.chunks[chunk_id]
            if probe.deadline_s > at.now_s:
                if self.settle(chunk):
                    sealed.append(chunk)
                continue
            if self._live_lengths(chunk, probe):
                self._seal(chunk, probe)
                sealed.append(chunk)
            else:
                probe.deadline_s = at.now_s + PROBE_S
                self._ask(chunk, self._silent(chunk))
        return sealed

    def settle(self, chunk: Chunk) -> bool:
        """Seals the chunk if all live holders have answered; whether it did."""
        probe = self.probes.get(chunk.id)
        if probe is None or self._silent(chunk):
            return False
        if self._live_lengths(chunk, probe):
            self._seal(chunk, probe)
            return True
        if probe.missing.issuperset(chunk.nodes):
            # Nobody has it: no byte of it was ever acknowledged.
            del self.probes[chunk.id]
            self._state.emit(ChunkRecovered(chunk.id, chunk.inode, 0))
        return False

    def _live_lengths(self, chunk: Chunk, probe: Probe) -> dict[str, int]:
        return {
            node_id: length
            for node_id, length in probe.lengths.items()
            if self._state.is_alive(node_id)
        }

    def _seal(self, chunk: Chunk, probe: Probe) -> None:
        lengths = self._live_lengths(chunk, probe)
        least = min(lengths.values())
        del self.probes[chunk.id]
        nodes = tuple(node_id for node_id in chunk.nodes if node_id in lengths)
        self._state.seal(chunk, least, chunk.version + 1, nodes)
        self._state.emit(ChunkRecovered(chunk.id, chunk.inode, least))

    def _silent(self, chunk: Chunk) -> list[str]:
        probe = self.probes[chunk.id]
        return [
            node_id
            for node_id in chunk.nodes
            if node_id not in probe.lengths
            and node_id not in probe.missing
            and self._state.is_alive(node_id)
        ]

    def _ask(self, chunk: Chunk, node_ids: list[str]) -> None:
        for node_id in node_ids:
            self._state.direct(node_id, probe_directive(chunk.id, chunk.version + 1))
