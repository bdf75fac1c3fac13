"""Connections whose peer has not proved yet who he is: how many there may be, and who makes room.

A newcomer always gets in: where there are too many, the oldest of the address
that has most is let go. A member needs milliseconds to prove himself, so a flood
would have to fill all of its address' room in that time to push him out.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

# What a daemon needs for other things than connections that were made to it.
RESERVED_DESCRIPTORS = 256
# Ours, and both ends of the one to the gRPC server.
RELAY_DESCRIPTORS = 3
CONNECTIONS_MAXIMUM = 4096
STRANGERS_MAXIMUM = 512
# A daemon that may open very few files still answers somebody.
CONNECTIONS_MINIMUM = 16


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections a daemon takes."""

    # On the TLS port, and among them those of strangers: in all, and of one address.
    connections: int
    strangers: int
    strangers_of_one: int
    # On the Unix socket.
    local: int


def bounds_for(descriptors: int) -> Bounds:
    """What a process that may have so many descriptors can take.

    One share of the descriptors is the Unix socket's, one is for connections that
    are closed but not gone yet, the others are relays'.
    """
    share = (descriptors - RESERVED_DESCRIPTORS) // (RELAY_DESCRIPTORS + 2)
    connections = max(CONNECTIONS_MINIMUM, min(CONNECTIONS_MAXIMUM, share))
    strangers = min(STRANGERS_MAXIMUM, connections // 2)
    return Bounds(connections, strangers, strangers // 2, connections)


class Stranger:
    """One connection; the same as no other."""

    __slots__ = ("address", "leave")

    def __init__(self, address: str, leave: Callable[[], object]) -> None:
        self.address = address
        # Ends the connection.
        self.leave = leave


class Strangers:
    """All of one port."""

    def __init__(self, maximum: int, of_one_maximum: int) -> None:
        self._maximum = maximum
        self._of_one_maximum = of_one_maximum
        self._count = 0
        # By address, the oldest first.
        self._by_address: dict[str, dict[Stranger, None]] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, host: str, leave: Callable[[], object]) -> Stranger:
        """One more from ``host``; whoever has to make room for him leaves."""
        address = _address(host)
        if len(self._by_address.get(address, ())) >= self._of_one_maximum:
            self._drop_oldest(address)
        elif self._count >= self._maximum:
            self.drop_one()
        stranger = Stranger(address, leave)
        self._by_address.setdefault(address, {})[stranger] = None
        self._count += 1
        return stranger

    def drop_one(self) -> bool:
        """The oldest of the address that has most leaves; False when there is nobody."""
        if not self._by_address:
            return False
        self._drop_oldest(max(self._by_address, key=lambda each: len(self._by_address[each])))
        return True

    def discard(self, stranger: Stranger) -> None:
        """He is known now, or gone; may be told again."""
        ours = self._by_address.get(stranger.address, {})
        if stranger in ours:
            del ours[stranger]
            self._count -= 1
            if not ours:
                del self._by_address[stranger.address]

    def _drop_oldest(self, address: str) -> None:
        stranger = next(iter(self._by_address[address]))
        self.discard(stranger)
        stranger.leave()


def _address(host: str) -> str:
    """What counts as one address: of IPv6 a /64, which is what one machine commonly has."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(int(address) >> 64)
    return str(address)
