"""Callers from what their connection proves: a certificate, a local user, a token."""

import os
import pwd
import time
from collections.abc import Callable
from functools import lru_cache

from perseus.errors import RefusedError
from perseus.identity import roles
from perseus.identity.files import check_validity
from perseus.identity.subject import Certificate, read
from perseus.rpc.call import Caller

# Certificates whose reading is remembered; the oldest goes first.
CACHE_MAXIMUM = 1024


class CertificateReader:
    """Callers by certificate. TLS has verified it; here it is read, once, and its time checked."""

    def __init__(self, cluster_id: str) -> None:
        self._cluster_id = cluster_id
        self._known: dict[bytes, Certificate] = {}

    def caller(self, certificate: bytes, origin: str) -> Caller:
        """The caller of a PEM or DER certificate; raises RefusedError or InvalidError."""
        read_before = self._known.get(certificate)
        if read_before is None:
            read_before = self._read(certificate)
        check_validity(read_before, time.time(), origin)
        subject = read_before.subject
        return Caller(subject.name, subject.role, subject.kind, subject.node_id, origin)

    def _read(self, certificate: bytes) -> Certificate:
        content = read(certificate)
        if content.cluster_id != self._cluster_id:
            raise RefusedError(
                f"the certificate is for the cluster {content.cluster_id}, "
                f"this is {self._cluster_id}",
                hint="take the context of this cluster: perseus context ls",
            )
        while len(self._known) >= CACHE_MAXIMUM:
            del self._known[next(iter(self._known))]
        self._known[certificate] = content
        return content


def socket_roles(socket_role: str) -> Callable[[int], int]:
    """Roles of local users by uid: the daemon's own and root are admins, others have
    ``socket_role`` (the setting of that name: none, viewer or user)."""
    others = roles.UNSPECIFIED if socket_role == "none" else roles.parse(socket_role)
    own = (0, os.getuid())

    def role_of(uid: int) -> int:
        return roles.ADMIN if uid in own else roles.capped(others, roles.USER)

    return role_of


def local_caller(uid: int, role_of: Callable[[int], int]) -> Caller:
    """The caller of a local user; raises RefusedError when he has no role."""
    name = _user_name(uid)
    role = role_of(uid)
    if role == roles.UNSPECIFIED:
        raise RefusedError(
            f"{name} (uid {uid}) may not use this daemon's socket",
            hint="its owner can allow it: PERSEUS_SOCKET_ROLE=user for the daemon; "
            "or log in with a token: perseus login HOST:PORT --token T",
        )
    return Caller(name, role, "local", origin=f"socket uid {uid}")


@lru_cache(CACHE_MAXIMUM)
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"
