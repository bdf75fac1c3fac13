"""Our stdin as a stream of the filestore: what ``run`` does when it is long or has no end yet."""

import os
from collections.abc import Iterator
from typing import Any

from perseus.cli.foreground import Foreground
from perseus.cli.stdin import Stdin
from perseus.client.context import Context
from perseus.client.feed import Feed
from perseus.client.files import BULK_MINIMUM_BYTES, Files
from perseus.client.transport import Transport

PIECE_BYTES = 256 << 10
BULK_PIECE_BYTES = 1 << 20


def begin(context: Context, taken: Stdin, request: dict[str, Any], foreground: Foreground) -> Feed:
    """Starts to send descriptor 0 and names its stream in the SubmitRequest."""
    # A pipe that filled the inline limit at once is likely to bring much more.
    bulk = taken.size_bytes >= BULK_MINIMUM_BYTES or (taken.size_bytes < 0 and bool(taken.content))
    bulk = bulk and context.has_certificate
    if bulk:
        from perseus.cli.fast import load_site

        load_site()
    pieces = _pieces(taken.content, BULK_PIECE_BYTES if bulk else PIECE_BYTES)
    feed = Feed(Files(Transport(context)), pieces, bulk=bulk, on_failure=foreground.fail)
    request["spec"]["stdin_path"] = feed.begin(request["request_id"])
    return feed


def _pieces(first: bytes, size_bytes: int) -> Iterator[bytes]:
    if first:
        yield first
    while piece := os.read(0, size_bytes):
        yield piece
