"""How long the attempts of a node have stood still; a time limit does not count that."""

import asyncio

from perseus.runtime.ports import Clock

# Between two tries to start what the spawner refuses though no pause is known of yet.
LOOK_S = 0.05


class Pauses:
    """Times in which all attempts stood still together, for their node had no lease."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._total_s = 0.0
        # When the present one began, by ``clock.now_s``; None while attempts run, as far as
        # is known here.
        self._began_s: float | None = None
        # From when on attempts stand still, whether or not this process runs to note it.
        self._lease_ends_s = float("inf")
        self._is_off = asyncio.Event()

    @property
    def is_on(self) -> bool:
        """Whether attempts stand still."""
        return self._began_s is not None or self._clock.now_s() >= self._lease_ends_s

    def on_lease(self, until_s: float) -> None:
        """They stand still from ``until_s`` on at the latest."""
        self._lease_ends_s = until_s

    def begin(self) -> None:
        """They stand still from now on, or since their lease ended: this process may have
        been stopped with them."""
        self._began_s = min(self._clock.now_s(), self._lease_ends_s)
        self._is_off.clear()

    def end(self) -> None:
        """They go on."""
        if self._began_s is not None:
            self._total_s += self._clock.now_s() - self._began_s
            self._began_s = None
            self._is_off.set()

    async def over(self) -> None:
        """Returns when the present pause is over, and soon when there is none."""
        if self._began_s is not None:
            await self._is_off.wait()
        else:
            await asyncio.sleep(LOOK_S)

    def total_s(self) -> float:
        """All of them so far, with the present one."""
        now_s = self._clock.now_s()
        return self._total_s + (0.0 if self._began_s is None else now_s - self._began_s)
