"""Join tokens as text, and the server name by which a holder proves one.

A token is ``perseus1.ID.SECRET.CAFINGERPRINT``. The cluster keeps only the
SHA-256 of the secret. Before it has a certificate, a joiner asks for the
server name ``ID-PROOF.join.perseus.internal`` in its ClientHello, PROOF being
128 bits of HMAC-SHA256 under that hash: it says that the caller holds a token,
and neither it nor the hash gives the secret away. Standard library alone.
"""

import base64
import hashlib
import hmac
import re
from typing import NamedTuple

from perseus.errors import InvalidError
from perseus.identity.subject import DOMAIN

VERSION = "perseus1"
TOKEN_ID_LENGTH = 8
# 160 bits: 32 characters.
SECRET_BYTES = 20
JOIN_SUFFIX = f".join.{DOMAIN}"

_TOKEN = re.compile(r"([0-9a-z]{8})\.([a-z2-7]{32})\.([a-z2-7]{32})\Z")
_PROOF_BYTES = 16
_PROOF_PURPOSE = b"perseus join"


# What can be said of a token once its holder has proved it.
LIVE, USED, REVOKED, EXPIRED = "live", "used", "revoked", "expired"


class TokenProof(NamedTuple):
    """Which token a server name proves, and its state: LIVE, USED, REVOKED or EXPIRED."""

    token_id: str
    state: str


class TokenText(NamedTuple):
    """The parts of a token."""

    token_id: str
    secret: str
    ca_fingerprint: str

    @property
    def secret_sha256(self) -> bytes:
        """What the cluster knows of the secret."""
        return hash_secret(self.secret)

    @property
    def server_name(self) -> str:
        """What the joiner asks for in its ClientHello."""
        return join_server_name(self.token_id, self.secret_sha256)


def hash_secret(secret: str) -> bytes:
    """SHA-256 of a token's secret. It has 160 random bits, so a plain hash suffices."""
    return hashlib.sha256(secret.encode()).digest()


def new_secret(random_bits: int) -> str:
    """A secret from at least 160 random bits (``Random.bits(160)``)."""
    raw = random_bits.to_bytes(SECRET_BYTES, "big")
    return base64.b32encode(raw).decode().lower()


def make_token(token_id: str, secret: str, ca_fingerprint: str) -> str:
    """The token as a person copies it."""
    return f"{VERSION}.{token_id}.{secret}.{ca_fingerprint}"


def parse_token(text: str) -> TokenText:
    """The parts of a token; raises InvalidError that does not repeat the secret."""
    version, _, rest = text.strip().partition(".")
    hint = "copy the whole line that `perseus token create` printed"
    if version != VERSION:
        raise InvalidError(f"this is not a token: it does not begin with {VERSION}.", hint=hint)
    match = _TOKEN.match(rest)
    if match is None:
        raise InvalidError("this token is cut short or mistyped", hint=hint)
    return TokenText(*match.groups())


def join_server_name(token_id: str, secret_sha256: bytes) -> str:
    """The server name that proves a token."""
    proof = hmac.digest(secret_sha256, _PROOF_PURPOSE, "sha256")[:_PROOF_BYTES]
    text = base64.b32encode(proof).decode().lower().rstrip("=")
    return f"{token_id}-{text}{JOIN_SUFFIX}"


def token_id_of(server_name: str) -> str:
    """The token id that a join server name speaks of; empty when it is none."""
    if not server_name.endswith(JOIN_SUFFIX):
        return ""
    token_id, dash, proof = server_name.removesuffix(JOIN_SUFFIX).partition("-")
    return token_id if dash and proof and len(token_id) == TOKEN_ID_LENGTH else ""
