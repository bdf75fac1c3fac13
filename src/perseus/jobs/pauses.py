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
        # When the present one began, by ``clock.now_s``; None while attempts run.
        self._began_s: float | None = None
        self._is_off = asyncio.Event()

    @property
    def is_on(self) -> bool:
        """Whether attempts stand still."""
        return self._began_s is not None

    def begin(self) -> None:
        """They stand still from now on."""
        self._began_s = self._clock.now_s()
        self._is_off.clear()

    def end(self) -> None:
        """They go on."""
        if self._began_s is not None:
            self._total_s += self._clock.now_s() - self._began_s
            self._began_s = None
            self._is_off.set()

    async def over(self) -> None:
        """Returns when the present pause is over, and soon when there is none."""
        if self.is_on:
            await self._is_off.wait()
        else:
            await asyncio.sleep(LOOK_S)

    def total_s(self) -> float:
        """All of them so far, with the present one."""
        now_s = self._clock.now_s()
        return self._total_s + (0.0 if self._began_s is None else now_s - self._began_s)
