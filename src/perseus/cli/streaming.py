"""Our stdin as a stream of the filestore: what ``run`` does when it is long or has no end yet."""

import os
from collections.abc import Iterator

from perseus.cli.foreground import Foreground
from perseus.cli.stdin import Stdin
from perseus.client.context import Context
from perseus.client.feed import Feed
from perseus.client.files import Files
from perseus.client.transport import Transport

PIECE_BYTES = 256 << 10
BULK_PIECE_BYTES = 1 << 20


def make_feed(context: Context, taken: Stdin, foreground: Foreground, is_big: bool) -> Feed:
    """A feed of descriptor 0, not yet begun."""
    bulk = is_big and context.has_certificate
    if bulk:
        from perseus.cli.fast import load_site

        load_site()
    pieces = _pieces(taken.content, BULK_PIECE_BYTES if bulk else PIECE_BYTES)
    return Feed(Files(Transport(context)), pieces, bulk=bulk, on_failure=foreground.fail)


def _pieces(first: bytes, size_bytes: int) -> Iterator[bytes]:
    if first:
        yield first
    while piece := os.read(0, size_bytes):
        yield piece
