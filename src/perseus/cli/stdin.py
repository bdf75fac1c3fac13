"""Our own stdin: how much of it there is, and whether it can ride in the request.

At most 64 KiB that ends at once is *inline*. What is longer, or has no end yet
(a terminal, a slow pipe), is a *stream*: a file of the filestore that is written
while the task reads it. Light imports only; the streaming is ``cli.feed``'s.
"""

import os
from select import POLLERR, POLLHUP, POLLIN, poll
from stat import S_ISCHR, S_ISFIFO, S_ISREG, S_ISSOCK

from perseus.client.spec import (
    BULK_MINIMUM_BYTES,
    STDIN_INLINE_MAXIMUM_BYTES,
    set_inline_stdin,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from perseus.cli.foreground import Foreground
    from perseus.cli.lightfeed import LightFeed
    from perseus.client.context import Context
    from perseus.client.feed import Feed

# A pipe whose writer needs longer than this for its first byte is a stream.
GRACE_MS = 8


class Stdin:
    """What was taken of descriptor 0, and whether more may come."""

    __slots__ = ("content", "is_stream", "size_bytes")

    def __init__(self, content: bytes, is_stream: bool, size_bytes: int = -1) -> None:
        self.content = content
        self.is_stream = is_stream
        # The whole length from here on where it is known (a regular file), else -1.
        self.size_bytes = size_bytes


def give(
    context: "Context", request: "dict[str, Any]", foreground: "Foreground"
) -> "Feed | LightFeed | None":
    """Puts our stdin into a SubmitRequest; a feed when it is sent beside it."""
    taken = take()
    if taken.is_stream:
        feed = _feed(context, taken, foreground)
        request["spec"]["stdin_path"] = feed.begin(request["request_id"])
        return feed
    if taken.content:
        set_inline_stdin(request, taken.content)
    return None


def _feed(context: "Context", taken: Stdin, foreground: "Foreground") -> "Feed | LightFeed":
    """Much goes straight to the chunkservers where it can, the rest through the daemon."""
    # A pipe that filled the inline limit at once is likely to bring much more.
    is_big = taken.size_bytes >= BULK_MINIMUM_BYTES
    is_big = is_big or (taken.size_bytes < 0 and len(taken.content) > STDIN_INLINE_MAXIMUM_BYTES)
    if context.socket and not (is_big and context.has_certificate):
        from perseus.cli.lightfeed import LightFeed

        return LightFeed(context.socket, taken.content, foreground)
    from perseus.cli.streaming import make_feed

    return make_feed(context, taken, foreground, is_big)


def take(descriptor: int = 0) -> Stdin:
    """Reads what is there without waiting long."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return Stdin(b"", False)
    mode = status.st_mode
    if S_ISREG(mode):
        return _take_file(descriptor, status.st_size)
    if S_ISCHR(mode) and not os.isatty(descriptor):
        return _take_device(descriptor, status)
    if os.isatty(descriptor):
        return _take_terminal(descriptor)
    if S_ISFIFO(mode) or S_ISSOCK(mode):
        return _take_pipe(descriptor)
    return Stdin(b"", False)


def _take_file(descriptor: int, size_bytes: int) -> Stdin:
    try:
        left = size_bytes - os.lseek(descriptor, 0, os.SEEK_CUR)
        content = b""
        if left <= STDIN_INLINE_MAXIMUM_BYTES:
            content = _read(descriptor, STDIN_INLINE_MAXIMUM_BYTES + 1)
    except OSError:
        return Stdin(b"", False)
    is_stream = left > STDIN_INLINE_MAXIMUM_BYTES or len(content) > STDIN_INLINE_MAXIMUM_BYTES
    return Stdin(content, is_stream, max(left, len(content)))


def _take_device(descriptor: int, status: os.stat_result) -> Stdin:
    null = os.stat("/dev/null")
    if status.st_rdev == null.st_rdev:
        return Stdin(b"", False)
    return _take_pipe(descriptor)


def _take_terminal(descriptor: int) -> Stdin:
    # Reading the terminal from the background would stop us (SIGTTIN) for nothing.
    try:
        is_ours = os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        # Not the terminal that controls us, so it cannot stop us.
        is_ours = True
    return Stdin(b"", is_ours)


def _take_pipe(descriptor: int) -> Stdin:
    waiting = poll()
    waiting.register(descriptor, POLLIN)
    parts: list[bytes] = []
    size_bytes = 0
    while size_bytes <= STDIN_INLINE_MAXIMUM_BYTES:
        ready = waiting.poll(GRACE_MS)
        if not ready:
            return Stdin(b"".join(parts), True)
        if not ready[0][1] & (POLLIN | POLLHUP | POLLERR):
            return Stdin(b"".join(parts), False)
        try:
            part = os.read(descriptor, STDIN_INLINE_MAXIMUM_BYTES)
        except OSError:
            # A terminal we are in the background of (EIO), or a descriptor for writing only.
            part = b""
        if not part:
            return Stdin(b"".join(parts), False)
        parts.append(part)
        size_bytes += len(part)
    return Stdin(b"".join(parts), True)


def _read(descriptor: int, size_bytes: int) -> bytes:
    parts: list[bytes] = []
    while size_bytes and (part := os.read(descriptor, size_bytes)):
        parts.append(part)
        size_bytes -= len(part)
    return b"".join(parts)
