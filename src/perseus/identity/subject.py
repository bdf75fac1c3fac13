"""Who a certificate speaks for, read with the standard library alone.

A certificate of the cluster carries its subject as a URI in the subject
alternative name::

    spiffe://CLUSTER/node/NODE_ID/NAME      a node; NAME is percent-encoded
    spiffe://CLUSTER/user/ROLE/NAME         a person or program; ROLE is a word
    spiffe://CLUSTER/process/RUN/NAME       a process of a run of an algorithm
    spiffe://CLUSTER/control/RUN/NAME       who looks at that run and lets faults befall it

The last two open no door of a daemon: ``read`` knows nobody of them, ``read_of_run`` does.

A node's also bears the DNS name ``node.CLUSTER.perseus.internal``, the
master's ``master.CLUSTER.perseus.internal`` besides, so that no other node can
pass for the master. The organisational unit of every certificate's subject is
``perseus-ca-FINGERPRINT``: a peer of another cluster is recognised by it.

The reader of DER here walks only certificates that TLS has verified, or files
of our own; importing ``cryptography`` for it would cost each daemon 10 MB.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from perseus.errors import InvalidError
from perseus.identity import roles

DOMAIN = "perseus.internal"
AUTHORITY_MARK = "perseus-ca-"
# Certificates begin this long before they are made, for clocks that are a little behind.
BACKDATE_S = 300.0
# As a common name in a certificate has it, in UTF-8.
NAME_MAXIMUM_BYTES = 64

_CLUSTER_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_SUBJECT_ALTERNATIVE_NAME = bytes.fromhex("551d11")
_SAN_DNS, _SAN_URI = 0x82, 0x86


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate speaks for."""

    # "node" or "user".
    kind: str
    name: str
    # A number of ``identity.roles``; NODE for nodes.
    role: int
    # Of nodes alone.
    node_id: str = ""
    # The node's certificate also bears the master's name.
    is_master: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """What Perseus reads of a certificate."""

    cluster_id: str
    subject: Subject
    # Seconds since 1970.
    not_before_s: float
    not_after_s: float

    @property
    def lifetime_s(self) -> float:
        """From when it was made until it ends."""
        return self.not_after_s - self.not_before_s - BACKDATE_S


@dataclass(frozen=True, slots=True)
class RunSubject:
    """Whom a certificate speaks for in one run of an algorithm."""

    run: str
    # The process's id, or the name of who controls the run.
    name: str
    is_control: bool = False


def check_cluster_id(cluster_id: str) -> str:
    """Returns ``cluster_id`` if it can stand in a DNS name; raises InvalidError otherwise."""
    if not _CLUSTER_ID.match(cluster_id):
        raise InvalidError(f"{cluster_id!r} cannot be a cluster's id")
    return cluster_id


def server_name(cluster_id: str, to: str) -> str:
    """The name that a "node" or the "master" proves by its certificate."""
    if to not in ("node", "master"):
        raise InvalidError(f"{to!r} is neither node nor master")
    return f"{to}.{cluster_id}.{DOMAIN}"


def to_der(certificate: bytes) -> bytes:
    """The first certificate of a PEM text as DER; DER stays as it is."""
    match = _PEM.search(certificate)
    if match is None:
        if certificate[:1] == b"\x30":
            return certificate
        raise InvalidError("this is not a certificate")
    try:
        return base64.b64decode(match[1])
    except ValueError as error:
        raise InvalidError("this is not a certificate: its base64 is broken") from error


def fingerprint(ca_pem: bytes) -> str:
    """160 bits of SHA-256 of the authority's certificate: 32 characters of a-z2-7."""
    digest = hashlib.sha256(to_der(ca_pem)).digest()
    return base64.b32encode(digest[:20]).decode().lower()


def bears_mark_of(certificate: bytes, ca_fingerprint: str) -> bool:
    """Whether a certificate says that this authority made it. A hint for messages, no proof."""
    return f"{AUTHORITY_MARK}{ca_fingerprint}".encode() in to_der(certificate)


def run_server_name(cluster_id: str, run: str) -> str:
    """The name that each process of a run proves by its certificate."""
    return f"{run}.run.{cluster_id}.{DOMAIN}"


def run_uri_of(cluster_id: str, subject: RunSubject) -> str:
    """The subject as it stands in the certificate."""
    kind = "control" if subject.is_control else "process"
    return f"spiffe://{cluster_id}/{kind}/{subject.run}/{quote(subject.name, safe='')}"


def uri_of(cluster_id: str, subject: Subject) -> str:
    """The subject as it stands in the certificate."""
    name = quote(subject.name, safe="")
    if subject.kind == "node":
        return f"spiffe://{cluster_id}/node/{quote(subject.node_id, safe='')}/{name}"
    return f"spiffe://{cluster_id}/user/{roles.WORDS[subject.role]}/{name}"


def subject_of(certificate: bytes) -> Subject:
    """The subject of a certificate, PEM or DER; raises InvalidError for a foreign one."""
    return read(certificate).subject


def read(certificate: bytes) -> Certificate:
    """What a certificate (PEM or DER) says; raises InvalidError for a foreign one."""
    try:
        return _read(to_der(certificate))
    except (IndexError, ValueError, KeyError) as error:
        raise InvalidError(f"this certificate cannot be read: {error}") from error


def read_of_run(certificate: bytes) -> tuple[str, RunSubject]:
    """The cluster and the subject of a certificate of a run; raises InvalidError for others."""
    try:
        uris, _ = _alternative_names(_fields(to_der(certificate)))
    except (IndexError, ValueError) as error:
        raise InvalidError(f"this certificate cannot be read: {error}") from error
    for uri in uris:
        parts = [unquote(part) for part in uri.removeprefix("spiffe://").split("/")]
        if len(parts) == 4 and parts[1] in ("process", "control"):
            return parts[0], RunSubject(parts[2], parts[3], parts[1] == "control")
    raise InvalidError("this certificate is not one of a run of an algorithm")


def validity_of(certificate: bytes) -> tuple[float, float]:
    """From and until when a certificate holds, seconds since 1970; also the authority's."""
    try:
        return _validity(_fields(to_der(certificate)))
    except (IndexError, ValueError) as error:
        raise InvalidError(f"this certificate cannot be read: {error}") from error


def _read(der: bytes) -> Certificate:
    fields = _fields(der)
    not_before_s, not_after_s = _validity(fields)
    uris, names = _alternative_names(fields)
    for uri in uris:
        if uri.startswith("spiffe://"):
            cluster_id, subject = _parse_uri(uri)
            if server_name(cluster_id, "master") in names:
                subject = Subject(subject.kind, subject.name, subject.role, subject.node_id, True)
            return Certificate(cluster_id, subject, not_before_s, not_after_s)
    raise InvalidError("this certificate is not one of a Perseus cluster")


def _parse_uri(uri: str) -> tuple[str, Subject]:
    parts = uri.removeprefix("spiffe://").split("/")
    if len(parts) != 4:
        raise InvalidError(f"{uri!r} names nobody of a Perseus cluster")
    cluster_id, kind, middle, name = (unquote(part, errors="strict") for part in parts)
    if kind == "node":
        return cluster_id, Subject("node", name, roles.NODE, middle)
    if kind == "user":
        role = roles.parse(middle)
        if role in roles.LADDER:
            return cluster_id, Subject("user", name, role)
    raise InvalidError(f"{uri!r} names nobody of a Perseus cluster")


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of the DER element at ``at``."""
    tag, length = data[at], data[at + 1]
    start = at + 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            raise ValueError("a length that DER does not have")
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + length > len(data):
        raise ValueError("it is cut short")
    return tag, start, start + length


def _children(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, start, at = _element(data, at)
        yield tag, data[start:at]


def _fields(der: bytes) -> list[tuple[int, bytes]]:
    """The fields of the to-be-signed part, without the version."""
    _, start, end = _element(der, 0)
    _, signed = next(_children(der[start:end]), (0, b""))
    fields = [child for child in _children(signed) if child[0] != 0xA0]
    if len(fields) < 6:
        raise ValueError("it lacks fields")
    return fields


def _validity(fields: list[tuple[int, bytes]]) -> tuple[float, float]:
    # Serial, signature algorithm, issuer, validity, subject, key, extensions.
    not_before_s, not_after_s = (_time_s(*child) for child in _children(fields[3][1]))
    return not_before_s, not_after_s


def _time_s(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == 0x17:
        text = ("19" if text[:2] >= "50" else "20") + text
    moment = datetime.strptime(text, "%Y%m%d%H%M%SZ")
    return moment.replace(tzinfo=UTC).timestamp()


def _alternative_names(fields: list[tuple[int, bytes]]) -> tuple[list[str], list[str]]:
    """URIs and DNS names of the certificate."""
    uris: list[str] = []
    names: list[str] = []
    for tag, wrapped in fields[6:]:
        if tag != 0xA3:
            continue
        for _, extension in _children(next(_children(wrapped))[1]):
            parts = list(_children(extension))
            if parts[0][1] != _SUBJECT_ALTERNATIVE_NAME:
                continue
            for kind, name in _children(next(_children(parts[-1][1]))[1]):
                if kind in (_SAN_URI, _SAN_DNS):
                    (uris if kind == _SAN_URI else names).append(name.decode("ascii"))
    return uris, names
