"""Which context counts, and how contexts are kept."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perseus.client import context as contexts
from perseus.client import store
from perseus.client.context import Context
from perseus.client.transport import _ssl_context, identity_of
from perseus.errors import InvalidError, NotFoundError, RefusedError
from perseus.identity import roles
from perseus.identity.authority import Authority
from perseus.identity.files import new_key_and_request
from perseus.identity.subject import Subject


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }


def _write(path: Path, **values: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": path.stem, "socket": "/x.sock"} | values))
    return path


def test_nothing_is_known(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "SYSTEM_DATA", environment["HOME"] + "/none")
    assert contexts.find(environment) is None


def test_the_order(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "SYSTEM_DATA", str(tmp_path / "system"))
    _write(tmp_path / "data" / "perseus" / "embedded" / "context.json", name="embedded")
    found = contexts.find(environment)
    assert found is not None and found.name == "embedded"
    assert contexts.is_embedded(found, environment)

    node = tmp_path / "data" / "perseus" / "node"
    _write(node / "run" / "perseusd.sock")
    _write(node / "cluster.json", node_name="attic", cluster_id="p1", master_address="a:1")
    found = contexts.find(environment)
    assert found is not None and (found.name, found.address) == ("attic", "a:1")

    store.install(Context(name="lab", cluster_id="p2", address="b:2"), environment, use=True)
    found = contexts.find(environment)
    assert found is not None and found.name == "lab"

    environment["PERSEUS_CONTEXT"] = str(_write(tmp_path / "mine.json"))
    found = contexts.find(environment)
    assert found is not None and found.name == "mine"


def test_contexts_are_kept_privately_and_chosen(environment: dict[str, str]) -> None:
    path = store.install(Context(name="lab", cluster_id="p1", address="a:1"), environment)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    store.install(Context(name="home", cluster_id="p2", address="b:2"), environment)
    found = contexts.find(environment)
    assert found is not None and found.name == "lab"
    assert [one.name for one in store.known(environment)] == ["home", "lab"]
    assert store.use("home", environment).name == "home"
    found = contexts.find(environment)
    assert found is not None and found.name == "home"
    with pytest.raises(NotFoundError, match="nowhere"):
        store.use("nowhere", environment)


def test_a_name_taken_by_another_cluster(environment: dict[str, str]) -> None:
    store.install(Context(name="lab", cluster_id="p1", address="a:1"), environment)
    path = store.install(Context(name="lab", cluster_id="p2", address="b:2"), environment)
    assert path.endswith("/p2.json")
    assert contexts.load(contexts.named_path("lab", environment)).cluster_id == "p1"


def test_a_certificate_that_is_none_is_told_by_its_context(tmp_path: Path) -> None:
    broken = Context("lab", "c-1", "far:1", "", "x", "y", "z", str(tmp_path / "lab.json"))
    for read in (_ssl_context, identity_of):
        with pytest.raises(InvalidError, match=r"in context lab, .*/lab\.json is none") as caught:
            read(broken)
        assert caught.value.hint == "perseus login far:1 --token T"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
def test_a_key_that_others_can_read_is_refused(
    environment: dict[str, str], tmp_path: Path, mode: int
) -> None:
    path = _write(tmp_path / "open.json", key_pem="secret")
    path.chmod(mode)
    with pytest.raises(RefusedError, match=rf"open\.json \(mode {mode:o}\)") as caught:
        contexts.load(str(path))
    assert caught.value.hint == f"chmod 600 {path}"
    subprocess.run(["sh", "-c", caught.value.hint], check=True)
    assert contexts.load(str(path)).key_pem == "secret"


def test_an_open_context_is_shown_and_can_be_replaced(environment: dict[str, str]) -> None:
    lab = Context(name="lab", cluster_id="p1", address="a:1", key_pem="secret")
    path = Path(store.install(lab, environment))
    path.chmod(0o644)
    assert [one.name for one in store.known(environment)] == ["lab"]
    store.install(lab, environment)
    assert contexts.load(str(path)).key_pem == "secret"


def test_a_file_without_a_key_and_one_that_another_owns_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "x.json")
    path.chmod(0o644)
    assert contexts.load(str(path)).name == "x"
    mounted = _write(tmp_path / "y.json", key_pem="secret")
    mounted.chmod(0o644)
    owner = mounted.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert contexts.load(str(mounted)).name == "y"


def test_a_certificate_is_told_by_its_context(tmp_path: Path) -> None:
    authority = Authority.create("c-1", 1_000_000_000.0)
    key_pem, request_pem = new_key_and_request("ada")
    pem = authority.sign(request_pem, Subject("user", "ada", roles.USER), 60.0, 1_000_000_000.0)
    path = str(tmp_path / "lab.json")
    old = Context("lab", "c-1", "127.0.0.1:1", "", authority.ca_pem.decode(), pem.decode())
    old.key_pem, old.path = key_pem.decode(), path
    with pytest.raises(RefusedError, match=rf"\(context lab, {path}\) expired"):
        _ssl_context(old)
    with pytest.raises(RefusedError, match=rf"\(context lab, {path}\) expired"):
        identity_of(old).check_time(time.time())


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "{}", '{"name": "x"}'])
def test_what_is_no_context(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InvalidError, match=r"bad\.json"):
        contexts.load(str(path))


def test_a_context_that_points_nowhere(environment: dict[str, str]) -> None:
    environment["PERSEUS_CONTEXT"] = environment["HOME"] + "/none.json"
    with pytest.raises(NotFoundError, match=r"none\.json"):
        contexts.find(environment)


def test_import_perseus_is_light() -> None:
    program = "import sys, perseus; perseus.connect; print('grpc' in sys.modules)"
    source = str(Path(__file__).resolve().parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(("named", "is_advised"), [("nosuch", True), ("", False)])
def test_the_variable_is_blamed_only_where_it_named_the_file(
    named: str, is_advised: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PERSEUS_CONTEXT", named)
    with pytest.raises(NotFoundError) as caught:
        contexts.load(contexts.named_path("nosuch", os.environ))
    assert ("unset PERSEUS_CONTEXT" in caught.value.hint) == is_advised
    assert "perseus context ls" in caught.value.hint


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"node_name": 3'], ids=repr
)
def test_a_damaged_node_is_told_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "perseusd.sock").touch()
    (tmp_path / "cluster.json").write_bytes(content)
    with pytest.raises(InvalidError, match=r"cluster\.json") as caught:
        contexts.of_node(str(tmp_path))
    assert "perseus context ls" in caught.value.hint


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"name": "lab"}'])
def test_a_damaged_context_is_told_with_what_to_do(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = Path(contexts.named_path("lab", os.environ))
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(InvalidError, match=r"lab\.json") as caught:
        contexts.load(str(path))
    assert f"rm {path}; perseus login" in caught.value.hint


def test_nobody_is_told_to_remove_a_file_that_was_named_by_mistake() -> None:
    with pytest.raises(InvalidError, match=r"/etc/passwd is not a context") as caught:
        contexts.load("/etc/passwd")
    assert "rm " not in caught.value.hint and "perseus login" in caught.value.hint
