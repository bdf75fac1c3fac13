"""The one dispatch: every RPC has a role, every caller is checked, every error is told."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perseus
from perseus.errors import (
    FullError,
    IncompatibleError,
    InternalError,
    InvalidError,
    NotFoundError,
    PerseusError,
    RefusedError,
    from_code,
)
from perseus.identity import roles
from perseus.proto.v1 import agent_pb2, cluster_pb2, common_pb2, jobs_pb2
from perseus.rpc import json_codec, services, status
from perseus.rpc.call import Call, Caller
from perseus.rpc.registry import ON_BEHALF, Method, Registry, represent

READ = "/perseus.v1.Outputs/ReadOutput"
NODE = Caller("n1", roles.NODE, "node", "id1")


class Outputs:
    """An implementation of one streaming RPC."""

    def __init__(self) -> None:
        self.closed = False

    async def read_output(
        self, request: agent_pb2.ReadOutputRequest, call: Call
    ) -> AsyncIterator[agent_pb2.OutputPiece]:
        try:
            yield agent_pb2.OutputPiece(data=request.attempt.encode())
            if request.offset_bytes:
                raise ValueError("a secret of the daemon")
            yield agent_pb2.OutputPiece(data=call.caller.name.encode())
        finally:
            self.closed = True


def _user(role: int) -> Caller:
    return Caller("ada", role, "user")


def _registry() -> tuple[Registry, Method, Outputs]:
    registry, outputs = Registry(), Outputs()
    registry.add("Outputs", outputs)
    return registry, registry.find(READ), outputs


def _admit(caller: Caller, **metadata: str) -> Call:
    registry, method, _ = _registry()
    named = {name.replace("_", "-"): value for name, value in metadata.items()}
    return registry.admit(method, READ, caller, named, None)


def test_every_rpc_of_the_protocol_has_a_role() -> None:
    names = services.all_services()
    assert {"perseus.v1.Jobs", "perseus.v1.Files", "perseus.v1.Cluster"} <= set(names)
    for name in names:
        for kind in services.methods_of(name).values():
            assert kind.required_role in roles.WORDS, kind.path


def test_python_names() -> None:
    names = {kind.python_name for kind in services.methods_of("Cluster").values()}
    assert {"get_info", "renew_certificate", "join"} <= names


def test_a_missing_method_is_told_at_the_start() -> None:
    with pytest.raises(InternalError, match=r"object\.read_output is missing"):
        Registry().add("Outputs", object())


def test_a_method_of_the_wrong_kind_is_told_at_the_start() -> None:
    class Wrong:
        async def read_output(self, request: Any, call: Call) -> None: ...

    with pytest.raises(InternalError, match="not an async generator"):
        Registry().add("Outputs", Wrong())


def test_a_service_without_roles_needs_one() -> None:
    from grpc_health.v1 import health_pb2  # noqa: F401

    class Health:
        async def check(self, request: Any, call: Call) -> None: ...

    with pytest.raises(InternalError, match="no required_role"):
        Registry().add("grpc.health.v1.Health", Health())


def test_nothing_is_served_twice_and_unknown_services_are_told() -> None:
    registry, _, _ = _registry()
    with pytest.raises(InternalError, match="twice"):
        registry.add("Outputs", Outputs())
    with pytest.raises(InternalError, match="no service"):
        registry.add("Nonsense", object())
    for path, hint in (
        ("/perseus.v1.Nonsense/ReadOutput", "services are: perseus.v1.Outputs"),
        ("/perseus.v1.Outputs/Nonsense", "perseus.v1.Outputs has: ReadOutput"),
    ):
        with pytest.raises(NotFoundError) as refused:
            registry.find(path)
        assert hint in refused.value.hint


def test_roles_are_checked() -> None:
    for role in roles.LADDER:
        assert _admit(_user(role)).caller.role == role
    assert _admit(NODE).caller is NODE
    for caller in (_user(roles.UNSPECIFIED), Caller("t", roles.TOKEN, "token")):
        with pytest.raises(RefusedError, match="takes role viewer"):
            _admit(caller)


@pytest.mark.parametrize("offered", ["1-1 0.1.0", "1-7 9.0", "0-1", "1-1"])
def test_a_common_version_is_enough(offered: str) -> None:
    _admit(_user(roles.ADMIN), perseus_protocol=offered)


@pytest.mark.parametrize(
    ("offered", "said", "to_upgrade"),
    [
        ("2-3 0.9.0", ["0.9.0", "versions 2 to 3", "version 1 "], "the nodes of the cluster"),
        ("0-0 0.0.1", ["0.0.1", "version 0 ", "version 1 "], "this machine"),
    ],
)
def test_a_client_without_a_common_version_is_told_both(
    offered: str, said: list[str], to_upgrade: str
) -> None:
    with pytest.raises(IncompatibleError) as caught:
        _admit(_user(roles.ADMIN), perseus_protocol=offered)
    assert all(part in caught.value.message for part in said), caught.value.message
    assert perseus.__version__ in caught.value.message
    assert f"upgrade Perseus on {to_upgrade}" in caught.value.hint


@pytest.mark.parametrize("offered", ["", "1", "x-y", "1-", "-1-1", "1-2-3", "\u00b2-2"])
def test_what_is_no_offer_is_refused(offered: str) -> None:
    with pytest.raises(InvalidError, match="perseus-protocol"):
        _admit(_user(roles.ADMIN), perseus_protocol=offered)


def test_those_who_were_removed_are_refused() -> None:
    def check(caller: Caller) -> None:
        if caller.node_id == "id1":
            raise RefusedError("the node was removed")

    registry = Registry(check)
    registry.add("Outputs", Outputs())
    method = registry.find(READ)
    with pytest.raises(RefusedError, match="removed"):
        registry.admit(method, READ, NODE, {}, None)
    # Nor can a removed node speak for others.
    with pytest.raises(RefusedError, match="removed"):
        registry.admit(method, READ, NODE, {ON_BEHALF: "ada;user"}, None)


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.sampled_from(roles.LADDER))
def test_a_node_speaks_for_its_callers_as_users_at_most(name: str, role: int) -> None:
    behalf = represent(Caller(name, role, "local"))
    assert behalf.isascii()
    caller = _admit(NODE, perseus_on_behalf=behalf).caller
    assert (caller.name, caller.role) == (name, min(role, roles.USER))
    assert (caller.kind, caller.via_node_id, caller.node_id) == ("user", "id1", "")


def test_an_admin_claimed_by_a_node_is_a_user() -> None:
    assert _admit(NODE, perseus_on_behalf="eve;admin").caller.role == roles.USER


@pytest.mark.parametrize("claim", ["", "eve", ";user", "eve;node", "eve;token", "eve;king"])
def test_impossible_claims(claim: str) -> None:
    with pytest.raises(InvalidError):
        _admit(NODE, perseus_on_behalf=claim)


def test_only_nodes_speak_for_others() -> None:
    for role in roles.LADDER:
        with pytest.raises(RefusedError, match="not a node"):
            _admit(_user(role), perseus_on_behalf="ada;viewer")


def test_who_cannot_be_represented() -> None:
    twice = Caller("ada", roles.USER, "user", via_node_id="id1")
    for caller in (NODE, Caller("t", roles.TOKEN, "token"), twice):
        with pytest.raises(RefusedError):
            represent(caller)


def _collect(offset_bytes: int, first_only: bool = False) -> tuple[list[bytes], Outputs]:
    registry, method, outputs = _registry()
    call = registry.admit(method, READ, _user(roles.USER), {}, None)
    got: list[bytes] = []

    async def run() -> None:
        request = agent_pb2.ReadOutputRequest(attempt="a", offset_bytes=offset_bytes)
        stream: Any = registry.respond_stream(method, request, call)
        async for piece in stream:
            got.append(piece.data)
            if first_only:
                await stream.aclose()
                assert outputs.closed

    asyncio.run(run())
    return got, outputs


def test_streams_end_and_close() -> None:
    assert _collect(0)[0] == [b"a", b"ada"]
    assert _collect(0, first_only=True)[0] == [b"a"]


def test_a_defect_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(InternalError) as caught:
        _collect(1)
    assert "secret" not in str(caught.value)
    number = caught.value.message.split("error ")[1].rstrip(")")
    assert number in caplog.text and "a secret of the daemon" in caplog.text


@pytest.mark.parametrize("kind", PerseusError.__subclasses__())
def test_errors_survive_the_wire(kind: type[PerseusError]) -> None:
    error = kind("what", hint="next", maybe_done=True)
    as_json = status.to_json(error)["error"]
    for back in (status.from_proto(status.to_proto(error)), from_code(**as_json)):
        assert type(back) is kind
        assert (back.message, back.hint, back.maybe_done) == ("what", "next", True)
    assert 400 <= status.http_status(error) < 600
    assert status.grpc_status_name(error).isupper()


def test_long_errors_fit_into_a_trailer() -> None:
    message = status.to_proto(FullError("ü" * 100_000))
    assert len(message.SerializeToString()) < 8000
    assert message.message.endswith("…")


def test_json_codec() -> None:
    by_snake = json_codec.parse(b'{"spec": {"time_limit_s": 1.5}}', jobs_pb2.SubmitRequest)
    by_camel = json_codec.parse(b'{"spec": {"timeLimitS": 1.5}}', jobs_pb2.SubmitRequest)
    assert by_snake == by_camel
    spec = jobs_pb2.TaskSpec(stdin_inline=b"\xff", output_limit_bytes=1 << 60)
    assert (
        json_codec.emit(spec)
        == b'{"stdin_inline":"/w==","output_limit_bytes":"1152921504606846976"}'
    )
    assert json_codec.parse(b" ", common_pb2.Empty) == common_pb2.Empty()
    for text in (b"{", b"[]", b'{"nonsense": 1}', b"\xff", b'{"spec": 1}', b"[" * 100_000):
        with pytest.raises(InvalidError) as caught:
            json_codec.parse(text, jobs_pb2.SubmitRequest)
        assert "protocol.md#" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ('{"requestIdd": "x"}', "SubmitRequest has no field 'requestIdd'", "request_id"),
        ('{"spec": {"argvv": []}}', ".spec has no field 'argvv'", "argv, environment, working_d"),
        ('{"spec": {"files": [{}, {"a": 1}]}}', ".spec.files[1] has no field 'a'", "name, path"),
        ('{"requestId": 1}', ".request_id is no text but 1", "quotes"),
        ('{"spec": {"environment": {"A": 1}}}', ".environment['A'] is no text but 1", "quotes"),
        ('{"spec": {"argv": "ls"}}', ".spec.argv is no list", "[VALUE"),
        ('{"spec": {"argv": ["ls", null]}}', ".spec.argv[1] is no text but null", "quotes"),
        ('{"spec": {"labels": []}}', ".spec.labels is no object", '{"NAME"'),
        ('{"spec": 1}', ".spec is no object", "protocol.md#taskspec"),
        ('{"spec": {"timeLimitS": "x"}}', '.time_limit_s cannot be "x"', "#taskspec"),
        ('{"spec": {"retries": -1}}', ".spec.retries cannot be -1", "#taskspec"),
        ('{"spec": {"stdin_inline": 1}}', ".stdin_inline cannot be 1", "#taskspec"),
    ],
)
def test_what_is_wrong_with_a_request_is_told_in_its_writers_words(
    text: str, said: str, hint: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        json_codec.parse(text.encode(), jobs_pb2.SubmitRequest)
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert "requestId," not in caught.value.hint


def test_a_word_that_is_none_is_told_with_those_there_are() -> None:
    with pytest.raises(InvalidError, match="ROLE_X") as caught:
        json_codec.parse(b'{"role": "ROLE_X"}', cluster_pb2.CreateTokenRequest)
    assert "ROLE_USER" in caught.value.hint


def test_a_field_that_cannot_be_read_is_named_once() -> None:
    with pytest.raises(InvalidError) as caught:
        json_codec.parse(b'{"spec": {"resources": {"cpu": "x"}}}', jobs_pb2.SubmitRequest)
    message = caught.value.message
    assert "spec.resources.cpu" in message and "Failed to parse" not in message
