"""Service Cluster: joining, logging in, tokens, nodes and what is wrong with them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from membership_harness import Agent, Master, call_of, running_link, running_master, until

from perseus.errors import (
    AlreadyExistsError,
    ConflictError,
    IncompatibleError,
    InvalidError,
    NotFoundError,
    RefusedError,
)
from perseus.identity import roles
from perseus.identity.files import Identity, new_key_and_request
from perseus.identity.subject import read
from perseus.identity.token_text import parse_token
from perseus.membership.commands import UpdateNode
from perseus.membership.diagnosis import diagnose_node
from perseus.membership.values import Capacity, Load, NodeInfo
from perseus.proto.v1 import cluster_pb2 as pb
from perseus.rpc.call import Call, Caller
from perseus.rpc.channels import aio_channel
from perseus.rpc.stubs import AioStub
from perseus.rpc.tls_client import bootstrap
from perseus.runtime.machine import Instant


def with_master(folder: Path, act: Callable[[Master], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with running_master(folder) as master:
            await act(master)

    asyncio.run(whole())


ADMIN = Call(Caller("ann", roles.ADMIN, "user"), "test")


async def new_token(master: Master, role: int = 0) -> str:
    request = pb.CreateTokenRequest(ttl_s=60)
    request.role = role  # type: ignore[assignment]
    return (await master.cluster.create_token(request, ADMIN)).token


def holder(token: str) -> Call:
    return Call(Caller(parse_token(token).token_id, roles.TOKEN, "token"), "test")


def join_request(master: Master, token_text: str, **changed: Any) -> pb.JoinRequest:
    _, request_pem = new_key_and_request("whatever")
    values: dict[str, Any] = {
        "token": parse_token(token_text).secret,
        "name": "attic",
        "certificate_request_pem": request_pem.decode(),
        "protocol": 1,
        "version": "0.1",
        "labels": {"room": "attic"},
        "time_s": master.clock.time_s(),
    }
    return pb.JoinRequest(**{**values, **changed})


def test_a_machine_joins_by_a_token_and_its_agent_connects(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        token = await new_token(master)
        key_pem, request_pem = new_key_and_request("attic")
        request = join_request(master, token, certificate_request_pem=request_pem.decode())

        def join() -> dict[str, Any]:
            connection, parts = bootstrap(master.address, token)
            with connection:
                request.token = parts.secret
                as_json = MessageToDict(request, preserving_proto_field_name=True)
                return connection.call("Cluster.Join", as_json)

        answer = await asyncio.to_thread(join)
        joined = ParseDict(answer, pb.JoinResponse())
        assert joined.node_name == "attic" and joined.cluster_id == "test"
        ca_pem, pem = joined.ca_pem.encode(), joined.certificate_pem.encode()
        identity = Identity.of(short_folder / "joined", ca_pem, pem, key_pem)
        assert identity.subject.node_id == joined.node_id and not identity.subject.is_master
        agent = Agent("attic")
        async with running_link(agent, identity, master.address):
            await until(lambda: agent.welcomes)
            assert agent.welcomes[0].node_name == "attic"
            await until(lambda: master.membership.node("attic").heard_at_s)
            assert master.membership.node("attic").labels == {"room": "attic"}

    with_master(short_folder, act)


def test_a_refused_join_leaves_the_token_usable_and_no_node(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        await master.add("n1", "kitchen")
        agent = Agent()
        async with running_link(agent, master.identity("n1", "kitchen"), master.address):
            await until(lambda: agent.welcomes)
            token = await new_token(master)
            now_s = master.clock.time_s()
            wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
                (RefusedError, "ahead of", {"time_s": now_s + 400}),
                (RefusedError, "behind", {"time_s": 0.0}),
                (RefusedError, "clock", {"time_s": float("nan")}),
                (IncompatibleError, "version 9", {"protocol": 9}),
                (AlreadyExistsError, "alive", {"name": "kitchen"}),
                (InvalidError, "cannot be the name", {"name": "../etc"}),
                (InvalidError, "name is missing", {"name": ""}),
                (InvalidError, "request", {"certificate_request_pem": "nonsense"}),
                (RefusedError, "secret is wrong", {"token": "a" * 32}),
            ]
            for kind, words, changed in wrong:
                with pytest.raises(kind, match=words):
                    await master.cluster.join(join_request(master, token, **changed), holder(token))
        assert [node.name for node in master.membership.nodes()] == ["kitchen"]
        await master.cluster.join(join_request(master, token), holder(token))
        with pytest.raises(RefusedError, match="used already, by attic"):
            await master.cluster.join(join_request(master, token, name="cellar"), holder(token))
        with pytest.raises(RefusedError, match="role user"):
            other = await new_token(master, roles.USER)
            await master.cluster.join(join_request(master, other, name="cellar"), holder(other))
        with pytest.raises(InvalidError, match="of the cluster already"):
            await master.cluster.join(join_request(master, token), ADMIN)

    with_master(short_folder, act)


def test_a_reinstalled_node_joins_under_its_old_name(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        first_token, second_token = await new_token(master), await new_token(master)
        first = await master.cluster.join(join_request(master, first_token), holder(first_token))
        second = await master.cluster.join(join_request(master, second_token), holder(second_token))
        assert first.node_id != second.node_id
        assert [node.node_id for node in master.membership.nodes()] == [second.node_id]
        assert [down.removed for down in master.witness.downs()] == [True]
        # What the old installation still holds opens nothing any more.
        channel = aio_channel(master.address, master.identity(first.node_id, "attic"), to="master")
        with pytest.raises(RefusedError, match="no longer"):
            await AioStub(channel, "Cluster").call("GetInfo", pb.GetInfoRequest())
        await channel.close()

    with_master(short_folder, act)


def test_a_person_logs_in_with_the_role_of_the_token(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        token = await new_token(master, roles.VIEWER)
        _, request_pem = new_key_and_request("ann")
        request = pb.LoginRequest(
            token=parse_token(token).secret,
            name="ann",
            certificate_request_pem=request_pem.decode(),
            time_s=master.clock.time_s(),
        )
        answer = await master.cluster.login(request, holder(token))
        assert (answer.name, answer.role, answer.cluster_id) == ("ann", roles.VIEWER, "test")
        subject = read(answer.certificate_pem.encode()).subject
        assert (subject.kind, subject.role, subject.name) == ("user", roles.VIEWER, "ann")
        with pytest.raises(RefusedError, match="used already"):
            await master.cluster.login(request, holder(token))
        with pytest.raises(RefusedError, match="role node"):
            node_token = await new_token(master)
            request.token = parse_token(node_token).secret
            await master.cluster.login(request, holder(node_token))

    with_master(short_folder, act)


def test_certificates_are_renewed_for_what_the_caller_is(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        await master.add("n1", "kitchen")
        _, request_pem = new_key_and_request("whatever")
        request = pb.RenewCertificateRequest(certificate_request_pem=request_pem.decode())
        renewed = await master.cluster.renew_certificate(request, call_of("n1"))
        subject = read(renewed.certificate_pem.encode()).subject
        assert (subject.kind, subject.node_id, subject.name) == ("node", "n1", "kitchen")
        user = Call(Caller("bob", roles.USER, "user"), "test")
        renewed = await master.cluster.renew_certificate(request, user)
        assert read(renewed.certificate_pem.encode()).subject.role == roles.USER
        for caller in (
            Caller("bob", roles.ADMIN, "local"),
            Caller("bob", roles.USER, "user", via_node_id="n1"),
            Caller("gone", roles.NODE, "node", "n9"),
        ):
            with pytest.raises(RefusedError):
                await master.cluster.renew_certificate(request, Call(caller, "test"))

    with_master(short_folder, act)


def test_tokens_are_listed_and_revoked(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        token = await new_token(master)
        token_id = parse_token(token).token_id
        listed = await master.cluster.list_tokens(pb.ListTokensRequest(), ADMIN)
        assert [(t.token_id, t.role, t.used_by) for t in listed.tokens] == [
            (token_id, roles.NODE, "")
        ]
        assert parse_token(token).secret not in str(listed)
        await master.cluster.revoke_token(pb.RevokeTokenRequest(token_id=token_id), ADMIN)
        assert not (await master.cluster.list_tokens(pb.ListTokensRequest(), ADMIN)).tokens
        with pytest.raises(RefusedError, match="revoked"):
            await master.cluster.join(join_request(master, token), holder(token))

    with_master(short_folder, act)


def test_nodes_are_listed_changed_and_removed(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        await master.add("n2", "kitchen")
        await master.add("n1", "cellar")
        master.cluster.node_details.append(lambda node: setattr(node, "tasks", 3))
        listed = await master.cluster.list_nodes(pb.ListNodesRequest(), ADMIN)
        assert [(node.name, node.tasks) for node in listed.nodes] == [("cellar", 3), ("kitchen", 3)]
        assert listed.nodes[0].state == pb.NODE_STATE_JOINED
        update = pb.UpdateNodeRequest(node="cellar", labels={"gpu": "yes"}, draining=True)
        assert (await master.cluster.update_node(update, ADMIN)).labels == {"gpu": "yes"}
        assert master.membership.node("cellar").draining
        only_label = pb.UpdateNodeRequest(node="n1", labels={"gpu": ""})
        assert not (await master.cluster.update_node(only_label, ADMIN)).labels
        assert master.membership.node("cellar").draining

        master.cluster.removal_guards.append(lambda node_id: f"{node_id} alone holds 2 chunks")
        removal = pb.RemoveNodeRequest(node="cellar")
        with pytest.raises(ConflictError, match="n1 alone holds 2 chunks") as caught:
            await master.cluster.remove_node(removal, ADMIN)
        assert "--force cellar" in caught.value.hint
        removal.force = True
        await master.cluster.remove_node(removal, ADMIN)
        with pytest.raises(NotFoundError):
            await master.cluster.remove_node(removal, ADMIN)

    with_master(short_folder, act)


def test_diagnosis_names_what_is_wrong_the_worst_first(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        await master.add("n1", "cellar")
        identity = await master.add("n2", "attic")
        agent = Agent("attic")
        async with running_link(agent, identity, master.address):
            await until(lambda: agent.welcomes)
        await until(lambda: master.witness.downs())
        await master.driver.do(UpdateNode("cellar", draining=True))
        extra = pb.Finding(severity="note", subject="/a", message="a replica was healed")
        master.cluster.finding_providers.append(lambda: [extra])
        found = (await master.cluster.diagnose(pb.DiagnoseRequest(), ADMIN)).findings
        assert [(f.severity, f.subject) for f in found] == [
            ("error", "attic"),
            ("warning", "cellar"),
            ("note", "/a"),
        ]
        assert "attic is lost, silent for" in found[0].message
        assert "perseus nodes rm attic" in found[0].command

    with_master(short_folder, act)


def test_findings_about_a_live_node() -> None:
    capacity = Capacity(cpu=2, disk_bytes=100 << 30)
    load = Load(memory_available_bytes=1 << 30, disk_free_bytes=100 << 20)
    node = NodeInfo(
        "n1",
        "attic",
        False,
        alive=True,
        connected=True,
        draining=False,
        session=1,
        version="0.0",
        capacity=capacity,
        load=load,
        clock_skew_s=-30.0,
        certificate_expires_at_s=1000.0 + 86400,
    )
    messages = [f.message for f in diagnose_node(node, Instant(0.0, 1000.0), "0.1", 7776000.0)]
    assert messages == [
        "attic has a clock 30.0 s behind the master's",
        "attic has a certificate that expires in 24 hours and was not renewed",
        "attic has 100 MiB of disk left",
        "attic runs Perseus 0.0, the master 0.1",
    ]
    gone = replace(node, alive=False, connected=False)
    (lost,) = diagnose_node(gone, Instant(0.0, 1000.0), "0.1", 7776000.0)
    assert "when it was heard last it had a clock 30.0 s behind the master's" in lost.message
    assert lost.command == "timedatectl set-ntp true  # on attic; then there: perseus start"
    bare = replace(node, load=replace(load, disk_free_bytes=0, disk_gone=True))
    third = list(diagnose_node(bare, Instant(0.0, 1000.0), "0.1", 7776000.0))[2]
    assert third.message.startswith("attic cannot find its folder of replicas")
    assert "restart" in third.command


def test_a_caller_is_told_who_he_is_and_what_he_may_not(short_folder: Path) -> None:
    async def act(master: Master) -> None:
        identity = await master.add("n1", "kitchen")
        channel = aio_channel(master.address, identity, to="master")
        stub = AioStub(channel, "Cluster")
        info = await stub.call("GetInfo", pb.GetInfoRequest())
        assert (info.cluster_id, info.node_name) == ("test", "first")
        assert (info.caller_name, info.caller_role) == ("kitchen", roles.NODE)
        assert abs(info.master_time_s - master.clock.time_s()) < 60
        with pytest.raises(RefusedError, match="takes role admin"):
            await stub.call("CreateToken", pb.CreateTokenRequest())
        await channel.close()

    with_master(short_folder, act)
