"""From anything else: curl over TLS and the Unix socket, and gRPC by reflection alone."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from harness import Cluster, cluster


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("two"), nodes=2) as made:
        yield made


@pytest.fixture
def context(two: Cluster, tmp_path: Path) -> dict[str, str]:
    """The owner's context, its certificates written out as files for curl."""
    values: dict[str, str] = json.loads(two.context.read_text())
    for name in ("ca_pem", "certificate_pem", "key_pem"):
        (tmp_path / name).write_text(values[name])
    return {**values, "folder": str(tmp_path)}


def curl(*arguments: str) -> bytes:
    done = subprocess.run(["curl", "-sS", "--max-time", "60", *arguments], capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


SUBMIT = json.dumps({"submit": {"spec": {"argv": ["echo", "hello"]}}})


def told(lines: bytes) -> tuple[str, int]:
    """Standard output and exit code of a stream of FollowEvents."""
    import base64

    events = [json.loads(line) for line in lines.splitlines()]
    output = b"".join(base64.b64decode(event.get("stdout", "")) for event in events)
    return output.decode(), events[-1]["ending"].get("exit_code", 0)


def test_curl_runs_a_job_over_the_unix_socket_of_any_node(two: Cluster) -> None:
    for node in ("node-1", "node-2"):
        socket = str(two.folder / node / "run" / "perseusd.sock")
        lines = curl("--unix-socket", socket, "-d", SUBMIT, "http://p/perseus.v1.Jobs/Run")
        assert told(lines) == ("hello\n", 0)


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_curl_runs_a_job_over_tls(context: dict[str, str], protocol: str) -> None:
    folder = context["folder"]
    port = context["address"].rpartition(":")[2]
    name = f"master.{context['cluster_id']}.perseus.internal"
    lines = curl(
        protocol, "--cacert", f"{folder}/ca_pem", "--cert", f"{folder}/certificate_pem",
        "--key", f"{folder}/key_pem", "--resolve", f"{name}:{port}:127.0.0.1",
        "-d", SUBMIT, f"https://{name}:{port}/perseus.v1.Jobs/Run",
    )  # fmt: skip
    assert told(lines) == ("hello\n", 0)


def channel(context: dict[str, str]) -> Any:
    credentials = grpc.ssl_channel_credentials(
        context["ca_pem"].encode(), context["key_pem"].encode(), context["certificate_pem"].encode()
    )
    name = f"master.{context['cluster_id']}.perseus.internal"
    options = [("grpc.ssl_target_name_override", name)]
    return grpc.secure_channel(context["address"], credentials, options=options)


def test_a_generic_grpc_client_finds_and_calls_everything_by_reflection(
    context: dict[str, str],
) -> None:
    with channel(context) as connection:
        database = ProtoReflectionDescriptorDatabase(connection)
        services = set(database.get_services())
        assert {"perseus.v1.Jobs", "perseus.v1.Files", "perseus.v1.Cluster"} <= services
        assert "grpc.health.v1.Health" in services
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName("perseus.v1.Jobs").FindMethodByName("Run")
        request_class = message_factory.GetMessageClass(method.input_type)
        response_class = message_factory.GetMessageClass(method.output_type)
        call = connection.unary_stream(
            "/perseus.v1.Jobs/Run",
            request_serializer=request_class.SerializeToString,
            response_deserializer=response_class.FromString,
        )
        request = json_format.Parse(SUBMIT, request_class())
        assert b"".join(event.stdout for event in call(request, timeout=60)) == b"hello\n"


def test_the_standard_health_service_answers(context: dict[str, str]) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with channel(context) as connection:
        stub = health_pb2_grpc.HealthStub(connection)
        for service in ("", "perseus.v1.Jobs"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
