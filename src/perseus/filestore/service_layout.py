"""Where files are: layouts for readers, sizes for the scheduler, findings for doctor.

All of it is read from memory and changes nothing.
"""

from perseus.filestore.namespace import Namespace
from perseus.filestore.namespace_tree import File, Folder
from perseus.filestore.replication import Replication
from perseus.filestore.replication_state import OPEN, Nodes
from perseus.proto.v1 import cluster_pb2, filestore_pb2
from perseus.shellwords import as_word

# Findings of one kind that are told one by one; the rest are counted.
FINDINGS_MAXIMUM = 20


def layout(
    namespace: Namespace, replication: Replication, nodes: Nodes, file: File, offset_bytes: int
) -> filestore_pb2.Layout:
    """What a reader needs to read ``file`` from ``offset_bytes`` on."""
    answer = filestore_pb2.Layout(info=namespace.info(file), inline=file.inline)
    begin = 0
    for chunk, length_bytes in file.parts:
        if begin + length_bytes > offset_bytes:
            _add_chunk(answer, replication, nodes, chunk, begin)
        begin += length_bytes
    if file.writer is not None and file.writer.chunk:
        _add_chunk(answer, replication, nodes, file.writer.chunk, begin)
    return answer


def _add_chunk(
    answer: filestore_pb2.Layout,
    replication: Replication,
    nodes: Nodes,
    chunk: int,
    offset_bytes: int,
) -> None:
    located = replication.located(chunk)
    if located is None:
        return
    sealed = located.length_bytes != OPEN
    answer.chunks.add(
        chunk=chunk,
        version=located.version,
        offset_bytes=offset_bytes,
        length_bytes=located.length_bytes if sealed else 0,
        sealed=sealed,
        replicas=locations(nodes, located.nodes),
    )


def locations(nodes: Nodes, node_ids: tuple[str, ...]) -> list[filestore_pb2.ReplicaLocation]:
    """Ids of nodes with their names and chunkservers."""
    return [
        filestore_pb2.ReplicaLocation(
            node_id=node.node_id, node_name=node.name, address=node.chunk_address
        )
        for node in map(nodes.find, node_ids)
        if node is not None
    ]


class FileLocality:
    """Implements events.Locality over the two machines."""

    def __init__(self, namespace: Namespace, replication: Replication) -> None:
        self._namespace = namespace
        self._replication = replication

    def exists(self, path: str) -> bool:
        """Whether there is a file of that path; raises InvalidError for what is no path."""
        return isinstance(self._namespace.find(path), File)

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of that path; raises InvalidError for what is no path."""
        return isinstance(self._namespace.find(path), Folder)

    def bytes_by_node(self, path: str) -> dict[str, int]:
        """Bytes of the file that each live node (by id) holds; {} when there is no such file."""
        file = self._namespace.find(path)
        sums: dict[str, int] = {}
        if not isinstance(file, File):
            return sums
        for chunk, length_bytes in file.parts:
            located = self._replication.located(chunk)
            for node_id in located.nodes if located is not None else ():
                sums[node_id] = sums.get(node_id, 0) + length_bytes
        return sums


def findings(
    namespace: Namespace, replication: Replication, nodes: Nodes, reserve_bytes: int
) -> list[cluster_pb2.Finding]:
    """What is wrong with files and replicas, the worst first."""
    return [
        *_lost(namespace, replication, nodes),
        *_stranded(namespace, replication, nodes),
        *_missing_replicas(namespace, replication, nodes),
        *_broken_links(replication, nodes),
        *_full_nodes(nodes, reserve_bytes),
        *_notes(namespace, replication),
    ]


def _path(namespace: Namespace, inode: int) -> str:
    return namespace.path_of(inode) or f"inode {inode}"


def _lost(
    namespace: Namespace, replication: Replication, nodes: Nodes
) -> list[cluster_pb2.Finding]:
    lost = replication.lost
    told = [_lost_chunk(namespace, replication, nodes, chunk) for chunk in lost[:FINDINGS_MAXIMUM]]
    if len(lost) > FINDINGS_MAXIMUM:
        message = f"{len(lost)} chunks in all have no live replica"
        told.append(cluster_pb2.Finding(severity="error", subject="filestore", message=message))
    return told


def _lost_chunk(
    namespace: Namespace, replication: Replication, nodes: Nodes, chunk: int
) -> cluster_pb2.Finding:
    path = _path(namespace, replication.inode_of(chunk))
    holders = [node for node in map(nodes.find, replication.holders(chunk)) if node is not None]
    names = ", ".join(node.name for node in holders)
    down = [node for node in holders if not node.alive]
    if down:
        message = f"part of it (chunk {chunk:016x}) is on {names} alone, which is not alive"
        command = f"perseus start  # on {down[0].name}; then: perseus nodes"
    elif holders:
        message = f"part of it (chunk {chunk:016x}) is damaged on {names}, with no other replica"
        command = f"perseus fs cat {as_word(path)} > FILE  # keeps all up to the damage"
    else:
        message = f"part of it (chunk {chunk:016x}) is on no node any more"
        command = f"perseus fs rm {as_word(path)}"
    return cluster_pb2.Finding(severity="error", subject=path, message=message, command=command)


def _stranded(
    namespace: Namespace, replication: Replication, nodes: Nodes
) -> list[cluster_pb2.Finding]:
    told = []
    for chunk in replication.stranded[:FINDINGS_MAXIMUM]:
        names = [node.name for node in map(nodes.find, replication.holders(chunk)) if node]
        told.append(
            cluster_pb2.Finding(
                severity="error",
                subject=_path(namespace, replication.inode_of(chunk)),
                message="its writer went silent, and what it wrote last is on "
                f"{', '.join(names)} alone, not alive now; until it is back the file stays open",
                command=f"perseus start  # on {names[0]}" if names else "",
            )
        )
    return told


def _missing_replicas(
    namespace: Namespace, replication: Replication, nodes: Nodes
) -> list[cluster_pb2.Finding]:
    chunks = replication.under_replicated
    if not chunks:
        return []
    known = list(nodes.nodes())
    usable = [node for node in known if node.alive and not node.draining]
    path = _path(namespace, replication.inode_of(chunks[0]))
    many = len(chunks) > 1
    which = f"{len(chunks)} chunks have" if many else "1 chunk has"
    whose = f"one is of {path}" if many else f"it is of {path}"
    should = "they should" if many else "it should"
    message = f"{which} fewer replicas than {should} ({whose})"
    # Of a cluster of one nobody expects two replicas; what has lost some is another matter.
    severity = "note" if len(known) == 1 else "warning"
    if len(usable) < 2:
        message += "; only one node can hold data"
        command = "perseus token create  # and join another node"
    else:
        message += f"; {'they are' if many else 'it is'} being copied"
        command = "perseus fs df"
    return [
        cluster_pb2.Finding(
            severity=severity, subject="filestore", message=message, command=command
        )
    ]


def _broken_links(replication: Replication, nodes: Nodes) -> list[cluster_pb2.Finding]:
    told = []
    for link in replication.links.broken[-FINDINGS_MAXIMUM:]:
        target, source = nodes.find(link.target), nodes.find(link.source)
        if target is None:
            continue
        whence = "a client" if source is None else source.name
        look = f"ping {target.chunk_address.rpartition(':')[0]}"
        message = f"{whence} could not bring bytes to {target.name} when a file was written lately"
        told.append(
            cluster_pb2.Finding(
                severity="warning",
                subject=target.name,
                message=f"{message} ({link.words}); the writer went on through others",
                command=look if source is None else f"{look}  # on {source.name}",
            )
        )
    return told


def _full_nodes(nodes: Nodes, reserve_bytes: int) -> list[cluster_pb2.Finding]:
    return [
        cluster_pb2.Finding(
            severity="warning",
            subject=node.name,
            message=f"its disk is full: {node.load.disk_free_bytes >> 20} MiB are free, "
            f"{reserve_bytes >> 20} MiB are kept",
            command="perseus fs df",
        )
        for node in nodes.nodes()
        if node.alive
        and node.load.memory_available_bytes
        and not node.load.disk_gone
        and node.load.disk_free_bytes < reserve_bytes
    ]


def _notes(namespace: Namespace, replication: Replication) -> list[cluster_pb2.Finding]:
    newest = replication.notes[-FINDINGS_MAXIMUM:]
    return [
        cluster_pb2.Finding(
            severity=note.severity, subject=_path(namespace, note.inode), message=note.message
        )
        for note in reversed(newest)
    ]
