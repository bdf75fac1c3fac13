"""The outputs of an attempt whose program has ended, on their way to where they stay.

Most of them are there already, shipped behind the running program. What a fast
program was ahead may take minutes; who cancels the attempt does not wait for it:
``cut`` ends each ship at what it has brought there. What no ship brings there in
time is kept as far as it needs no place of its own.
"""

import asyncio
from collections.abc import Sequence

from perseus.jobs.spool import Shipment, Spool, in_background
from perseus.jobs.state_ends import size
from perseus.proto.v1 import agent_pb2
from perseus.settings import INLINE_MAXIMUM_BYTES

# How long the outputs of a cancelled attempt are shipped after its program has ended, and
# how long what is under way then may take to come to rest: together less than the usual
# grace of a cancel.
CANCELLED_KEEPING_S = 1.0
CUT_TIMEOUT_S = 3.5
# An attempt whose outputs are kept within this time tells only its end.
TOLD_AFTER_S = 0.05


class Keeping:
    """Keeps both outputs of one attempt, whole or cut. Belongs to one event loop."""

    def __init__(self, spools: Sequence[Spool], ships: Sequence[Shipment]) -> None:
        self._pairs = list(zip(spools, ships, strict=True))
        self._cut = asyncio.Event()
        # What was cut, for people.
        self._words: list[str] = []

    @property
    def is_inline(self) -> bool:
        """Whether all of it rides in the message that tells the end."""
        return all(spool.is_inline for spool, _ in self._pairs)

    @property
    def size_bytes(self) -> int:
        """Of both outputs."""
        return sum(spool.size_bytes for spool, _ in self._pairs)

    @property
    def said_of_cut(self) -> str:
        """Which outputs were cut and where; empty when they are whole."""
        if not self._words:
            return ""
        return f"while its output was being kept: only {' and '.join(self._words)} are kept"

    def cut(self) -> None:
        """What is not kept by now need not be."""
        self._cut.set()

    async def outputs(self) -> list[agent_pb2.Output]:
        """Both as the end's message tells them, once they are kept. Raises PerseusError."""
        if self.is_inline:
            return [inline_output(spool) for spool, _ in self._pairs]
        sizes = [spool.size_bytes for spool, _ in self._pairs]
        kept = [in_background(_keep(spool, ship)) for spool, ship in self._pairs]
        cut = in_background(self._cut.wait())
        try:
            if await _all_done(kept, cut):
                return [task.result() for task in kept]
            outputs = await self._cut_short(kept)
        finally:
            for task in (*kept, cut):
                task.cancel()
        for (spool, _), size_bytes in zip(self._pairs, sizes, strict=True):
            if spool.size_bytes < size_bytes:
                first = f"the first {size(spool.size_bytes)} of {size(size_bytes)}"
                self._words.append(f"{first} of its {spool.name}")
        return outputs

    async def _cut_short(
        self, kept: Sequence["asyncio.Task[agent_pb2.Output]"]
    ) -> list[agent_pb2.Output]:
        """What is there already, of each output."""
        for task, (_, ship) in zip(kept, self._pairs, strict=True):
            if not ship.cut():
                task.cancel()
        await asyncio.wait(kept, timeout=CUT_TIMEOUT_S)
        outputs = []
        for task, (spool, ship) in zip(kept, self._pairs, strict=True):
            if not task.done() or task.cancelled() or task.exception() is not None:
                outputs.append(_beginning(spool, ship))
            else:
                outputs.append(task.result())
        return outputs


async def _all_done(
    kept: Sequence["asyncio.Task[agent_pb2.Output]"], cut: "asyncio.Task[bool]"
) -> bool:
    """False when it was cut before. Raises what the first of them failed with."""
    while left := [task for task in kept if not task.done()]:
        if cut.done():
            return False
        await asyncio.wait((*left, cut), return_when=asyncio.FIRST_COMPLETED)
        for task in kept:
            if task.done():
                task.result()
    return True


async def _keep(spool: Spool, ship: Shipment) -> agent_pb2.Output:
    if spool.is_inline:
        await ship.abandon()
        return inline_output(spool)
    shipped = await ship.finish(spool)
    if shipped.size_bytes < min(spool.size_bytes, INLINE_MAXIMUM_BYTES):
        return _beginning(spool, ship)
    spool.cut(shipped.size_bytes)
    return agent_pb2.Output(
        size_bytes=spool.size_bytes, inode=shipped.inode, truncated=spool.truncated
    )


def _beginning(spool: Spool, ship: Shipment) -> agent_pb2.Output:
    """As much as needs no place of its own. The ship may hang: it is left to end by itself."""
    in_background(ship.abandon())
    spool.cut(INLINE_MAXIMUM_BYTES)
    return inline_output(spool)


def inline_output(spool: Spool) -> agent_pb2.Output:
    """A small output, which rides in the message."""
    return agent_pb2.Output(
        size_bytes=spool.size_bytes, inline=spool.read_inline(), truncated=spool.truncated
    )
