"""gRPC channels to nodes of the cluster, over mutual TLS.

A channel connects by itself, again and again (first after 0.2 s, at most 2 s
apart), and notices a dead peer by keepalive within 20 s. It keeps the
certificate that it was made with: make a new channel after renewal.
"""

from typing import Any

import grpc
import grpc.aio

from perseus.identity.files import Identity
from perseus.identity.subject import server_name
from perseus.rpc.grpc_options import CHANNEL_OPTIONS


def aio_channel(address: str, identity: Identity, to: str = "node") -> Any:
    """A ``grpc.aio`` channel to "HOST:PORT"; ``to`` is "node" or "master", which the
    peer must prove by its certificate. Make it inside the running loop."""
    return grpc.aio.secure_channel(address, _credentials(identity), options=_options(identity, to))


def sync_channel(address: str, identity: Identity, to: str = "node") -> Any:
    """The same as a channel for threads."""
    return grpc.secure_channel(address, _credentials(identity), options=_options(identity, to))


def _credentials(identity: Identity) -> Any:
    return grpc.ssl_channel_credentials(identity.ca_pem, identity.key_pem, identity.certificate_pem)


def _options(identity: Identity, to: str) -> list[tuple[str, int | str]]:
    name = server_name(identity.cluster_id, to)
    return [
        *CHANNEL_OPTIONS,
        ("grpc.ssl_target_name_override", name),
        ("grpc.default_authority", name),
    ]
