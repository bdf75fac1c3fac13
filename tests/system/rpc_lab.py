"""A small cluster's front for the tests of rpc: real sockets, certificates and tokens."""

import asyncio
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from perseus.errors import InvalidError, NotFoundError, UnavailableError
from perseus.identity import files, roles
from perseus.identity.authority import Authority
from perseus.identity.files import Identity
from perseus.identity.subject import Subject
from perseus.identity.tokens import (
    CreateToken,
    RedeemToken,
    Tokens,
    hash_secret,
    make_token,
    new_secret,
)
from perseus.proto.v1 import agent_pb2, cluster_pb2, common_pb2, filestore_pb2, jobs_pb2
from perseus.rpc import services
from perseus.rpc.call import Call
from perseus.rpc.callers import socket_roles
from perseus.rpc.channels import sync_channel
from perseus.rpc.front import Front, token_check
from perseus.rpc.registry import Registry
from perseus.rpc.standard import add_standard_services
from perseus.rpc.stubs import Stub
from perseus.runtime.machine import Instant

LIMIT_S = 30.0


class Cluster:
    """Joins by tokens, and tells who calls."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab

    async def get_info(self, request: Any, call: Call) -> cluster_pb2.ClusterInfo:
        caller = call.caller
        return cluster_pb2.ClusterInfo(
            cluster_id="lab",
            caller_name=caller.name,
            caller_role=common_pb2.Role.Name(cast(Any, caller.role)),
            node_name=caller.via_node_id,
        )

    async def join(self, request: cluster_pb2.JoinRequest, call: Call) -> cluster_pb2.JoinResponse:
        secret_sha256 = hash_secret(request.token)
        redeem = RedeemToken(call.caller.name, secret_sha256, request.name, None, (roles.NODE,))
        self._lab.tokens.step(self._lab.instant(), redeem)
        subject = Subject("node", request.name, roles.NODE, "id-new")
        pem = self._lab.authority.sign(
            request.certificate_request_pem.encode(), subject, 60.0, time.time()
        )
        return cluster_pb2.JoinResponse(certificate_pem=pem.decode(), node_name=request.name)

    async def renew_certificate(self, request: Any, call: Call) -> Any:
        raise ValueError("a secret of the daemon")


class Jobs:
    """Unary with an error, and a stream that goes on until the caller leaves."""

    def __init__(self) -> None:
        self.left = threading.Event()

    async def submit(self, request: jobs_pb2.SubmitRequest, call: Call) -> Any:
        if not request.spec.argv:
            raise InvalidError("there is no program to run", hint="perseus run -- CMD")
        return jobs_pb2.SubmitResponse(job_id=f"job-of-{call.caller.name}")

    async def follow(
        self, request: jobs_pb2.FollowRequest, call: Call
    ) -> AsyncIterator[jobs_pb2.FollowEvent]:
        if request.job_id == "none":
            raise NotFoundError("there is no job none")
        try:
            for number in range(3):
                yield jobs_pb2.FollowEvent(job_id=request.job_id, task=number)
            if request.job_id == "broken":
                raise NotFoundError("its output is gone")
            if request.follow:
                await asyncio.get_running_loop().create_future()
        finally:
            self.left.set()


class Files:
    """Client streaming and big streams."""

    async def write(
        self, requests: AsyncIterator[filestore_pb2.WritePiece], call: Call
    ) -> filestore_pb2.FileInfo:
        info = filestore_pb2.FileInfo()
        async for piece in requests:
            info.path = info.path or piece.path
            info.size_bytes += len(piece.data)
            if piece.data == b"bad":
                raise InvalidError("this piece is bad")
        return info

    async def read(
        self, request: filestore_pb2.ReadRequest, call: Call
    ) -> AsyncIterator[filestore_pb2.ReadPiece]:
        for number in range(request.length_bytes >> 20):
            yield filestore_pb2.ReadPiece(data=bytes(1 << 20), offset_bytes=number << 20)


class Agents:
    """Both directions at once."""

    async def connect(
        self, requests: AsyncIterator[agent_pb2.AgentMessage], call: Call
    ) -> AsyncIterator[agent_pb2.MasterMessage]:
        async for message in requests:
            number = message.heartbeat.number
            yield agent_pb2.MasterMessage(heartbeat_answer=agent_pb2.HeartbeatAnswer(number=number))


def _completed(service: str, implementation: object) -> object:
    """The implementation, with an error for each RPC of the service that it lacks."""
    for kind in services.methods_of(service).values():
        if not hasattr(implementation, kind.python_name):
            setattr(implementation, kind.python_name, _absent(kind.server_streaming))
    return implementation


def _absent(streaming: bool) -> Any:
    async def one(request: Any, call: Call) -> Any:
        raise UnavailableError("not in this lab")

    async def many(request: Any, call: Call) -> AsyncIterator[Any]:
        raise UnavailableError("not in this lab")
        yield

    return many if streaming else one


class Lab:
    """A cluster's authority, its identities, and fronts in a thread with a loop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create("lab", time.time())
        self.tokens = Tokens()
        self.jobs = Jobs()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._fronts: list[Front] = []
        self.identity("master", Subject("node", "n1", roles.NODE, "id1", is_master=True))
        self.identity("node", Subject("node", "n2", roles.NODE, "id2"))
        for role in roles.LADDER:
            word = roles.WORDS[role]
            self.identity(word, Subject("user", f"the-{word}", role))

    def instant(self) -> Instant:
        return Instant(time.monotonic(), time.time())

    def identity(
        self,
        name: str,
        subject: Subject,
        lifetime_s: float = 3600.0,
        time_s: float = 0.0,
        authority: Authority | None = None,
    ) -> Identity:
        authority = authority or self.authority
        key_pem, request_pem = files.new_key_and_request(subject.name)
        pem = authority.sign(request_pem, subject, lifetime_s, time_s or time.time())
        made = Identity.of(self.folder / name, authority.ca_pem, pem, key_pem)
        made.save()
        return made

    def load(self, name: str) -> Identity:
        return Identity.load(self.folder / name)

    def token(self, token_id: str, role: int, ttl_s: float = 60.0) -> str:
        secret = new_secret(hash(token_id) & 0xFFFFFFFF)
        sha = hash_secret(secret)
        self.tokens.step(self.instant(), CreateToken(token_id, sha, role, ttl_s))
        return make_token(token_id, secret, self.authority.fingerprint)

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT_S)

    def registry(self) -> Registry:
        registry = Registry()
        registry.add("Cluster", _completed("Cluster", Cluster(self)))
        registry.add("Jobs", _completed("Jobs", self.jobs))
        registry.add("Files", _completed("Files", Files()))
        registry.add("Agents", Agents())
        add_standard_services(registry)
        return registry

    def front(self, name: str = "master", registry: Registry | None = None, **more: Any) -> Front:
        front = Front(
            registry or self.registry(),
            self.load(name),
            listen=more.pop("listen", "127.0.0.1:0"),
            socket_path=str(self.folder / f"{name}.sock"),
            grpc_socket_path=str(self.folder / f"{name}.grpc"),
            local_role=more.pop("local_role", socket_roles("none")),
            check_token=token_check(self.tokens.judge_server_name),
            **more,
        )
        self.run(front.start())
        self._fronts.append(front)
        return front

    def close(self) -> None:
        for front in self._fronts:
            self.run(front.stop(0.1))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LIMIT_S)
        self.loop.close()

    @contextmanager
    def stub(self, address: str, who: str, service: str, to: str = "node") -> Iterator[Stub]:
        with sync_channel(address, self.load(who), to) as channel:
            yield Stub(channel, service, address)


def curl(*arguments: str) -> bytes:
    """What curl prints; it must end well."""
    command = ["curl", "--silent", "--show-error", "--max-time", str(LIMIT_S), *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def curl_tls(lab: Lab, front: Front, who: str, path: str, *more: str) -> bytes:
    """curl over mutual TLS, as one of the lab's identities."""
    folder = lab.folder / who
    _, _, port = front.address.rpartition(":")
    name = "node.lab.perseus.internal"
    return curl(
        f"https://{name}:{port}{path}",
        *("--resolve", f"{name}:{port}:127.0.0.1"),
        *("--cacert", str(folder / "ca.pem")),
        *("--cert", str(folder / "node.pem"), "--key", str(folder / "node.key")),
        *more,
    )


def curl_socket(lab: Lab, path: str, *more: str) -> bytes:
    """curl over the master's Unix socket."""
    return curl("--unix-socket", str(lab.folder / "master.sock"), f"http://perseus{path}", *more)
