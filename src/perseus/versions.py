"""Versions of the protocol, and how a caller tells which it speaks.

A client sends its offer with each call, as the header or metadata ``perseus-protocol``::

    1-2 0.3.0        the oldest and newest version it speaks, and its program's version

A daemon that has none of them refuses the call with ``incompatible`` and names both
sides, before it looks at the request. A caller that sends no offer (``curl``, a
program of one's own) is taken at its word. Nodes and the master have a handshake of
their own, Hello and Welcome. Light imports only: the command line's fast path calls.
"""

from perseus import __version__
from perseus.errors import IncompatibleError, InvalidError

PROTOCOL_MINIMUM = 1
PROTOCOL_MAXIMUM = 1
# The header, and over gRPC the metadata, that holds an offer.
OFFER = "perseus-protocol"


def offer() -> str:
    """What this program speaks."""
    return f"{PROTOCOL_MINIMUM}-{PROTOCOL_MAXIMUM} {__version__}"


def check_offer(text: str) -> None:
    """Raises IncompatibleError when this program speaks nothing of it, InvalidError when it
    is none."""
    versions, _, program = text.partition(" ")
    ends = versions.split("-")
    if len(ends) != 2 or not all(end.isascii() and end.isdecimal() for end in ends):
        raise InvalidError(f"{OFFER}: {text[:80]!r} is no offer", hint=f"as in {OFFER}: {offer()}")
    oldest, newest = int(ends[0]), int(ends[1])
    if oldest <= PROTOCOL_MAXIMUM and newest >= PROTOCOL_MINIMUM:
        return
    is_old = newest < PROTOCOL_MINIMUM
    raise IncompatibleError(
        f"this client (Perseus {program[:40] or 'of unknown version'}) speaks "
        f"{_spoken(oldest, newest)}, the cluster (Perseus {__version__}) "
        f"{_spoken(PROTOCOL_MINIMUM, PROTOCOL_MAXIMUM)}",
        hint=f"upgrade Perseus on {'this machine' if is_old else 'the nodes of the cluster'} "
        f"to {program[:40] if not is_old else __version__}; both: perseus version",
    )


def _spoken(oldest: int, newest: int) -> str:
    if oldest == newest:
        return f"version {oldest} of the protocol"
    return f"versions {oldest} to {newest} of the protocol"
