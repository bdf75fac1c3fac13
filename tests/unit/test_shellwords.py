"""What is told to be typed can be typed: awkward names come back from a shell as they were."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perseus.cli import config as cli_config
from perseus.cli import devcluster, runspec
from perseus.cli.commands.nodes import parse_labels
from perseus.cli.localtree import Tree
from perseus.client import context as contexts
from perseus.client import files as client_files
from perseus.daemon import config as daemon_config
from perseus.errors import PerseusError
from perseus.filestore import namespace_events as events
from perseus.filestore import paths
from perseus.runtime import spawner_process
from perseus.shellwords import as_file, as_word
from perseus.sim import load
from perseus.store import sqlite
from tests.unit.replication_harness import Cluster

AWKWARD = "/a b's/$(x)"
NAMES = st.text(st.characters(exclude_categories=(), exclude_characters="\0"), max_size=8)


@given(st.lists(NAMES, min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
@example(["", "-n", "~", "*", "a b", "it's", "$(x)", "`x`", "\\", "\n", "\x1b[31m'", "é", "\udcff"])
def test_a_shell_reads_back_each_word(names: list[str]) -> None:
    names = [name for name in names if _is_file_name(name)]
    line = " ".join(["printf", r"'%s\0'", *map(as_word, names)])
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout == b"".join(os.fsencode(name) + b"\0" for name in names or [""])


def _is_file_name(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


@given(NAMES)
def test_a_terminal_can_show_each_word(name: str) -> None:
    assert as_word(name).isprintable()


def test_plain_words_stay_plain_and_files_are_no_options() -> None:
    assert as_word("/logs/a-b_1.txt") == "/logs/a-b_1.txt"
    assert as_file("-r") == "./-r"
    assert as_file("- x") == "'./- x'"


def _namespace(*asked: Any) -> Callable[[Path], None]:
    def ask(_: Path) -> None:
        cluster = Cluster(2)
        cluster.do(events.MakeDirectory(AWKWARD + "/folder", True, "me"))
        cluster.put(AWKWARD + "/file", (5,))
        for event in asked:
            cluster.do(event)

    return ask


def _failed(number: int) -> Callable[[Path], None]:
    def fail(_: Path) -> None:
        failed = spawner_process._program_failure(1, AWKWARD, "/", number)
        raise PerseusError(failed.message, hint=failed.hint)

    return fail


def _written(name: str, text: str, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def write(folder: Path) -> Any:
        (folder / name).write_text(text)
        return read(folder)

    return write


def _local_cluster(folder: Path) -> None:
    (folder / "node-1").mkdir()
    (folder / "node-1" / "cluster.json").touch()
    devcluster._tree(folder, "node-1")


def _raise(error: PerseusError) -> None:
    raise error


# Each is given a folder of an awkward name, and raises an error with that name, or AWKWARD, in it.
ERRORS: dict[str, Callable[[Path], Any]] = {
    "no such file": _namespace(events.Append(AWKWARD + "/folder/none", "me")),
    "a file as folder": _namespace(events.MakeDirectory(AWKWARD + "/file/x", False, "me")),
    "no folder": _namespace(events.MakeDirectory(AWKWARD + "/none/x", False, "me")),
    "a folder stands": _namespace(events.MakeDirectory(AWKWARD + "/folder", False, "me")),
    "into itself": _namespace(events.Rename(AWKWARD, AWKWARD + "/folder/x", False)),
    "over a file": _namespace(events.Rename(AWKWARD + "/folder", AWKWARD + "/file", True)),
    "not replaced": _namespace(events.Create(AWKWARD + "/file", "me")),
    "not empty": _namespace(events.Remove(AWKWARD, False)),
    "append to a folder": _namespace(events.Append(AWKWARD, "me")),
    "not absolute": lambda _: paths.split(AWKWARD[1:]),
    "not absolute, at the client": lambda _: client_files.check_path(AWKWARD[1:]),
    "a NUL byte": lambda _: client_files.check_path(AWKWARD + "\0"),
    "no local file": lambda folder: client_files._open_local(folder / "none" / "x"),
    "a local folder": lambda folder: client_files._open_local(folder),
    "unwritable": lambda folder: _raise(client_files._unwritable(str(folder / "x"), OSError("no"))),
    "nothing to put": lambda folder: Tree().add(str(folder / "none"), "/x", False),
    "a folder to put": lambda folder: Tree().add(str(folder), AWKWARD, False),
    "no context": lambda folder: contexts.load(str(folder)),
    "a broken node": _written("cluster.json", "x", daemon_config.load),
    "no node": daemon_config.load,
    "a full disk": lambda folder: _raise(sqlite._full(folder / "x", OSError("no"))),
    "a damaged state": lambda folder: _raise(sqlite._damaged(folder / "x", "bits")),
    "no local cluster": devcluster._known_names,
    "no daemon": _local_cluster,
    "a broken configuration": _written(
        "config.toml", "=", lambda folder: cli_config._layer(str(folder / "config.toml"))
    ),
    "a program that breaks": _written(
        "x.py", "1/0", lambda folder: load._subject(f"{folder}/x.py:X")
    ),
    "no variable": lambda _: runspec.environment([AWKWARD]),
    "a label twice": lambda _: parse_labels([f"{AWKWARD}=1", f"{AWKWARD}=2"]),
    "no such interpreter": _failed(8),
    "not executable": _failed(13),
}


@pytest.mark.parametrize("name", ERRORS)
def test_no_hint_has_a_name_that_a_shell_reads_otherwise(name: str, tmp_path: Path) -> None:
    folder = tmp_path / AWKWARD[1:]
    folder.mkdir(parents=True)
    with pytest.raises(PerseusError) as caught:
        ERRORS[name](folder)
    hint = caught.value.hint
    assert hint
    # The quote of the name ends a quoted part unless it is written '\\''.
    assert "b'\\''s/$(x)" in hint
    assert "b's" not in hint
