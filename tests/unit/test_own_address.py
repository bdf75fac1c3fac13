"""By which address others reach this machine."""

import socket
from types import SimpleNamespace

import psutil
import pytest

from perseus.cli.commands import setup
from perseus.daemon import own_address
from perseus.daemon.own_address import own_host
from perseus.errors import InvalidError


class Routes:
    """By which of our addresses each host is reached; others are not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, routes: dict[str, str]) -> None:
        anywhere = own_address._ANYWHERE[socket.AF_INET]
        routes = {anywhere if host == "*" else host: way for host, way in routes.items()}
        monkeypatch.setattr(own_address, "_source", lambda family, host: routes.get(host, ""))


def have(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """These are the addresses of our interfaces."""
    held = [SimpleNamespace(family=socket.AF_INET, address=each) for each in addresses]
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"eth0": held})


def test_what_is_said_counts() -> None:
    assert own_host("10.0.0.7", 7700, "10.0.0.1") == "10.0.0.7"


def test_of_two_networks_the_masters_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    Routes(monkeypatch, {"10.99.7.1": "10.99.7.3", "*": "10.50.0.3"})
    assert own_host("0.0.0.0", 7700, "10.99.7.1") == "10.99.7.3"
    assert own_host("0.0.0.0", 7700) == "10.50.0.3"


def test_a_network_without_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    Routes(monkeypatch, {"10.99.7.1": "10.99.7.3"})
    assert own_host("0.0.0.0", 7700, "10.99.7.1") == "10.99.7.3"
    have(monkeypatch, "127.0.0.1", "169.254.3.4", "10.99.7.3")
    assert own_host("0.0.0.0", 7700) == "10.99.7.3"


def test_a_master_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    Routes(monkeypatch, {"localhost": "127.0.0.1", "*": "10.50.0.3"})
    assert own_host("0.0.0.0", 7700, "localhost") == "10.50.0.3"
    Routes(monkeypatch, {"localhost": "127.0.0.1"})
    assert own_host("0.0.0.0", 7700, "localhost") == "127.0.0.1"


def test_what_is_not_clear_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    Routes(monkeypatch, {})
    have(monkeypatch, "10.0.0.7", "192.168.1.7")
    with pytest.raises(InvalidError) as caught:
        own_host("0.0.0.0", 7700)
    assert caught.value.hint == "say it with --advertise 10.0.0.7:7700 or 192.168.1.7:7700"
    have(monkeypatch)
    with pytest.raises(InvalidError) as caught:
        own_host("0.0.0.0", 7700)
    assert caught.value.hint == "say it with --advertise HOST:7700"


def test_the_way_of_this_machine_to_itself() -> None:
    assert own_address._source(socket.AF_INET, "127.0.0.1") == "127.0.0.1"
    assert own_address._source(socket.AF_INET, "no.such.host.invalid") == ""


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:7700", "no other machine reaches 127.0.0.1; for those"),
        ("[::1]:7700", "no other machine reaches ::1; for those"),
        ("localhost:7700", "no other machine reaches localhost; for those"),
        ("192.168.1.10:7700", "on each other machine, within the hour"),
        ("attic.lan:7700", "on each other machine, within the hour"),
    ],
)
def test_a_first_node_says_who_can_join(address: str, words: str) -> None:
    assert setup._who_can_join(address).startswith(words)
