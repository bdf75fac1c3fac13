"""The parts of one daemon on its event loop: doors, agent, and the master where it is one."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from perseus.daemon import agent as agent_module
from perseus.daemon.agent import Agent
from perseus.daemon.config import NodeConfig, Paths
from perseus.daemon.lifecycle import THIS_NODE
from perseus.daemon.node import exit_with_pid, until_told
from perseus.daemon.renewal import Renewal
from perseus.errors import IncompatibleError, PerseusError, RefusedError
from perseus.identity.files import Identity
from perseus.jobs.relay import RunRelay
from perseus.proto.v1 import agent_pb2, cluster_pb2
from perseus.rpc.call import Call
from perseus.rpc.callers import socket_roles
from perseus.rpc.channels import aio_channel
from perseus.rpc.forward import forwarding
from perseus.rpc.front import Front, token_check
from perseus.rpc.registry import Registry
from perseus.rpc.standard import add_standard_services
from perseus.rpc.stubs import AioStub
from perseus.runtime.real import RealClock, RealRandom
from perseus.runtime.spawner import RealSpawner
from perseus.settings import Settings

if TYPE_CHECKING:
    from perseus.daemon.master import Master

# What a node that is not the master passes on to it.
FORWARDED = ("Cluster", "Files", "Jobs")
# Channels to other nodes' agents that are kept open.
CHANNELS_MAXIMUM = 256
# How long calls on a channel that makes room for another may go on.
CHANNEL_GRACE_S = 30.0
# How long Diagnose waits for the master's first word to a node that has just started.
FIRST_ANSWER_TIMEOUT_S = 3.0
# Between two tries of a node that the master refuses: it, or the master, may be upgraded.
REFUSED_PAUSE_S = 60.0

_log = logging.getLogger("perseus.daemon")


class Daemon:
    """One node's daemon; ``serve`` it once."""

    def __init__(
        self,
        config: NodeConfig,
        paths: Paths,
        settings: Settings,
        spawner: RealSpawner,
        accept_old_state: bool = False,
    ) -> None:
        self._accept_old_state = accept_old_state
        self._config = config
        self._paths = paths
        self._settings = settings
        self._clock = RealClock()
        self._random = RealRandom()
        self._spawner = spawner
        self._identity = Identity.load(paths.identity)
        self._channels: dict[str, Any] = {}
        # Of the certificate before this one.
        self._retired: list[Any] = []
        # Channels that make room, until their calls have ended.
        self._closing: set[asyncio.Task[None]] = set()
        self._master_role: Master | None = None
        self._failed: asyncio.Future[BaseException]
        self._front: Front | None = None
        self._is_ending = False

    async def serve(self, ready: Callable[[], None]) -> None:
        """Runs until told to end, or a part that cannot be done without fails."""
        self._failed = asyncio.get_running_loop().create_future()
        agent = Agent(
            self._config,
            self._paths,
            self._settings,
            lambda: self._identity,
            self._spawner,
            self._clock,
            self._random,
            self._fail,
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._close_channels)
            stack.push_async_callback(agent.stop)
            await agent.start()
            dial = await self._open_doors(agent, stack)
            for work in (self._keep_link(agent, dial), self._renewal(agent).run()):
                task = asyncio.create_task(work)
                task.add_done_callback(self._check)
                stack.push_async_callback(_end, task)
            ready()
            _log.info("node %s serves at %s", self._config.node_name, self._config.listen)
            await self._until_over()

    async def _until_over(self) -> None:
        told = asyncio.create_task(until_told(exit_with_pid()))
        either: list[asyncio.Future[Any]] = [told, self._failed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            told.cancel()
            raise self._failed.result()
        _log.info("ending: %s", told.result())

    def _fail(self, failure: BaseException) -> None:
        _log.critical("this daemon cannot go on: %s", failure, exc_info=failure)
        if not self._failed.done():
            self._failed.set_result(failure)

    def _check(self, task: "asyncio.Task[None]") -> None:
        """A part that ends by a defect is not missed in silence."""
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._fail(failure)

    async def _keep_link(self, agent: Agent, dial: Any) -> None:
        """A refused node goes on answering its door, so that the person learns why, and
        asks again now and then."""
        while True:
            with contextlib.suppress(RefusedError, IncompatibleError):
                await agent.run(dial)
            await self._clock.sleep(REFUSED_PAUSE_S)

    # --- doors

    async def _open_doors(self, agent: Agent, stack: contextlib.AsyncExitStack) -> Any:
        """Serves what this node serves; gives what the agent's link dials."""
        if self._config.is_master:
            from perseus.daemon.master import Master

            master = Master(
                self._config,
                self._paths,
                self._settings,
                self._clock,
                self._random,
                self._accept_old_state,
            )
            self._master_role = master
            stack.push_async_callback(master.stop)
            read_output = self._read_output(agent, master)
            await master.start(self._identity, read_output, self._fail)
            registry = master.registry()
            check, dial = token_check(master.judge_server_name), master.local_dialer()
        else:
            registry, check = Registry(), None
            for service in FORWARDED:
                forwarder = forwarding(service, self.master_channel, self._master)
                self._adapt(service, forwarder, agent)
                registry.add(service, forwarder)
            dial = self._remote_dialer()
        registry.add("Outputs", agent.outputs)
        add_standard_services(registry)
        self._front = Front(
            registry,
            self._identity,
            listen=self._config.listen,
            socket_path=str(self._paths.socket),
            grpc_socket_path=str(self._paths.grpc_socket),
            local_role=socket_roles(self._settings.socket_role),
            check_token=check,
        )
        await self._front.start()
        stack.push_async_callback(self._front.stop)
        stack.callback(self._end_soon)
        return dial

    def _adapt(self, service: str, forwarder: Any, agent: Agent) -> None:
        """What a node does besides passing on."""
        if service == "Cluster":
            _tell_refusal(forwarder, agent)
            _name_node(forwarder, self._config.node_name)
        elif service == "Jobs":
            forwarder.run = RunRelay(forwarder, lambda: self._is_ending).run

    def _end_soon(self) -> None:
        """The doors are about to close: callers that go then did not choose to."""
        self._is_ending = True
        if self._master_role is not None:
            self._master_role.end_soon()

    def _remote_dialer(self) -> Callable[[], Awaitable[Any]]:
        from perseus.membership.grpc_link import grpc_dialer

        return grpc_dialer(self.master_channel, self._master())

    # --- channels to other daemons

    def _master(self) -> str:
        return self._config.master_address

    def master_channel(self) -> Any:
        """The channel to the master, made when first asked for."""
        return self._channel(self._config.master_address, "master")

    def _channel(self, address: str, to: str) -> Any:
        key = f"{to} {address}"
        if key not in self._channels:
            if len(self._channels) >= CHANNELS_MAXIMUM:
                oldest = self._channels.pop(next(iter(self._channels)))
                closing = asyncio.create_task(oldest.close(CHANNEL_GRACE_S))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
            self._channels[key] = aio_channel(address, self._identity, to)
        return self._channels[key]

    async def _retire_channels(self) -> None:
        """New calls get new channels; calls under way keep theirs until the next renewal."""
        older, self._retired = self._retired, list(self._channels.values())
        self._channels = {}
        for channel in older:
            await channel.close(None)

    async def _close_channels(self) -> None:
        await self._retire_channels()
        await self._retire_channels()
        for closing in list(self._closing):
            await _end(closing)

    def _read_output(self, agent: Agent, master: Any) -> Any:
        """What the master reads running attempts' output by: here directly, else by RPC."""

        async def read(
            node_id: str, attempt: str, stderr: bool, offset: int, follow: bool
        ) -> AsyncIterator[bytes]:
            if node_id == self._config.node_id:
                async for data in agent.outputs.read(attempt, stderr, offset, follow):
                    yield data
                return
            address = master.membership.node(node_id).address
            stub = AioStub(self._channel(address, "node"), "Outputs", address)
            request = agent_pb2.ReadOutputRequest(
                attempt=attempt, stderr=stderr, offset_bytes=offset, follow=follow
            )
            async for data in agent_module.read_pieces(stub.stream("ReadOutput", request)):
                yield data

        return read

    # --- the certificate

    def _renewal(self, agent: Agent) -> Renewal:
        async def use(identity: Identity) -> None:
            self._identity = identity
            if self._front is not None:
                self._front.use_identity(identity)
            if self._master_role is not None:
                self._master_role.use_identity(identity)
            await self._retire_channels()
            agent.say_hello_again()

        return Renewal(self._identity, self._clock, self.master_channel, use)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _name_node(forwarder: Any, node_name: str) -> None:
    """Makes GetInfo tell the node that was asked, not the master that it is passed on to."""
    ask = forwarder.get_info

    async def get_info(request: cluster_pb2.GetInfoRequest, call: Call) -> cluster_pb2.ClusterInfo:
        answer: cluster_pb2.ClusterInfo = await ask(request, call)
        answer.node_name = node_name
        return answer

    forwarder.get_info = get_info


def _tell_refusal(forwarder: Any, agent: Agent) -> None:
    """Makes Diagnose at a node that the master refuses say so first of all.

    A daemon that has just started is given a moment to hear whether it is.
    """
    ask = forwarder.diagnose

    async def diagnose(
        request: cluster_pb2.DiagnoseRequest, call: Call
    ) -> cluster_pb2.DiagnoseResponse:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(agent.answered.wait(), FIRST_ANSWER_TIMEOUT_S)
        try:
            answer: cluster_pb2.DiagnoseResponse = await ask(request, call)
        except PerseusError:
            if agent.refusal is None:
                raise
            answer = cluster_pb2.DiagnoseResponse()
        if agent.refusal is not None:
            finding = cluster_pb2.Finding(
                severity="error",
                subject=THIS_NODE,
                message=f"the master refuses this node: {agent.refusal.message}",
                command=agent.refusal.hint,
            )
            answer.findings.insert(0, finding)
        return answer

    forwarder.diagnose = diagnose
