"""The master's role of a daemon: the cluster's state machines and the services over them."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import perseus
from perseus.daemon import state_mark
from perseus.daemon.config import NodeConfig, Paths
from perseus.daemon.run_guard import RunGuard
from perseus.filestore import grants
from perseus.filestore.events import DiscardOutputs
from perseus.filestore.gateway import Gateway
from perseus.filestore.namespace import Namespace
from perseus.filestore.namespace_events import InodeChanged
from perseus.filestore.replication import Replication
from perseus.filestore.service import FilesService
from perseus.filestore.service_layout import FileLocality
from perseus.identity import roles
from perseus.identity.authority import Authority
from perseus.identity.files import Identity
from perseus.identity.token_text import TokenProof
from perseus.identity.tokens import Tokens
from perseus.jobs import absent
from perseus.jobs.service import JobsService
from perseus.jobs.state import Jobs
from perseus.jobs.state_events import JobChanged
from perseus.membership.cluster_service import About, ClusterService
from perseus.membership.commands import CHANCE_BITS, AddNode, MasterStarted
from perseus.membership.dialing import Dialer
from perseus.membership.history import History
from perseus.membership.local_link import local_dialer
from perseus.membership.service import AgentsService, caller_check
from perseus.membership.sessions import Sessions
from perseus.membership.state import Membership
from perseus.proto.v1 import cluster_pb2
from perseus.rpc.call import Call, Caller
from perseus.rpc.registry import Registry
from perseus.runtime.machine import Composite, Driver, Effect, Machine, Tick
from perseus.runtime.ports import Clock, Random
from perseus.runtime.real import RealDisk
from perseus.settings import Settings
from perseus.store.sqlite import SqliteStore

TICK_S = 0.2
# Between two looks for outputs whose attempt is over and that nobody discarded.
SWEEP_INTERVAL_S = 60.0
# What a commit may take before it is worth a word in `perseus doctor`.
SLOW_COMMIT_S = 1.0
GRANT_KEY_FILE = "grant.key"

# (node id, attempt, of stderr, offset in bytes, follow) to the bytes that a running attempt wrote.
ReadOutput = Callable[[str, str, bool, int, bool], AsyncIterator[bytes]]

_log = logging.getLogger("perseus.daemon")


class Master:
    """The cluster's state, and the services that stand on it."""

    def __init__(
        self,
        config: NodeConfig,
        paths: Paths,
        settings: Settings,
        clock: Clock,
        random: Random,
        accept_old_state: bool = False,
    ) -> None:
        """With ``accept_old_state`` it goes on though machines know of a later state."""
        self._accept_old_state = accept_old_state
        self._config = config
        self._paths = paths
        self._settings = settings
        self._clock = clock
        self._random = random
        self._tasks: list[asyncio.Task[None]] = []
        self._store: SqliteStore | None = None

    async def start(
        self,
        identity: Identity,
        read_output: ReadOutput,
        fatal: Callable[[BaseException], None],
    ) -> None:
        """Opens the store, rebuilds the machines from it and begins to tick."""
        self._store = SqliteStore(self._paths.state, self._config.cluster_id)
        self.history = History()
        self.tokens = Tokens()
        self.membership = Membership(self._settings.lease_s)
        self.replication = Replication(self._settings, self.membership)
        self.namespace = Namespace(self._settings, self.replication)
        self._locality = FileLocality(self.namespace, self.replication)
        self.jobs = Jobs(self._settings, self.membership, self._locality)
        # Membership first: the others look at its nodes when they hear of them.
        machines: list[Machine] = [
            self.history,
            self.tokens,
            self.membership,
            self.replication,
            self.namespace,
            self.jobs,
        ]
        composite = Composite(machines)
        composite.load(self._store.items())
        self._check_own_mark()
        self.membership.guards = (self.history.check_hello, self.replication.check_hello)
        self._driver = Driver(
            composite, self._store, self._clock, self._deliver, fatal, self.history
        )
        await self._begin_run()
        self._build_services(identity, read_output)
        await self._add_own_node()
        self._tasks.append(asyncio.create_task(self._tick(fatal)))
        self._tasks.append(asyncio.create_task(self._sweep()))
        dialer = Dialer(self._driver, self.membership.nodes, self._config.node_id, self._clock)
        self._tasks.append(asyncio.create_task(dialer.run()))

    def _check_own_mark(self) -> None:
        """RefusedError when this machine itself knows of a later state than it has."""
        if not self._accept_old_state:
            self.history.check("this machine", state_mark.load(self._paths.mark))

    async def _begin_run(self) -> None:
        run = int(self._clock.time_s() * 1e6)
        chance = self._random.bits(CHANCE_BITS)
        await self._driver.do(MasterStarted(run, chance, self._accept_old_state))

    def _build_services(self, identity: Identity, read_output: ReadOutput) -> None:
        self._sessions = Sessions()
        grant_key = _grant_key(self._paths.identity)
        self._files = FilesService(
            self._driver,
            self.namespace,
            self.replication,
            self.membership,
            self._settings,
            grant_key,
        )
        self._gateway = Gateway(
            self._files,
            self.namespace,
            identity,
            self._config.cluster_id,
            near_node=self._config.node_id,
        )
        self._files.pipe = self._gateway
        self._jobs = JobsService(
            self._driver,
            self.jobs,
            self.membership,
            self._locality,
            _Sources(read_output, self._gateway),
            self._random,
            self._settings,
        )
        self._files.absence = partial(absent.as_file, self.jobs)
        self._cluster = ClusterService(
            self._driver,
            self.membership,
            self.tokens,
            Authority.load(self._paths.identity),
            self._random,
            self._settings,
            About(perseus.__version__, self._config.node_name, self._config.master_address),
        )
        self._cluster.node_details.append(self._describe_node)
        self._cluster.run_guard = RunGuard(self.namespace, self.jobs, self._config.node_id)
        self._cluster.removal_guards.append(self._guard_removal)
        self._cluster.finding_providers.append(self._files.findings)
        self._cluster.finding_providers.append(self._jobs.findings)
        self._cluster.finding_providers.append(self._state_disk)
        self._cluster.finding_providers.append(self._refused_nodes)
        self._agents = AgentsService(
            self._driver,
            self.membership,
            self._sessions,
            self._clock,
            grant_key,
            self._jobs.on_attempt_events,
            self._files.on_chunk_events,
            lambda: self.history.mark,
        )

    def _describe_node(self, node: cluster_pb2.Node) -> None:
        """Fills in what jobs and the filestore know of a node."""
        node.tasks = self._jobs.attempts_leased(node.node_id)
        node.chunks, node.chunk_bytes = self.replication.held_by(node.node_id)

    def _state_disk(self) -> Iterator[cluster_pb2.Finding]:
        """That the disk of the cluster's state is full, or slow."""
        if self._store is None:
            return
        shortage, latency_s = self._store.shortage(), self._store.commit_latency_s()
        if shortage is not None:
            yield self._finding("error", shortage.message, shortage.hint)
        elif latency_s >= SLOW_COMMIT_S:
            folder = self._paths.state.parent
            yield self._finding(
                "warning",
                f"the disk of {folder} took {latency_s:.1f} s to keep a change, "
                "and every change of the cluster waits for it",
                f"see what else keeps the disk of {folder} busy, or move it to a faster one",
            )

    def _refused_nodes(self) -> Iterator[cluster_pb2.Finding]:
        """Nodes that were not let in, though they are of the cluster."""
        for node_id, refusal in self._agents.refusals.items():
            node = self.membership.find(node_id)
            if node is not None:
                yield cluster_pb2.Finding(
                    severity="error",
                    subject=node.name,
                    message=refusal.message,
                    command=refusal.hint,
                )

    def _finding(self, severity: str, message: str, command: str) -> cluster_pb2.Finding:
        return cluster_pb2.Finding(
            severity=severity,
            subject=self._config.node_name,
            message=message,
            command=command,
        )

    def _guard_removal(self, node_id: str) -> str:
        """Why the node should not leave: chunks that it alone holds."""
        count = self.replication.only_on(node_id)
        return f"it alone holds {count} chunk{'s' * (count > 1)} of files" if count else ""

    async def _add_own_node(self) -> None:
        if self.membership.find(self._config.node_id) is None:
            node = self._config
            await self._driver.do(
                AddNode(node.node_id, node.node_name, node.labels, is_master=True)
            )

    def registry(self) -> Registry:
        """What a master serves, besides what every node does."""
        registry = Registry(caller_check(self.membership))
        registry.add("Cluster", self._cluster)
        registry.add("Agents", self._agents)
        registry.add("Files", self._files)
        registry.add("Jobs", self._jobs)
        return registry

    def use_identity(self, identity: Identity) -> None:
        """New connections to chunkservers show this certificate."""
        self._gateway.use_identity(identity)

    def judge_server_name(self, server_name: str, time_s: float) -> TokenProof | None:
        """Which join token a server name proves."""
        return self.tokens.judge_server_name(server_name, time_s)

    def local_dialer(self) -> Any:
        """What the agent in this process dials."""
        caller = Caller(
            self._config.node_name, roles.NODE, "node", self._config.node_id, "this process"
        )
        return local_dialer(self._agents.connect, Call(caller, "/perseus.v1.Agents/Connect"))

    def end_soon(self) -> None:
        """The doors are about to close."""
        if hasattr(self, "_jobs"):
            self._jobs.end_soon()

    async def stop(self) -> None:
        """Ends all streams and closes the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "_agents"):
            await self._agents.close()
            await self._jobs.close()
            self._gateway.close()
        if self._store is not None:
            self._store.close()

    def _deliver(self, effect: Effect) -> None:
        if self._sessions.deliver(effect):
            return
        if isinstance(effect, InodeChanged):
            self._files.on_inode_changed(effect)
        elif isinstance(effect, JobChanged):
            self._jobs.job_changed(effect.job_id)
        else:
            _log.error("nobody takes the effect %s", type(effect).__name__)

    async def _tick(self, fatal: Callable[[BaseException], None]) -> None:
        while True:
            try:
                await self._driver.do(Tick())
            except Exception as failure:
                fatal(failure)
                raise
            await self._clock.sleep(TICK_S)

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_INTERVAL_S)
            # Fails only with the driver, which then tells of it itself.
            await self.discard_leftovers()

    async def discard_leftovers(self) -> None:
        """Discards what attempts shipped after they were given up: a node that woke up late
        may have gone on writing until it heard that its lease was over."""
        for attempt in self.namespace.uncommitted_attempts():
            if not self.jobs.is_leased(attempt):
                await self._driver.do(DiscardOutputs(attempt))


class _Sources:
    """Where Follow finds outputs: see ``jobs.follow.Sources``."""

    def __init__(self, read_output: ReadOutput, gateway: Gateway) -> None:
        self._read_output = read_output
        self._gateway = gateway

    def read_output(
        self, node_id: str, attempt: str, stderr: bool, offset_bytes: int, follow: bool
    ) -> AsyncIterator[bytes]:
        """What a running attempt has written, from its node."""
        return self._read_output(node_id, attempt, stderr, offset_bytes, follow)

    def read_file(self, path: str, offset_bytes: int) -> AsyncIterator[bytes]:
        """A committed output."""
        return self._gateway.read_file(path, offset_bytes)


def _grant_key(folder: Path) -> bytes:
    """The key that signs chunk grants: made once, kept beside the authority's."""
    path = folder / GRANT_KEY_FILE
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_bytes(grants.KEY_BYTES)
        RealDisk().write(str(path), key, 0o600)
        return key
