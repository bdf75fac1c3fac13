"""The lease as its holder keeps it: when this node must stop."""

from collections.abc import Callable

from perseus.runtime.ports import Clock

# The share of the lease, at its end, in which the node no longer acts.
LEASE_MARGIN_SHARE = 0.2


class HeldLease:
    """Counted from when what renewed it was sent, by this node's own clock.

    ``on_renewed`` is told until when the node may act, whenever that moves; ``on_lost``
    is called once for each loss, by whoever first compares clocks.
    """

    def __init__(
        self, clock: Clock, on_renewed: Callable[[float], None], on_lost: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._on_renewed = on_renewed
        self._on_lost = on_lost
        self._lease_s = 0.0
        self._held = False
        # The master grants one; what it answers next begins it.
        self._granted = False
        # By ``clock.now_s``; minus infinity without a lease.
        self.ends_at_s = float("-inf")
        # How often it was lost.
        self.losses = 0

    @property
    def stops_at_s(self) -> float:
        """When the node stops acting: a margin before the end."""
        return self.ends_at_s - self._lease_s * LEASE_MARGIN_SHARE

    def begin(self, lease_s: float, sent_at_s: float) -> bool:
        """The master grants leases of ``lease_s``, the first from when Hello was sent.

        It takes the place of the lease before, also of one that would have lasted longer.
        False when the master has taken so long that it would be over already: then there
        is none until a heartbeat is answered.
        """
        self._lease_s = lease_s
        self._granted = True
        ends_at_s = sent_at_s + lease_s
        if self._clock.now_s() >= ends_at_s - lease_s * LEASE_MARGIN_SHARE:
            return False
        self._held = True
        self.ends_at_s = ends_at_s
        self._on_renewed(self.stops_at_s)
        return True

    def renew(self, sent_at_s: float) -> None:
        """A heartbeat that was sent then has been answered."""
        if self._granted and sent_at_s + self._lease_s > self.ends_at_s:
            self._held = True
            self.ends_at_s = sent_at_s + self._lease_s
            self._on_renewed(self.stops_at_s)

    def check(self) -> bool:
        """Whether it is held; tells of the loss when it is found to be over."""
        if self._held and self._clock.now_s() >= self.stops_at_s:
            self.lose()
        return self._held

    def lose(self) -> None:
        """It is over, by the clock or by the master's word."""
        self._granted = False
        if self._held:
            self._held = False
            self.losses += 1
            self.ends_at_s = float("-inf")
            self._on_lost()

    async def watch(self, interval_s: float) -> None:
        """Checks when the node must stop, and at least each ``interval_s``; never returns.

        Timers do not count while the machine sleeps, so one long sleep would not do.
        """
        while True:
            wait_s = interval_s
            if self.check():
                wait_s = min(interval_s, max(0.0, self.stops_at_s - self._clock.now_s()))
            await self._clock.sleep(wait_s)
