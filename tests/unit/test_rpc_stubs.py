"""What gRPC's own statuses mean to a caller."""

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from perseus.errors import InternalError, PerseusError, UnavailableError
from perseus.proto.v1 import common_pb2
from perseus.rpc.status import TRAILER
from perseus.rpc.stubs import from_grpc


def error_of(code: grpc.StatusCode, details: str, trailer: bytes = b"") -> PerseusError:
    trailers = Metadata((TRAILER, trailer)) if trailer else Metadata()
    raised = AioRpcError(code, Metadata(), trailers, details)
    return from_grpc(raised, "/perseus.v1.Jobs/Run", "10.0.0.7:7700")


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
    assert "10.0.0.7:7700" in error.message and details in error.message


def test_a_defect_at_the_peer_stays_one() -> None:
    said = common_pb2.Error(code="internal", message="a defect: RST_STREAM").SerializeToString()
    assert isinstance(error_of(grpc.StatusCode.INTERNAL, "RST_STREAM", said), InternalError)
    assert isinstance(error_of(grpc.StatusCode.INTERNAL, "boom"), InternalError)
