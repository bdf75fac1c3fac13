"""Death for good: the crash of the crash-stop model, of which there is no return.

An algorithm that is about the loss of some processes derives from ``Mortal``: in every run,
also one for real, the last of the group die some time after their start, and stay dead
whatever befalls their nodes. (With ``--faults deadly`` the simulator takes nodes for good.)
"""

from perseus.algo import Process, durable


class Mortal(Process):
    """``start`` of who derives from it sets timers only: a dead one must not send."""

    # How many die, if that leaves a majority.
    mortals = 1
    lifetime_s = (1.0, 20.0)

    is_dead: bool = durable(False)

    @property
    def deaths(self) -> int:
        """How many die in this group."""
        return min(self.mortals, (len(self.everyone) - 1) // 2)

    def start(self) -> None:
        super().start()
        if self.is_dead:
            self.stop()
        elif self.deaths and self.id in self.everyone[-self.deaths :]:
            self.after(self.lifetime_s, self.die)

    def die(self) -> None:
        """Now, and for good."""
        self.is_dead = True
        self.stop()
