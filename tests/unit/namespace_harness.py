"""What tests of the namespace share: what can be reached, and what must survive a restart."""

from perseus.filestore.events import CommittedOutput
from perseus.filestore.namespace_tree import File, Folder, Inode
from tests.unit.replication_harness import Cluster

ATTEMPT = "jjjjjjjj.0.1"


def committed(name: str, inline: bytes = b"", inode: int = 0) -> CommittedOutput:
    """An output of an attempt."""
    return CommittedOutput(name, len(inline), inline, inode)


def tree_of(cluster: Cluster) -> dict[str, object]:
    """All that can be reached: path to size, or None for folders."""
    found: dict[str, object] = {}
    waiting: list[Inode] = [cluster.namespace.inode_at("/")]
    while waiting:
        inode = waiting.pop()
        path = cluster.namespace.path_of(inode.id)
        found[path] = inode.size_bytes if isinstance(inode, File) else None
        if isinstance(inode, Folder):
            waiting.extend(inode.children.values())
    return found


def state_of(cluster: Cluster) -> dict[object, object]:
    """All that must be the same after a restart."""
    state = cluster.namespace._state
    snapshot: dict[object, object] = {}
    for inode in state.tree.inodes.values():
        parent = inode.parent.id if inode.parent else 0
        common = (parent, inode.name, inode.owner, inode.created_at_s, inode.modified_at_s)
        if isinstance(inode, Folder):
            names = () if not state.tree.is_live(inode) else tuple(sorted(inode.children))
            totals = inode.totals if state.tree.is_live(inode) else None
            snapshot[inode.id] = (*common, inode.replicas, names, inode.removed, totals)
        elif isinstance(inode, File):
            writer = inode.writer
            snapshot[inode.id] = (
                *(*common, inode.replicas, inode.size_bytes, tuple(inode.parts), inode.inline),
                *(inode.checksum, inode.epoch, inode.attempt),
                writer
                and (
                    *(writer.who, writer.chunk, writer.ending),
                    *(writer.target, writer.target_name, writer.replace),
                ),
            )
    snapshot["attempts"] = {key: set(value) for key, value in state.by_attempt.items()}
    for chunk in cluster.replication._state.chunks.values():
        snapshot["chunk", chunk.id] = chunk.record()
    return snapshot


def check_reload(cluster: Cluster) -> None:
    """What is durable is all there is."""
    before = state_of(cluster)
    ids = cluster.namespace._state.next_id, cluster.replication._state.next_id
    fresh = Cluster(0)
    fresh.rows = dict(cluster.rows)
    fresh._build()
    assert state_of(fresh) == before
    assert fresh.namespace._state.next_id >= ids[0]
    assert fresh.replication._state.next_id >= ids[1]
