"""Every command answers --json in JSON when it fails, whatever it fails of."""

import argparse
import json
from pathlib import Path

import pytest

from perseus.cli import fast, parser

COMMANDS = sorted(parser.leaves())
# Those that ask nothing of a cluster, or only what the machine has of one.
LOCAL = {"algo maelstrom", "completion", "context ls", "doctor", "help", "version"}
VALUES = {"fs": "/a", "completion": "bash", "sim": "no-such.py:Thing"}


@pytest.fixture(autouse=True)
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = tmp_path / "context.json"
    context.write_text(json.dumps({"name": "gone", "socket": str(tmp_path / "no.sock")}))
    monkeypatch.setenv("PERSEUS_CONTEXT", str(context))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "PERSEUS_JSON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    # sim and algo check would begin this process anew.
    monkeypatch.setattr("perseus.cli.commands.simulation.fix_hashes", lambda: None)
    monkeypatch.setattr("perseus.cli.commands.runs.fix_hashes", lambda: None, raising=False)


def last(captured: str) -> dict[str, dict[str, object]]:
    values = [json.loads(line) for line in captured.splitlines()]
    assert values, "stdout is empty"
    value = values[-1]
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("words", COMMANDS)
def test_a_mistake_in_the_line_is_json(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    code = fast.main([*words.split(), "--json", "--no-such-flag"])
    captured = capfd.readouterr()
    error = last(captured.out)["error"]
    assert code == 2
    assert error["code"] == "invalid"
    assert error["hint"]
    assert str(error["message"]) in captured.err


@pytest.mark.parametrize("words", COMMANDS)
def test_help_is_json(words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert fast.main([*words.split(), "--json", "--help"]) == 0
    assert f"usage: perseus {words}" in str(last(capfd.readouterr().out)["help"])


def needed(words: str) -> list[str]:
    """Words for all that a command needs beside its name."""
    values: list[str] = []
    for action in parser.leaves()[words]._actions:
        value = VALUES.get(words) or VALUES.get(words.split()[0]) or "127.0.0.1:1"
        if action.required and action.option_strings:
            values += [action.option_strings[-1], "perseus1.a.b.c"]
        elif not action.option_strings and action.nargs not in ("*", "?", argparse.REMAINDER):
            # A label is NAME=VALUE.
            values.append("a=b" if action.dest == "label" else value)
    return [*values, "--", "true"] if words in ("run", "submit") else values


@pytest.mark.parametrize("words", sorted(set(COMMANDS) - LOCAL))
def test_a_failure_is_json_and_says_what_to_type(
    words: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = [*words.split(), "--json", *needed(words)]
    if words in ("init", "join", "start", "stop"):
        (tmp_path / "file").write_text("")
        arguments += ["--data", str(tmp_path / "file" / "below")]
    if words.startswith("dev "):
        arguments += ["--dir", "/dev/null/below"]
    code = fast.main(arguments)
    error = last(capfd.readouterr().out)["error"]
    assert code in (2, 125)
    assert error["message"]
    assert error["hint"], error


def test_words_without_a_command_are_json(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--json"], ["--json", "fs"], ["fs", "--json"], ["--json", "nonesuch"]):
        assert fast.main(arguments) == 2
        assert last(capfd.readouterr().out)["error"]["hint"]


def test_the_version_is_json(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--version", "--json"], ["version", "--json"]):
        assert fast.main(arguments) == 0
        assert set(last(capfd.readouterr().out)) == {"version", "protocol", "cluster_version"}


def test_the_environment_asks_for_json_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSEUS_JSON", "1")
    assert fast.main(["ps", "--no-such-flag"]) == 2
    assert last(capfd.readouterr().out)["error"]


def test_a_flag_of_the_program_is_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    assert fast.main(["run", "--cpu", "x", "--", "ls", "--json"]) == 2
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["kill", "-s", "FOO", "abc"], "USR1"),
        (["fs", "cat", "a.txt"], "/a.txt"),
        (["fs", "rm", "a.txt"], "/a.txt"),
        (["fs", "ls", "a.txt"], "/a.txt"),
        (["fs", "mv", "/a", "b"], "/b"),
        (["fs", "rm", "-r", "/"], "perseus fs rm -r -f /"),
        (["fs", "rm", "-r", "//jobs/"], "perseus fs rm -r -f //jobs/"),
    ],
)
def test_what_cannot_be_meant_says_what_can(
    words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fast.main(words) == 2
    assert said in capfd.readouterr().err
