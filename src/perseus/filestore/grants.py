"""Chunk grants: the master's word, to any chunkserver, that a chunk may be written.

A grant names the chunk, its version, the epoch of the writer's lease, an expiry
and a mode, and carries an HMAC-SHA256 over them under the cluster's grant key,
which only the master and the chunkservers hold. It is checked before the first
byte; what fences a writer afterwards is the seal of the replica. The expiry is
by the master's clock: an agent hears with each heartbeat how far its own is off,
and tells its chunkserver. It is generous (``GRANT_S``) for the time that takes.

Layout, 66 bytes: format (1), mode (1), chunk, version, epoch (8 each, big
endian), expiry (8, IEEE double, seconds since 1970), MAC (32).
"""

import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from perseus.errors import RefusedError

GRANT_S: Final = 600.0
KEY_BYTES: Final = 32
_FORMAT: Final = 1
_BODY: Final = struct.Struct(">BBQQQd")
_MAC_BYTES: Final = 32
GRANT_BYTES: Final = _BODY.size + _MAC_BYTES


class Mode(IntEnum):
    """What the holder may do with the chunk."""

    WRITE = 1


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant that was found to be true."""

    chunk: int
    version: int
    epoch: int
    expires_at_s: float
    mode: Mode


def make_grant(
    key: bytes,
    chunk: int,
    version: int,
    epoch: int,
    expires_at_s: float,
    mode: Mode = Mode.WRITE,
) -> bytes:
    """A signed grant; ``expires_at_s`` is in seconds since 1970."""
    body = _BODY.pack(_FORMAT, mode, chunk, version, epoch, expires_at_s)
    return body + hmac.digest(key, body, "sha256")


def check_grant(key: bytes, grant: bytes, chunk: int, version: int, time_s: float) -> Grant:
    """The grant, if it is one for this chunk at this version now; raises RefusedError."""
    where = f"of chunk {chunk} version {version}"
    if len(grant) != GRANT_BYTES:
        raise RefusedError(f"the grant {where} is not one ({len(grant)} bytes)")
    body, mac = grant[: _BODY.size], grant[_BODY.size :]
    if not hmac.compare_digest(hmac.digest(key, body, "sha256"), mac):
        raise RefusedError(
            f"the grant {where} is not signed by this cluster's master",
            hint="ask the master for the chunk again",
        )
    form, mode, granted_chunk, granted_version, epoch, expires_at_s = _BODY.unpack(body)
    if form != _FORMAT or mode != Mode.WRITE:
        raise RefusedError(f"the grant {where} is of an unknown kind ({form}, {mode})")
    if (granted_chunk, granted_version) != (chunk, version):
        raise RefusedError(
            f"the grant is for chunk {granted_chunk} version {granted_version}, not {where[3:]}"
        )
    if time_s > expires_at_s:
        raise RefusedError(
            f"the grant {where} expired {time_s - expires_at_s:.0f} s ago",
            hint="ask the master for the chunk again; check this machine's clock",
        )
    return Grant(chunk, version, epoch, expires_at_s, Mode(mode))
