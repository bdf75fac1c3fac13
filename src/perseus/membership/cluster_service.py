"""Service Cluster: who belongs to it, who may speak to it, and what is wrong with it.

The state is with the machines of membership and tokens; here requests become
their events, and certificates are signed. What other packages know of a node
(its tasks, its chunks, what they find wrong) comes by the callables that they
register.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from perseus import settings as settings_module
from perseus.errors import (
    ConflictError,
    IncompatibleError,
    InvalidError,
    RefusedError,
)
from perseus.identity import roles
from perseus.identity.authority import Authority
from perseus.identity.subject import NAME_MAXIMUM_BYTES, RunSubject, Subject
from perseus.identity.token_text import hash_secret, make_token, new_secret
from perseus.identity.tokens import (
    CreateToken,
    ListTokens,
    RedeemToken,
    RevokeToken,
    TokenRecord,
    Tokens,
)
from perseus.ids import encode
from perseus.membership.commands import AddNode, RemoveNode, UpdateNode
from perseus.membership.diagnosis import diagnose_node
from perseus.membership.state import Membership
from perseus.membership.values import NodeInfo, node_to_message
from perseus.proto.v1 import cluster_pb2, common_pb2
from perseus.rpc.call import Call, Caller
from perseus.runtime.machine import Driver
from perseus.runtime.ports import Random
from perseus.settings import Settings

# A clock that is off by more than this may not join: certificates would not hold.
CLOCK_SKEW_MAXIMUM_S = 300.0
ID_LENGTH = 8
# Of the certificates of processes of a run, or as long as nodes' where that is less; they
# ask for the next one in time.
PROCESS_CERTIFICATE_S = 3600.0
FINDINGS_MAXIMUM = 1000

# Fills in what another package knows of the node that the message is of.
NodeDetail = Callable[[cluster_pb2.Node], None]
# Says why the node of this id should not leave; empty when it may.
RemovalGuard = Callable[[str], str]
# Raises PerseusError when the caller may not have a certificate for a process of a run, or,
# with no process, for its control.
RunGuard = Callable[[str, str, Caller], None]
FindingProvider = Callable[[], Iterable[cluster_pb2.Finding]]


@dataclass(frozen=True, slots=True)
class About:
    """What the daemon is, for GetInfo."""

    version: str
    node_name: str
    master_address: str


class ClusterService:
    """Serves Cluster; bind it with ``Registry.add("Cluster", service)``."""

    def __init__(
        self,
        driver: Driver,
        membership: Membership,
        tokens: Tokens,
        authority: Authority,
        random: Random,
        settings: Settings,
        about: About,
    ) -> None:
        """``driver`` steps a Composite that has both ``tokens`` and ``membership``."""
        self._driver = driver
        self._membership = membership
        self._tokens = tokens
        self._authority = authority
        self._random = random
        self._settings = settings
        self._about = about
        # Others add theirs.
        self.node_details: list[NodeDetail] = []
        self.removal_guards: list[RemovalGuard] = []
        self.run_guard: RunGuard | None = None
        self.finding_providers: list[FindingProvider] = []

    async def get_info(
        self, request: cluster_pb2.GetInfoRequest, call: Call
    ) -> cluster_pb2.ClusterInfo:
        """Which cluster and version answers, and who the caller is to it."""
        return cluster_pb2.ClusterInfo(
            cluster_id=self._authority.cluster_id,
            version=self._about.version,
            protocol_minimum=settings_module.PROTOCOL_MINIMUM,
            protocol_maximum=settings_module.PROTOCOL_MAXIMUM,
            caller_name=call.caller.name,
            caller_role=_role(call.caller.role),
            master_address=self._about.master_address,
            master_time_s=self._driver.instant().time_s,
            node_name=self._about.node_name,
        )

    async def join(self, request: cluster_pb2.JoinRequest, call: Call) -> cluster_pb2.JoinResponse:
        """The holder of a node's token becomes a node; token and node in one transaction.
        One that was a node stays it, and keeps its replicas."""
        self._check_clock(request.time_s)
        _check_protocol(request.protocol, request.version)
        node_id = request.node_id or encode(self._random.bits(5 * ID_LENGTH), ID_LENGTH)
        node = AddNode(node_id, request.name, dict(request.labels))
        following = None if request.node_id else node
        redeem = _redemption(call.caller, request.token, request.name, following, (roles.NODE,))
        # From here to the step nothing awaits, so what was checked still holds in it.
        at = self._driver.instant()
        self._tokens.check(at, redeem)
        self._membership.check_join(node.name, node.labels, at.now_s)
        if request.node_id:
            self._check_return(request.node_id, request.name)
        certificate_pem = self._authority.sign(
            request.certificate_request_pem.encode(),
            Subject("node", node.name, roles.NODE, node_id),
            self._settings.certificate_s,
            at.time_s,
        )
        await self._driver.do(redeem)
        return cluster_pb2.JoinResponse(
            cluster_id=self._authority.cluster_id,
            node_id=node_id,
            node_name=node.name,
            certificate_pem=certificate_pem.decode(),
            ca_pem=self._authority.ca_pem.decode(),
        )

    async def login(
        self, request: cluster_pb2.LoginRequest, call: Call
    ) -> cluster_pb2.LoginResponse:
        """The holder of a user's token gets a certificate of the token's role."""
        self._check_clock(request.time_s)
        redeem = _redemption(call.caller, request.token, request.name, None, roles.LADDER)
        at = self._driver.instant()
        token = self._tokens.check(at, redeem)
        subject = Subject("user", request.name, token.role)
        certificate_pem = self._authority.sign(
            request.certificate_request_pem.encode(),
            subject,
            self._settings.user_certificate_s,
            at.time_s,
        )
        await self._driver.do(redeem)
        return cluster_pb2.LoginResponse(
            cluster_id=self._authority.cluster_id,
            name=subject.name,
            role=_role(subject.role),
            certificate_pem=certificate_pem.decode(),
            ca_pem=self._authority.ca_pem.decode(),
        )

    async def renew_certificate(
        self, request: cluster_pb2.RenewCertificateRequest, call: Call
    ) -> cluster_pb2.RenewCertificateResponse:
        """A new certificate for what the caller proves to be by the old one."""
        subject, lifetime_s = self._subject_of(call.caller)
        certificate_pem = self._authority.sign(
            request.certificate_request_pem.encode(),
            subject,
            lifetime_s,
            self._driver.instant().time_s,
        )
        return cluster_pb2.RenewCertificateResponse(
            certificate_pem=certificate_pem.decode(), ca_pem=self._authority.ca_pem.decode()
        )

    async def certify_process(
        self, request: cluster_pb2.CertifyProcessRequest, call: Call
    ) -> cluster_pb2.CertifyProcessResponse:
        """A short-lived certificate for a process of a run, or for who controls it."""
        if self.run_guard is None:
            raise RefusedError("runs of algorithms are not known here", hint="perseus algo ps")
        self.run_guard(request.run, request.process, call.caller)
        name = request.process or call.caller.name[:NAME_MAXIMUM_BYTES]
        certificate_pem = self._authority.sign_of_run(
            request.certificate_request_pem.encode(),
            RunSubject(request.run, name, is_control=not request.process),
            min(PROCESS_CERTIFICATE_S, self._settings.certificate_s),
            self._driver.instant().time_s,
        )
        return cluster_pb2.CertifyProcessResponse(
            certificate_pem=certificate_pem.decode(),
            ca_pem=self._authority.ca_pem.decode(),
            cluster_id=self._authority.cluster_id,
        )

    async def create_token(
        self, request: cluster_pb2.CreateTokenRequest, call: Call
    ) -> cluster_pb2.CreateTokenResponse:
        """A token for one node or one person; its secret is told this once."""
        secret = new_secret(self._random.bits(160))
        event = CreateToken(
            token_id=encode(self._random.bits(5 * ID_LENGTH), ID_LENGTH),
            secret_sha256=hash_secret(secret),
            role=request.role or roles.NODE,
            ttl_s=request.ttl_s,
        )
        token: TokenRecord = await self._driver.do(event)
        return cluster_pb2.CreateTokenResponse(
            token=make_token(token.token_id, secret, self._authority.fingerprint),
            token_id=token.token_id,
            expires_at_s=token.expires_at_s,
            master_address=self._about.master_address,
        )

    async def list_tokens(
        self, request: cluster_pb2.ListTokensRequest, call: Call
    ) -> cluster_pb2.ListTokensResponse:
        """All tokens that are remembered, the newest first; never their secrets."""
        tokens: tuple[TokenRecord, ...] = await self._driver.do(ListTokens())
        return cluster_pb2.ListTokensResponse(
            tokens=[
                cluster_pb2.Token(
                    token_id=token.token_id,
                    role=_role(token.role),
                    expires_at_s=token.expires_at_s,
                    used_by=token.used_by,
                )
                for token in tokens
                if not token.revoked
            ]
        )

    async def revoke_token(
        self, request: cluster_pb2.RevokeTokenRequest, call: Call
    ) -> cluster_pb2.RevokeTokenResponse:
        """Makes a token useless."""
        await self._driver.do(RevokeToken(request.token_id))
        return cluster_pb2.RevokeTokenResponse()

    async def list_nodes(
        self, request: cluster_pb2.ListNodesRequest, call: Call
    ) -> cluster_pb2.ListNodesResponse:
        """All nodes, by name."""
        nodes = sorted(self._membership.nodes(), key=lambda node: node.name)
        return cluster_pb2.ListNodesResponse(nodes=[self._message(node) for node in nodes])

    async def update_node(
        self, request: cluster_pb2.UpdateNodeRequest, call: Call
    ) -> cluster_pb2.Node:
        """Labels and draining."""
        draining = request.draining if request.HasField("draining") else None
        event = UpdateNode(request.node, dict(request.labels), draining)
        node: NodeInfo = await self._driver.do(event)
        return self._message(node)

    async def remove_node(
        self, request: cluster_pb2.RemoveNodeRequest, call: Call
    ) -> cluster_pb2.RemoveNodeResponse:
        """The node leaves for good, unless something says why not and it is not forced."""
        node = self._membership.node(request.node)
        reasons = [reason for guard in self.removal_guards if (reason := guard(node.node_id))]
        if reasons and not request.force:
            raise ConflictError(
                f"{node.name} cannot leave yet: {'; '.join(reasons)}",
                hint=f"bring it back or wait (perseus doctor), "
                f"or lose them: perseus nodes rm --force {node.name}",
            )
        await self._driver.do(RemoveNode(node.node_id))
        return cluster_pb2.RemoveNodeResponse()

    async def diagnose(
        self, request: cluster_pb2.DiagnoseRequest, call: Call
    ) -> cluster_pb2.DiagnoseResponse:
        """What is wrong, the worst first."""
        at = self._driver.instant()
        findings = [
            finding
            for node in self._membership.nodes()
            for finding in diagnose_node(
                node, at, self._about.version, self._settings.certificate_s
            )
        ]
        for provider in self.finding_providers:
            findings.extend(provider())
        order = {"error": 0, "warning": 1, "note": 2}
        findings.sort(key=lambda finding: (order.get(finding.severity, 1), finding.subject))
        return cluster_pb2.DiagnoseResponse(findings=findings[:FINDINGS_MAXIMUM])

    def _message(self, node: NodeInfo) -> cluster_pb2.Node:
        message = node_to_message(node, self._driver.instant())
        for detail in self.node_details:
            detail(message)
        return message

    def _check_return(self, node_id: str, name: str) -> None:
        """Raises RefusedError unless a node of that id and name may come back."""
        known = self._membership.find(node_id)
        if known is None or known.name != name or known.is_master:
            raise RefusedError(
                f"this cluster has no node {name} with the id {node_id} any more: it was "
                "removed, or another took its name, and what it holds was given up",
                hint="put its folder FOLDER aside and join as a new node, with an empty folder: "
                f"mv FOLDER FOLDER.old; perseus join HOST:PORT --token T --name {name} "
                "--data FOLDER",
            )

    def _check_clock(self, time_s: float) -> None:
        own_s = self._driver.instant().time_s
        # Written so that what is no number at all is refused as well.
        if not abs(time_s - own_s) <= CLOCK_SKEW_MAXIMUM_S:
            direction = "ahead of" if time_s > own_s else "behind"
            raise RefusedError(
                f"this machine's clock says {_moment(time_s)}, the master's {_moment(own_s)}: "
                f"{abs(time_s - own_s):.0f} s {direction} it, and at most "
                f"{CLOCK_SKEW_MAXIMUM_S:.0f} s are allowed",
                hint="set the wrong one of the two: timedatectl set-ntp true",
            )

    def _subject_of(self, caller: Caller) -> tuple[Subject, float]:
        if caller.via_node_id or caller.kind not in ("node", "user"):
            raise RefusedError(
                f"{caller} did not come with a certificate of its own, so none can be renewed",
                hint="log in with a token: perseus login HOST:PORT --token T",
            )
        if caller.kind == "user":
            subject = Subject("user", caller.name, caller.role)
            return subject, self._settings.user_certificate_s
        node = self._membership.find(caller.node_id)
        if node is None:
            raise RefusedError(
                f"node {caller.name} is no longer part of this cluster",
                hint="to make it one again, with a new token: perseus join HOST:PORT --token T",
            )
        subject = Subject("node", node.name, roles.NODE, node.node_id, node.is_master)
        return subject, self._settings.certificate_s


def _role(number: int) -> common_pb2.Role:
    # Enums of the protocol are plain numbers; only their type stubs say otherwise.
    return cast(common_pb2.Role, number)


def _redemption(
    caller: Caller, secret: str, name: str, then: AddNode | None, accepted: tuple[int, ...]
) -> RedeemToken:
    if caller.kind != "token":
        raise InvalidError(
            f"{caller} is of the cluster already",
            hint="to join or log in, come with a token and no certificate",
        )
    if not name:
        raise InvalidError("a name is missing", hint="give one with --name")
    return RedeemToken(caller.name, hash_secret(secret), name, then, accepted)


def _check_protocol(protocol: int, version: str) -> None:
    minimum, maximum = settings_module.PROTOCOL_MINIMUM, settings_module.PROTOCOL_MAXIMUM
    if not minimum <= protocol <= maximum:
        older = "this machine" if protocol < minimum else "the master"
        raise IncompatibleError(
            f"this machine (Perseus {version}) speaks version {protocol} of the protocol, "
            f"the master {minimum} to {maximum}",
            hint=f"upgrade Perseus on {older}",
        )


def _moment(time_s: float) -> str:
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return f"{time_s} s since 1970"
