"""Letters are heard as faults allow, and only in their senders' own names."""

import pytest

from perseus.hosting.hearing import Hearing
from perseus.proto.v1 import algo_pb2


def _letter(sender: str = "n2", to: str = "n1") -> algo_pb2.Letter:
    return algo_pb2.Letter(to=to, sender=sender)


@pytest.mark.parametrize(
    ("letter", "sender", "is_heard"),
    [
        (_letter(), "n2", True),
        (_letter("n2/detector", "n1/detector"), "n2", True),
        (_letter("n3"), "n2", False),
        (_letter("n3/detector"), "n2", False),
        (_letter(to="n3"), "n2", False),
    ],
)
def test_names_must_be_true(letter: algo_pb2.Letter, sender: str, is_heard: bool) -> None:
    assert (Hearing("n1").delay_of(letter, sender, 0.0) is not None) == is_heard


def test_it_is_deaf_to_some_until_it_is_healed() -> None:
    hearing = Hearing("n1", {"n2"})
    assert hearing.delay_of(_letter(), "n2", 0.5) is None
    assert hearing.delay_of(_letter("n3"), "n3", 0.5) == 0.0
    hearing.heal()
    assert hearing.is_well
    assert hearing.delay_of(_letter(), "n2", 0.5) == 0.0


def test_it_may_hear_some_again() -> None:
    hearing = Hearing("n1", {"n2", "n3"}, loss=0.5)
    hearing.hear(["n2", "n4"])
    assert (hearing.deaf_to, hearing.loss) == ({"n3"}, 0.5)


def test_a_share_is_lost_and_the_rest_is_late_by_up_to_so_much() -> None:
    hearing = Hearing("n1", loss=0.25, delay_s=2.0)
    drawn = [n / 1000 for n in range(1000)]
    delays = [hearing.delay_of(_letter(), "n2", each) for each in drawn]
    assert delays.count(None) == 250
    late = [each for each in delays if each is not None]
    assert min(late) == 0.0
    assert 1.9 < max(late) < 2.0


def test_all_may_be_lost() -> None:
    assert Hearing("n1", loss=1.0).delay_of(_letter(), "n2", 0.999) is None
