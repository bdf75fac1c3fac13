"""``fs``: the filestore from the shell."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from perseus.cli import fast, units
from perseus.cli.console import Progress
from perseus.cli.fast import load_site, say
from perseus.cli.following import follow
from perseus.cli.foreground import write_stdout
from perseus.cli.localtree import Tree
from perseus.cli.main import Invocation
from perseus.cli.units import UsageError
from perseus.client.files import Files, check_path
from perseus.client.jobs import JOBS_FOLDER
from perseus.client.messages import FileInfo
from perseus.errors import InvalidError, NotFoundError, PerseusError
from perseus.shellwords import as_file, as_word

TAIL_BLOCK_BYTES = 64 << 10
TREE_MAXIMUM = 1_000_000
LEFT_OUT_SHOWN = 100
# Folders that are removed with --force alone, and what goes with them.
PRECIOUS = {"/": "all files of the cluster", JOBS_FOLDER: "the outputs of all jobs"}


def _check_paths(*paths: str) -> None:
    """Raises UsageError for one that cannot be a path, before anything is done."""
    for path in paths:
        units.checked(check_path, path)


def _files(invocation: Invocation) -> Files:
    # Big files go by gRPC, which lies in site-packages.
    load_site()
    return invocation.cluster.fs


def put(invocation: Invocation) -> int:
    """Local files into the filestore."""
    options = invocation.options
    files = _files(invocation)
    target = units.checked(check_path, options.target)
    is_folder = target.endswith("/") or len(options.source) > 1
    if not is_folder and options.source != ["-"]:
        is_folder = _is_directory(files, target)
    tree = Tree()
    for source in options.source:
        path = f"{target.rstrip('/')}/{_base_name(source)}" if is_folder else target
        tree.add(source, path, options.recursive)
    for entry in tree.entries:
        if entry.is_folder:
            files.mkdir(entry.remote, parents=True)
        else:
            _put(invocation, files, entry.local, entry.remote)
    if invocation.console.as_json:
        for sentence in tree.left_out:
            invocation.console.json({"left_out": sentence})
    return _say_left_out(tree.left_out)


def _say_left_out(sentences: list[str]) -> int:
    """Tells what was not copied, also to who wants quiet; the exit code."""
    for sentence in sentences[:LEFT_OUT_SHOWN]:
        say(f"perseus: left out {sentence}\n")
    if len(sentences) > LEFT_OUT_SHOWN:
        say(f"perseus: left out {len(sentences) - LEFT_OUT_SHOWN} more\n")
    return 1 if sentences else 0


def _tell_of_detours() -> None:
    """What writers say of links that fail goes to stderr in our words' form."""
    import logging

    class Say(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"perseus: {record.getMessage()}\n")

    logger = logging.getLogger("perseus.filestore")
    if not logger.handlers:
        logger.addHandler(Say())
        logger.propagate = False


def _put(invocation: Invocation, files: Files, local: str, remote: str) -> None:
    options = invocation.options
    _tell_of_detours()
    bar = Progress(invocation.console, _base_name(local))
    source: Any = _stdin() if local == "-" else local
    try:
        info = files.put(
            source,
            remote,
            replace=not options.no_replace,
            parents=options.parents or options.recursive,
            replicas=options.replicas,
            progress=bar,
        )
    finally:
        bar.end()
    if invocation.console.as_json:
        invocation.console.json(info)


def get(invocation: Invocation) -> int:
    """A file, or with -r a folder, out of the filestore."""
    options = invocation.options
    _check_paths(options.source)
    files = _files(invocation)
    if options.target == "-":
        _show_pieces(invocation, options.source, files.cat(options.source))
        return 0
    target = options.target or _base_name(options.source)
    if os.path.isdir(target) and options.target:
        target = os.path.join(target, _base_name(options.source))
    info = files.stat(options.source)
    if not info.is_directory:
        _get(invocation, files, options.source, target)
        return 0
    if not options.recursive:
        raise UsageError(
            f"{options.source} is a folder",
            hint=f"perseus fs get -r {as_word(options.source)} {as_file(target)}",
        )
    for entry, local in _remote_tree(files, options.source.rstrip("/"), target):
        if entry is None:
            Path(local).mkdir(parents=True, exist_ok=True)
        else:
            _get(invocation, files, entry, local)
    return 0


def _get(invocation: Invocation, files: Files, path: str, target: str) -> None:
    bar = Progress(invocation.console, _base_name(path))
    try:
        size = files.get(path, target, progress=bar)
    finally:
        bar.end()
    if invocation.console.as_json:
        invocation.console.json({"path": path, "local": target, "size_bytes": size})


def _remote_tree(files: Files, root: str, target: str) -> Iterator[tuple[str | None, str]]:
    """(path, local name) of each file below; (None, local name) of each folder first."""
    waiting = [(root, target)]
    for _ in range(TREE_MAXIMUM):
        if not waiting:
            return
        folder, local = waiting.pop()
        yield None, local
        for entry in files.iterate(folder or "/"):
            pair = (f"{folder}/{entry.name}", os.path.join(local, entry.name))
            if entry.is_directory:
                waiting.append(pair)
            else:
                yield pair
    raise UsageError(
        f"{root} has more than {TREE_MAXIMUM} folders",
        hint=f"get them in parts: perseus fs ls {as_word(root or '/')}, "
        "then perseus fs get -r of each",
    )


def cat(invocation: Invocation) -> int:
    """Files to stdout, one after the other."""
    _check_paths(*invocation.options.path)
    files = _files(invocation)
    for path in invocation.options.path:
        _show_pieces(invocation, path, files.cat(path))
    return 0


def _show_pieces(
    invocation: Invocation, path: str, pieces: Iterable[bytes], offset: int = 0
) -> None:
    """Bytes as they are, or with --json lines that hold them; at least one for each file."""
    console = invocation.console
    if not console.as_json:
        for piece in pieces:
            write_stdout(piece)
        return
    is_empty = True
    for piece in pieces:
        console.piece(path, offset, piece)
        offset += len(piece)
        is_empty = False
    if is_empty:
        console.piece(path, offset, b"")


def tail(invocation: Invocation) -> int:
    """The end of a file; with -f what is appended as well, until it is removed."""
    options = invocation.options
    if options.lines < 0:
        raise UsageError(f"--lines {options.lines} is below 0", hint="perseus fs tail -n 10 PATH")
    _check_paths(options.path)
    files = _files(invocation)
    info = files.stat(options.path)
    if info.is_directory:
        raise InvalidError(f"{info.path} is a folder", hint=f"perseus fs ls {as_word(info.path)}")
    size = info.size_bytes
    if options.bytes is not None:
        offset = max(size - units.parse_size_bytes(options.bytes, "--bytes"), 0)
    else:
        offset = _line_offset(files, options.path, size, options.lines)
    if options.follow:
        follow(files, info, offset, invocation.console)
    else:
        pieces = files.cat(options.path, offset=offset) if offset < size else ()
        _show_pieces(invocation, info.path, pieces, offset)
    return 0


def _line_offset(files: Files, path: str, size: int, lines: int) -> int:
    """Where the last ``lines`` lines begin; reads backwards, a block at a time."""
    if lines <= 0:
        return size
    end, seen = size, 0
    while end > 0:
        start = max(end - TAIL_BLOCK_BYTES, 0)
        block = b"".join(files.cat(path, offset=start, length=end - start))
        position = len(block)
        while (position := block.rfind(b"\n", 0, position)) >= 0:
            # The file's very last newline ends its last line.
            seen += start + position + 1 < size
            if seen == lines:
                return start + position + 1
        end = start
    return 0


def append(invocation: Invocation) -> int:
    """Stdin or local files to the end of a file."""
    options = invocation.options
    _check_paths(options.path)
    files = _files(invocation)
    info: FileInfo | None = None
    for source in options.source or ["-"]:
        opened: BinaryIO = _stdin() if source == "-" else _open_local(source)
        with opened:
            pieces = iter(lambda opened=opened: opened.read(1 << 20), b"")  # type: ignore[misc]
            info = files.write_stream(options.path, pieces, append=True, parents=options.parents)
    if invocation.console.as_json and info is not None:
        invocation.console.json(info)
    return 0


def _stdin() -> BinaryIO:
    if 0 in fast.CLOSED:
        raise UsageError("stdin is closed", hint="name a file; or for an empty one: < /dev/null")
    return sys.stdin.buffer


def _open_local(source: str) -> BinaryIO:
    try:
        return open(source, "rb")
    except OSError as error:
        raise NotFoundError(
            f"the local file {source} cannot be read: {error.strerror}",
            hint=f"ls -l {as_file(source)}",
        ) from None


def ls(invocation: Invocation) -> int:
    """Entries of folders."""
    options = invocation.options
    _check_paths(*options.path)
    if invocation.console.as_json:
        files = invocation.cluster.fs
        invocation.console.json([entry for path in options.path for entry in files.iterate(path)])
        return 0
    for path in options.path:
        entries = list(invocation.cluster.fs.iterate(path))
        if len(options.path) > 1:
            invocation.console.line(f"{invocation.console.shown(path)}:")
        if options.long:
            heads = ("SIZE", "REPLICAS", "MODIFIED", "OWNER", "NAME")
            invocation.console.table(heads, [_long(entry) for entry in entries])
        else:
            for entry in entries:
                invocation.console.line(invocation.console.shown(_shown_name(entry)))
    return 0


def _shown_name(entry: FileInfo) -> str:
    return entry.name + ("/" if entry.is_directory else "")


def _long(entry: FileInfo) -> tuple[object, ...]:
    modified = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.modified_at_s))
    if entry.is_directory:
        return "-", "-", modified, entry.owner, _shown_name(entry)
    replicas = str(entry.replicas)
    if entry.live_replicas < entry.replicas:
        replicas = f"{entry.live_replicas}/{entry.replicas}"
    return units.format_size(entry.size_bytes), replicas, modified, entry.owner, _shown_name(entry)


def stat(invocation: Invocation) -> int:
    """All about paths."""
    from perseus.client.messages import encode

    _check_paths(*invocation.options.path)
    found = [invocation.cluster.fs.stat(path) for path in invocation.options.path]
    if invocation.console.as_json:
        invocation.console.json(found[0] if len(found) == 1 else found)
        return 0
    for info in found:
        for name, value in encode(info).items():
            if name != "has_checksum" and (name != "checksum" or info.has_checksum):
                shown = invocation.console.shown(_stat_value(name, value))
                invocation.console.line(f"{name + ':':<16}{shown}")
    return 0


def _stat_value(name: str, value: Any) -> str:
    if name.endswith("_at_s"):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    if name == "checksum":
        return f"{value:08x} (CRC32C)"
    if name == "kind":
        return "folder" if value.endswith("DIRECTORY") else "file"
    if name == "in_master" and value:
        return "true (one copy, on the disk of the master)"
    return str(value).lower() if isinstance(value, bool) else str(value)


def rm(invocation: Invocation) -> int:
    """Removes paths."""
    options = invocation.options
    _check_paths(*options.path)
    if options.recursive and not options.force:
        for path in options.path:
            _check_not_all(path)
    for path in options.path:
        try:
            removed = invocation.cluster.fs.rm(path, recursive=options.recursive)
        except NotFoundError:
            if not options.force:
                raise
            removed = 0
        if invocation.console.as_json:
            invocation.console.json({"path": path, "removed": removed})
    return 0


def _check_not_all(path: str) -> None:
    """Refuses the folders whose loss is that of everybody's work."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    of_all = PRECIOUS.get("/" + "/".join(parts))
    if of_all:
        raise UsageError(
            f"{path} holds {of_all}",
            hint=f"if that is what you mean: perseus fs rm -r -f {as_word(path)}",
        )


def mv(invocation: Invocation) -> int:
    """Renames; into a folder when the target is one."""
    options = invocation.options
    target = options.target
    _check_paths(options.source, target)
    files = invocation.cluster.fs
    if target.endswith("/") or _is_directory(files, target):
        target = f"{target.rstrip('/')}/{_base_name(options.source)}"
    info = files.mv(options.source, target, replace=options.replace)
    if invocation.console.as_json:
        invocation.console.json(info)
    return 0


def mkdir(invocation: Invocation) -> int:
    """Makes folders."""
    _check_paths(*invocation.options.path)
    for path in invocation.options.path:
        info = invocation.cluster.fs.mkdir(path, parents=invocation.options.parents)
        if invocation.console.as_json:
            invocation.console.json(info)
    return 0


def df(invocation: Invocation) -> int:
    """Room and use."""
    _check_paths(invocation.options.path)
    use = invocation.cluster.fs.df(invocation.options.path)
    if invocation.console.as_json:
        invocation.console.json(use)
        return 0
    heads = ("PATH", "FILES", "FOLDERS", "SIZE", "ON DISK", "FREE", "CAPACITY", "CHUNKS")
    sizes = [use.size_bytes, use.replica_bytes, use.free_bytes, use.capacity_bytes]
    row = [invocation.options.path, use.files, use.directories, *map(units.format_size, sizes)]
    invocation.console.table(heads, [[*row, use.chunks]])
    if use.chunks_lost or use.chunks_under_replicated:
        invocation.console.warn(
            f"chunks with too few replicas: {use.chunks_under_replicated}, "
            f"with none: {use.chunks_lost}; perseus doctor"
        )
    return 0


def _is_directory(files: Files, path: str) -> bool:
    try:
        return files.stat(path).is_directory
    except PerseusError:
        return False


def _base_name(path: str) -> str:
    return "stdin" if path == "-" else path.rstrip("/").rpartition("/")[2] or "root"
