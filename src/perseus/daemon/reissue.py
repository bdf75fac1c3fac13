"""Certificates at the start of a daemon that was off for long.

The master holds the authority's key: it signs its own certificate anew, and that
of the cluster's owner, whatever their age. Another node cannot, so it is
told how to join again with what it has.
"""

import logging
import os
import time
from pathlib import Path

from perseus.client import context as contexts
from perseus.client import store
from perseus.client.context import Context
from perseus.daemon.config import NodeConfig, Paths
from perseus.errors import NotFoundError, PerseusError, RefusedError
from perseus.identity.files import CA_KEY_FILE, Identity, new_key_and_request
from perseus.settings import Settings
from perseus.shellwords import as_file

_log = logging.getLogger("perseus.daemon")


def reissue(about: NodeConfig, paths: Paths, settings: Settings) -> None:
    """Leaves the node with a certificate that holds; RefusedError where it cannot."""
    identity = Identity.load(paths.identity)
    now_s = time.time()
    if about.is_master and (paths.identity / CA_KEY_FILE).exists():
        if identity.needs_renewal(now_s):
            _sign_anew(identity, paths.identity, settings.certificate_s).save()
            _log.info("the master's certificate was signed anew")
        _reissue_context(paths, settings.user_certificate_s)
    elif about.is_master and now_s >= identity.expires_at_s:
        key = paths.identity / CA_KEY_FILE
        raise RefusedError(
            f"the certificate of the master {about.node_name} ({paths.identity}) has expired, "
            f"and without {key} it cannot sign another",
            hint="check this machine's clock (`date`); else put the key back from a copy "
            f"of this folder, then: perseus start --data {as_file(paths.data)}; "
            "where there is none, a new cluster must be made: perseus init --data OTHER-FOLDER",
        )
    elif now_s >= identity.expires_at_s:
        raise RefusedError(
            f"the certificate of {about.node_name} ({paths.identity}) has expired",
            hint="check this machine's clock (`date`); else make a token on the master "
            "(perseus token create) and, to keep what this node holds: perseus join "
            f"{about.master_address} --token T --data {as_file(paths.data)}",
        )


def _sign_anew(identity: Identity, authority_folder: Path, lifetime_s: float) -> Identity:
    # Imported here: it costs 10 MB, and most starts need it not.
    from perseus.identity.authority import Authority

    authority = Authority.load(authority_folder)
    key_pem, request_pem = new_key_and_request(identity.subject.name)
    certificate_pem = authority.sign(request_pem, identity.subject, lifetime_s, time.time())
    return identity.renewed(certificate_pem, authority.ca_pem, key_pem)


def _reissue_context(paths: Paths, lifetime_s: float) -> None:
    """The owner's context; one that is lost or broken is no matter to the daemon."""
    try:
        context = contexts.read(str(paths.context))
        identity = Identity.of(
            paths.data,
            context.ca_pem.encode(),
            context.certificate_pem.encode(),
            context.key_pem.encode(),
        )
        if identity.needs_renewal(time.time()):
            identity = _sign_anew(identity, paths.identity, lifetime_s)
            _give(context, identity)
        _reissue_copies(paths, context.cluster_id, identity)
    except NotFoundError:
        return
    except (PerseusError, OSError) as error:
        _log.warning("the owner's context was not renewed: %s", error)


def _reissue_copies(paths: Paths, cluster_id: str, owner: Identity) -> None:
    """The copies by which the owner's commands find the cluster: among the contexts of the
    user whose daemon this is, and beside the nodes of a local cluster (``dev up``)."""
    copies = store.known(os.environ)
    beside = paths.data.parent / paths.context.name
    if contexts.exists(str(beside)):
        copies.append(contexts.read(str(beside)))
    for copy in copies:
        if copy.cluster_id == cluster_id and copy.has_certificate and _is_due(copy, owner):
            _give(copy, owner)
            _log.info("the owner's context %s was renewed", copy.path)


def _is_due(copy: Context, owner: Identity) -> bool:
    """Whether it is the owner's, and not somebody's who has logged in, and near its end."""
    parts = (copy.ca_pem, copy.certificate_pem, copy.key_pem)
    try:
        identity = Identity.of(Path(copy.path).parent, *(part.encode() for part in parts))
    except PerseusError:
        return False
    return identity.subject == owner.subject and identity.needs_renewal(time.time())


def _give(context: Context, identity: Identity) -> None:
    context.certificate_pem = identity.certificate_pem.decode()
    context.key_pem = identity.key_pem.decode()
    store.save(context, context.path)
