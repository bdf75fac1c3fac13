"""Where the cursor is in a line, for the completion of names that the cluster knows."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perseus.cli import candidates, parser
from perseus.cli.candidates import find_place

# Arguments that no name of the cluster or of this machine fits.
FREE = {
    ("run", "argv"), ("submit", "argv"), ("join", "address"), ("login", "address"),
    ("nodes label", "label"), ("help", "topic"), ("completion", "shell"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "kind", "begun"),
    [
        (["nodes", "drain", "at"], "node", "at"),
        (["nodes", "drain", "attic", ""], "node", ""),
        (["nodes", "label", "attic", ""], "", ""),
        (["logs", ""], "job", ""),
        (["logs", "--task", "3", "7k"], "job", "7k"),
        (["logs", "--task", ""], "", ""),
        (["kill", "-s", "USR1", "7k"], "active job", "7k"),
        (["kill", "-s", "US"], "signal", "US"),
        (["fs", "ls", "-l", "/da"], "path", "/da"),
        (["--context", "lab", "fs", "cat", "/da"], "path", "/da"),
        (["fs", "put", "a"], "file", "a"),
        (["fs", "put", "a", "/d"], "path", "/d"),
        (["fs", "put", "a", "b", "/d"], "path", "/d"),
        (["fs", "get", "/a", "b"], "file", "b"),
        (["run", "--stdin", "/l"], "path", "/l"),
        (["run", "--stdin=/l"], "path", "/l"),
        (["run", "--file", "x=/l"], "path", "/l"),
        (["run", "--node", ""], "node", ""),
        (["context", "use", "l"], "context", "l"),
        (["dev", "kill", "--dir", "/x", "no"], "local node", "no"),
        (["algo", "kill", "@l"], "run", "@l"),
        (["fs"], "", "fs"),
        ([], "", ""),
    ],
)
def test_what_the_cursor_is_at(line: list[str], kind: str, begun: str) -> None:
    place = find_place(line)
    assert (place.kind, place.begun) == (kind, begun)


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        (["run", "--stdin="], "--stdin=/logs"),
        (["run", "--file", "a=/lo"], "a=/logs"),
        # As bash gives it: what it replaces, and the line.
        (["--bash", "/lo", "perseus run --stdin=/lo"], "/logs"),
        (["--bash", "", "perseus run --stdin="], "/logs"),
        (["--bash", "/lo", "perseus run --file a=/lo"], "/logs"),
        (["--bash", "/lo", "perseus fs cat /x\\ y /lo"], "/logs"),
        (["--bash", "ogs", "perseus fs cat /l'ogs"], "ogs"),
        (["run", "--file", "/lo"], "/logs"),
        (["fs", "cat", "/lo"], "/logs"),
    ],
)
def test_only_what_the_shell_replaces_is_printed(
    line: list[str],
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(candidates, "_candidates", lambda place: ["/logs", "/x\x1b[2Jy"])
    monkeypatch.setattr(candidates, "start_new_thread", lambda *_: None)
    assert candidates.complete(line) == 0
    # A name that would move the cursor is left out.
    assert capfd.readouterr().out == f"{printed}\n"


def test_every_argument_is_completed_or_known_to_be_free() -> None:
    bare = {
        (words, action.dest)
        for words, command in parser.leaves().items()
        for action in command._actions
        if not action.option_strings and not parser.children(command)
        if not candidates.kind_of(words, action)
    }
    # The processes of a run are asked of nobody.
    bare = {(words, dest) for words, dest in bare if not words.startswith("algo ")}
    assert bare == FREE


def ask(
    environment: dict[str, str], *words: str
) -> tuple[subprocess.CompletedProcess[bytes], float]:
    begun_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "perseus", "__complete", *words],
        env=environment, capture_output=True, timeout=60,
    )  # fmt: skip
    return done, time.monotonic() - begun_s


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    source = str(Path(__file__).resolve().parents[2] / "src")
    return {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": source}


@pytest.mark.parametrize(
    "words", [("logs", ""), ("fs", "ls", "/"), ("nodes", "rm", "x"), ("\x00"[:0],)]
)
def test_without_a_cluster_it_is_silent_and_starts_none(
    environment: dict[str, str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    done, _ = ask(environment, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_a_daemon_that_says_nothing_is_not_waited_for(
    environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "door.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        context = tmp_path / "context.json"
        context.write_text(f'{{"name": "mute", "socket": "{path}"}}')
        done, took_s = ask(environment | {"PERSEUS_CONTEXT": str(context)}, "logs", "")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    # The limit, and generously what a busy machine needs to start Python.
    assert took_s < candidates.TIME_LIMIT_S + 5
