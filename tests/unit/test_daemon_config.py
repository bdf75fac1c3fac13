"""The data folder: what ``cluster.json`` may hold, and that it has one daemon at a time."""

import dataclasses
import json
import os
import stat
from pathlib import Path

import pytest

from perseus.daemon import config
from perseus.daemon.config import FolderLock, NodeConfig, Paths
from perseus.errors import ConflictError, IncompatibleError, InvalidError, NotFoundError
from perseus.settings import DATA_VERSION

NODE = NodeConfig(
    cluster_id="pcluster",
    node_id="n1",
    node_name="attic",
    listen="0.0.0.0:7700",
    advertise="192.0.2.1:7700",
    chunk_listen="0.0.0.0:7701",
    is_master=True,
    master_address="192.0.2.1:7700",
    settings={"lease_s": "20", "log_level": "debug"},
    labels={"gpu": "yes"},
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    assert not config.exists(tmp_path)
    config.save(tmp_path, NODE)
    assert config.exists(tmp_path) and config.load(tmp_path) == NODE
    assert stat.S_IMODE(Paths(tmp_path).config.stat().st_mode) == 0o600


def test_no_folder_of_a_node(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as raised:
        config.load(tmp_path)
    assert f"perseus init --data {tmp_path}" in raised.value.hint


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    newer = dataclasses.asdict(NODE) | {"format": DATA_VERSION + 1, "shape": "unknown"}
    Paths(tmp_path).config.write_text(json.dumps(newer))
    with pytest.raises(IncompatibleError, match="newer"):
        config.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"format": "1"}',
        '{"format": 1}',
        json.dumps(dataclasses.asdict(NODE) | {"advertise": 7700}),
        json.dumps(dataclasses.asdict(NODE) | {"settings": ["lease_s"]}),
    ],
)
def test_what_is_no_configuration_is_refused_by_name(tmp_path: Path, text: str) -> None:
    Paths(tmp_path).config.write_text(text)
    with pytest.raises(InvalidError, match=r"cluster\.json"):
        config.load(tmp_path)


def test_what_a_newer_program_of_this_layout_adds_is_passed_over(tmp_path: Path) -> None:
    Paths(tmp_path).config.write_text(json.dumps(dataclasses.asdict(NODE) | {"shape": 1}))
    assert config.load(tmp_path) == NODE


def test_the_environment_goes_before_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSEUS_LEASE_S", "30")
    settings = config.effective_settings(NODE)
    assert (settings.lease_s, settings.log_level, settings.replicas) == (30.0, "debug", 2)


def test_one_daemon_at_a_time(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(ConflictError, match="another daemon"):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()


def test_folders_are_their_owners_alone(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "data")
    os.umask(os.umask(0o022))
    paths.make()
    for folder in (paths.identity, paths.chunks, paths.attempts, paths.log.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    # Others may pass through to the socket, and see nothing on the way.
    for folder in (paths.data, paths.run):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o711, folder


def test_a_long_path_keeps_its_sockets_elsewhere_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths(tmp_path / ("d" * 100))
    found = paths.run
    assert len(os.fsencode(paths.socket)) < config.SOCKET_PATH_MAXIMUM
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert paths.run == found != Paths(tmp_path / ("e" * 100)).run
    monkeypatch.chdir(tmp_path)
    assert Paths(Path("d" * 100)).run == found


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "cluster_id": 3}'], ids=repr
)
def test_a_damaged_configuration_is_told_with_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "cluster.json").write_text(content)
    with pytest.raises(InvalidError, match=r"cluster\.json") as caught:
        config.load(tmp_path)
    assert "perseus join" in caught.value.hint
