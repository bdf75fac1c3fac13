"""Where the processes of a run answer, for one of them: also while the master is away.

The filestore knows it, and is asked at each connect, for a process may have moved. It cannot be
asked while the master is away; then the address that was known last is taken. So that one is
known of each process, they are all looked up when a process begins, and not only when it first
speaks to another.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from perseus.algo.process import Id
from perseus.client.cluster import Cluster
from perseus.errors import PerseusError
from perseus.hosting.run import Run

# How long an answer is waited for before what is known is taken.
FIND_S = 1.0
# Between two rounds, as long as some address is not known.
GATHER_S = 0.5
# Of lookups at the same time: an answer may be long in coming while the master is away.
LOOKUPS_MAXIMUM = 4


class Addresses:
    """Of the processes of one run; belongs to one event loop."""

    def __init__(self, run: Run, cluster: Cluster) -> None:
        self._run = run
        self._cluster = cluster
        self._known: dict[Id, str] = {}
        # At most one lookup of each process is under way.
        self._looking: dict[Id, asyncio.Future[str]] = {}
        self._threads = ThreadPoolExecutor(LOOKUPS_MAXIMUM, "perseus-addresses")

    async def gather(self) -> None:
        """Returns when an address of each process is known."""
        while missing := [each for each in self._run.nodes if each not in self._known]:
            for process in missing:
                await self.find(process)
            await asyncio.sleep(GATHER_S)

    async def find(self, process: Id) -> str:
        """``HOST:PORT``; empty when none was ever known."""
        looking = self._looking.get(process)
        if looking is None:
            loop = asyncio.get_running_loop()
            looking = loop.run_in_executor(self._threads, self._look_up, process)
            self._looking[process] = looking
        await asyncio.wait((looking,), timeout=FIND_S)
        if looking.done():
            self._looking.pop(process, None)
            if found := looking.result():
                self._known[process] = found
        return self._known.get(process, "")

    def close(self) -> None:
        """Looks up no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, process: Id) -> str:
        try:
            return self._cluster.fs.read_bytes(self._run.address_path(process)).decode()
        except PerseusError:
            # Not there yet, or the node's daemon or the master is away.
            return ""
