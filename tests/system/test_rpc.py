"""The doors on real sockets: gRPC by reflection, curl, our own clients, and forwarding."""

import json
import os
import socket
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from rpc_lab import LIMIT_S, Lab, curl_socket, curl_tls

from perseus.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    PerseusError,
    RefusedError,
    UnavailableError,
)
from perseus.identity import roles
from perseus.identity.files import Identity
from perseus.identity.subject import read
from perseus.proto.v1 import agent_pb2, cluster_pb2, filestore_pb2, jobs_pb2
from perseus.rpc import tls_client
from perseus.rpc.call import Caller
from perseus.rpc.channels import aio_channel, sync_channel
from perseus.rpc.forward import forwarding
from perseus.rpc.front import Front
from perseus.rpc.http_client import Connection, UnixConnection
from perseus.rpc.registry import ON_BEHALF, Registry

pytestmark = pytest.mark.needs("curl")


@pytest.fixture
def lab(short_folder: Path) -> Iterator[Lab]:
    made = Lab(short_folder)
    yield made
    made.close()


def test_a_generic_grpc_client_needs_no_protos(lab: Lab) -> None:
    front = lab.front()
    with sync_channel(front.address, lab.load("viewer")) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "perseus.v1.Jobs" in database.get_services()
        pool = descriptor_pool.DescriptorPool(database)
        service: Any = pool.FindServiceByName("perseus.v1.Cluster")
        method = service.FindMethodByName("GetInfo")
        request = message_factory.GetMessageClass(method.input_type)()
        response = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary(
            "/perseus.v1.Cluster/GetInfo",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        assert call(request, timeout=LIMIT_S).caller_name == "the-viewer"


def test_grpc_health(lab: Lab) -> None:
    front = lab.front()
    with lab.stub(front.address, "viewer", "grpc.health.v1.Health") as health:
        for name in ("", "perseus.v1.Jobs"):
            request = health_pb2.HealthCheckRequest(service=name)
            assert health.call("Check", request, timeout_s=LIMIT_S).status == 1
        with pytest.raises(NotFoundError):
            unknown = health_pb2.HealthCheckRequest(service="nonsense")
            health.call("Check", unknown, timeout_s=LIMIT_S)
        first = next(iter(health.stream("Watch", health_pb2.HealthCheckRequest())))
        assert first.status == 1


def test_every_kind_of_rpc_over_grpc(lab: Lab) -> None:
    front = lab.front()
    with lab.stub(front.address, "user", "Jobs", to="master") as jobs:
        events = list(jobs.stream("Follow", jobs_pb2.FollowRequest(job_id="j"), timeout_s=LIMIT_S))
        assert [event.task for event in events] == [0, 1, 2]
        with pytest.raises(InvalidError, match="perseus run"):
            jobs.call("Submit", jobs_pb2.SubmitRequest(), timeout_s=LIMIT_S)
        broken = jobs.stream("Follow", jobs_pb2.FollowRequest(job_id="broken"))
        assert [next(broken).task for _ in range(3)] == [0, 1, 2]
        with pytest.raises(NotFoundError, match="its output is gone"):
            next(broken)
    with lab.stub(front.address, "user", "Files") as store:
        pieces = [filestore_pb2.WritePiece(path="/a", data=b"12345")] * 3
        assert store.call("Write", iter(pieces), timeout_s=LIMIT_S).size_bytes == 15
        big = store.stream("Read", filestore_pb2.ReadRequest(length_bytes=64 << 20))
        assert sum(len(piece.data) for piece in big) == 64 << 20
    with lab.stub(front.address, "node", "Agents") as agents:
        sent = [
            agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat(number=number))
            for number in range(5)
        ]
        answers = agents.stream("Connect", iter(sent), timeout_s=LIMIT_S)
        assert [answer.heartbeat_answer.number for answer in answers] == list(range(5))


def test_a_grpc_caller_who_leaves_ends_the_handler(lab: Lab) -> None:
    front = lab.front()
    with lab.stub(front.address, "viewer", "Jobs") as jobs:
        stream = jobs.stream("Follow", jobs_pb2.FollowRequest(job_id="j", follow=True))
        assert next(stream).task == 0
        assert isinstance(stream, Iterator)
        stream.close()  # type: ignore[attr-defined]
        assert lab.jobs.left.wait(LIMIT_S)


def test_a_defect_is_not_shown(lab: Lab) -> None:
    front = lab.front()
    with (
        lab.stub(front.address, "user", "Cluster") as cluster,
        pytest.raises(PerseusError) as caught,
    ):
        cluster.call("RenewCertificate", cluster_pb2.RenewCertificateRequest())
    assert caught.value.code == "internal" and "secret" not in str(caught.value)


def test_a_viewer_may_not_submit(lab: Lab) -> None:
    front = lab.front()
    request = jobs_pb2.SubmitRequest(spec=jobs_pb2.TaskSpec(argv=["true"]))
    with (
        lab.stub(front.address, "viewer", "Jobs") as jobs,
        pytest.raises(RefusedError, match="takes role user"),
    ):
        jobs.call("Submit", request, timeout_s=LIMIT_S)
    body = curl_tls(lab, front, "viewer", "/perseus.v1.Jobs/Submit", "--data", "{}")
    assert json.loads(body)["error"]["code"] == "refused"
    with lab.stub(front.address, "node", "Jobs") as jobs, pytest.raises(RefusedError):
        jobs.call("Submit", request, timeout_s=LIMIT_S)
    with lab.stub(front.address, "admin", "Agents") as agents, pytest.raises(RefusedError):
        list(agents.stream("Connect", iter([])))


@pytest.mark.parametrize("protocol", [[], ["--http1.1"], ["--no-alpn"]])
def test_curl_over_tls(lab: Lab, protocol: list[str]) -> None:
    front = lab.front()
    body = curl_tls(lab, front, "user", "/perseus.v1.Cluster/GetInfo", *protocol, "--data", "")
    answer = {"cluster_id": "lab", "caller_name": "the-user", "caller_role": "ROLE_USER"}
    assert json.loads(body) == answer
    page = json.loads(curl_tls(lab, front, "user", "/", *protocol))
    assert page["cluster_id"] == "lab" and "perseus.v1.Jobs" in page["services"]
    assert json.loads(curl_tls(lab, front, "user", "/healthz")) == {"status": "SERVING"}


def test_curl_over_the_unix_socket(lab: Lab) -> None:
    lab.front()
    info = json.loads(curl_socket(lab, "/perseus.v1.Cluster/GetInfo", "--data", "{}"))
    assert info["caller_role"] == "ROLE_ADMIN"
    request = json.dumps({"spec": {"argv": ["x" * 100_000]}})
    # A body of this size makes curl send Expect: 100-continue where it is told to.
    expecting = ["--header", "Expect: 100-continue", "--data", request]
    submitted = curl_socket(lab, "/perseus.v1.Jobs/Submit", *expecting)
    assert json.loads(submitted)["job_id"].startswith("job-of-")
    lines = curl_socket(lab, "/perseus.v1.Jobs/Follow", "--data", '{"jobId": "j"}').splitlines()
    assert [json.loads(line).get("task", 0) for line in lines] == [0, 1, 2]
    pieces = '{"path": "/a", "data": "AAAA"}\n\n{"data": "AAAA"}'
    written = curl_socket(lab, "/perseus.v1.Files/Write", "--data-binary", pieces)
    assert json.loads(written) == {"path": "/a", "size_bytes": "6"}


def test_http_statuses_and_errors(lab: Lab) -> None:
    lab.front()

    def status(path: str, *more: str) -> tuple[str, str]:
        text = curl_socket(lab, path, "--write-out", "%{http_code}", *more).decode()
        body, code = text[:-3], text[-3:]
        return code, json.loads(body.splitlines()[-1])["error"]["code"]

    assert status("/perseus.v1.Jobs/Nonsense", "--data", "{}") == ("404", "not_found")
    assert status("/nonsense") == ("404", "not_found")
    assert status("/perseus.v1.Jobs/Submit", "--request", "PUT") == ("405", "invalid")
    assert status("/perseus.v1.Jobs/Submit", "--data", "{") == ("400", "invalid")
    assert status("/perseus.v1.Jobs/Submit", "--data", '{"nonsense": 1}') == ("400", "invalid")
    assert status("/perseus.v1.Jobs/Follow", "--data", '{"job_id": "none"}') == ("404", "not_found")
    broken = status("/perseus.v1.Jobs/Follow", "--data", '{"job_id": "broken"}')
    assert broken == ("200", "not_found")
    slow = ["--header", "perseus-timeout-s: 0.05", "--data", '{"job_id": "j", "follow": true}']
    assert status("/perseus.v1.Jobs/Follow", *slow) == ("200", "timeout")
    assert status("/perseus.v1.Jobs/Wait", "--header", "perseus-timeout-s: x", "--data", "{}") == (
        "400",
        "invalid",
    )


def _raw(lab: Lab, request: bytes) -> tuple[bytes, bytes]:
    """The head and the body of what comes on a connection of its own."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LIMIT_S)
        connection.connect(str(lab.folder / "master.sock"))
        connection.sendall(request)
        got = b""
        while piece := connection.recv(65536):
            got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize("path", ["/", "/nonsense"])
def test_head_is_get_without_the_body(lab: Lab, path: str) -> None:
    lab.front()
    rest = f"{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
    head, body = _raw(lab, b"HEAD " + rest)
    assert body == b"" and head == _raw(lab, b"GET " + rest)[0]
    assert b"content-length: 0" not in head


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/perseus.v1.Cluster/ListNodes"),
        ("PUT", "/perseus.v1.Cluster/ListNodes"),
        ("HEAD", "/perseus.v1.Cluster/ListNodes"),
        ("DELETE", "/"),
        ("OPTIONS", "/nonsense"),
    ],
)
def test_another_verb_than_post_is_405(lab: Lab, verb: str, path: str) -> None:
    lab.front(registry=lab.registry())
    request = f"{verb} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    head, body = _raw(lab, request.encode())
    assert head.startswith(b"HTTP/1.1 405 ") and b"allow: POST" in head
    if verb != "HEAD":
        error = json.loads(body)["error"]
        assert (error["code"], "POST" in error["message"]) == ("invalid", True)


def test_a_target_with_its_host_is_its_path(lab: Lab) -> None:
    lab.front()
    request = b"GET http://perseus/healthz?x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert b"SERVING" in _raw(lab, request)[1]


@pytest.mark.parametrize(
    "more", [b"x: " + b"y" * 70_000 + b"\r\n", b"x: y\r\n" * 200, b"nonsense\r\n"]
)
def test_heads_are_bounded_and_refused_in_json(lab: Lab, more: bytes) -> None:
    lab.front()
    head, body = _raw(lab, b"GET / HTTP/1.1\r\nhost: x\r\n" + more + b"\r\n")
    assert head.startswith(b"HTTP/1.1 4") and b"application/json" in head
    error = json.loads(body)["error"]
    assert error["code"] in ("invalid", "too_large") and "docs/http.md" in error["hint"]


def test_pages_are_refused_to_whom_calls_are(lab: Lab) -> None:
    def refuse(caller: Caller) -> None:
        raise RefusedError(f"{caller} was removed")

    registry = Registry(refuse)
    lab.front(registry=registry)
    for page in ("/", "/healthz"):
        assert json.loads(curl_socket(lab, page))["error"]["code"] == "refused"


def test_bodies_are_bounded(lab: Lab) -> None:
    lab.front()
    big = lab.folder / "big"
    with open(big, "wb") as file:
        file.truncate(17 << 20)
    for path in ("/perseus.v1.Jobs/Submit", "/perseus.v1.Files/Write"):
        body = curl_socket(lab, path, "--data-binary", f"@{big}")
        assert json.loads(body)["error"]["code"] == "too_large"


def test_a_body_that_says_itself_that_it_is_too_large_is_not_waited_for(lab: Lab) -> None:
    lab.front()
    body = curl_socket(lab, "/perseus.v1.Jobs/Submit", "-H", "content-length: 99999999", "-d", "{}")
    assert json.loads(body)["error"]["code"] == "too_large"


def test_a_json_caller_who_leaves_ends_the_handler(lab: Lab) -> None:
    lab.front()
    connection = UnixConnection(str(lab.folder / "master.sock"))
    stream = connection.stream("Jobs.Follow", {"job_id": "j", "follow": True})
    assert next(stream)["job_id"] == "j"
    connection.close()
    assert lab.jobs.left.wait(LIMIT_S)


def test_other_users_of_the_machine_are_refused(lab: Lab) -> None:
    lab.front(local_role=lambda uid: roles.UNSPECIFIED)
    assert os.stat(lab.folder / "master.sock").st_mode & 0o777 == 0o666
    with UnixConnection(str(lab.folder / "master.sock")) as connection:
        for _ in range(2):
            with pytest.raises(RefusedError, match="PERSEUS_SOCKET_ROLE"):
                connection.call("Cluster.GetInfo", {})
        with pytest.raises(RefusedError):
            connection.get("/healthz")


def _each_connection(lab: Lab, front: Front) -> list[Connection]:
    return [
        UnixConnection(str(lab.folder / "master.sock")),
        tls_client.TlsConnection.of(front.address, lab.folder / "user", "master"),
    ]


def test_our_client_over_both_doors(lab: Lab) -> None:
    front = lab.front()
    for connection in _each_connection(lab, front):
        with connection:
            for _ in range(3):
                assert connection.call("Cluster.GetInfo", {})["cluster_id"] == "lab"
            with pytest.raises(InvalidError) as caught:
                connection.call("Jobs.Submit", {})
            assert caught.value.hint == "perseus run -- CMD"
            assert len(list(connection.stream("Jobs.Follow", {"job_id": "j"}))) == 3
            with pytest.raises(NotFoundError, match="its output is gone"):
                list(connection.stream("Jobs.Follow", {"job_id": "broken"}))
            sent = connection.upload("Files.Write", ({"data": "AAAA"} for _ in range(1000)))
            assert sent == {"size_bytes": "3000"}
            with pytest.raises(InvalidError, match="this piece is bad"):
                connection.upload("Files.Write", ({"data": "YmFk"} for _ in range(100_000)))
            length = 8 << 20
            pieces = connection.stream("Files.Read", {"length_bytes": length})
            assert sum(len(b64decode(piece["data"])) for piece in pieces) == length
            assert json.loads(connection.get("/healthz")) == {"status": "SERVING"}


def test_long_bytes_as_they_are(lab: Lab) -> None:
    """Who asks for raw bytes gets them behind their line; short ones stay within it."""
    front = lab.front()
    body = curl_socket(
        lab,
        "/perseus.v1.Files/Read",
        *("--header", "perseus-raw: 1", "--data", f'{{"length_bytes": {2 << 20}}}'),
    )
    for number in range(2):
        line, _, body = body.partition(b"\n")
        said = json.loads(line)
        assert said.pop("raw_bytes") == {"data": 1 << 20}
        assert said == ({"offset_bytes": str(number << 20)} if number else {})
        assert body[: 1 << 20] == bytes(1 << 20)
        body = body[1 << 20 :]
    assert body == b""
    for connection in _each_connection(lab, front):
        with connection:
            for _ in range(2):
                pieces = list(connection.stream("Files.Read", {"length_bytes": 8 << 20}, raw=True))
                assert [piece["data"] for piece in pieces] == [bytes(1 << 20)] * 8
                assert [int(piece.get("offset_bytes", 0)) >> 20 for piece in pieces] == list(
                    range(8)
                )
            assert len(list(connection.stream("Jobs.Follow", {"job_id": "j"}, raw=True))) == 3
            with pytest.raises(NotFoundError, match="its output is gone"):
                list(connection.stream("Jobs.Follow", {"job_id": "broken"}, raw=True))
            with pytest.raises(NotFoundError, match="there is no job"):
                list(connection.stream("Jobs.Follow", {"job_id": "none"}, raw=True))


def test_both_directions_over_json(lab: Lab) -> None:
    front = lab.front()
    with tls_client.TlsConnection.of(front.address, lab.folder / "node") as connection:
        call = connection.start("Agents.Connect")
        for number in range(1, 4):
            call.send({"heartbeat": {"number": number}})
            answer = call.receive()
            assert answer == {"heartbeat_answer": {"number": str(number)}}
        call.finish()
        assert call.receive() is None
        with pytest.raises(RefusedError):
            connection.call("Jobs.Submit", {})


def test_a_client_finds_a_restarted_daemon_again(lab: Lab) -> None:
    front = lab.front()
    with UnixConnection(str(lab.folder / "master.sock")) as connection:
        connection.call("Cluster.GetInfo", {})
        lab.run(front.stop(0.1))
        with pytest.raises(UnavailableError, match="no daemon answers"):
            connection.call("Cluster.GetInfo", {})
        lab.front()
        connection.call("Cluster.GetInfo", {})


def test_renewed_certificates_are_shown_to_new_connections(lab: Lab) -> None:
    front = lab.front()
    later = lab.identity("master", lab.load("master").subject, lifetime_s=7200.0)
    lab.run(_use(front, later))
    with tls_client.TlsConnection.of(front.address, lab.folder / "user") as connection:
        assert read(connection.peer_certificate()).not_after_s == later.expires_at_s
    with lab.stub(front.address, "user", "Cluster") as cluster:
        assert cluster.call("GetInfo", cluster_pb2.GetInfoRequest(), timeout_s=LIMIT_S)


async def _use(front: Front, identity: Identity) -> None:
    front.use_identity(identity)


def test_a_port_in_use_is_told(lab: Lab) -> None:
    front = lab.front()
    with pytest.raises(ConflictError, match="in use"):
        lab.front("node", listen=front.address)
    with pytest.raises(UnavailableError, match="cannot listen"):
        lab.front("node", listen="192.0.2.1:0")


class TestForwarding:
    """A node passes on what the master serves, and vouches for users at most."""

    @pytest.fixture
    def node(self, lab: Lab) -> Front:
        master = lab.front()
        channel = lab.run(_channel(master.address, lab.load("node")))
        registry = Registry()
        for name in ("Cluster", "Jobs", "Files"):
            registry.add(name, forwarding(name, lambda: channel, lambda: master.address))
        return lab.front("node", registry)

    def test_an_admin_here_is_a_user_there(self, lab: Lab, node: Front) -> None:
        with UnixConnection(str(lab.folder / "node.sock")) as connection:
            info = connection.call("Cluster.GetInfo", {})
        assert (info["caller_role"], info["node_name"]) == ("ROLE_USER", "id2")
        for who, role in (("viewer", roles.VIEWER), ("admin", roles.USER)):
            with lab.stub(node.address, who, "Cluster") as cluster:
                request = cluster_pb2.GetInfoRequest()
                answer = cluster.call("GetInfo", request, timeout_s=LIMIT_S)
                assert (answer.caller_name, answer.caller_role) == (f"the-{who}", role)
        with (
            lab.stub(node.address, "admin", "Cluster") as cluster,
            pytest.raises(RefusedError, match="takes role admin"),
        ):
            cluster.call("ListTokens", cluster_pb2.ListTokensRequest(), timeout_s=LIMIT_S)

    def test_a_user_cannot_claim_to_be_another(self, lab: Lab, node: Front) -> None:
        with (
            lab.stub(node.address, "viewer", "Cluster") as cluster,
            pytest.raises(RefusedError, match="not a node"),
        ):
            request = cluster_pb2.GetInfoRequest()
            claim = {ON_BEHALF: "eve;user"}
            cluster.call("GetInfo", request, metadata=claim, timeout_s=LIMIT_S)

    def test_streams_pass_in_both_directions(self, lab: Lab, node: Front) -> None:
        with UnixConnection(str(lab.folder / "node.sock")) as connection:
            assert len(list(connection.stream("Jobs.Follow", {"job_id": "j"}))) == 3
            with pytest.raises(NotFoundError, match="its output is gone"):
                list(connection.stream("Jobs.Follow", {"job_id": "broken"}))
            sent = connection.upload("Files.Write", [{"path": "/a"}, {"data": "AAAA"}])
            assert sent == {"path": "/a", "size_bytes": "3"}
            with pytest.raises(InvalidError, match="not a WritePiece"):
                connection.upload("Files.Write", [{"nonsense": 1}])

    def test_who_leaves_here_is_gone_there(self, lab: Lab, node: Front) -> None:
        connection = UnixConnection(str(lab.folder / "node.sock"))
        stream = connection.stream("Jobs.Follow", {"job_id": "j", "follow": True})
        next(stream)
        connection.close()
        assert lab.jobs.left.wait(LIMIT_S)


async def _channel(address: str, identity: Identity) -> Any:
    return aio_channel(address, identity, "master")
