"""A certificate of the run, for a process or for who controls it."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perseus.errors import RefusedError
from perseus.identity.files import new_key_and_request
from perseus.identity.subject import (
    BACKDATE_S,
    RunSubject,
    read_of_run,
    run_server_name,
    validity_of,
)
from perseus.rpc.grpc_options import HANDSHAKE_TIMEOUT_S, MESSAGE_MAXIMUM_BYTES, reconnecting

if TYPE_CHECKING:
    from perseus.client.cluster import Cluster

# One attempt to connect may take this long, and the next begins this long after it failed.
# gRPC's own pauses grow to two minutes, and even the cluster's to two seconds: so much longer a
# process is without the others though all is well again, and the next one may not fail meanwhile.
CONNECT_S = 1.0
RECONNECT_FIRST_S = 0.05
RECONNECT_MAXIMUM_S = 0.25
# A peer whose machine is gone is noticed within these two together.
KEEPALIVE_S = 2.0
KEEPALIVE_TIMEOUT_S = 2.0

_Options = list[tuple[str, int | str]]
_COMMON: _Options = [
    ("grpc.max_send_message_length", MESSAGE_MAXIMUM_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_MAXIMUM_BYTES),
    ("grpc.keepalive_time_ms", int(KEEPALIVE_S * 1000)),
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
SERVER_OPTIONS: _Options = [
    *_COMMON,
    ("grpc.http2.min_recv_ping_interval_without_data_ms", int(KEEPALIVE_S * 500)),
    ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_TIMEOUT_S * 1000)),
    ("grpc.so_reuseport", 0),
]
_CHANNEL_OPTIONS: _Options = [
    *_COMMON,
    *reconnecting(RECONNECT_FIRST_S, CONNECT_S, RECONNECT_MAXIMUM_S),
]


@dataclass(frozen=True, slots=True)
class RunCertificate:
    """A key of our own, and what the cluster's authority says of it."""

    run: str
    cluster_id: str
    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes

    @staticmethod
    def ask(cluster: "Cluster", run: str, process: str = "") -> "RunCertificate":
        """A new one for a process, or for who controls the run; the key stays in memory."""
        key_pem, request_pem = new_key_and_request(process or "control")
        request = {"run": run, "process": process, "certificate_request_pem": request_pem.decode()}
        answer = cluster.transport.call("Cluster/CertifyProcess", request)
        ca_pem, certificate_pem = answer["ca_pem"], answer["certificate_pem"]
        return RunCertificate(
            run, answer["cluster_id"], ca_pem.encode(), certificate_pem.encode(), key_pem
        )

    def renewal_in_s(self) -> float:
        """How long until two thirds of its life are over."""
        _, end_s = validity_of(self.certificate_pem)
        return max(0.0, end_s - self.life_s / 3 - time.time())

    @property
    def life_s(self) -> float:
        """From when it was made until it ends."""
        begin_s, end_s = validity_of(self.certificate_pem)
        return end_s - begin_s - BACKDATE_S

    def check(self, context: Any) -> RunSubject:
        """Who calls, of this run; raises RefusedError for anybody else."""
        certificates = context.auth_context().get("x509_pem_cert")
        if not certificates:
            raise RefusedError("the caller has no certificate")
        cluster_id, subject = read_of_run(bytes(certificates[0]))
        if (cluster_id, subject.run) != (self.cluster_id, self.run):
            raise RefusedError(f"{subject.name} of run {subject.run} is not of run {self.run}")
        return subject

    def server_configuration(self) -> Any:
        """For a gRPC server that asks its callers for certificates."""
        import grpc

        pair = (self.key_pem, self.certificate_pem)
        return grpc.ssl_server_certificate_configuration([pair], self.ca_pem)

    def channel(self, address: str) -> Any:
        """A ``grpc.aio`` channel to a process of this run, which must prove that it is one."""
        import grpc
        import grpc.aio

        name = run_server_name(self.cluster_id, self.run)
        names: _Options = [
            ("grpc.ssl_target_name_override", name),
            ("grpc.default_authority", name),
        ]
        credentials = grpc.ssl_channel_credentials(self.ca_pem, self.key_pem, self.certificate_pem)
        options = [*_CHANNEL_OPTIONS, *names]
        return grpc.aio.secure_channel(address, credentials, options=options)
