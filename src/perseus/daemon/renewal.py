"""Renews the node's certificate in time, long before it would end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from perseus.errors import PerseusError
from perseus.identity.files import Identity, new_key_and_request
from perseus.proto.v1 import cluster_pb2
from perseus.rpc.stubs import AioStub
from perseus.runtime.ports import Clock

CHECK_INTERVAL_S = 3600.0
# After a failure, and for certificates that live shorter than hours (tests).
RETRY_INTERVAL_S = 60.0
PAUSE_MINIMUM_S = 0.1
CALL_TIMEOUT_S = 30.0
# How many checks fall within the time in which a certificate should be renewed.
CHECKS_PER_LIFETIME = 30

_log = logging.getLogger("perseus.daemon")


class Renewal:
    """Asks the master for a new certificate when a third of the old one's life is left."""

    def __init__(
        self,
        identity: Identity,
        clock: Clock,
        channel: Callable[[], Any],
        use: Callable[[Identity], Awaitable[None]],
    ) -> None:
        """``use`` is given each new identity once it is saved."""
        self._identity = identity
        self._clock = clock
        self._channel = channel
        self._use = use

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            pause_s = self._pause_s()
            if self._identity.needs_renewal(self._clock.time_s()):
                try:
                    await self._renew()
                except (PerseusError, OSError) as error:
                    # A full disk among them: there is time, and it is tried again.
                    _log.warning("the certificate could not be renewed yet: %s", error)
                    pause_s = min(pause_s, RETRY_INTERVAL_S)
            await self._clock.sleep(pause_s)

    def _pause_s(self) -> float:
        lifetime_s = self._identity.certificate.lifetime_s
        return max(PAUSE_MINIMUM_S, min(CHECK_INTERVAL_S, lifetime_s / CHECKS_PER_LIFETIME))

    async def _renew(self) -> None:
        key_pem, request_pem = await asyncio.to_thread(
            new_key_and_request, self._identity.subject.name
        )
        request = cluster_pb2.RenewCertificateRequest(certificate_request_pem=request_pem.decode())
        stub = AioStub(self._channel(), "Cluster", "the master")
        answer = await stub.call("RenewCertificate", request, timeout_s=CALL_TIMEOUT_S)
        certificate_pem, ca_pem = answer.certificate_pem.encode(), answer.ca_pem.encode()
        following = self._identity.renewed(certificate_pem, ca_pem, key_pem)
        await asyncio.to_thread(following.save)
        self._identity = following
        await self._use(following)
        _log.info("the certificate was renewed until %.0f", following.expires_at_s)
