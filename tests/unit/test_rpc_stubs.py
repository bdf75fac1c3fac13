"""What gRPC's own statuses mean to a caller."""

import socket

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from perseus.cli.commands.doctor import _way_out
from perseus.errors import InternalError, PerseusError, RefusedError, UnavailableError
from perseus.filestore.client_channels import error_of as chunk_error_of
from perseus.proto.v1 import cluster_pb2, common_pb2
from perseus.rpc.status import TRAILER
from perseus.rpc.stubs import Stub, from_grpc


def error_of(code: grpc.StatusCode, details: str, trailer: bytes = b"") -> PerseusError:
    return from_grpc(raised(code, details, trailer), "/perseus.v1.Jobs/Run", "10.0.0.7:7700")


def raised(code: grpc.StatusCode, details: str, trailer: bytes = b"") -> AioRpcError:
    trailers = Metadata((TRAILER, trailer)) if trailer else Metadata()
    return AioRpcError(code, Metadata(), trailers, details)


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.INTERNAL, "Internal error from Core"),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
        (grpc.StatusCode.UNKNOWN, "Stream removed"),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    ],
)
def test_a_connection_that_breaks_is_unavailable(code: grpc.StatusCode, details: str) -> None:
    error = error_of(code, details)
    assert isinstance(error, UnavailableError) and error.maybe_done
    assert "10.0.0.7:7700" in error.message and "the connection broke" in error.message
    assert details not in error.message and "doctor" not in error.hint


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("CERTIFICATE_VERIFY_FAILED: certificate is not yet valid: OK", "a clock is off"),
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", "this clock is ahead"),
    ],
)
def test_a_handshake_that_fails_for_a_clock_names_it(said: str, meaning: str) -> None:
    details = (
        f"failed to connect to all addresses; last error: UNKNOWN: Tls handshake failed {said}"
    )
    error = error_of(grpc.StatusCode.UNAVAILABLE, details)
    assert isinstance(error, RefusedError)
    bulk = chunk_error_of(raised(grpc.StatusCode.UNAVAILABLE, details), "10.0.0.7:7701")
    assert isinstance(bulk, UnavailableError)
    for one in (error, bulk):
        assert meaning in one.message and "`date`" in one.hint


def test_a_defect_at_the_peer_stays_one() -> None:
    said = common_pb2.Error(code="internal", message="a defect: RST_STREAM").SerializeToString()
    assert isinstance(error_of(grpc.StatusCode.INTERNAL, "RST_STREAM", said), InternalError)
    assert isinstance(error_of(grpc.StatusCode.INTERNAL, "boom"), InternalError)


def test_what_cannot_be_reached_is_told_in_our_words() -> None:
    with socket.socket() as bound:
        # Bound but not listening: whoever connects is refused.
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with grpc.insecure_channel(address) as channel, pytest.raises(UnavailableError) as caught:
            Stub(channel, "Cluster", address).call(
                "GetInfo", cluster_pb2.GetInfoRequest(), timeout_s=60.0
            )
    assert caught.value.message == f"{address} cannot be reached: nothing listens there"
    assert "perseus start" in caught.value.hint and "doctor" not in caught.value.hint
    assert not caught.value.maybe_done


@pytest.mark.parametrize(
    ("hint", "command"),
    [
        ("perseus doctor", "on the master's machine: perseus start"),
        ("", "on the master's machine: perseus start"),
        ("see to that, then try again; perseus doctor", "see to that, then try again"),
        ("perseus context ls", "perseus context ls"),
    ],
)
def test_doctor_does_not_advise_doctor(hint: str, command: str) -> None:
    assert _way_out(hint) == command
