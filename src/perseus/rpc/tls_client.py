"""The JSON door's client over TLS, and how a machine without a certificate begins.

``TlsConnection`` shows a certificate of the cluster. ``bootstrap`` has none
yet, only a join token: it proves the token in the server name, fetches the
authority's certificate, compares it with the fingerprint in the token, and
only then opens the connection over which the secret may be sent. Standard
library alone.
"""

import socket
import ssl
from pathlib import Path
from typing import Any

from perseus.errors import InvalidError, PerseusError, RefusedError, UnavailableError
from perseus.identity import subject
from perseus.identity.files import Identity
from perseus.identity.token_text import TokenText, parse_token
from perseus.rpc.addresses import split_address
from perseus.rpc.http_client import CONNECT_TIMEOUT_S, Connection

# OpenSSL's numbers of why a certificate does not verify.
_EXPIRED, _NOT_YET_VALID = 10, 9
_CLOCK_HINT = "set the clocks of both machines (`date`)"
_TOKEN_HINT = "on the master: perseus token create; for a login: perseus token create --role user"


class TlsConnection(Connection):
    """To a daemon anywhere, over mutual TLS."""

    def __init__(
        self, address: str, context: ssl.SSLContext, server_name: str, timeout_s: float
    ) -> None:
        super().__init__(f"the daemon at {address}", server_name)
        self._address = address
        self._context = context
        self._server_name = server_name
        self._timeout_s = timeout_s

    @classmethod
    def of(
        cls, address: str, folder: Path, to: str = "node", timeout_s: float = CONNECT_TIMEOUT_S
    ) -> "TlsConnection":
        """A connection to "HOST:PORT" with the identity in ``folder``; the peer must prove
        that it is a "node" of the cluster, or its "master". ``timeout_s`` is for connecting."""
        identity = Identity.load(folder)
        name = subject.server_name(identity.cluster_id, to)
        return cls(address, identity.client_ssl_context(), name, timeout_s)

    def peer_certificate(self) -> bytes:
        """The peer's certificate, DER; connects if need be."""
        if self._socket is None:
            self._socket = self._open()
        return bytes(self._socket.getpeercert(True) or b"")

    def _open(self) -> Any:
        plain = _connect(self._address, self._timeout_s)
        try:
            wrapped = self._context.wrap_socket(plain, server_hostname=self._server_name)
        except (ssl.SSLError, OSError) as error:
            plain.close()
            raise handshake_error(error, self._address) from error
        wrapped.settimeout(None)
        return wrapped

    def _is_alive(self) -> bool:
        try:
            self._socket.settimeout(0.0)
            self._socket.recv(1)
        except ssl.SSLWantReadError:
            self._socket.settimeout(None)
            return True
        except OSError:
            return False
        return False

    def _broken(self, error: OSError | None) -> PerseusError:
        # With TLS 1.3 the peer refuses our certificate only after the handshake.
        if isinstance(error, ssl.SSLError):
            return handshake_error(error, self._address)
        return super()._broken(error)


def bootstrap(
    address: str, token: str, timeout_s: float = CONNECT_TIMEOUT_S
) -> tuple[TlsConnection, TokenText]:
    """A connection to the master at ``address`` for Cluster.Join or Cluster.Login alone,
    verified against the token; and the token's parts.

    Raises UnavailableError (nothing there, or no Perseus), RefusedError (another
    cluster; no master; token unknown, used, revoked or expired) or InvalidError.
    """
    parts = parse_token(token)
    ca_pem = _fetch_ca(address, parts, timeout_s)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The name asked for proves our token; whom we reached is checked below.
    context.check_hostname = False
    context.load_verify_locations(cadata=ca_pem.decode())
    connection = TlsConnection(address, context, parts.server_name, timeout_s)
    try:
        if not subject.subject_of(connection.peer_certificate()).is_master:
            raise _not_the_master(address)
    except BaseException:
        connection.close()
        raise
    return connection, parts


def _fetch_ca(address: str, token: TokenText, timeout_s: float) -> bytes:
    """The authority's certificate, which the token vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    # Nothing secret is said here, and what comes is checked by its fingerprint.
    context.verify_mode = ssl.CERT_NONE
    connection = TlsConnection(address, context, token.server_name, timeout_s)
    with connection:
        certificate = connection.peer_certificate()
        try:
            ca_pem = connection.get("/ca")
            is_same = subject.fingerprint(ca_pem) == token.ca_fingerprint
        except (PerseusError, InvalidError) as error:
            raise _refusal(address, token, certificate) from error
    if not is_same:
        raise _another_cluster(address)
    return ca_pem


def _refusal(address: str, token: TokenText, certificate: bytes) -> RefusedError:
    """Why a daemon did not let the holder of a token in, as far as its certificate tells."""
    try:
        is_ours = subject.bears_mark_of(certificate, token.ca_fingerprint)
        is_master = subject.subject_of(certificate).is_master
    except InvalidError:
        return RefusedError(
            f"what listens at {address} is not a Perseus daemon", hint="check the address"
        )
    if not is_ours:
        return _another_cluster(address)
    if not is_master:
        return _not_the_master(address)
    return RefusedError(
        f"the cluster at {address} does not know the token {token.token_id}, "
        "or its secret is mistyped",
        hint=_TOKEN_HINT,
    )


def _another_cluster(address: str) -> RefusedError:
    return RefusedError(
        f"the daemon at {address} belongs to another cluster than the token "
        "(its certificate authority does not match)",
        hint="check the address, or make a token on that cluster: perseus token create",
    )


def _not_the_master(address: str) -> RefusedError:
    return RefusedError(
        f"{address} is a node of the cluster, but not its master",
        hint="use the address that `perseus token create` prints",
    )


def _connect(address: str, timeout_s: float) -> socket.socket:
    host, port = split_address(address)
    try:
        connection = socket.create_connection((host, port), timeout_s)
    except ConnectionRefusedError:
        raise UnavailableError(
            f"nothing listens at {address}",
            hint="if Perseus does not run on that machine, there: perseus start",
        ) from None
    except socket.gaierror as error:
        raise UnavailableError(
            f"there is no host {host!r} ({error.strerror})", hint="check the name, or use its IP"
        ) from None
    except OSError as error:
        raise UnavailableError(
            f"{address} cannot be reached: {error.strerror or 'no answer in time'}",
            hint="check the network between the two machines",
        ) from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


# What the peer's TLS alert says of us.
_ALERTS = {
    "ALERT_ACCESS_DENIED": ("the token was used already; a token works once", _TOKEN_HINT),
    "ALERT_CERTIFICATE_REVOKED": ("the token was revoked", _TOKEN_HINT),
    "ALERT_CERTIFICATE_EXPIRED": ("the token or certificate expired", _TOKEN_HINT),
    "ALERT_CERTIFICATE_REQUIRED": ("it answers members of its cluster alone", _TOKEN_HINT),
    "ALERT_UNKNOWN_CA": (
        "it does not know our certificate: it is of another cluster",
        "check the address and the context: perseus context ls",
    ),
    "ALERT_BAD_CERTIFICATE": ("it does not accept our certificate", _CLOCK_HINT),
}


def handshake_error(error: OSError, address: str) -> PerseusError:
    """What a failed TLS handshake, or an alert after it, means for the person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification_error(error, address)
    reason = getattr(error, "reason", None) or ""
    for word, (meaning, hint) in _ALERTS.items():
        if word in reason:
            return RefusedError(f"{address} refuses us: {meaning}", hint=hint)
    if reason in ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"):
        return UnavailableError(
            f"what listens at {address} is not a Perseus daemon (no TLS)", hint="check the address"
        )
    return UnavailableError(
        f"no connection to {address}: {reason or error}", hint="check the address"
    )


def _verification_error(error: ssl.SSLCertVerificationError, address: str) -> PerseusError:
    if error.verify_code == _EXPIRED:
        return RefusedError(
            f"the certificate of {address} has expired, or this machine's clock is ahead",
            hint=_CLOCK_HINT,
        )
    if error.verify_code == _NOT_YET_VALID:
        return RefusedError(
            f"the certificate of {address} is not valid yet: a clock is off", hint=_CLOCK_HINT
        )
    if "ostname" in str(error.verify_message):
        return RefusedError(
            f"{address} is not the node or master that it should be: {error.verify_message}",
            hint="check the address",
        )
    return RefusedError(
        f"{address} belongs to another cluster: its certificate is not of our authority",
        hint="check the address and the context: perseus context ls",
    )
