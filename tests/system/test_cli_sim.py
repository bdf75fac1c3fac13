"""``perseus sim`` as a person types it; the page's own example, with and without its mistake."""

import json
import re
import subprocess
from pathlib import Path

from harness import ROOT, Result, environment

PERSEUS = ROOT / "src/perseus/cli/bin/perseus"


def sim(folder: Path, *arguments: str) -> Result:
    done = subprocess.run(
        [str(PERSEUS), "sim", *arguments],
        cwd=folder,
        env=environment(folder / "home"),
        capture_output=True,
        timeout=90,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr.decode())


def example(folder: Path) -> Path:
    """The programs of docs/algorithms.md; the path of the first."""
    page = (ROOT / "docs/algorithms.md").read_text()
    lock, hall = re.findall(r"```python\n(.*?)```", page, re.S)
    path = folder / "lock.py"
    path.write_text(lock)
    (folder / "hall.py").write_text(hall)
    return path


def test_the_example_of_the_page_holds(tmp_path: Path) -> None:
    example(tmp_path)
    done = sim(tmp_path, "lock.py:Lock", "--nodes", "3", "--seeds", "200").ok()
    assert "always      one holds it: held" in done.text
    assert re.search(r"somebody gets it: in \d+ of 200 runs", done.text)
    assert "200 seeds" in done.stderr


def test_the_example_of_a_layout_that_spawns_holds(tmp_path: Path) -> None:
    example(tmp_path)
    done = sim(tmp_path, "hall.py:hall", "--nodes", "3", "--seeds", "20").ok()
    assert "nothing is heard that was not said: held" in done.text
    # Of a class that only runs have.
    assert re.search(r"a session outlives a crash: in \d+ of 20 runs", done.text)
    quiet = sim(tmp_path, "hall.py:hall", "--faults", "none", "--seeds", "2")
    assert quiet.code == 1 and "no run reached `a session outlives a crash`" in quiet.stderr


def test_its_mistake_is_found_shrunk_and_shown_again(tmp_path: Path) -> None:
    path = example(tmp_path)
    path.write_text(path.read_text().replace('holder: str = durable("")', 'holder = ""'))
    done = sim(tmp_path, "lock.py:Lock", "--nodes", "3", "--seeds", "200")
    assert done.code == 1 and "always one holds it" in done.text
    for name in ("again", "smaller"):
        (line,) = re.findall(rf"^{name}: +perseus sim (.*)$", done.text, re.M)
        again = sim(tmp_path, *line.split(), "--picture", "x.svg", "--diagram")
        assert again.code == 1 and "broken" in again.text and " X crash" in again.text
        assert (tmp_path / "x.svg").read_text().startswith("<svg")
    first = sim(tmp_path, *line.split(), "--json")
    second = sim(tmp_path, *line.split(), "--json", "--trace")
    said = json.loads(first.stdout)
    assert said == json.loads(second.stdout)
    assert said["violation"]["property"] == "always one holds it" and said["digest"]


def test_what_is_never_reached_is_told(tmp_path: Path) -> None:
    example(tmp_path)
    done = sim(tmp_path, "lock.py:Lock", "--seeds", "3", "--time", "10ms", "--faults", "none")
    assert done.code == 1 and "no run reached `somebody gets it`" in done.stderr
    told = sim(tmp_path, "lock.py:Lock", "--seeds", "2", "--time", "5s", "--json")
    assert json.loads(told.stdout)["violation"] is None


def test_mistakes_of_the_command(tmp_path: Path) -> None:
    example(tmp_path)
    for arguments, code, words in (
        (["lock.py"], 2, "FILE:CLASS"),
        (["json:JSONDecoder"], 2, "JSONDecoder is no algorithm"),
        (["lock.py:Lock", "--workload", "many"], 2, "echo|unique-ids"),
        (
            ["lock.py:Lock", "--seed", "1", "--picture", "none/x.svg"],
            2,
            "none/x.svg cannot be written",
        ),
        (["nothing.py:Lock"], 125, "no file nothing.py"),
        (["lock.py:Look"], 125, "it has: Lock"),
        (["lock.py:Lock", "--faults", "many"], 2, "none|network|crash"),
        (["lock.py:Lock", "--nodes", "0"], 2, "1 to 1000"),
        (["lock.py:Lock", "--seeds", "0"], 2, "--seeds 1000"),
        (["lock.py:Lock", "--keep", "a"], 2, "--keep 0,4"),
        (["lock.py:Lock", "--time", "soon"], 2, "not a time"),
    ):
        done = sim(tmp_path, *arguments)
        assert done.code == code and words in done.stderr, (arguments, done)


def test_all_orders_are_tried(tmp_path: Path) -> None:
    path = example(tmp_path)
    few = ["--explore", "--nodes", "2", "--timeouts", "2", "--depth", "12"]
    done = sim(tmp_path, "lock.py:Lock", *few).ok()
    assert "every always held in all" in done.text and "reached: somebody gets it" in done.stderr
    short = sim(tmp_path, "lock.py:Lock", *few, "--depth", "3").ok()
    assert re.search(r"held in all \d+ states of up to 3 events", short.text)
    assert "runs go on after 3 events: --depth 6" in short.stderr
    small = sim(tmp_path, "lock.py:Lock", *few, "--states", "5").ok()
    assert re.search(r"held in the first \d+ states\n", small.text)
    assert "there are more: --states 50 goes further" in small.stderr
    path.write_text(path.read_text().replace('holder: str = durable("")', 'holder = ""'))
    few[2] = "3"
    done = sim(tmp_path, "lock.py:Lock", *few, "--picture", "x.svg")
    assert done.code == 1 and "always one holds it" in done.text and "X crash" in done.text
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    told = sim(tmp_path, "lock.py:Lock", *few, "--json")
    assert json.loads(told.stdout)["violation"] == "always one holds it"
    assert sim(tmp_path, "lock.py:Lock", "--explore", "--depth", "0").code == 2
