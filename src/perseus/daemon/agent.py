"""The agent's role of a daemon: what every node does.

It keeps the stream to the master, runs attempts by the spawner, and looks
after the chunkserver. Control alone passes through here; bytes do not.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import perseus
from perseus.daemon.config import NodeConfig, Paths
from perseus.daemon.node import SpawnerGoneError
from perseus.daemon.state_mark import MarkKeeper
from perseus.errors import LeaseLostError, PerseusError, UnavailableError
from perseus.filestore.control import ChunkserverControl
from perseus.identity.files import Identity
from perseus.jobs.executor import Executor
from perseus.jobs.outputs import OutputsService
from perseus.membership.capacity import measure_capacity
from perseus.membership.history import Mark
from perseus.membership.link import AgentLink
from perseus.membership.load import LoadMeter
from perseus.membership.values import capacity_to_message
from perseus.proto.v1 import agent_pb2, cluster_pb2
from perseus.runtime.ports import Clock, Random
from perseus.runtime.real import RealDisk
from perseus.runtime.spawner import RealSpawner
from perseus.settings import PROTOCOL_MAXIMUM, PROTOCOL_MINIMUM, Settings

# Directives that wait for the chunkserver; each is an order that can be told again.
DIRECTIVES_MAXIMUM = 100_000
# Pauses before a chunkserver that died is forked again double from the first to the last.
REFORK_FIRST_S = 0.1
REFORK_MAXIMUM_S = 10.0
# One that lived this long is forked again at once.
REFORK_FORGIVEN_S = 60.0

_log = logging.getLogger("perseus.daemon")

Dial = Callable[[], Awaitable[Any]]


class Agent:
    """One node's agent; ``start`` it on the running loop, then ``run`` the link."""

    def __init__(
        self,
        config: NodeConfig,
        paths: Paths,
        settings: Settings,
        identity: Callable[[], Identity],
        spawner: RealSpawner,
        clock: Clock,
        random: Random,
        fatal: Callable[[BaseException], None],
    ) -> None:
        """``identity`` gives the present certificate; ``fatal`` ends the daemon."""
        self._config = config
        self._paths = paths
        self._settings = settings
        self._identity = identity
        self._spawner = spawner
        self._clock = clock
        self._random = random
        self._fatal = fatal
        self.control = ChunkserverControl(self._post_chunk_events)
        self._marks = MarkKeeper(paths.mark, clock)
        self._meter = LoadMeter(paths.chunks)
        self._capacity = cluster_pb2.Capacity()
        self._directives: asyncio.Queue[agent_pb2.Directive] = asyncio.Queue(DIRECTIVES_MAXIMUM)
        self._tasks: list[asyncio.Task[None]] = []
        self.link: AgentLink | None = None
        # Why the master would not have this node, the last time; None once it has.
        self.refusal: PerseusError | None = None
        # Set once the master has welcomed or refused this node since the daemon started.
        self.answered = asyncio.Event()
        self.executor: Executor
        self.outputs: OutputsService

    async def start(self) -> None:
        """Measures the machine, starts the chunkserver and the executor."""
        self._spawner.start(self._on_spawner_death)
        await self._fork_chunkserver()
        await self.control.ready()
        await self.control.set_master(self._config.master_address)
        capacity = await asyncio.to_thread(measure_capacity, self._paths.chunks)
        self._capacity = capacity_to_message(capacity)
        if self._settings.cpu > 0:
            self._capacity.resources.cpu = self._settings.cpu
        self.executor = Executor(
            folder=str(self._paths.attempts),
            node=self._config.node_name,
            cores=self._capacity.resources.cpu,
            spawner=self._spawner,
            movers=self.control,
            clock=self._clock,
            disk=RealDisk(),
            settings=self._settings,
            post=self._post_attempt_events,
            socket=str(self._paths.socket),
        )
        await self.executor.start()
        self.outputs = OutputsService(self.executor)
        self._begin(self._carry_directives())
        self._begin(self._marks.run())

    async def run(self, dial: Dial) -> None:
        """Keeps the stream to the master; returns only by the refusal that ends it."""
        self.link = AgentLink(
            dial,
            self._clock,
            self._random,
            self._hello,
            self._load,
            _Handlers(self),
            self._settings,
        )
        await self.link.run()

    async def stop(self) -> None:
        """Ends attempts, the chunkserver and the spawner."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._marks.close()
        if hasattr(self, "executor"):
            await self.executor.close()
        await self.control.close()
        await self._spawner.close()

    # --- what the link asks and tells

    async def _hello(self) -> agent_pb2.Hello:
        replicas = await known_replicas(self.control)
        mark = self._marks.mark
        return agent_pb2.Hello(
            protocol_minimum=PROTOCOL_MINIMUM,
            protocol_maximum=PROTOCOL_MAXIMUM,
            version=perseus.__version__,
            address=self._config.advertise,
            chunk_address=self.control.chunk_address,
            capacity=self._capacity,
            attempts=self.executor.held(),
            replicas=replicas or (),
            replicas_unknown=replicas is None,
            certificate_expires_at_s=self._identity().expires_at_s,
            state_mark=agent_pb2.StateMark(run=mark.run, number=mark.number),
            frozen=self.executor.is_frozen,
            certificate_begins_at_s=self._identity().begins_at_s,
        )

    def _load(self) -> cluster_pb2.Load:
        load = self._meter.measure()
        load.attempts_running = self.executor.counts()[1]
        return load

    def take_directives(self, directives: Sequence[agent_pb2.Directive]) -> None:
        """Attempts are acted on at once; chunks are the chunkserver's, in order."""
        for directive in directives:
            try:
                if not self.executor.handle(directive):
                    self._directives.put_nowait(directive)
            except asyncio.QueueFull:
                _log.error("more than %d directives wait for the chunkserver", DIRECTIVES_MAXIMUM)
            except PerseusError as error:
                _log.error("a directive of the master cannot be carried out: %s", error)

    def welcome(self, welcome: agent_pb2.Welcome) -> None:
        """A new session."""
        _log.info("connected to the master, session %d", welcome.session)
        self.refusal = None
        self.answered.set()
        self._begin(self._tell_grant_key(welcome.grant_key))
        self.executor.on_welcome()

    def take_state_mark(self, mark: Mark) -> None:
        """The master tells how far its state is."""
        self._marks.take(mark)

    def refused(self, refusal: PerseusError) -> None:
        """The master will not have this node as it is."""
        if self.refusal is None or self.refusal.message != refusal.message:
            _log.error("the master refuses this node: %s", refusal)
        self.executor.end_all()
        self.refusal = refusal
        self.answered.set()

    def renew_lease(self, ends_at_s: float) -> None:
        """The lease goes on, and with it is known how far this clock is off."""
        self.executor.on_lease(ends_at_s)
        ahead_s = None if self.link is None else self.link.clock_ahead_s
        if ahead_s is not None:
            self.control.set_clock(ahead_s)

    def lose_lease(self) -> None:
        """The master was not heard of in time: nothing here may go on."""
        _log.warning("the lease is over: all attempts are frozen until the master is back")
        self.executor.on_lease_lost()

    async def _tell_grant_key(self, key: bytes) -> None:
        try:
            await self.control.set_grant_key(key)
        except PerseusError as error:
            _log.warning("the chunkserver did not take the grant key: %s", error)

    async def _carry_directives(self) -> None:
        while True:
            directive = await self._directives.get()
            try:
                await self.control.directive(directive)
            except PerseusError as error:
                # The master learns of it by the next Hello's report of replicas.
                _log.warning("the chunkserver did not take a directive: %s", error)

    def _post_attempt_events(self, events: Sequence[agent_pb2.AttemptEvent]) -> None:
        if self.link is not None:
            self.link.post(attempt_events=events)

    def _post_chunk_events(self, events: list[agent_pb2.ChunkEvent]) -> None:
        if self.link is not None:
            self.link.post(chunk_events=events)

    # --- the other processes of the node

    def _on_spawner_death(self, reason: str) -> None:
        self._fatal(SpawnerGoneError(f"the spawner is gone: {reason}"))

    async def _fork_chunkserver(self) -> None:
        child = await self._spawner.fork_child("chunkserver")
        self.control.attach(child.socket)
        self._begin(self._mind_chunkserver(child.pid))

    async def _mind_chunkserver(self, pid: int) -> None:
        """Forks the chunkserver again whenever it dies, for as long as there is a spawner."""
        pause_s = REFORK_FIRST_S
        while True:
            born_s = self._clock.now_s()
            try:
                ended = await self._spawner.wait(pid)
            except LeaseLostError:
                # The spawner is gone, and with it this daemon.
                return
            _log.error("the chunkserver died (%s); it is started again", ended)
            if self._clock.now_s() - born_s > REFORK_FORGIVEN_S:
                pause_s = REFORK_FIRST_S
            while True:
                await self._clock.sleep(pause_s)
                pause_s = min(REFORK_MAXIMUM_S, pause_s * 2)
                try:
                    pid = await self._fork_again()
                    break
                except LeaseLostError:
                    return
                except PerseusError as error:
                    _log.error("the chunkserver cannot be forked now: %s", error)

    async def _fork_again(self) -> int:
        child = await self._spawner.fork_child("chunkserver")
        self.control.attach(child.socket)
        try:
            await self.control.ready()
        except PerseusError as error:
            _log.error("the chunkserver does not start: %s", error)
        self.say_hello_again()
        return child.pid

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Goes on beside; what it raises is a defect, without which there is no going on."""
        self._tasks = [task for task in self._tasks if not task.done()]
        task = asyncio.create_task(work)
        task.add_done_callback(self._check)
        self._tasks.append(task)

    def _check(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._fatal(failure)

    def say_hello_again(self) -> None:
        """Tells the master anew what is here: the chunkserver's address or the certificate
        may have changed."""
        if self.link is not None:
            self.link.say_hello_again()


async def known_replicas(control: ChunkserverControl) -> list[agent_pb2.ReplicaReport] | None:
    """All replicas of the node; None while its chunkserver is not there to tell them."""
    if not control.is_up:
        return None
    try:
        return await control.reports()
    except UnavailableError:
        return None


class _Handlers:
    """Hands on what the link tells; see LinkHandlers."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def on_welcome(self, welcome: agent_pb2.Welcome) -> None:
        self._agent.welcome(welcome)

    def on_directives(self, directives: Sequence[agent_pb2.Directive]) -> None:
        self._agent.take_directives(directives)

    def on_acknowledged(self, attempts: Sequence[str]) -> None:
        self._agent.executor.acknowledged(attempts)

    def on_state_mark(self, mark: Mark) -> None:
        self._agent.take_state_mark(mark)

    def on_lease_renewed(self, ends_at_s: float) -> None:
        self._agent.renew_lease(ends_at_s)

    def on_lease_lost(self) -> None:
        self._agent.lose_lease()

    def on_refused(self, error: PerseusError) -> None:
        self._agent.refused(error)


async def read_pieces(
    responses: AsyncIterator[agent_pb2.OutputPiece],
) -> AsyncIterator[bytes]:
    """The bytes of a stream of ReadOutput."""
    async for piece in responses:
        yield piece.data
