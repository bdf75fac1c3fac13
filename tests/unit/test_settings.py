"""Settings: where they come from, and what they may be."""

from dataclasses import fields

import pytest

from perseus.errors import InvalidError
from perseus.settings import BOUNDS, CHOICES, Settings, from_environment, from_mappings, range_text


def test_each_setting_has_bounds_and_its_default_keeps_them() -> None:
    names = {field.name for field in fields(Settings)}
    assert names == BOUNDS.keys() | CHOICES.keys()
    defaults = Settings()
    assert from_mappings({name: getattr(defaults, name) for name in names}) == defaults


def test_the_first_layer_wins_and_text_becomes_numbers() -> None:
    made = from_mappings({"lease_s": "3"}, {"lease_s": "20", "replicas": "3"})
    assert (made.lease_s, made.replicas) == (3.0, 3)
    environment = {"PERSEUS_LEASE_S": "4", "PERSEUS_CONTEXT": "x", "LEASE_S": "5"}
    assert from_environment(environment) == {"lease_s": "4"}


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("disk_reserve_bytes", "20M", 20 << 20),
        ("output_limit_bytes", "1.5GiB", 3 << 29),
        ("disk_reserve_bytes", "1048577", (1 << 20) + 1),
        ("lease_s", "10s", 10.0),
        ("keep_jobs_s", "2h", 7200.0),
        ("write_lease_s", "1500ms", 1.5),
        # From a file, as the number that it is.
        ("disk_reserve_bytes", 4096, 4096),
        ("lease_s", 3, 3.0),
    ],
)
def test_sizes_and_times_are_read_as_people_write_them(
    name: str, value: object, meant: float
) -> None:
    assert getattr(from_mappings({name: value}), name) == meant


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("disk_reserve_bytes", "much", "a whole number of bytes"),
        ("disk_reserve_bytes", 1.5, "a whole number of bytes"),
        ("lease_s", "soon", "a number of seconds"),
        ("lease_s", True, "a number of seconds"),
        ("replicas", "1.5", "a whole number"),
        ("cpu", "all", "a number"),
    ],
)
def test_what_is_no_amount_is_told_in_words(name: str, value: object, words: str) -> None:
    with pytest.raises(InvalidError) as raised:
        from_mappings({name: value})
    assert raised.value.message == f"setting {name} = {value!r} is not {words}"
    assert name in raised.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lease_s", "-1"),
        ("lease_s", "nan"),
        ("lease_s", "soon"),
        ("replicas", "0"),
        ("replicas", "1.5"),
        ("cpu", "inf"),
        ("socket_role", "admin"),
        ("log_level", "loud"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidError, match=name):
        from_mappings({name: value})


def test_an_unknown_name_is_refused_and_the_known_ones_are_told() -> None:
    with pytest.raises(InvalidError) as raised:
        from_mappings({"lease": "3"})
    assert "lease_s" in raised.value.hint


def test_ranges_in_words() -> None:
    assert range_text("replicas") == "1 to 16"
    assert range_text("socket_role") == "none, viewer, user"
