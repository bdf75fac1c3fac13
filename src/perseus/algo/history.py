"""What clients asked of an algorithm and were told, in true time: what checkers judge.

An operation is *invoked*, and perhaps *returns*. One that was given up may have
happened or not, or may happen later still.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

from perseus.algo.process import Id


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


# The result of an operation that did not return.
UNKNOWN: Final = _Unknown()


@dataclass(slots=True)
class Operation:
    """One call of a client; the order of events is by the run's own count of them."""

    client: Id
    what: Any
    # When it began and ended, by whatever clock all clients of the history share.
    invoked: float
    returned: float = inf
    result: Any = UNKNOWN

    @property
    def is_over(self) -> bool:
        """Whether its client knows the result."""
        return self.returned != inf

    def end(self, at: float, result: Any) -> None:
        """It returned."""
        self.returned, self.result = at, result

    def since(self, began_s: float) -> "Operation":
        """The same in seconds since then."""
        return replace(self, invoked=self.invoked - began_s, returned=self.returned - began_s)

    def __str__(self) -> str:
        ended = f"{self.returned:.3f} s: {self.result!r}" if self.is_over else "no answer"
        return f"{self.client} {self.what!r} at {self.invoked:.3f} s, {ended}"


def merged(histories: Iterable[Iterable[Operation]], began_s: float = 0.0) -> list[Operation]:
    """Several clients' histories as one, in the order of their beginnings, in seconds since
    their clock said ``began_s``."""
    return sorted(
        (operation.since(began_s) for history in histories for operation in history),
        key=lambda operation: operation.invoked,
    )
