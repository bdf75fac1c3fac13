"""The task of one process: starts it, starts it again when it died, and is its network.

A service is a task without an end. What the simulator does to a node is done here for real:
SIGKILL and a new start with what was durable, SIGSTOP, letters that are dropped or late.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from perseus.algo.process import Id
from perseus.client.cluster import Cluster
from perseus.errors import FullError, NotFoundError, PerseusError
from perseus.hosting import frames
from perseus.hosting.addresses import Addresses
from perseus.hosting.certificate import RunCertificate
from perseus.hosting.hearing import Hearing
from perseus.hosting.network import Network, Server
from perseus.hosting.run import EXIT_DAMAGED, EXIT_FULL, EXIT_RAISED, REASON, Run
from perseus.hosting.stepping import ASK, Place, Shared
from perseus.hosting.trace import tell
from perseus.proto.v1 import algo_pb2

# The pause before a process that died is started again doubles from the first to the last;
# one that lived so long begins with the first again.
RESTART_FIRST_S = 0.2
RESTART_MAXIMUM_S = 5.0
RESTART_FORGIVEN_S = 5.0
# A step that takes longer is told of; how often it is looked at, and asked where it is.
STUCK_S = 5.0
STUCK_LOOK_S = 1.0
# Between two tries to have the certificate renewed, as a share of its life.
RENEWAL_RETRY_SHARE = 1 / 60


class Supervisor:
    """One process's task."""

    def __init__(self, run: Run, process: Id, folder: Path, cluster: Cluster) -> None:
        self._run = run
        self._process = process
        self._folder = folder
        self._cluster = cluster
        self._certificate = RunCertificate.ask(cluster, run.run, process)
        self._server = Server(self, self._certificate)
        self._network: Network
        self._addresses = Addresses(run, cluster)
        self._child: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._is_paused = False
        self._hearing = Hearing(process)
        self._restarts = -1
        self._sent = self._heard = self._dropped = 0
        self._ending = ""
        self._step: Shared | None = None
        # When the step began that takes so long, where it is, and whether that was told.
        self._stuck_since_s = 0.0
        self._stuck_at = Place()
        self._is_told = False

    async def serve(self, host: str) -> None:
        """Until it is cancelled."""
        self._network = Network(self._addresses.find, self._certificate, self._drop)
        address = await self._server.start(host)
        path = self._run.address_path(self._process)
        await asyncio.to_thread(self._cluster.fs.write_bytes, path, address.encode(), parents=True)
        works = (self._renew(), self._look_out(), self._addresses.gather())
        beside = [asyncio.create_task(work) for work in works]
        try:
            await self._keep()
        finally:
            for task in beside:
                task.cancel()
            await self._network.close()
            self._addresses.close()
            await self._server.stop()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._certificate.renewal_in_s())
            try:
                following = await asyncio.to_thread(
                    RunCertificate.ask, self._cluster, self._run.run, self._process
                )
            except PerseusError as error:
                sys.stderr.write(f"the certificate is not renewed yet: {error}\n")
                await asyncio.sleep(self._certificate.life_s * RENEWAL_RETRY_SHARE)
                continue
            self._certificate = following
            self._server.use(following)
            self._network.use(following)

    # The child.

    async def _keep(self) -> None:
        pause_s = RESTART_FIRST_S
        while True:
            born_s = time.monotonic()
            await self._live()
            if time.monotonic() - born_s > RESTART_FORGIVEN_S:
                pause_s = RESTART_FIRST_S
            await asyncio.sleep(pause_s)
            pause_s = min(RESTART_MAXIMUM_S, pause_s * 2)

    async def _live(self) -> None:
        """One life of the process."""
        ours, theirs = socket.socketpair()
        self._step = step = Shared.create()
        with theirs:
            self._child = child = self._spawn(theirs.fileno(), step.descriptor)
        self._restarts += 1
        reader, writer = await asyncio.open_connection(sock=ours)
        self._writer = writer
        try:
            while letters := await frames.read(reader):
                for letter in letters:
                    self._sent += 1
                    self._network.send(letter)
        finally:
            self._writer = self._step = None
            self._stuck_since_s = 0.0
            step.close()
            writer.close()
            child.kill()
        code = await asyncio.to_thread(child.wait)
        self._is_paused = False
        self._ending = _ending(code, _take_reason())
        # Where there is no room for it, the next life's first line says as much.
        with contextlib.suppress(FullError):
            tell("crash", self._process, self._ending)

    def _spawn(self, descriptor: int, step: int) -> "subprocess.Popen[bytes]":
        # Not asyncio's form of it, which loses the exit code when a signal meets the end.
        command = [sys.executable, "-m", "perseus.hosting.process", self._process]
        return subprocess.Popen(
            [*command, str(self._folder), str(descriptor), str(step)],
            pass_fds=(descriptor, step),
            # The order of a set must be the same when its steps are taken again.
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )

    # A step that does not end.

    async def _look_out(self) -> None:
        while True:
            await asyncio.sleep(STUCK_LOOK_S)
            if self._step is not None and not self._is_paused:
                self._look_at(self._step)

    def _look_at(self, step: Shared) -> None:
        since_s = step.since_s()
        if not since_s or time.monotonic() - since_s < STUCK_S:
            self._stuck_since_s = 0.0
            return
        if since_s != self._stuck_since_s:
            self._stuck_since_s, self._stuck_at, self._is_told = since_s, Place(), False
        elif (found := step.answer()).handler:
            self._stuck_at = found
            if not self._is_told:
                self._is_told = True
                with contextlib.suppress(FullError):
                    tell("stuck", self._process, f"in {found.handler} at {found.line}")
        step.expect()
        self._signal(ASK)

    # What the network hands on.

    def arrive(self, letters: Iterable[algo_pb2.Letter], sender: Id) -> None:
        """Letters for the process, less what faults take away."""
        for letter in letters:
            delay_s = self._hearing.delay_of(letter, sender, random.random())
            if delay_s is None:
                self._dropped += 1
            elif delay_s > 0.0:
                asyncio.get_running_loop().call_later(delay_s, self._hand_over, letter)
            else:
                self._hand_over(letter)

    def _hand_over(self, letter: algo_pb2.Letter) -> None:
        if self._writer is not None and frames.write(self._writer, [letter]):
            self._heard += 1
        else:
            self._dropped += 1

    def _drop(self, count: int) -> None:
        self._dropped += count

    # Faults.

    async def befall(self, request: algo_pb2.BefallRequest) -> algo_pb2.ProcessStatus:
        """Lets a fault befall the process, or takes all away."""
        kind, hearing = request.kind, self._hearing
        if kind == algo_pb2.FAULT_KILL:
            tell("fault", self._process, "kill")
            self._signal(signal.SIGKILL)
        elif kind == algo_pb2.FAULT_PAUSE:
            self._pause()
        elif kind == algo_pb2.FAULT_DEAF:
            hearing.deaf_to |= set(request.deaf_to)
            tell("fault", self._process, f"deaf to {', '.join(sorted(hearing.deaf_to))}")
        elif kind == algo_pb2.FAULT_SLOW:
            hearing.loss, hearing.delay_s = request.loss, request.delay_s
            said = f"loses {hearing.loss:g}, up to {hearing.delay_s:g} s late"
            tell("fault", self._process, said)
        elif kind == algo_pb2.FAULT_HEAL and request.deaf_to:
            self._hear(request.deaf_to)
        elif kind == algo_pb2.FAULT_HEAL:
            self._heal()
        return self.status()

    def _pause(self) -> None:
        """Unless it is down: the next life would be taken for paused, and go on."""
        if self._writer is not None:
            tell("fault", self._process, "pause")
            self._signal(signal.SIGSTOP)
            self._is_paused = True

    def _hear(self, again: Iterable[Id]) -> None:
        """It hears these again; other faults stay."""
        hearing = self._hearing
        if hearing.deaf_to.isdisjoint(again):
            return
        hearing.hear(again)
        if hearing.is_well and not self._is_paused:
            tell("heal", self._process, "")
        else:
            tell("fault", self._process, f"hears {', '.join(sorted(again))} again")

    def _heal(self) -> None:
        if self._is_paused or not self._hearing.is_well:
            tell("heal", self._process, "")
        self._hearing.heal()
        if self._is_paused:
            self._is_paused = False
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)

    def status(self) -> algo_pb2.ProcessStatus:
        """How the process is."""
        since_s, place = self._stuck_since_s, self._stuck_at
        return algo_pb2.ProcessStatus(
            process=self._process,
            state=self._state(),
            restarts=max(0, self._restarts),
            deaf_to=sorted(self._hearing.deaf_to),
            loss=self._hearing.loss,
            delay_s=self._hearing.delay_s,
            sent=self._sent,
            heard=self._heard,
            dropped=self._dropped,
            ending=self._ending,
            stuck_s=time.monotonic() - since_s if since_s else 0.0,
            stuck_in=place.handler if since_s else "",
            stuck_at=place.line if since_s else "",
        )

    def _state(self) -> str:
        if self._writer is None:
            return "down"
        if self._is_paused:
            return "paused"
        return "stuck" if self._stuck_since_s else "up"


def _ending(code: int, reason: str) -> str:
    """``reason`` is what the process left of it, if it could."""
    if code < 0:
        return f"killed by signal {-code}"
    said = {
        EXIT_DAMAGED: "its journal is damaged",
        EXIT_FULL: "its journal or trace cannot be written, the disk is full",
    }.get(code, reason or ("a handler raised" if code == EXIT_RAISED else ""))
    return f"ended with exit code {code}{': ' if said else ''}{said}"


def _take_reason() -> str:
    """Why the process ended, when it could say so; once."""
    try:
        said = Path(REASON).read_text()
        os.unlink(REASON)
    except OSError:
        return ""
    return said


def host_of(cluster: Cluster, node: str) -> str:
    """The host by which others reach this node."""
    for each in cluster.nodes():
        if each.name == node:
            return each.address.rpartition(":")[0]
    raise NotFoundError(f"the cluster knows no node {node}")
