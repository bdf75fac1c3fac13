"""The cluster's own certificate authority.

ECDSA on P-256. It lives in two files of the master's identity folder, ``ca.pem``
and ``ca.key`` (mode 600), and signs requests of nodes and users. What the
certificates say is described in ``identity.subject``.
"""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from perseus.errors import AlreadyExistsError, InvalidError, NotFoundError
from perseus.identity import files, roles
from perseus.identity.subject import (
    AUTHORITY_MARK,
    BACKDATE_S,
    NAME_MAXIMUM_BYTES,
    RunSubject,
    Subject,
    check_cluster_id,
    fingerprint,
    run_server_name,
    run_uri_of,
    server_name,
    uri_of,
)
from perseus.runtime.real import RealDisk

AUTHORITY_LIFETIME_S = 20 * 365 * 86400.0
REQUEST_MAXIMUM_BYTES = 16 << 10
_RUN = re.compile(r"[a-z0-9]{1,32}\Z")
_PROCESS = re.compile(r"[A-Za-z0-9_]{1,64}\Z")

__all__ = ["Authority", "fingerprint"]


@dataclass(frozen=True, slots=True)
class Authority:
    """The key that makes members of the cluster."""

    cluster_id: str
    ca_pem: bytes
    _certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, cluster_id: str, time_s: float) -> "Authority":
        """A new authority for a new cluster; ``time_s`` is now, since 1970."""
        check_cluster_id(cluster_id)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Perseus {cluster_id}")])
        public = key.public_key()
        builder = _dated(x509.CertificateBuilder(), time_s, AUTHORITY_LIFETIME_S)
        certificate = (
            builder.subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        return cls(cluster_id, pem, certificate, key)

    @classmethod
    def load(cls, folder: Path) -> "Authority":
        """The authority kept in ``folder``; raises NotFoundError or InvalidError."""
        try:
            ca_pem = (folder / files.CA_FILE).read_bytes()
            key_pem = files.read_private(folder / files.CA_KEY_FILE)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"there is no certificate authority in {folder}",
                hint="only the master has one; ask it instead",
            ) from error
        try:
            certificate = x509.load_pem_x509_certificate(ca_pem)
            key = serialization.load_pem_private_key(key_pem, None)
        except ValueError as error:
            raise InvalidError(f"the authority in {folder} cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or (
            key.public_key() != certificate.public_key()
        ):
            raise InvalidError(f"{folder / files.CA_KEY_FILE} is not the key of its ca.pem")
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        cluster_id = check_cluster_id(str(common[0].value).removeprefix("Perseus "))
        return cls(cluster_id, ca_pem, certificate, key)

    def save(self, folder: Path) -> None:
        """Writes both files durably; raises AlreadyExistsError rather than replace a key."""
        key_path = folder / files.CA_KEY_FILE
        if key_path.exists():
            raise AlreadyExistsError(f"{key_path} exists; an authority is never replaced")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        disk = RealDisk()
        disk.write(os.fspath(folder / files.CA_FILE), self.ca_pem, 0o600)
        disk.write(os.fspath(key_path), key_pem, 0o600)

    @property
    def fingerprint(self) -> str:
        """The short form by which tokens pin this authority."""
        return fingerprint(self.ca_pem)

    def sign(self, request_pem: bytes, subject: Subject, lifetime_s: float, time_s: float) -> bytes:
        """A certificate (PEM) for ``subject`` with the key of the request.

        Of the request only the key counts; what else it says is not believed.
        Raises InvalidError for a broken request or a name that cannot be.
        """
        _check_subject(subject)
        # A user's certificate cannot serve, so a user cannot pass for a node.
        may_serve = subject.kind == "node"
        names = self._alternative_names(subject)
        return self._issue(request_pem, subject.name, names, may_serve, lifetime_s, time_s)

    def sign_of_run(
        self, request_pem: bytes, subject: RunSubject, lifetime_s: float, time_s: float
    ) -> bytes:
        """A certificate (PEM) that holds within one run of an algorithm; raises InvalidError."""
        _check_run_subject(subject)
        uri = x509.UniformResourceIdentifier(run_uri_of(self.cluster_id, subject))
        names: list[x509.GeneralName] = [uri]
        if not subject.is_control:
            names.append(x509.DNSName(run_server_name(self.cluster_id, subject.run)))
        may_serve = not subject.is_control
        alternative = x509.SubjectAlternativeName(names)
        return self._issue(request_pem, subject.name, alternative, may_serve, lifetime_s, time_s)

    def _issue(
        self,
        request_pem: bytes,
        name: str,
        names: x509.SubjectAlternativeName,
        may_serve: bool,
        lifetime_s: float,
        time_s: float,
    ) -> bytes:
        public = _requested_key(request_pem)
        authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _dated(x509.CertificateBuilder(), time_s, lifetime_s)
        certificate = (
            builder.subject_name(self._name(name))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(_purposes(may_serve), critical=False)
            .add_extension(names, critical=False)
            .add_extension(authority_id, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _name(self, name: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, name),
                x509.NameAttribute(
                    NameOID.ORGANIZATIONAL_UNIT_NAME, f"{AUTHORITY_MARK}{self.fingerprint}"
                ),
            ]
        )

    def _alternative_names(self, subject: Subject) -> x509.SubjectAlternativeName:
        uri = x509.UniformResourceIdentifier(uri_of(self.cluster_id, subject))
        names: list[x509.GeneralName] = [uri]
        if subject.kind == "node":
            names.append(x509.DNSName(server_name(self.cluster_id, "node")))
            if subject.is_master:
                names.append(x509.DNSName(server_name(self.cluster_id, "master")))
        return x509.SubjectAlternativeName(names)


def _check_run_subject(subject: RunSubject) -> None:
    if not _RUN.match(subject.run):
        raise InvalidError(
            f"{subject.run!r} cannot be the id of a run",
            hint="lower-case letters and digits, at most 32",
        )
    if not (subject.is_control or _PROCESS.match(subject.name)):
        raise InvalidError(
            f"{subject.name!r} cannot be the id of a process",
            hint="letters, digits and '_', at most 64",
        )


def _check_subject(subject: Subject) -> None:
    name = subject.name
    if not name.isprintable() or not 1 <= len(name.encode()) <= NAME_MAXIMUM_BYTES:
        raise InvalidError(
            f"{name!r} cannot be a name in a certificate",
            hint=f"use printable characters, 1 to {NAME_MAXIMUM_BYTES} bytes in UTF-8",
        )
    if subject.kind == "node":
        if subject.role != roles.NODE or not subject.node_id:
            raise InvalidError(f"the node {name} lacks its id or has another role than node")
    elif subject.kind != "user" or subject.role not in roles.LADDER or subject.is_master:
        raise InvalidError(f"{name} is neither a node nor a user with role viewer, user or admin")


def _requested_key(request_pem: bytes) -> ec.EllipticCurvePublicKey:
    if len(request_pem) > REQUEST_MAXIMUM_BYTES:
        raise InvalidError(f"the certificate request is over {REQUEST_MAXIMUM_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(request_pem)
        public = request.public_key()
        valid = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature) as error:
        raise InvalidError(f"the certificate request cannot be read: {error}") from error
    if not valid:
        raise InvalidError("the certificate request is not signed by its own key")
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.key_size < 256:
        raise InvalidError(
            "the certificate request's key is not an elliptic curve key of 256 bits or more"
        )
    return public


def _dated(
    builder: x509.CertificateBuilder, time_s: float, lifetime_s: float
) -> x509.CertificateBuilder:
    def moment(at_s: float) -> datetime:
        return datetime.fromtimestamp(int(at_s), UTC)

    return builder.not_valid_before(moment(time_s - BACKDATE_S)).not_valid_after(
        moment(time_s + lifetime_s)
    )


def _purposes(may_serve: bool) -> x509.ExtendedKeyUsage:
    both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    return x509.ExtendedKeyUsage(both if may_serve else both[:1])


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
