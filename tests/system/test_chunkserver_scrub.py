"""The scrubber of a real chunkserver: soon after the start, and on from where it was."""

import os
import random
from pathlib import Path

from chunkserver_harness import Cluster, Node, cluster, until

from perseus.filestore.scrub import PLACE_FILE, Place
from perseus.proto.v1 import agent_pb2

MIB = 1 << 20
# At the scrubber's pace each takes a second, so that its place is kept in the middle of a pass.
FILES = 6
FILE_BYTES = 16 * MIB


def place_of(node: Node) -> Place:
    path = node.folder / "chunks" / PLACE_FILE
    return Place.decode(path.read_text()) if path.exists() else Place()


def fill(made: Cluster, node: Node) -> list[int]:
    """Sealed replicas; their chunks in the order of a pass."""
    content = random.Random(0).randbytes(FILE_BYTES)
    for number in range(FILES):
        with made.client.open_write(f"/{number}") as out:
            out.write(content)
    chunks = sorted(node.reports())
    for chunk in chunks:
        seal = agent_pb2.SealReplica(chunk=chunk, version=1, length_bytes=FILE_BYTES)
        made.wait(node.control.directive(agent_pb2.Directive(seal=seal)))
    until(lambda: all(r.sealed for r in node.reports().values()), "all are sealed")
    return chunks


def rot(node: Node, chunk: int) -> None:
    with open(node.data_file(chunk), "r+b") as file:
        (byte,) = os.pread(file.fileno(), 1, 5)
        os.pwrite(file.fileno(), bytes([byte ^ 1]), 5)


def test_a_pass_goes_on_after_a_restart_where_it_was(tmp_path: Path) -> None:
    with cluster(tmp_path, 1) as made:
        (node,) = made.nodes
        chunks = fill(made, node)
        node.kill()
        node.scrub_interval_s = 1.0
        node.start()
        until(lambda: place_of(node).next_chunk > 0, "the place in the first pass is kept")
        node.kill()
        place = place_of(node)
        assert place.ended_at_s == 0
        read = [chunk for chunk in chunks if chunk < place.next_chunk]
        left = [chunk for chunk in chunks if chunk >= place.next_chunk]
        assert read and left
        rot(node, read[0])
        rot(node, left[-1])
        node.start()
        # The end of this pass first, then the beginning of the next.
        assert node.wait_event("corrupt").corrupt.chunk == left[-1]
        assert node.wait_event("corrupt").corrupt.chunk == read[0]
        until(lambda: place_of(node).ended_at_s > 0, "the end of a pass is kept")
