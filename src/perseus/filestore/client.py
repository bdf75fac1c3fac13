"""The filestore for programs: reading and writing files, synchronously.

``FilestoreClient`` speaks to the master through a function given to it (gRPC,
JSON or in process, it does not care) and to the chunkservers by itself. It is
safe for threads; a FileWriter or a read belongs to one thread at a time.
"""

import os
from collections.abc import Callable

from crc32c import crc32c

from perseus import localfile
from perseus.errors import CorruptError, InvalidError
from perseus.filestore.client_channels import Channels
from perseus.filestore.client_files import Files, FilesCall
from perseus.filestore.client_renewal import Tender
from perseus.filestore.reader import Pieces, Read, read_ahead
from perseus.filestore.writer import FileWriter
from perseus.identity.files import Identity
from perseus.proto.v1 import filestore_pb2
from perseus.runtime.real import RealClock

# Bytes done, and bytes in all.
Progress = Callable[[int, int], None]


class FilestoreClient:
    """Reads and writes files. Close it to end its connections."""

    def __init__(
        self,
        files_call: FilesCall,
        identity: Identity,
        cluster_id: str,
        near_node: str = "",
        channels: Channels | None = None,
    ) -> None:
        """``near_node`` is this machine's node (id or name), whose chunkserver is preferred.
        ``channels`` are those of the process, if it has some."""
        self._files = Files(files_call)
        self._channels = channels or Channels(identity, cluster_id)
        self._tender = Tender()
        self._near_node = near_node

    def close(self) -> None:
        """Ends the connections to chunkservers; open files break."""
        self._channels.close()

    def open_read(
        self,
        path: str | None = None,
        inode: int | None = None,
        offset: int = 0,
        length: int = 0,
        follow: bool = False,
        stop: Callable[[], bool] | None = None,
    ) -> Pieces:
        """The bytes of a file from ``offset`` on, ``length`` of them (0: to the end), in pieces
        of at most 1 MiB. ``follow`` goes on until the writer closes the file, or ``stop``
        says True, which is asked every ten seconds or sooner. Close it to end early.

        NotFoundError at once; UnavailableError or CorruptError when no replica delivers.
        """
        return self._open_read(path, inode, offset, length, follow, stop)[1]

    def _open_read(
        self,
        path: str | None,
        inode: int | None,
        offset: int = 0,
        length: int = 0,
        follow: bool = False,
        stop: Callable[[], bool] | None = None,
    ) -> tuple[filestore_pb2.FileInfo, Pieces]:
        if (path is None) == (inode is None):
            raise InvalidError("a file is named by its path or by its inode")
        if offset < 0 or length < 0:
            raise InvalidError(f"offset {offset} and length {length} cannot be negative")
        layout = self._files.locate(path or "", inode or 0, offset, 0.0)
        end = offset + length if length else None
        read = Read(
            self._files,
            self._channels,
            self._near_node,
            path or "",
            layout,
            offset,
            end,
            follow,
            stop,
        )
        pieces = read.pieces()
        return layout.info, read_ahead(pieces) if layout.chunks and not follow else pieces

    def open_write(
        self,
        path: str,
        *,
        replace: bool = False,
        append: bool = False,
        parents: bool = False,
        replicas: int = 0,
        visible: bool = False,
    ) -> FileWriter:
        """A writer of a new file, or at the end of an old one with ``append`` (made if missing).

        ``visible`` shows the file while it is written; otherwise it appears at close.
        AlreadyExistsError without ``replace``; ConflictError while another appends.
        """
        asked_at_s = RealClock().now_s()
        if append:
            lease = self._files.append(
                filestore_pb2.AppendRequest(path=path, create=True, parents=parents)
            )
        else:
            lease = self._files.create(
                filestore_pb2.CreateRequest(
                    path=path,
                    replace=replace,
                    visible_at_close=not visible,
                    replicas=replicas,
                    parents=parents,
                )
            )
        return self._writer(lease, path, asked_at_s)

    def open_output(self, attempt: str, stderr: bool) -> FileWriter:
        """A writer of an attempt's output, which has no path until it is committed."""
        request = filestore_pb2.CreateRequest(attempt=attempt, stderr=stderr)
        name = f"the {'stderr' if stderr else 'stdout'} of {attempt}"
        asked_at_s = RealClock().now_s()
        return self._writer(self._files.create(request), name, asked_at_s)

    def get_file(
        self,
        path: str,
        local: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
    ) -> filestore_pb2.FileInfo:
        """Copies a file of the filestore to a local one, which appears whole and verified.

        A FIFO and its like is written in place; see ``perseus.localfile``.
        """
        info, pieces = self._open_read(path, None)
        checksum = done = 0
        with localfile.writing(local) as file:
            for piece in pieces:
                write_fully(file.fileno(), piece)
                checksum = crc32c(piece, checksum)
                done += len(piece)
                if progress is not None:
                    progress(done, max(info.size_bytes, done))
            if info.has_checksum and not info.open and checksum != info.checksum:
                raise CorruptError(f"{path} does not match its checksum", hint="perseus doctor")
        return info

    def _writer(self, lease: filestore_pb2.WriteLease, name: str, asked_at_s: float) -> FileWriter:
        return FileWriter(
            self._files,
            self._channels,
            self._tender,
            lease,
            name=name,
            asked_at_s=asked_at_s,
            near_node=self._near_node,
        )


def write_fully(descriptor: int, content: bytes) -> None:
    """Writes all of ``content`` at the file's position."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
