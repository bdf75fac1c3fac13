"""An identity on disk: ``ca.pem``, ``node.pem`` and ``node.key`` in one folder.

A node's and a user's look the same. Keys are mode 600; a key that others could
read is mended to 600 if it is ours, and refused if that fails. The TLS
contexts made here speak TLS 1.2 or newer, know the cluster's authority alone
and always ask the peer for its certificate.
"""

import os
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from perseus.errors import InvalidError, NotFoundError, RefusedError
from perseus.identity import subject as subject_module
from perseus.identity.subject import Certificate, Subject
from perseus.shellwords import as_file

CA_FILE = "ca.pem"
CA_KEY_FILE = "ca.key"
CERTIFICATE_FILE = "node.pem"
KEY_FILE = "node.key"
# The key of a certificate that is just being replaced.
NEXT_KEY_FILE = "node.key.next"

# The share of its lifetime that is left when a certificate should be renewed.
RENEWAL_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate, its key and the authority behind it, all PEM."""

    folder: Path
    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes
    certificate: Certificate
    # Where a person finds it, for messages; empty when that is ``folder``.
    origin: str = ""

    @classmethod
    def load(cls, folder: Path) -> "Identity":
        """Reads a folder; raises NotFoundError, InvalidError or RefusedError (open key)."""
        try:
            ca_pem = (folder / CA_FILE).read_bytes()
            certificate_pem = (folder / CERTIFICATE_FILE).read_bytes()
            _finish_save(folder)
            key_pem = read_private(folder / KEY_FILE)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"there is no identity in {folder} ({Path(error.filename).name} is missing)",
                hint="perseus login HOST:PORT --token T    or    perseus join HOST:PORT --token T",
            ) from error
        except PermissionError as error:
            raise RefusedError(
                f"{error.filename} cannot be read by this user",
                hint=f"do it as the user who owns it: ls -l {as_file(error.filename)}",
            ) from error
        return cls.of(folder, ca_pem, certificate_pem, key_pem)

    @classmethod
    def of(
        cls,
        folder: Path,
        ca_pem: bytes,
        certificate_pem: bytes,
        key_pem: bytes,
        *,
        origin: str = "",
    ) -> "Identity":
        """An identity from its parts; ``folder`` is where save puts it."""
        if not subject_module.bears_mark_of(certificate_pem, subject_module.fingerprint(ca_pem)):
            raise InvalidError(
                f"the certificate in {origin or folder} was made by another authority "
                f"than its {CA_FILE}",
                hint="the two are of different clusters: log in or join again",
            )
        certificate = subject_module.read(certificate_pem)
        return cls(folder, ca_pem, certificate_pem, key_pem, certificate, origin)

    def save(self) -> None:
        """Writes the folder durably, all mode 600.

        Whenever it is broken off, ``load`` finds a certificate and its key: the key
        lies beside the one before until the certificate is there.
        """
        # Imported here: whoever only reads an identity shall not pay for asyncio.
        from perseus.runtime.real import RealDisk

        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk = RealDisk()
        disk.write(os.fspath(self.folder / CA_FILE), self.ca_pem, 0o600)
        following = self.folder / NEXT_KEY_FILE
        disk.write(os.fspath(following), self.key_pem, 0o600)
        disk.write(os.fspath(self.folder / CERTIFICATE_FILE), self.certificate_pem, 0o600)
        # Whoever loads it just now may have done so already.
        with suppress(FileNotFoundError):
            os.rename(following, self.folder / KEY_FILE)

    @property
    def subject(self) -> Subject:
        """Whom it speaks for."""
        return self.certificate.subject

    @property
    def cluster_id(self) -> str:
        """The cluster it belongs to."""
        return self.certificate.cluster_id

    @property
    def begins_at_s(self) -> float:
        """When the certificate begins, seconds since 1970."""
        return self.certificate.not_before_s

    @property
    def expires_at_s(self) -> float:
        """When the certificate ends, seconds since 1970."""
        return self.certificate.not_after_s

    def needs_renewal(self, time_s: float) -> bool:
        """Whether a third of its lifetime or less is left."""
        left_s = self.certificate.not_after_s - time_s
        return left_s <= self.certificate.lifetime_s * RENEWAL_SHARE

    def renewed(self, certificate_pem: bytes, ca_pem: bytes, key_pem: bytes) -> "Identity":
        """The same folder's next identity; raises InvalidError when it is not the same subject."""
        following = Identity.of(self.folder, ca_pem, certificate_pem, key_pem)
        if following.certificate.subject != self.subject or ca_pem != self.ca_pem:
            raise InvalidError("the renewed certificate is for somebody else")
        return following

    def check_time(self, time_s: float) -> None:
        """Raises RefusedError when the certificate does not hold at ``time_s``."""
        check_validity(self.certificate, time_s, self.origin or str(self.folder))

    def client_ssl_context(self) -> ssl.SSLContext:
        """For calling nodes: give ``subject.server_name(...)`` as the server's host name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return self._prepare(context)

    def server_ssl_context(self) -> ssl.SSLContext:
        """For serving members of the cluster: the peer must show a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._prepare(context)

    def bootstrap_ssl_context(self) -> ssl.SSLContext:
        """For serving the holder of a join token, who has no certificate yet."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_NONE
        return self._prepare(context)

    def _prepare(self, context: ssl.SSLContext) -> ssl.SSLContext:
        self.check_time(time.time())
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.ca_pem.decode())
        try:
            # The module ``ssl`` takes certificates from files alone.
            context.load_cert_chain(self.folder / CERTIFICATE_FILE, self.folder / KEY_FILE)
        except ssl.SSLError as error:
            raise InvalidError(
                f"the certificate and key in {self.origin or self.folder} do not belong together: "
                f"{error}",
                hint="log in or join again",
            ) from error
        return context


def check_validity(certificate: Certificate, time_s: float, where: str) -> None:
    """Raises RefusedError when a certificate is over or has not begun."""
    if time_s >= certificate.not_after_s:
        over_s = time_s - certificate.not_after_s
        raise RefusedError(
            f"the certificate of {certificate.subject.name} ({where}) expired "
            f"{duration_text(over_s)} ago",
            hint="check this machine's clock (`date`); else log in or join again with a new token",
        )
    if time_s < certificate.not_before_s:
        early_s = certificate.not_before_s - time_s
        raise RefusedError(
            f"the certificate of {certificate.subject.name} ({where}) begins only in "
            f"{duration_text(early_s)}: a clock is off",
            hint="set this machine's clock (`date`)",
        )


def duration_text(seconds: float) -> str:
    """A time in words, about."""
    for unit_s, word in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {word}"
    return f"{seconds:.0f} seconds"


def _finish_save(folder: Path) -> None:
    """Takes the next key where the certificate is already its own."""
    following = folder / NEXT_KEY_FILE
    if not following.exists():
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            folder / CERTIFICATE_FILE, following
        )
        os.rename(following, folder / KEY_FILE)
    except (OSError, ssl.SSLError):
        # Its certificate is still to come, or another has taken it already.
        return


def read_private(path: Path) -> bytes:
    """A key file's content, after making sure that nobody else can read it."""
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        if mode & 0o077:
            _close_to_others(file.fileno(), path, mode)
        return file.read()


def _close_to_others(descriptor: int, path: Path, mode: int) -> None:
    try:
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise RefusedError(
            f"{path} is open to other users (mode {mode:o}) and cannot be closed: {error}",
            hint=f"chmod 600 {as_file(path)}",
        ) from error


def new_key_and_request(name: str) -> tuple[bytes, bytes]:
    """A new private key (PKCS#8 PEM) and a certificate request (PKCS#10 PEM) for it."""
    # Imported here: only joining and renewing need it, and it costs 10 MB.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request_pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key_pem, request_pem
