"""What a process hears of what comes: who it is deaf to, what is lost, what is late.

Faults of the network stand where letters arrive. So a partition of two sides is each deaf
to the other, and a one-way partition is one of them deaf.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from perseus.algo.process import Id
from perseus.hosting.run import root
from perseus.proto.v1 import algo_pb2


@dataclass(slots=True)
class Hearing:
    """Of one process; no fault at first."""

    process: Id
    deaf_to: set[Id] = field(default_factory=set)
    # The share of letters that is lost; by up to how much each is late.
    loss: float = 0.0
    delay_s: float = 0.0

    def delay_of(self, letter: algo_pb2.Letter, sender: Id, drawn: float) -> float | None:
        """After how many seconds a letter is to be handed over, None when it is dropped.

        ``sender`` is whom the certificate names, ``drawn`` chance from 0 up to 1.
        """
        is_true = root(letter.sender) == sender and root(letter.to) == self.process
        if not is_true or sender in self.deaf_to or drawn < self.loss:
            return None
        # What is left of the draw is as evenly spread as all of it was.
        return self.delay_s * (drawn - self.loss) / (1.0 - self.loss)

    @property
    def is_well(self) -> bool:
        """Whether there is no fault."""
        return not (self.deaf_to or self.loss or self.delay_s)

    def heal(self) -> None:
        """All faults are over."""
        self.deaf_to.clear()
        self.loss = self.delay_s = 0.0

    def hear(self, again: Iterable[Id]) -> None:
        """It is no longer deaf to these."""
        self.deaf_to.difference_update(again)
