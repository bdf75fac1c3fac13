"""Calls of the event loop that an attempt awaits while it runs."""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Timers:
    """Pending calls of the event loop, all cancelled at the end."""

    handles: list[asyncio.TimerHandle] = field(default_factory=list)
    check: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """None of them will fire any more."""
        for handle in self.handles:
            handle.cancel()
        if self.check is not None:
            self.check.cancel()
