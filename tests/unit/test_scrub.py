"""The scrubber's place: what it says, and when it makes the next pass begin."""

import pytest

from perseus.filestore.scrub import Place

DAY_S = 86400.0


@pytest.mark.parametrize("place", [Place(), Place(17, 0), Place(0, 1e9), Place(1 << 63, 2e9)])
def test_a_place_is_kept_as_it_was(place: Place) -> None:
    assert Place.decode(place.encode()) == place


@pytest.mark.parametrize(
    "text",
    ["", "\0" * 50, "x", "perseus-scrubbed-1 00000000000000ff", "perseus-scrubbed-9 ff 0\n"],
)
def test_what_is_torn_or_of_another_make_is_the_beginning(text: str) -> None:
    assert Place.decode(text) == Place()


@pytest.mark.parametrize(
    ("place", "now_s", "wait_s"),
    [
        (Place(), 1e9, 90.0),
        # Cut short: it goes on soon, however long ago it was.
        (Place(5, 1e9 - 100), 1e9, 90.0),
        (Place(0, 1e9 - 100), 1e9, DAY_S - 100),
        (Place(0, 1e9 - 2 * DAY_S), 1e9, 90.0),
        # The clock was set back by years.
        (Place(0, 1e9), 1e8, DAY_S),
    ],
)
def test_when_the_next_pass_begins(place: Place, now_s: float, wait_s: float) -> None:
    assert place.wait_s(now_s, DAY_S, 90.0) == wait_s


def test_a_short_interval_is_not_made_longer() -> None:
    assert Place().wait_s(1e9, 1.0, 90.0) == 1.0
