"""Renews a user's certificate before it ends, unasked, as nodes do theirs.

Done at most once in a process, when a certificate is first used and a third or
less of its life is left. A failure is no matter: the old one still holds, the
next command tries again, and ``perseus doctor`` tells of one that is about to end.
"""

import contextlib
import time
from typing import Any

from perseus.client import store
from perseus.client.context import Context
from perseus.errors import PerseusError

CALL_TIMEOUT_S = 10.0


def renew_if_due(context: Context, connect: Any) -> bool:
    """Renews the certificate of ``context``, in memory and in its file; whether it did.

    ``connect`` makes a TLS connection with the certificate that still holds.
    """
    from perseus.client.transport import identity_of

    identity = identity_of(context)
    now_s = time.time()
    if not identity.needs_renewal(now_s) or now_s >= identity.expires_at_s or not context.path:
        return False
    with contextlib.suppress(PerseusError, OSError):
        _renew(context, identity, connect)
        return True
    return False


def _renew(context: Context, identity: Any, connect: Any) -> None:
    from perseus.identity.files import new_key_and_request

    key_pem, request_pem = new_key_and_request(identity.subject.name)
    with connect() as connection:
        answer = connection.call(
            "Cluster.RenewCertificate",
            {"certificate_request_pem": request_pem.decode()},
            CALL_TIMEOUT_S,
        )
    certificate_pem, ca_pem = answer["certificate_pem"], answer["ca_pem"]
    # Raises when it is for somebody else or of another cluster.
    identity.renewed(certificate_pem.encode(), ca_pem.encode(), key_pem)
    context.certificate_pem = certificate_pem
    context.key_pem = key_pem.decode()
    store.save(context, context.path)
