"""Following a file of the filestore by its path, from one writer to the next."""

import select

from perseus.cli.console import Console
from perseus.cli.foreground import write_stdout
from perseus.client.files import Files
from perseus.client.messages import FileInfo
from perseus.errors import NotFoundError

# Pauses between two looks at a file that nobody writes: longer the longer nothing comes.
PAUSE_FIRST_S = 0.1
PAUSE_MAXIMUM_S = 2.0


def follow(files: Files, info: FileInfo, offset: int, console: Console) -> None:
    """Writes to stdout what is in the file from ``offset`` on, and what is appended to it;
    with --json in lines that hold it.

    Ends when the file is removed; goes on at the start of one that takes its place.
    BrokenPipeError when nobody reads stdout any more.
    """
    path = info.path
    try:
        while True:
            for piece in files.cat(path, offset=offset, follow=True):
                if console.as_json:
                    console.piece(path, offset, piece)
                else:
                    write_stdout(piece)
                offset += len(piece)
            now = _changed(files, path, info, offset)
            if now.inode != info.inode or now.size_bytes < offset:
                console.say(f"{path} was replaced; the new one follows")
                offset = 0
            info = now
    except NotFoundError:
        console.say(f"{path} was removed")


def _changed(files: Files, path: str, info: FileInfo, offset: int) -> FileInfo:
    """Waits until there is a writer, other bytes than the first ``offset``, or another file."""
    pause_s = PAUSE_FIRST_S
    while True:
        _pause(pause_s)
        now = files.stat(path)
        if now.open or now.size_bytes != offset or now.inode != info.inode:
            return now
        pause_s = min(pause_s * 2, PAUSE_MAXIMUM_S)


def _pause(pause_s: float) -> None:
    poll = select.poll()
    # No event is asked for: what comes all the same is that the pipe's reader is gone.
    poll.register(1, 0)
    if poll.poll(pause_s * 1000):
        raise BrokenPipeError("nobody reads stdout")
