"""Addresses as people write them: ``HOST:PORT``, a host of IPv6 in brackets."""

from perseus.errors import InvalidError

PORT_MAXIMUM = 65535


def split_address(address: str) -> tuple[str, int]:
    """``HOST:PORT`` as host (without brackets) and port, which may be 0; raises InvalidError."""
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    is_number = port.isascii() and port.isdigit()
    if not separator or not host or not is_number or int(port) > PORT_MAXIMUM:
        raise InvalidError(
            f"{address!r} is not an address", hint="write HOST:PORT, as in 192.168.1.10:7700"
        )
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """The inverse of split_address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
