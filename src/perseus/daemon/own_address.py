"""By which of this machine's addresses the others reach it, when it listens on all."""

import ipaddress
import socket

from perseus.errors import InvalidError
from perseus.rpc.addresses import join_address

WILDCARDS = ("0.0.0.0", "::")
# Addresses for documentation: nobody's, so what leads there is the default route.
_ANYWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
_CANDIDATES_SHOWN = 4


def own_host(listen: str, port: int, towards: str = "") -> str:
    """The host that others can dial when we listen on ``listen``.

    Of a machine with several networks it is the address from which ``towards``, the
    cluster's master, is reached: the others are where the master is. Without it, the
    address of the default route, or the only one there is. Raises InvalidError when
    it is not clear which it is.
    """
    if listen not in WILDCARDS:
        return listen
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    way = _source(family, towards) if towards else ""
    if way and not is_loopback(way):
        return way
    # A master on this very machine may have nodes elsewhere.
    host = _source(family, _ANYWHERE[family]) or way
    if host:
        return host
    found = _addresses(family)
    if len(found) == 1:
        return found[0]
    choices = " or ".join(join_address(each, port) for each in found[:_CANDIDATES_SHOWN])
    raise InvalidError(
        f"others cannot dial {listen}, and which address of this machine they can is not clear",
        hint=f"say it with --advertise {choices or f'HOST:{port}'}",
    )


def _source(family: socket.AddressFamily, host: str) -> str:
    """Our address on the way to ``host``; "" when there is no way."""
    try:
        target = socket.getaddrinfo(host, 9, family, socket.SOCK_DGRAM)[0][4]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # A datagram socket sends nothing on connect; it only chooses a route.
            probe.connect(target)
            return str(probe.getsockname()[0])
    except (OSError, UnicodeError):
        return ""


def _addresses(family: socket.AddressFamily) -> list[str]:
    """Of all interfaces, without those that mean something on one link alone."""
    import psutil

    held = [each for interface in psutil.net_if_addrs().values() for each in interface]
    found = [each.address for each in held if each.family == family]
    return [address for address in found if _is_common(address)]


def _is_common(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return not parsed.is_loopback and not parsed.is_link_local


def is_loopback(host: str) -> bool:
    """Whether a host's name or address leads nowhere but here."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
