"""Who calls, and what a handler is told about the call."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from perseus.identity import roles


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls, after his certificate, socket or token was checked."""

    # A user's or node's name; for the holder of a join token the token's id.
    name: str
    # A number of ``identity.roles``.
    role: int
    # "user", "node", "local" (over the Unix socket) or "token".
    kind: str
    # Of a node.
    node_id: str = ""
    # Where from, for the log: "tls 10.0.0.7:5311", "socket uid 1000", "grpc".
    origin: str = ""
    # The id of the node that vouches for this caller; empty when the caller came himself.
    via_node_id: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({roles.WORDS.get(self.role, 'no role')})"


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler is told besides the request."""

    caller: Caller
    # "/perseus.v1.Jobs/Submit"
    path: str
    # By ``time.monotonic``; None when the caller set no time limit.
    deadline_s: float | None = None
    # Text metadata (gRPC) or headers (HTTP), names in lower case.
    metadata: Mapping[str, str] = field(default_factory=dict)

    def remaining_s(self) -> float | None:
        """Seconds until the deadline, at least 0; None without one."""
        if self.deadline_s is None:
            return None
        return max(0.0, self.deadline_s - time.monotonic())
