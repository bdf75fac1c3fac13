"""The master dials each node where the node says that others reach it.

A node's own stream proves only that it reaches the master. If nobody reaches the
node (it told the address of another network, or a firewall is in between), its
tasks' live output cannot be followed and each write tries it in vain. So the
membership is told, after two dials in a row that failed; a connection is all that
is made, nothing is said on it.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from perseus.membership.commands import NodeDialled
from perseus.membership.values import NodeInfo
from perseus.rpc.addresses import split_address
from perseus.runtime.machine import Driver
from perseus.runtime.ports import Clock

# Between two looks at who is due, and two dials of a node that answered, or did not.
ROUND_S = 2.0
AGAIN_S = 60.0
FAILED_AGAIN_S = 10.0
TIMEOUT_S = 3.0
# In a row; one may be chance.
FAILURES_TO_TELL = 2
DIALS_MAXIMUM = 16
# What says nothing of the node, but of this machine.
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)


@dataclass(slots=True)
class _Known:
    session: int
    due_s: float
    failures: int = 0


class Dialer:
    """Dials all nodes but ``own_node_id`` again and again; belongs to one event loop."""

    def __init__(
        self,
        driver: Driver,
        nodes: Callable[[], Iterable[NodeInfo]],
        own_node_id: str,
        clock: Clock,
    ) -> None:
        self._driver = driver
        self._nodes = nodes
        self._own_node_id = own_node_id
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def run(self) -> None:
        """Without an end; ends with the driver's failure."""
        while True:
            await self._clock.sleep(ROUND_S)
            due = self.due(self._clock.now_s())
            for start in range(0, len(due), DIALS_MAXIMUM):
                part = due[start : start + DIALS_MAXIMUM]
                await asyncio.gather(*(self._look(node) for node in part))

    def due(self, now_s: float) -> Sequence[NodeInfo]:
        """The nodes to dial now; forgets those that are not connected."""
        nodes = {
            node.node_id: node
            for node in self._nodes()
            if node.connected and node.node_id != self._own_node_id
        }
        known = self._known
        for node_id in [node_id for node_id in known if node_id not in nodes]:
            del known[node_id]
        for node_id, node in nodes.items():
            if node_id not in known or known[node_id].session != node.session:
                known[node_id] = _Known(node.session, now_s)
        return [node for node_id, node in nodes.items() if known[node_id].due_s <= now_s]

    async def _look(self, node: NodeInfo) -> None:
        error = await _first_error([node.address, node.chunk_address])
        told = self.judge(node, error, self._clock.now_s())
        if told is not None:
            await self._driver.do(told)

    def judge(self, node: NodeInfo, error: str, now_s: float) -> NodeDialled | None:
        """What to tell the membership after a dial that ended in ``error``, "" for none."""
        known = self._known.get(node.node_id)
        if known is None or known.session != node.session:
            return None
        known.due_s = now_s + (FAILED_AGAIN_S if error else AGAIN_S)
        known.failures = known.failures + 1 if error else 0
        if 0 < known.failures < FAILURES_TO_TELL:
            known.due_s = now_s + ROUND_S
            return None
        if error == node.unreachable:
            return None
        return NodeDialled(node.node_id, node.session, error)


async def _first_error(addresses: Iterable[str]) -> str:
    for address in addresses:
        if address and (error := await dial(address)):
            return error
    return ""


async def dial(address: str, timeout_s: float = TIMEOUT_S) -> str:
    """Why nobody can be reached at "host:port", in words; "" when somebody can."""
    host, port = split_address(address)
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"{address} did not answer within {timeout_s:.0f} s"
    except OSError as error:
        if error.errno in _OURS:
            return ""
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        return f"{address}: {reason}"
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return ""
