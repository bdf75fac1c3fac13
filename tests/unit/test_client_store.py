"""Where contexts are kept: what is said when that is nowhere."""

from pathlib import Path

import pytest

from perseus.client import store
from perseus.client.context import Context
from perseus.errors import UnavailableError


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "file")}
    context = Context(name="lab", cluster_id="p1", socket="/nowhere")
    for call in (
        lambda: store.check_place(environment),
        lambda: store.install(context, environment),
    ):
        with pytest.raises(UnavailableError, match=str(tmp_path / "file")) as caught:
            call()
        assert "XDG_CONFIG_HOME" in caught.value.hint


def test_a_place_that_is_well_keeps_nothing_of_the_probe(tmp_path: Path) -> None:
    store.check_place({"XDG_CONFIG_HOME": str(tmp_path)})
    assert list((tmp_path / "perseus" / "contexts").iterdir()) == []
