"""The tutorial's code is that of its files, and its commands say what it says they do."""

import pytest
import tutorial

PAGE = tutorial.PAGE.read_text()
RUNS = {found[2]: found[3] for found in tutorial.RUN.finditer(PAGE)}
FILES = {found[2]: found[3] for found in tutorial.CODE.finditer(PAGE)}
HINT = "run `make docs`"


@pytest.mark.parametrize("name", FILES)
def test_code_is_that_of_its_file(name: str) -> None:
    assert FILES[name] == tutorial.code_of(name), HINT


def test_every_file_is_shown() -> None:
    files = {f"tutorial/{path.name}" for path in (tutorial.ROOT / "docs/tutorial").glob("*.py")}
    assert files == set(FILES)


@pytest.mark.parametrize("command", RUNS)
def test_a_command_says_what_it_says(command: str) -> None:
    assert RUNS[command] == tutorial.said_by(command), HINT


def test_each_step_but_the_first_fails_before_it_holds() -> None:
    broken = [said for said in RUNS.values() if ": broken after" in said]
    assert len(broken) == 6
    assert len(RUNS) == 13
