"""What a terminal is shown: names that others chose cannot move its cursor, outputs can."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from harness import LIMIT_S, Cluster, cluster

# Clears the screen, and sets the title of many terminals.
EVIL = "a\x1b[2J\x1b]0;mine\x07b"
OUTPUT = b"\x1b[31mred\x00\xff\xfe\x07"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("terminal"), nodes=1) as made:
        made.perseus("fs", "put", "-p", "-", f"/names/{EVIL}", stdin=b"x").ok()
        yield made


def interrupted_flood(one: Cluster) -> tuple[bytes, int]:
    """What a terminal that is slow is shown last of ``yes`` and one ^C, and the exit code."""
    pid, ours = pty.fork()
    if pid == 0:
        command = [sys.executable, "-m", "perseus", "run", "--", "yes"]
        os.execvpe(command[0], command, one.environment)
    last = b""
    taken_bytes, is_interrupted = 0, False
    deadline_s = time.monotonic() + LIMIT_S
    try:
        while select.select([ours], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            try:
                # So little at a time that all of it would take minutes.
                piece = os.read(ours, 512)
            except OSError:
                break
            last = (last + piece)[-1000:]
            taken_bytes += len(piece)
            if taken_bytes > 1 << 20 and not is_interrupted:
                is_interrupted = os.write(ours, b"\x03") == 1
        else:
            os.kill(pid, signal.SIGKILL)
        return last, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(ours)


def shown(one: Cluster, *arguments: str) -> bytes:
    """All that a command writes to a terminal, stdout and stderr."""
    ours, theirs = pty.openpty()
    settings = termios.tcgetattr(theirs)
    # As it is written: no \r before each \n.
    settings[1] &= ~termios.OPOST
    termios.tcsetattr(theirs, termios.TCSANOW, settings)
    process = subprocess.Popen(
        [sys.executable, "-m", "perseus", *arguments],
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
        env={**one.environment, "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(theirs)
    taken = b""
    deadline_s = time.monotonic() + LIMIT_S
    try:
        while select.select([ours], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                # The last writer has closed it.
                break
            taken += piece
        process.wait(LIMIT_S)
    finally:
        process.kill()
        os.close(ours)
    return taken


@pytest.mark.parametrize(
    "arguments",
    [
        ("fs", "ls", "/names"),
        ("fs", "ls", "-l", "/names"),
        ("fs", "stat", f"/names/{EVIL}"),
        ("fs", "cat", f"/nowhere/{EVIL}"),
        ("fs", "mkdir", f"/names/{EVIL}"),
        ("run", "--stdin", f"/nowhere/{EVIL}", "--", "cat"),
        ("run", "--node", EVIL, "--", "true"),
        ("run", "--", f"/nowhere/{EVIL}"),
        ("logs", EVIL),
        ("nodes", "rm", EVIL),
        (EVIL,),
    ],
    ids=lambda arguments: " ".join(arguments).replace(EVIL, "EVIL"),
)
def test_a_name_does_not_reach_a_terminal_as_it_is(
    one: Cluster, arguments: tuple[str, ...]
) -> None:
    taken = shown(one, *arguments)
    assert b"\x1b" not in taken and b"\x07" not in taken, taken
    assert b"x1b[2J" in taken, taken


def test_a_pipe_gets_the_name_itself(one: Cluster) -> None:
    assert one.perseus("fs", "ls", "/names").ok().text == f"{EVIL}\n"


def test_what_the_cluster_says_of_a_job_is_shown_so_too(one: Cluster) -> None:
    job = one.perseus("submit", "--name", "plain", "--", f"/nowhere/{EVIL}").ok().text.strip()
    one.perseus("wait", job)
    taken = shown(one, "why", job) + shown(one, "ps", job) + shown(one, "ps")
    assert b"\x1b" not in taken and b"\x07" not in taken, taken


def test_outputs_reach_a_terminal_as_they_are(one: Cluster) -> None:
    written = "".join(f"\\{byte:03o}" for byte in OUTPUT)
    taken = shown(one, "run", "--", "printf", written)
    assert taken == OUTPUT
    job = one.perseus("submit", "--", "printf", written).ok().text.strip()
    one.perseus("wait", job).ok()
    assert shown(one, "logs", job) == OUTPUT
    assert shown(one, "attach", job) == OUTPUT
    one.perseus("fs", "put", "-", "/binary", stdin=OUTPUT).ok()
    assert shown(one, "fs", "cat", "/binary") == OUTPUT


def test_one_interrupt_leaves_a_flood(one: Cluster) -> None:
    last, code = interrupted_flood(one)
    assert code == 130, last
    assert b"has ended; the rest of its output: perseus logs " in last
