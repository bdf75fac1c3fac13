"""The filestore as a program sees it: ``cluster.fs`` and ``cluster.open``.

Paths are absolute. Bytes go straight to and from the chunkservers when the
context has a certificate and there are many of them, otherwise through the
daemon; which of the two is not seen from outside. A file is written whole or
at its end: modes are ``r``, ``w`` (replace), ``x`` (new) and ``a`` (append),
binary always; wrap in ``io.TextIOWrapper`` for text.
"""

import io
import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from perseus import localfile
from perseus.client import bulk as bulk_bytes
from perseus.client.messages import DiskUsage, FileInfo, decode
from perseus.client.spec import BULK_MINIMUM_BYTES
from perseus.errors import AlreadyExistsError, InvalidError, NotFoundError
from perseus.shellwords import as_file, as_word

if TYPE_CHECKING:
    from perseus.client.transport import Transport

# A piece of a file on its way through the daemon.
PIECE_BYTES = 256 << 10
COPY_BYTES = 1 << 20
LIST_PAGE = 1000

# A path as it may be given.
AnyPath = str | os.PathLike[str]
Progress = Callable[[int, int], None]


class Files:
    """Names and bytes of the filestore."""

    def __init__(self, transport: "Transport") -> None:
        self._transport = transport
        self._bulk: bulk_bytes.Bulk | None = None

    # Names.

    def stat(self, path: AnyPath) -> FileInfo:
        """What is at ``path``; raises NotFoundError."""
        return decode(FileInfo, self._transport.call("Files/Stat", {"path": check_path(path)}))

    def exists(self, path: AnyPath) -> bool:
        """Whether something is at ``path``."""
        try:
            self.stat(path)
        except NotFoundError:
            return False
        return True

    def ls(self, path: AnyPath = "/") -> list[FileInfo]:
        """The entries of a folder by name; a file gives itself."""
        return list(self.iterate(path))

    def iterate(self, path: AnyPath = "/") -> Iterator[FileInfo]:
        """The entries of a folder by name, a page at a time."""
        after = ""
        while True:
            request = {"path": check_path(path), "after": after, "limit": LIST_PAGE}
            answer = self._transport.call("Files/List", request)
            entries = [decode(FileInfo, entry) for entry in answer.get("entries", [])]
            yield from entries
            if not answer.get("more") or not entries:
                return
            after = entries[-1].name

    def mkdir(self, path: AnyPath, *, parents: bool = False) -> FileInfo:
        """Makes a folder; with ``parents`` those above too, and an existing one is fine."""
        request = {"path": check_path(path), "parents": parents}
        return decode(FileInfo, self._transport.call("Files/MakeDirectory", request))

    def mv(self, source: AnyPath, target: AnyPath, *, replace: bool = False) -> FileInfo:
        """Renames atomically, files and folders; ``replace`` lets a file at ``target`` go."""
        request = {
            "source": check_path(source),
            "target": check_path(target),
            "replace": replace,
        }
        return decode(FileInfo, self._transport.call("Files/Rename", request))

    def rm(self, path: AnyPath, *, recursive: bool = False) -> int:
        """Removes a file, or a folder with all in it; how many things went."""
        request = {"path": check_path(path), "recursive": recursive}
        return int(self._transport.call("Files/Remove", request).get("removed", 0))

    def df(self, path: AnyPath = "/") -> DiskUsage:
        """Room and use below ``path``."""
        answer = self._transport.call("Files/DiskUsage", {"path": check_path(path)})
        return decode(DiskUsage, answer)

    # Bytes.

    def cat(
        self, path: AnyPath, *, offset: int = 0, length: int = 0, follow: bool = False
    ) -> Iterator[bytes]:
        """The bytes of a file in pieces; ``length`` 0 means to the end.

        With ``follow`` it goes on until the writer closes the file.
        """
        path = check_path(path)
        if self.has_direct_way:
            return self._cat_best(path, offset, length, follow)
        return self._cat_daemon(path, offset, length, follow)

    def _cat_best(self, path: str, offset: int, length: int, follow: bool) -> Iterator[bytes]:
        if follow or self._left(path, offset, length) >= BULK_MINIMUM_BYTES:
            return self._direct().read(path, offset, length, follow)
        return self._cat_daemon(path, offset, length, follow)

    def _left(self, path: str, offset: int, length: int) -> int:
        size = self.stat(path).size_bytes - offset
        return min(size, length) if length else size

    def _cat_daemon(self, path: str, offset: int, length: int, follow: bool) -> Iterator[bytes]:
        request = {
            "path": path,
            "offset_bytes": offset,
            "length_bytes": length,
            "follow": follow,
        }
        stream = self._transport.stream("Files/Read", request, raw=True)
        try:
            for message in stream:
                if data := message.get("data"):
                    yield data if isinstance(data, bytes) else a2b_base64(data)
        finally:
            stream.close()

    def tail(
        self, path: AnyPath, size_bytes: int = 10 << 10, *, follow: bool = False
    ) -> Iterator[bytes]:
        """The last ``size_bytes`` of a file; with ``follow`` also what is appended."""
        size = self.stat(path).size_bytes
        return self.cat(path, offset=max(size - size_bytes, 0), follow=follow)

    def read_bytes(self, path: AnyPath) -> bytes:
        """The whole content, in memory."""
        return b"".join(self.cat(path))

    def write_bytes(
        self, path: AnyPath, content: bytes, *, replace: bool = True, parents: bool = False
    ) -> FileInfo:
        """Makes the file with this content, all at once."""
        big = len(content) >= BULK_MINIMUM_BYTES
        return self.write_stream(path, _slices(content), replace=replace, parents=parents, bulk=big)

    def append(self, path: AnyPath, content: bytes, *, parents: bool = False) -> FileInfo:
        """Writes at the end of the file, which is made when it is not there."""
        big = len(content) >= BULK_MINIMUM_BYTES
        return self.write_stream(path, _slices(content), append=True, parents=parents, bulk=big)

    def write_stream(
        self,
        path: AnyPath,
        pieces: Iterable[bytes],
        *,
        replace: bool = False,
        append: bool = False,
        parents: bool = False,
        replicas: int = 0,
        visible: bool = False,
        bulk: bool = False,
    ) -> FileInfo:
        """Writes pieces as they come; the file is there, whole, when they end.

        With ``visible`` it is open under its path from the start, so that others
        can follow it. ``bulk`` says that much is to come. When ``pieces`` raises,
        a file that was to be new or replaced does not appear.
        """
        options: dict[str, Any] = {
            "replace": replace,
            "append": append,
            "parents": parents,
            "replicas": replicas,
            "visible": visible,
        }
        path = check_path(path)
        if bulk and self.has_direct_way:
            self._direct().write(path, pieces, options)
            return self.stat(path)
        first = {"path": path} | {key: value for key, value in options.items() if value}
        answer = self._transport.upload("Files/Write", _write_messages(first, pieces))
        return decode(FileInfo, answer)

    def put(
        self,
        source: AnyPath | BinaryIO,
        path: AnyPath,
        *,
        replace: bool = True,
        parents: bool = False,
        replicas: int = 0,
        progress: Progress | None = None,
    ) -> FileInfo:
        """Copies a local file (or what a binary file object gives) into the filestore.

        ``progress(done_bytes, total_bytes)`` is told; the total is 0 when not known.
        """
        if isinstance(source, (str, os.PathLike)):
            with _open_local(source) as opened:
                return self.put(
                    opened,
                    path,
                    replace=replace,
                    parents=parents,
                    replicas=replicas,
                    progress=progress,
                )
        total = _local_size(source)
        return self.write_stream(
            path,
            _counted(_pieces_of(source), total, progress),
            replace=replace,
            parents=parents,
            replicas=replicas,
            bulk=total is None or total >= BULK_MINIMUM_BYTES,
        )

    def get(
        self,
        path: AnyPath,
        target: AnyPath | BinaryIO,
        *,
        progress: Progress | None = None,
    ) -> int:
        """Copies a file out of the filestore; its size. The local file appears whole.

        A FIFO and its like is written in place; see ``perseus.localfile``.
        """
        path = check_path(path)
        total = self.stat(path).size_bytes
        if not isinstance(target, (str, os.PathLike)):
            return _copy(self.cat(path), target, total, progress)
        if self.has_direct_way and total >= BULK_MINIMUM_BYTES:
            return self._get_direct(path, os.fspath(target), progress)
        try:
            with localfile.writing(target) as opened:
                return _copy(self.cat(path), opened, total, progress)
        except OSError as error:
            raise _unwritable(os.fspath(target), error) from None

    def _get_direct(self, path: str, target: str, progress: Progress | None) -> int:
        try:
            return self._direct().get(path, target, progress)
        except OSError as error:
            raise _unwritable(target, error) from None

    def open(self, path: AnyPath, mode: str = "r") -> "File":
        """A file object on ``path``; see the module's docstring for the modes."""
        return File(self, path, mode)

    def close(self) -> None:
        """Lets the connections to chunkservers go."""
        if self._bulk is not None:
            self._bulk.close()
            self._bulk = None

    @property
    def has_direct_way(self) -> bool:
        """Whether bytes can go straight to the chunkservers (the context has a certificate)."""
        return self._transport.context.has_certificate

    def direct_writer(self, path: str, options: dict[str, Any]) -> Any:
        """A FileWriter of the direct way: write, flush, close, abandon."""
        return self._direct().open_write(path, options)

    def _direct(self) -> bulk_bytes.Bulk:
        if self._bulk is None:
            self._bulk = bulk_bytes.Bulk(self._transport)
        return self._bulk


class File(io.RawIOBase, BinaryIO):
    """A file of the filestore as a binary file object. Use it in a ``with`` block:
    leaving it by an exception leaves no half-written file behind."""

    # For ``__del__`` of one that was never opened.
    _mode = "r"

    def __init__(self, files: Files, path: AnyPath, mode: str = "r") -> None:
        super().__init__()
        kind = mode.replace("b", "")
        if kind not in ("r", "w", "a", "x"):
            raise InvalidError(
                f"mode {mode!r} is not one of r, w, a, x", hint='files are binary: open(path, "rb")'
            )
        self._files = files
        self.path = check_path(path)
        self._mode = kind
        self._position = 0
        self._size: int | None = None
        self._pieces: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._writer: bulk_bytes.Writer | None = None
        if kind == "r":
            self._size = files.stat(self.path).size_bytes
        else:
            if kind == "x" and files.exists(self.path):
                raise AlreadyExistsError(
                    f"{self.path} exists already",
                    hint='mode "w" replaces it, "a" writes at its end',
                )
            self._writer = bulk_bytes.Writer(files, self.path, kind)

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    @property
    def mode(self) -> str:
        """r, w, a or x, with b for binary."""
        return self._mode + "b"

    def readable(self) -> bool:
        return self._mode == "r"

    def writable(self) -> bool:
        return self._mode != "r"

    def seekable(self) -> bool:
        return self._mode == "r"

    def readinto(self, buffer: Any) -> int:
        """Reads up to the buffer's length; 0 at the end."""
        if self._mode != "r":
            raise io.UnsupportedOperation("not open for reading")
        if self._pieces is None:
            self._pieces = self._files.cat(self.path, offset=self._position)
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        self._position += size
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a byte; reading goes on there."""
        if self._mode != "r":
            raise io.UnsupportedOperation("files are written in order")
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size or 0}
        self._position = max(base[whence] + offset, 0)
        self._pieces, self._rest = None, memoryview(b"")
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, content: Any) -> int:
        """Takes all of ``content``; on disk at all replicas after ``close``."""
        if self._writer is None:
            raise io.UnsupportedOperation("not open for writing")
        taken = self._writer.write(bytes(content))
        self._position += taken
        return taken

    def flush(self) -> None:
        """Sends what was written. With a certificate it is on disk at all replicas then, and
        others see it in a file that is appended to; through the daemon alone it may wait
        there for more. One that is new or replaced appears at ``close`` all the same."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Ends writing: the file is whole, or the error that kept it from being so."""
        if not self.closed:
            writer, self._writer = self._writer, None
            super().close()
            if writer is not None:
                writer.close()

    def abandon(self) -> None:
        """Gives up writing: a new or replaced file does not appear."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abandon()
        super().close()

    def __enter__(self) -> "File":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def __del__(self) -> None:
        # Garbage collection must not make a half-written file whole.
        if not self.closed and self._mode != "r":
            self.abandon()


def check_path(path: AnyPath) -> str:
    """``path`` as text if it is absolute; the master checks the rest. Raises InvalidError."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise InvalidError(f"the path {text!r} is bytes", hint="give text: path.decode()")
    if not text.startswith("/"):
        raise InvalidError(
            f"{text!r} is not a path of the filestore",
            hint=f"they begin with '/': {as_word('/' + text)}",
        )
    if "\0" in text:
        raise InvalidError(
            f"the path {text!r} has a NUL byte in it",
            hint=f"leave it out: {as_word(text.replace(chr(0), ''))}",
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidError(f"the path {text!r} is not UTF-8", hint="give it another name") from None
    return text


def _write_messages(first: dict[str, Any], pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    yield first
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), PIECE_BYTES):
            part = view[start : start + PIECE_BYTES]
            yield {"data": b2a_base64(part, newline=False).decode("ascii")}


def _slices(content: bytes) -> Iterator[bytes]:
    view = memoryview(content)
    for start in range(0, len(view), COPY_BYTES):
        yield bytes(view[start : start + COPY_BYTES])


def _pieces_of(source: BinaryIO) -> Iterator[bytes]:
    while piece := source.read(COPY_BYTES):
        yield piece


def _open_local(source: "str | os.PathLike[str]") -> BinaryIO:
    try:
        return open(source, "rb")
    except FileNotFoundError:
        folder = os.path.dirname(os.fspath(source)) or "."
        raise NotFoundError(
            f"there is no local file {os.fspath(source)}", hint=f"ls {as_file(folder)}"
        ) from None
    except OSError as error:
        raise InvalidError(
            f"the local file {os.fspath(source)} cannot be read: {error.strerror}",
            hint=f"ls -ld {as_file(os.fspath(source))}",
        ) from None


def _unwritable(target: str, error: OSError) -> InvalidError:
    """What is said of a local file that cannot take what comes."""
    folder = os.path.dirname(target) or "."
    return InvalidError(
        f"{target} cannot be written: {error.strerror}",
        hint=f"ls -ld {as_file(folder)}; df -h {as_file(folder)}; or name another file",
    )


def _local_size(source: BinaryIO) -> int | None:
    """How much there is to read; None when that is not known."""
    try:
        status = os.fstat(source.fileno())
    except (OSError, AttributeError, io.UnsupportedOperation):
        return None
    is_regular = (status.st_mode & 0o170000) == 0o100000
    return status.st_size if is_regular else None


def _counted(
    pieces: Iterator[bytes], total: int | None, progress: Progress | None
) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        if progress is not None:
            progress(done, total or 0)


def _copy(pieces: Iterable[bytes], target: BinaryIO, total: int, progress: Progress | None) -> int:
    done = 0
    for piece in pieces:
        target.write(piece)
        done += len(piece)
        if progress is not None:
            progress(done, total)
    return done
