"""Making a node: what it leaves, and that it leaves nothing when it fails or is killed."""

import errno
import json
import os
import platform
import socket
import stat
from pathlib import Path

import pytest

from perseus.cli import devcluster
from perseus.cli.main import main
from perseus.daemon import config, embedded, setup
from perseus.daemon.config import FolderLock, Paths
from perseus.errors import (
    ConflictError,
    FullError,
    IncompatibleError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)


def test_the_first_node_of_a_cluster(tmp_path: Path) -> None:
    data = tmp_path / "d"
    made = setup.initialise(data, "127.0.0.1:0", "attic", settings={"lease_s": "5"})
    assert config.load(data) == made
    assert made.is_master and made.master_address == made.advertise == made.listen
    assert not (data / setup.UNFINISHED).exists()
    for secret in ("identity/ca.key", "identity/node.key", "context.json", "cluster.json"):
        assert stat.S_IMODE((data / secret).stat().st_mode) == 0o600, secret
    context = json.loads((data / "context.json").read_text())
    assert context["cluster_id"] == made.cluster_id and context["key_pem"]


def test_a_node_is_not_made_twice(tmp_path: Path) -> None:
    setup.initialise(tmp_path / "d", "127.0.0.1:0", "attic")
    before = config.load(tmp_path / "d")
    with pytest.raises(ConflictError, match="attic"):
        setup.initialise(tmp_path / "d", "127.0.0.1:0", "hall")
    assert config.load(tmp_path / "d") == before


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(ConflictError, match="not empty"):
        setup.initialise(tmp_path, "127.0.0.1:0", "attic")
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise UnavailableError("the disk is gone")

    monkeypatch.setattr(setup, "_write_owner_context", fail)
    (tmp_path / "there").mkdir()
    for data in (tmp_path / "new", tmp_path / "there"):
        with pytest.raises(UnavailableError):
            setup.initialise(data, "127.0.0.1:0", "attic")
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "there").iterdir()) == []


def test_a_full_disk_is_told_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(setup, "_write_owner_context", fill)
    with pytest.raises(FullError, match=f"{tmp_path / 'd'}: No space left") as caught:
        setup.initialise(tmp_path / "d", "127.0.0.1:0", "attic")
    assert f"df -h {tmp_path}" in caught.value.hint and not (tmp_path / "d").exists()


def test_what_a_killed_making_left_is_cleared(tmp_path: Path) -> None:
    data = tmp_path / "d"
    Paths(data).make()
    (data / setup.UNFINISHED).touch()
    (data / "identity" / "ca.key").write_text("half of a ke")
    made = setup.initialise(data, "127.0.0.1:0", "attic")
    assert config.load(data) == made


def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    data = tmp_path / "d"
    data.mkdir()
    (data / setup.UNFINISHED).touch()
    lock = FolderLock(data)
    (data / "identity").mkdir()
    with pytest.raises(ConflictError, match="just now"):
        setup.initialise(data, "127.0.0.1:0", "attic")
    assert (data / "identity").exists()
    lock.release()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for data in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises((ConflictError, InvalidError), match="file"):
            setup.initialise(data, "127.0.0.1:0", "attic")


def test_a_port_that_is_taken_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=listen):
            setup.initialise(tmp_path / "d", listen, "attic")
    assert not (tmp_path / "d").exists()


def test_a_node_is_told_before_its_own_port_is_taken_for_anothers(tmp_path: Path) -> None:
    made = setup.initialise(tmp_path / "d", "127.0.0.1:0", "attic")
    host, port = config.split_address(made.listen)
    with socket.socket() as daemon:
        daemon.bind((host, port))
        daemon.listen()
        with pytest.raises(ConflictError, match=r"attic of cluster .* already") as caught:
            setup.initialise(tmp_path / "d", made.listen, "attic")
        assert "perseus start --data" in caught.value.hint
        with pytest.raises(ConflictError, match=r"attic of cluster .* already"):
            setup.join("127.0.0.1:1", "perseus1.a.b.c", tmp_path / "d", made.listen, "attic")


@pytest.mark.parametrize(
    ("host", "port", "error", "hint"),
    [
        ("127.0.0.1", 7700, OSError(errno.EADDRINUSE, ""), "--listen 127.0.0.1:7710"),
        ("127.0.0.1", 443, OSError(errno.EACCES, ""), "--listen 127.0.0.1:7700"),
        ("attic", 7700, socket.gaierror(socket.EAI_NONAME, ""), "--listen 0.0.0.0:7700"),
        ("a" * 80, 0, UnicodeError(), "--listen 0.0.0.0:7700"),
        ("192.0.2.1", 8000, OSError(errno.EADDRNOTAVAIL, ""), "--listen 0.0.0.0:8000"),
    ],
)
def test_what_to_listen_on_instead(host: str, port: int, error: Exception, hint: str) -> None:
    assert hint in setup._hint_of_bind(host, port, error)


def test_a_host_that_is_not_here(tmp_path: Path) -> None:
    for host in ("192.0.2.1", "a" * 80):
        with pytest.raises(UnavailableError, match="cannot listen on") as caught:
            setup.initialise(tmp_path / "d", f"{host}:7700", "attic")
        assert "an address of this machine" in caught.value.hint


def test_a_cluster_of_this_machine_alone_says_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(UnavailableError, match=str(tmp_path / "file" / "perseus")) as caught:
        embedded.ensure()
    assert "XDG_DATA_HOME" in caught.value.hint


@pytest.mark.parametrize("listen", ["attic", "127.0.0.1:65535", "127.0.0.1:70000"])
def test_addresses_that_cannot_be(tmp_path: Path, listen: str) -> None:
    with pytest.raises(InvalidError):
        setup.initialise(tmp_path / "d", listen, "attic")
    assert not (tmp_path / "d").exists()


def test_settings_and_names_are_checked_first(tmp_path: Path) -> None:
    for name, settings in (("no spaces", {}), ("attic", {"lease_s": "-1"})):
        with pytest.raises(InvalidError):
            setup.initialise(tmp_path / "d", "127.0.0.1:0", name, settings=settings)
    assert not (tmp_path / "d").exists()


def test_this_machines_name_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, name in (("Attic.Lan", "attic.lan"), ("--", "node"), ("ä b", "b"), ("", "node")):
        monkeypatch.setattr(platform, "node", lambda told=told: told)
        assert embedded.node_name() == name


def test_ids_begin_with_a_letter() -> None:
    assert all(setup.new_id(8)[0].isalpha() and len(setup.new_id(8)) == 8 for _ in range(200))


def test_a_local_clusters_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no local cluster"):
        devcluster.status(tmp_path)
    with pytest.raises(NotFoundError, match="no local cluster"):
        devcluster.kill(tmp_path, "node-1")
    for name in ("node-2", "node-10", "node-1", "node-x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cluster.json").touch()
    assert devcluster._names(tmp_path) == ["node-1", "node-2", "node-10"]
    with pytest.raises(InvalidError, match="--nodes 0"):
        devcluster.up(0, tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ConflictError, match="no local cluster"):
        devcluster.up(1, tmp_path / "other")


@pytest.mark.parametrize(("count", "said"), [(1, "1 node of lab is"), (2, "2 nodes of lab are")])
def test_the_end_of_a_local_cluster_is_told(
    count: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devcluster, "down", lambda folder, remove: count)
    assert main(["dev", "down", "--dir", "lab"]) == 0
    assert capsys.readouterr().err == f"perseus: {said} stopped\n"


def test_a_local_cluster_with_a_node_of_a_newer_version_can_be_ended(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    setup.initialise(folder / "node-1", "127.0.0.1:0", "node-1")
    about = json.loads((folder / "node-1" / "cluster.json").read_text())
    (folder / "node-2").mkdir()
    (folder / "node-2" / "cluster.json").write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(IncompatibleError):
        devcluster.status(folder)
    assert devcluster.down(folder, remove=True) == 0 and not folder.exists()


def test_a_local_cluster_that_is_removed_leaves_no_sockets_in_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("lab" * 40)
    monkeypatch.setattr(config, "SHORT_ROOT", tmp_path / "tmp")
    setup.initialise(folder / "node-1", "127.0.0.1:0", "node-1")
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    monkeypatch.chdir(tmp_path)
    assert devcluster.down(Path(folder.name), remove=True) == 0
    assert not list((tmp_path / "tmp").iterdir()) and not folder.exists()


def test_two_local_clusters_at_once_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    held = devcluster._lock(folder)
    # As the first one has it half way.
    (folder / "node-1").mkdir()
    with pytest.raises(ConflictError, match="just now") as caught:
        devcluster.up(1, folder)
    assert "wait for it" in caught.value.hint
    held.release()
    # What one left that was killed then is no reason to refuse.
    devcluster._check_folder(folder)


def test_a_local_cluster_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidError, match="cannot make a local cluster") as caught:
        devcluster.up(1, tmp_path / "file" / "lab")
    assert "--dir" in caught.value.hint
