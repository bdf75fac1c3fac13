"""``perseus sim`` with programs that do not end, do not repeat or raise, and when it is ended."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import ROOT, Result, environment, until

PERSEUS = ROOT / "src/perseus/cli/bin/perseus"
HEAD = """\
import itertools, os, random, sys, time
from dataclasses import dataclass
from pathlib import Path
from perseus.algo import Process, always, on


@dataclass(frozen=True)
class Ping:
    number: object


class Base(Process):
    def start(self):
        self.heard = 0
        self.after(1.0, self.tick)

    def tick(self):
        self.broadcast(Ping(self.heard))
        self.after(1.0, self.tick)

    @on(Ping)
    def hear(self, sender, message):
        self.heard += 1
        self.more()

    def more(self):
        pass


class Node(Base):
    def more(self):
        {more}


@always(Node)
def it_counts(view):
    {check}
"""
# The line of ``more``'s body.
MORE_LINE = 32
CHECK_LINE = 37


def program(folder: Path, more: str = "pass", check: str = "return True") -> None:
    (folder / "node.py").write_text(HEAD.format(more=more, check=check))


def command(
    folder: Path, *arguments: str, stderr: int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(PERSEUS), "sim", "node.py:Node", *arguments],
        cwd=folder,
        env=environment(folder / "home") | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )


def sim(folder: Path, *arguments: str) -> Result:
    with command(folder, *arguments) as done:
        try:
            out, said = done.communicate(timeout=90)
        except BaseException:
            os.killpg(done.pid, signal.SIGKILL)
            raise
    return Result(done.returncode, out, said.decode())


@contextmanager
def under_way(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of which two runs have begun, or two steps; each says so by a file."""
    (folder / "pids").mkdir()
    with command(folder, *arguments) as begun:
        try:
            until(lambda: len(list((folder / "pids").iterdir())) >= 2, "it is under way")
            yield begun
        finally:
            if begun.poll() is None:
                os.killpg(begun.pid, signal.SIGKILL)


# A step that does not end.


@pytest.mark.parametrize("more", ["while True: pass", "time.sleep(1000)"], ids=["a loop", "a wait"])
@pytest.mark.parametrize("which", [("--seeds", "20"), ("--seed", "7")], ids=["seeds", "one"])
def test_a_handler_without_end_is_told_with_its_place(
    more: str, which: tuple[str, ...], tmp_path: Path
) -> None:
    program(tmp_path, more)
    done = sim(tmp_path, *which, "--step-limit", "1s")
    assert done.code == 1
    assert re.search(
        r"^seed \d+: broken after \d+\.\d+ s: a step does not end: n\d, Node.hear of Ping from n\d"
        rf" has run for 1 s, and stands at node.py:{MORE_LINE} in more; ",
        done.text,
        re.M,
    )
    assert ("again:   perseus sim" in done.text) == ("--seeds" in which)


@pytest.mark.parametrize(
    "which",
    [
        ("--seeds", "20"),
        ("--seeds", "20", "--processes", "1"),
        ("--seed", "7"),
        ("--explore", "--nodes", "2", "--timeouts", "2"),
    ],
    ids=["seeds", "one process", "one seed", "explored"],
)
def test_a_loop_in_c_is_told_as_others_are(which: tuple[str, ...], tmp_path: Path) -> None:
    program(tmp_path, "sum(itertools.count())")
    done = sim(tmp_path, *which, "--step-limit", "1s")
    assert done.code == 1
    assert re.search(
        r"^(seed \d+: )?broken.*: a step does not end: n\d, Node.hear of Ping from n\d has taken"
        rf" 1.5 s of the processor, .* stands at node.py:{MORE_LINE} in more; .*--step-limit$",
        done.text,
        re.M,
    )


def test_what_catches_everything_is_ended_with_its_process(tmp_path: Path) -> None:
    program(tmp_path, "exec(TRIES)")
    path = tmp_path / "node.py"
    tries = "while True:\n try:\n  while True: pass\n except: pass\n"
    path.write_text(f"TRIES = {tries!r}\n{path.read_text()}")
    done = sim(tmp_path, "--seeds", "20", "--step-limit", "1s")
    assert done.code == 1 and "a step does not end" in done.text
    assert re.search(r"again: +perseus sim .*--seed \d+", done.text)
    assert "in more" in done.text


def test_a_property_without_end_is_told_with_its_place(tmp_path: Path) -> None:
    program(tmp_path, check="while view.changed.heard: pass")
    for which in (("--seeds", "2"), ("--explore", "--nodes", "2", "--timeouts", "2")):
        done = sim(tmp_path, *which, "--step-limit", "1s")
        assert done.code == 1
        assert f"stands at node.py:{CHECK_LINE} in it_counts" in done.text


def test_a_step_that_takes_a_while_is_left_alone(tmp_path: Path) -> None:
    program(tmp_path, "time.sleep(0.01)")
    done = sim(tmp_path, "--seed", "0", "--nodes", "2", "--step-limit", "1s").ok()
    assert "all properties held" in done.text


# It is ended.


def test_interrupted_it_tells_what_has_run_and_leaves_nothing_behind(tmp_path: Path) -> None:
    program(tmp_path, "Path('pids', str(os.getpid())).touch()")
    arguments = ("--seeds", "1000000", "--nodes", "2", "--processes", "2")
    with under_way(tmp_path, *arguments) as begun:
        os.killpg(begun.pid, signal.SIGINT)
        out, said = begun.communicate(timeout=30)
    assert begun.returncode == 130
    assert re.search(rb"interrupted: \d+ of 1000000 seeds have run", said)
    assert b"Traceback" not in said
    if b"interrupted: 0 of" not in said:
        assert b"it counts: held so far" in out
    assert not any(map(is_running, (tmp_path / "pids").iterdir()))


def test_what_broke_is_told_before_it_is_made_smaller(tmp_path: Path) -> None:
    program(tmp_path, "time.sleep(0.005)", "return view.changed.heard < 100")
    with command(tmp_path, "--seeds", "20") as begun:
        try:
            assert begun.stdout is not None
            told = [begun.stdout.readline(), begun.stdout.readline()]
            os.killpg(begun.pid, signal.SIGINT)
            out, said = begun.communicate(timeout=30)
        finally:
            if begun.poll() is None:
                os.killpg(begun.pid, signal.SIGKILL)
    assert b"broken after" in told[0] and told[1].startswith(b"again:")
    assert begun.returncode == 130 and b"smaller:" not in out
    assert b"interrupted before it was made smaller" in said and b"Traceback" not in said


def test_an_interrupted_search_tells_what_it_has_seen(tmp_path: Path) -> None:
    # Each state of n1's counter is new, so there is no end.
    program(tmp_path, "Path('pids', str(self.heard)).touch()")
    bounds = ("--timeouts", "1000", "--depth", "100000", "--states", "100000000")
    with under_way(tmp_path, "--explore", "--nodes", "2", *bounds) as begun:
        os.killpg(begun.pid, signal.SIGINT)
        out, said = begun.communicate(timeout=30)
    assert begun.returncode == 130 and b"Traceback" not in said
    assert re.match(rb"every always held in the first \d+ states$", out, re.M)
    assert b"interrupted; there are more" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--seeds", "1000000"), rb"\d+ of 1000000 seeds, \d+ s"),
        (("--explore", "--depth", "1000", "--timeouts", "100"), rb"\d+ states, depth \d+"),
    ],
    ids=["seeds", "all orders"],
)
def test_on_a_terminal_it_shows_how_far_it_is(
    arguments: tuple[str, ...], words: bytes, tmp_path: Path
) -> None:
    program(tmp_path)
    ours, theirs = os.openpty()
    with command(tmp_path, *arguments, stderr=theirs) as begun:
        try:
            os.close(theirs)
            shown = b""
            while not re.search(words, shown):
                shown += os.read(ours, 4096)
        finally:
            os.killpg(begun.pid, signal.SIGKILL)
            os.close(ours)


def test_stopped_and_taken_up_again_it_goes_on(tmp_path: Path) -> None:
    """As by ^Z: the time in which it stood still is nobody's step."""
    program(tmp_path, "Path('pids', str(os.getpid())).touch(); sum(range(10**6))")
    arguments = ("--seeds", "6", "--nodes", "2", "--time", "9s", "--step-limit", "1s")
    with under_way(tmp_path, *arguments) as begun:
        os.killpg(begun.pid, signal.SIGSTOP)
        over_s = time.monotonic() + 4.0
        until(lambda: time.monotonic() > over_s, "more time passes than a step may take")
        os.killpg(begun.pid, signal.SIGCONT)
        out, said = begun.communicate(timeout=90)
    assert begun.returncode == 0, said
    assert b"it counts: held" in out


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_its_processes_end_with_it(number: signal.Signals, tmp_path: Path) -> None:
    program(tmp_path, "Path('pids', str(os.getpid())).touch()\n        while True: pass")
    arguments = ("--seeds", "100", "--processes", "2", "--step-limit", "1h")
    with under_way(tmp_path, *arguments) as begun:
        begun.send_signal(number)
        begun.wait(30)
    pids = list((tmp_path / "pids").iterdir())
    until(lambda: not any(map(is_running, pids)), "the processes of the runs end")


def is_running(pid: Path) -> bool:
    """And no zombie, for whoever has to reap it may take its time."""
    try:
        return Path("/proc", pid.name, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_process_that_is_killed_is_told_with_its_seed(tmp_path: Path) -> None:
    program(tmp_path, "os.kill(os.getpid(), 9)")
    done = sim(tmp_path, "--seeds", "9")
    assert done.code == 125
    assert "the process that ran seed 0 ended by signal 9" in done.stderr
    program(tmp_path, "os._exit(3)")
    done = sim(tmp_path, "--seeds", "9")
    assert done.code == 125
    assert "the process that ran seed 0 ended with exit code 3" in done.stderr


# It does not repeat.


def test_a_run_that_does_not_repeat_is_told_with_where_it_parts(tmp_path: Path) -> None:
    # What is drawn goes into messages long before it breaks the property.
    check = "assert view.changed.heard < 80"
    program(tmp_path, "self.heard += random.random()", check)
    done = sim(tmp_path, "--seeds", "50")
    assert done.code == 1 and "smaller:" not in done.text
    (said,) = re.findall(r"the run of seed \d+ does not repeat: (.*)", done.stderr)
    assert re.match(r"two runs of it part at event \d+, first `.*n\d .*`, then `.*n\d .*`; ", said)
    assert "self.random for chance" in said and "breaks as" not in done.stderr
    assert f"Node.more at node.py:{MORE_LINE} calls random.random, which is not of" in done.stderr
    told = json.loads(sim(tmp_path, "--seeds", "50", "--json").stdout)
    assert any("does not repeat" in note for note in told["notes"])


def test_runs_that_hold_and_do_not_repeat_are_told(tmp_path: Path) -> None:
    program(tmp_path, "self.broadcast(Ping(0)) if time.time_ns() // 1000 % 3 == 0 else None")
    done = sim(tmp_path, "--seeds", "3", "--nodes", "2", "--time", "20s")
    assert done.code == 1 and "it counts: held" in done.text
    assert "the run of seed 0 does not repeat" in done.stderr
    assert "calls time.time_ns, which is not of the seed: use self.now" in done.stderr


# It raises.


def test_what_raises_in_every_run_is_told_with_its_place_and_fails(tmp_path: Path) -> None:
    program(tmp_path, "{}['x']")
    done = sim(tmp_path, "--seeds", "10")
    assert done.code == 1 and "it counts: held" in done.text
    where = rf"Node at node.py:{MORE_LINE}: KeyError: 'x'"
    assert re.search(rf"a handler raised \d+ times, in 10 of 10 runs: {where}", done.stderr)
    assert re.search(rf"no run was without this exception: {where}", done.stderr)
    told = json.loads(sim(tmp_path, "--seeds", "10", "--json").stdout)
    assert set(told["errors"]) == {f"Node at node.py:{MORE_LINE}: KeyError: 'x'"}


def test_what_raises_now_and_then_is_counted_by_its_place(tmp_path: Path) -> None:
    program(tmp_path, "assert self.random.random() > 0.001, self.now")
    done = sim(tmp_path, "--seeds", "20").ok()
    (said,) = re.findall(r"a handler raised (.*)", done.stderr)
    assert f"Node at node.py:{MORE_LINE}: AssertionError: " in said
    assert "of 20 runs" in said and "in 20 of" not in said


def test_a_class_without_properties_is_told(tmp_path: Path) -> None:
    program(tmp_path)
    path = tmp_path / "node.py"
    path.write_text(path.read_text().partition("@always")[0])
    for more in (("--seeds", "2"), ("--seed", "1"), ("--explore", "--nodes", "2", "--depth", "3")):
        done = sim(tmp_path, *more).ok()
        assert "Node has no properties" in done.stderr and "@always(Node)" in done.stderr


def test_what_cannot_be_sent_is_told_with_seed_process_and_handler(tmp_path: Path) -> None:
    program(tmp_path, "self.send(self.peers[0], Ping(lambda: 1))")
    done = sim(tmp_path, "--seeds", "10")
    assert done.code == 125
    assert re.search(
        r"seed 0, after \d.\d+ s, n\d, Node.hear of Ping from n\d: n\d: Base.hear cannot send"
        " this Ping: a function cannot",
        done.stderr,
    )
    explored = sim(tmp_path, "--explore", "--nodes", "2")
    assert explored.code == 125 and "n2, Node.hear of Ping from n1: n2: Base" in explored.stderr


# Mistakes of the command.


def test_mistakes_are_told_before_the_work_begins(tmp_path: Path) -> None:
    program(tmp_path, "while True: pass")
    (tmp_path / "folder").mkdir()
    for arguments, words in (
        (["--seed", "-1"], "--seed -1 is no seed"),
        (["--first", "-1"], "--first -1 is no seed"),
        (["--seed", "1", "--keep", "9999"], "--keep 9999: the run of seed 1 has"),
        (["--seed", "1", "--keep", "-1"], "--keep '-1'"),
        (["--keep", "0,1"], "--seed SEED --keep 0,1"),
        (["--processes", "-1"], "--processes -1 is not possible"),
        (["--time", "0"], "--time 60s"),
        (["--picture", "nowhere/x.svg"], "--picture nowhere/x.svg cannot be written: No such"),
        (["--picture", "folder"], "--picture folder cannot be written: Is a directory"),
    ):
        done = sim(tmp_path, *arguments)
        assert done.code == 2 and words in done.stderr, (arguments, done)
    assert not (tmp_path / "nowhere").exists()


def test_looking_whether_a_picture_can_be_written_leaves_no_file(tmp_path: Path) -> None:
    program(tmp_path)
    sim(tmp_path, "--seeds", "2", "--picture", "x.svg").ok()
    assert not (tmp_path / "x.svg").exists()
