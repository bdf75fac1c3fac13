"""Errors on the wire: Perseus codes as gRPC statuses and HTTP statuses.

gRPC carries the whole error in the trailer ``perseus-error-bin``; JSON carries
``{"error": {...}}``, as the body or as the last line of a stream.
"""

from typing import Any

from perseus.errors import PerseusError, from_code
from perseus.proto.v1 import common_pb2

TRAILER = "perseus-error-bin"
# gRPC cuts metadata at 8 KiB; what is longer than this is shortened.
TEXT_MAXIMUM = 2000

# Code: name of the gRPC status, HTTP status.
_STATUS: dict[str, tuple[str, int]] = {
    "not_found": ("NOT_FOUND", 404),
    "already_exists": ("ALREADY_EXISTS", 409),
    "invalid": ("INVALID_ARGUMENT", 400),
    "refused": ("PERMISSION_DENIED", 403),
    "conflict": ("ABORTED", 409),
    "unavailable": ("UNAVAILABLE", 503),
    "lease_lost": ("FAILED_PRECONDITION", 409),
    "corrupt": ("DATA_LOSS", 500),
    "full": ("RESOURCE_EXHAUSTED", 507),
    "too_large": ("OUT_OF_RANGE", 413),
    "timeout": ("DEADLINE_EXCEEDED", 504),
    "incompatible": ("FAILED_PRECONDITION", 400),
    "internal": ("INTERNAL", 500),
}


# Words in gRPC's details by which a failed handshake is known, and what they mean.
_HANDSHAKE_WORDS = (
    ("certificate has expired", "the peer's certificate expired, or this clock is ahead"),
    ("certificate is not yet valid", "the peer's certificate is not valid yet: a clock is off"),
    ("CERTIFICATE_VERIFY_FAILED", "the peer's certificate is not of this cluster"),
    ("Peer name", "the peer's certificate is for another cluster or not the master's"),
    ("Hostname Verification", "the peer's certificate is for another cluster or not the master's"),
)
HANDSHAKE_HINT = "check the address and `date` on both machines"


def grpc_status_name(error: PerseusError) -> str:
    """The name of the ``grpc.StatusCode``."""
    return _STATUS[error.code][0]


def http_status(error: PerseusError) -> int:
    """The HTTP status."""
    return _STATUS[error.code][1]


def to_proto(error: PerseusError) -> common_pb2.Error:
    """The error as a message, its texts cut to what a trailer can hold."""
    return common_pb2.Error(
        code=error.code,
        message=_shortened(error.message),
        hint=_shortened(error.hint),
        maybe_done=error.maybe_done,
    )


def to_json(error: PerseusError) -> dict[str, Any]:
    """The error as the JSON object ``{"error": {...}}``."""
    return error.as_json()


def from_proto(message: common_pb2.Error) -> PerseusError:
    """The error that a message carries."""
    return from_code(
        message.code, message.message, hint=message.hint, maybe_done=message.maybe_done
    )


def handshake_meaning(details: str) -> str:
    """What a TLS handshake failed for, from gRPC's details; empty when it was none."""
    for word, meaning in _HANDSHAKE_WORDS:
        if word in details:
            return meaning
    return ""


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT_MAXIMUM else f"{text[: TEXT_MAXIMUM - 1]}…"
