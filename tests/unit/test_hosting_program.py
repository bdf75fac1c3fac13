"""What of a folder goes to the nodes with a program, and what is taken from others' bundles."""

import io
import zipfile
from pathlib import Path

import pytest

from perseus.errors import InvalidError, PerseusError, TooLargeError
from perseus.hosting import program
from perseus.hosting.program import FOLDER, Program, loaded, unpack

NODE = "from perseus.algo import Process\n\n\nclass Node(Process):\n    pass\n"


def tree(folder: Path, **files: str) -> Path:
    """Files by name, with ``__`` for ``/``."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_what_is_imported_goes_along_and_nothing_else(tmp_path: Path) -> None:
    tree(
        tmp_path,
        main=f"import one, random\nfrom two.deep import thing\n{NODE}",
        one="def late():\n    import three\n",
        two__deep__thing="from ..near import x\n",
        two__near="from . import other\nx = 1\n",
        two__other="",
        two__unused="",
        three="import main\n",
        four="",
    )
    (tmp_path / "two/__init__.py").write_text("")
    made = Program.of(f"{tmp_path}/main.py:Node")
    assert made.subject == f"{FOLDER}/main.py:Node"
    assert sorted(made.files) == [
        "main.py", "one.py", "three.py", "two/__init__.py", "two/deep/thing.py", "two/near.py",
        "two/other.py",
    ]  # fmt: skip
    made.check()
    assert made.pack() == Program.of(f"{tmp_path}/main.py:Node").pack()


def test_it_is_loaded_where_it_was_unpacked(tmp_path: Path) -> None:
    here, there = tree(tmp_path / "a", main=f"import beside_of_test\n{NODE}"), tmp_path / "b"
    tree(here, beside_of_test="")
    made = Program.of(f"{here}/main.py:Node")
    unpack(made.pack(), there)
    assert [*loaded(made.subject, "", str(there)).groups] == ["n"]
    assert loaded(made.subject, "echo", str(there)).groups["client"].is_client


def test_a_module_of_the_working_folder_goes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, of_test__main=f"from . import more\n{NODE}", of_test__more="")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Program.of("of_test.main:Node")
    assert made.subject == "of_test.main:Node"
    assert sorted(made.files) == ["of_test/main.py", "of_test/more.py"]
    made.check()


def test_what_is_installed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Program.of("perseus.algo.library.kv:Kv") == Program("perseus.algo.library.kv:Kv")


@pytest.mark.parametrize("name", ["FILES_MAXIMUM", "SIZE_MAXIMUM_BYTES"])
def test_a_program_is_bounded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, main=f"import one\n{NODE}", one="")
    bundle = Program.of(f"{tmp_path}/main.py:Node").pack()
    monkeypatch.setattr(program, name, 1)
    with pytest.raises(TooLargeError, match="at most"):
        Program.of(f"{tmp_path}/main.py:Node")
    with pytest.raises(TooLargeError, match="at most"):
        unpack(bundle, tmp_path)


@pytest.mark.parametrize(
    "name", ["../out.py", "/out.py", "a/../../out.py", "out.txt", "a//out.py", "..\\out.py"]
)
def test_a_bundle_writes_nowhere_else(name: str, tmp_path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as bundle:
        bundle.writestr(name, "x")
    with pytest.raises(InvalidError, match="no module of a program"):
        unpack(made.getvalue(), tmp_path / "in")
    assert list(tmp_path.rglob("out*")) == []


def test_a_broken_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="is no program"):
        unpack(b"PK nothing", tmp_path)


def test_a_program_that_does_not_load_elsewhere_is_told(tmp_path: Path) -> None:
    tree(tmp_path, main=f"open(__file__.replace('main.py', 'data.txt'))\n{NODE}")
    (tmp_path / "data.txt").write_text("")
    with pytest.raises(PerseusError, match=r"away from its folder.*data.txt"):
        Program.of(f"{tmp_path}/main.py:Node").check()
    tree(tmp_path, main="class Node(")
    with pytest.raises(InvalidError, match="is no Python"):
        Program.of(f"{tmp_path}/main.py:Node")
