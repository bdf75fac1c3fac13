"""The replication under whatever may happen: no acknowledged byte is lost."""

from hypothesis import given
from hypothesis import strategies as st

from perseus.errors import PerseusError
from perseus.filestore import namespace_events as files
from tests.unit.replication_harness import Cluster

# What may happen to a cluster, as data: hypothesis chooses an order and shrinks it.
_OPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "put",
                "begin",
                "half",
                "seal",
                "lose",
                "up",
                "silent",
                "rot",
                "remove",
                "tick",
                "one",
                "restart",
            ]
        ),
        st.integers(0, 7),
    ),
    max_size=40,
)


class _Play:
    """Carries out one sequence, keeping what was acknowledged."""

    def __init__(self) -> None:
        self.cluster = Cluster(4)
        # path -> (lease, allocation, acknowledged bytes) of open files.
        self.open: dict[str, tuple[object, files.Allocation, int]] = {}
        # path -> bytes that must never be fewer.
        self.acknowledged: dict[str, int] = {}
        self.number = 0

    def run(self, kind: str, choice: int) -> None:
        getattr(self, f"do_{kind}")(choice)
        self.check()

    def do_put(self, choice: int) -> None:
        self.do_begin(choice)
        self.do_seal(choice)

    def do_begin(self, choice: int) -> None:
        path = f"/f{self.number}"
        self.number += 1
        lease = self.cluster.open(path, replicas=1 + choice % 3)
        try:
            allocation = self.cluster.allocate(lease)
        except PerseusError:
            return
        acknowledged = 100 if self.cluster.write(allocation, 100) else 0
        self.open[path] = (lease, allocation, acknowledged)
        self.acknowledged[path] = acknowledged

    def do_half(self, choice: int) -> None:
        for _, allocation, _ in self.open.values():
            self.cluster.write(allocation, 7, reaching=1)

    def do_seal(self, choice: int) -> None:
        for path, (lease, allocation, acknowledged) in list(self.open.items())[-1 - choice % 3 :]:
            del self.open[path]
            failed = tuple(n for n in allocation.nodes if not self.cluster.nodes[n].up)
            inode, epoch = lease.inode, lease.epoch  # type: ignore[attr-defined]
            try:
                self.cluster.do(
                    files.SealChunk(inode, epoch, allocation.chunk, acknowledged, failed)
                )
                self.cluster.do(files.Close(inode, epoch, b"", acknowledged))
            except PerseusError as error:
                assert error.code == "lease_lost"

    def do_lose(self, choice: int) -> None:
        self.cluster.lose(f"n{choice % 4}")

    def do_up(self, choice: int) -> None:
        self.cluster.connect(self.cluster.nodes[f"n{choice % 4}"])

    def do_silent(self, choice: int) -> None:
        """A node's agent says Hello while its chunkserver is away."""
        self.cluster.connect(self.cluster.nodes[f"n{choice % 4}"], knows=False)

    def do_rot(self, choice: int) -> None:
        """A block that is good on another live holder, too; the node may not know at once."""
        replication, block = self.cluster.replication, choice % 3
        for node in self.cluster.nodes.values():
            for chunk in node.held:
                holders = replication.holders(chunk)
                others = [
                    other
                    for other in self.cluster.nodes.values()
                    if other is not node and other.up and other.node_id in holders
                ]
                whole = [n for n in others if chunk in n.held and n.held[chunk].sealed]
                length = node.held[chunk].length
                lost = self.cluster.lost_blocks(chunk, length, whole)
                sealed = node.held[chunk].sealed and node.node_id in holders
                if node.up and sealed and lost is not None and block not in lost:
                    self.cluster.rot(node.node_id, chunk, block, found=choice % 2 == 0)
                    return

    def scrub(self) -> None:
        """Every node finds what is rotten."""
        for node in self.cluster.nodes.values():
            for chunk, held in list(node.held.items()):
                if held.rotten and not held.found:
                    self.cluster.tell_corrupt(node, chunk)

    def do_remove(self, choice: int) -> None:
        path = f"/f{choice}"
        if self.cluster.namespace.find(path) is not None:
            self.cluster.do(files.Remove(path, recursive=False))
            self.acknowledged.pop(path, None)
            self.open.pop(path, None)

    def do_tick(self, choice: int) -> None:
        self.cluster.advance(1 + 5 * choice)

    def do_one(self, choice: int) -> None:
        """One directive alone, so that others are under way."""
        for node in self.cluster.nodes.values():
            if node.inbox:
                self.cluster.carry_out(node)
                return

    def do_restart(self, choice: int) -> None:
        self.cluster.restart()

    def check(self) -> None:
        replication = self.cluster.replication
        for path, least in self.acknowledged.items():
            info = self.cluster.namespace.info(self.cluster.namespace.inode_at(path))
            assert info.open or info.size_bytes >= least
            for chunk in self.cluster.chunks_of(path):
                holders = replication.holders(chunk)
                assert len(set(holders)) == len(holders)
                located = replication.located(chunk)
                assert located is not None
                nodes = list(self.cluster.nodes.values())
                assert self.cluster.lost_blocks(chunk, located.length_bytes, nodes) == set()

    def finish(self) -> None:
        """All nodes live, and time passes: all is whole, and nothing is left over."""
        for node in self.cluster.nodes.values():
            self.cluster.connect(node)
        self.scrub()
        self.cluster.advance(200, step_s=2.0)
        if self.cluster.replication.lost:
            # Copying from replicas that are all corrupt has failed, and is tried again later.
            self.cluster.advance(2000, step_s=5.0)
        self.check()
        known: set[int] = set()
        for path in self.acknowledged:
            info = self.cluster.namespace.info(self.cluster.namespace.inode_at(path))
            assert not info.open
            for chunk in self.cluster.chunks_of(path):
                known.add(chunk)
                assert len(self.cluster.copies(chunk)) == info.replicas
        held = {chunk for node in self.cluster.nodes.values() for chunk in node.held}
        assert held <= known
        assert not self.cluster.replication.lost
        assert not self.cluster.replication.under_replicated


@given(_OPS)
def test_whatever_happens_no_acknowledged_byte_is_lost(ops: list[tuple[str, int]]) -> None:
    play = _Play()
    for kind, choice in ops:
        play.run(kind, choice)
    play.finish()
