"""The tree of commands, the layers of settings, completion, and messages for mistakes."""

import importlib
import os
import subprocess
from pathlib import Path

import pytest

from perseus.cli import completion_scripts, config, parser
from perseus.cli.commands import doctor
from perseus.cli.console import Console, Progress
from perseus.cli.main import Invocation, main
from perseus.cli.units import UsageError
from perseus.client import store
from perseus.client.context import Context
from perseus.client.messages import Finding
from perseus.errors import InvalidError

COMMANDS = sorted(parser.leaves())


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_a_handler_help_and_examples(words: str) -> None:
    command = parser.leaves()[words]
    module, _, function = command.get_default("handler").partition(":")
    assert callable(getattr(importlib.import_module(f"perseus.cli.commands.{module}"), function))
    assert command.description
    assert f"perseus {words}" in (command.epilog or "")
    bare = [action.dest for action in command._actions if not action.help]
    assert bare in ([], ["nodes_command"])
    assert {"--json", "--quiet"} <= set(command.format_help().replace(",", " ").split())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["nodse"], "perseus nodes"),
        (["fs", "caat"], "perseus fs cat"),
        (["--json", "ndoes"], "perseus nodes"),
        (["zzzzzz"], "perseus --help"),
        (["run", "--bogus"], "perseus run --help"),
        (["run", "--cpus", "2", "--", "true"], "did you mean: --cpu; else perseus run --help"),
        (["fs", "put", "--replica=3", "a", "/a"], "did you mean: --replicas;"),
        (["ps", "-z"], "  perseus ps --help"),
        (["fs", "ls", "--bogus"], "perseus fs ls --help"),
    ],
)
def test_a_mistyped_command_gets_the_nearest(
    words: list[str], hint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, error = capfd.readouterr()
    assert ("--json" in words) == bool(out)
    assert error.startswith("perseus: ") and hint in error


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ps -n 0", "-n/--limit: 0 is less than 1"),
        ("ps -n x", "'x' is not a whole number"),
        ("logs --task -1 @last", "--task: -1 is less than 0"),
        ("fs put --replicas -1 a /a", "--replicas: -1 is less than 1"),
        ("fs tail -n 1.5 /a", "'1.5' is not a whole number"),
        ("sim --seeds many x.py:X", "'many' is not a whole number"),
        ("dev up --nodes two", "'two' is not a whole number"),
    ],
)
def test_a_number_that_cannot_be_meant_is_told_by_its_flag(line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parser.build_parser().parse_args(line.split())
    assert said in caught.value.message


@pytest.mark.parametrize("path", ["/dev/null/config.toml", "/nowhere/config.toml"])
def test_where_no_settings_can_be_there_are_none(path: str) -> None:
    assert config._layer(path) == {}


def test_settings_that_cannot_be_read_are_not_blamed_for_their_form(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="Is a directory") as caught:
        config._layer(str(tmp_path))
    assert caught.value.hint == f"ls -l {tmp_path}"


def test_help_goes_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "fs", "put"]) == 0
    assert "perseus fs put" in capfd.readouterr().out
    assert main(["run", "--help"]) == 0
    assert "--time-limit" in capfd.readouterr().out


def test_flags_may_stand_before_or_after_the_command() -> None:
    tree = parser.build_parser()
    assert tree.parse_args(["--json", "ps"]).json is True
    assert tree.parse_args(["ps", "--json"]).json is True
    assert tree.parse_args(["nodes", "--json", "drain", "x"]).json is True
    assert not hasattr(tree.parse_args(["ps"]), "json")


def test_layers_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "perseus").mkdir()
    (tmp_path / "perseus" / "config.toml").write_text(
        'context = "a"\nquiet = true\n[run]\ncpu = 1\nmemory = "1G"\n'
    )
    project = tmp_path / "project" / "below"
    project.mkdir(parents=True)
    (tmp_path / "project" / "perseus.toml").write_text('context = "b"\n[run]\ncpu = 2\n')
    monkeypatch.chdir(project)
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "PERSEUS_RUN_ENV": "A=1"}
    read = config.read(environment)
    assert (read.text("context"), read.flag("quiet")) == ("b", True)
    assert read.run_default("cpu", "value") == "2"
    assert read.run_default("memory", "value") == "1G"
    assert read.run_default("env", "list") == ["A=1"]
    assert read.run_default("pure", "switch") is None
    assert (
        config.read(environment | {"PERSEUS_RUN_PURE": "0"}).run_default("pure", "switch") is None
    )
    assert (
        config.read(environment | {"PERSEUS_RUN_PURE": "1"}).run_default("pure", "switch") is True
    )
    assert config.read(environment | {"PERSEUS_RUN_CPU": "4"}).run_default("cpu", "value") == "4"


@pytest.mark.parametrize("text", ["colour = 1", "[run]\nspeed = 1", "run = 3", "= broken"])
def test_a_settings_file_that_makes_no_sense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "perseus.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidError, match=r"perseus\.toml"):
        config.read({"XDG_CONFIG_HOME": str(tmp_path)})


def test_bash_completes_commands_and_flags() -> None:
    script = completion_scripts.bash(completion_scripts.tree())
    for words, expected in (("perseus no", "nodes"), ("perseus fs mk", "mkdir"),
                            ("perseus run --time", "--time-limit")):  # fmt: skip
        program = (
            f"{script}\nCOMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))\n"
            '_perseus perseus "${COMP_WORDS[COMP_CWORD]}"; echo "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        assert expected in done.stdout.split(), (words, done.stdout, done.stderr)


def test_fish_and_zsh_name_every_command() -> None:
    tree = completion_scripts.tree()
    for script in (completion_scripts.fish(tree), completion_scripts.zsh(tree)):
        assert all(words.split()[-1] in script for words in COMMANDS)


def test_a_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table(("NAME", "N"), [("a", 5), ("longer", 10)])
    assert capsys.readouterr().out == "NAME     N\na        5\nlonger  10\n"


def test_no_progress_off_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    bar = Progress(Console(), "a.txt")
    bar(1, 2)
    bar.end()
    assert capfd.readouterr().err == ""
    assert "50%" in bar.text(1 << 20, 2 << 20, 1.0)


@pytest.mark.parametrize(("value", "is_coloured"), [("", True), ("1", False), (None, True)])
def test_no_color_counts_when_it_is_not_empty(
    value: str | None, is_coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    assert (Console().colour("x", "red", Terminal()) != "x") == is_coloured


def test_completion_gives_the_choices_of_a_flag() -> None:
    commands = completion_scripts.tree()
    script = (
        completion_scripts.bash(commands)
        + """
COMP_WORDS=(perseus token create --role "") COMP_CWORD=4
_perseus perseus ""; echo "${COMPREPLY[@]}"
"""
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "node user viewer admin\n"
    assert "-l role -x -a 'node user viewer admin'" in completion_scripts.fish(commands)


def test_doctor_names_a_node_once_and_guards_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    findings = [
        Finding("error", "attic", "attic is lost", "perseus nodes rm attic"),
        Finding("error", "/a\x1b[2J", "part of it is gone", "perseus fs rm '/a\x1b[2J'"),
    ]
    invocation = Invocation(parser.build_parser().parse_args(["doctor"]), config.read({}))
    doctor._show(invocation, findings)
    assert capsys.readouterr().out == (
        "error: attic is lost\n    perseus nodes rm attic\n"
        "error: /a\\x1b[2J: part of it is gone\n    perseus fs rm '/a\\x1b[2J'\n"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("init --listen 127.0.0.1:0 --data {folder}/n --set foo=1", "there is no setting 'foo'"),
        ("init --listen 127.0.0.1:0 --data {folder}/n --name A", "cannot be the name of a node"),
        ("join 127.0.0.1:1 --token x --data {folder}/n", "this is not a token"),
        ("login 127.0.0.1:1 --token x", "this is not a token"),
        ("run --stdin a.txt -- cat", "--stdin 'a.txt' is not a path of the filestore"),
    ],
)
def test_what_was_typed_wrong_is_a_usage_error(
    line: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(line.format(folder=tmp_path).split()) == 2
    assert said in capfd.readouterr().err
    assert not (tmp_path / "n").exists()


def test_contexts_are_listed_also_when_the_one_in_use_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("PERSEUS_CONTEXT", raising=False)
    store.install(Context("lab", "p1", "a:1"), os.environ)
    broken = Path(store.install(Context("attic", "p2", "b:1", key_pem="k"), os.environ, use=True))
    broken.chmod(0o644)
    assert main(["context", "ls"]) == 125
    out, said = capfd.readouterr()
    assert "lab" in out and "attic" in out and "*" not in out
    assert "chmod 600 " in said
    broken.write_text("{")
    assert main(["context", "ls"]) == 125
    out, said = capfd.readouterr()
    assert "lab" in out and "is not a context" in said
