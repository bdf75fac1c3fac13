"""The command line and the client against the real JSON door, with small services behind it.

The services of ``cli_harness`` run in a process of their own; what is tested is
the way between a person and the door: descriptors, signals, breaks, latency.
"""

import base64
import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PERSEUS = SOURCE / "perseus" / "cli" / "bin" / "perseus"
HARNESS = Path(__file__).with_name("cli_harness.py")
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which a command finds the door."""
    folder = tmp_path_factory.mktemp("door")
    path = folder / "door.sock"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "HOME": str(folder)}
    process = subprocess.Popen(
        [sys.executable, str(HARNESS), str(path)], stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    context = folder / "context.json"
    context.write_text(json.dumps({"name": "fake", "socket": str(path)}))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "NO_COLOR"):
        environment.pop(name, None)
    environment |= {"PERSEUS_CONTEXT": str(context), "PERSEUS_PYTHON": sys.executable}
    try:
        yield environment
    finally:
        process.kill()
        process.wait()


def perseus(
    door: dict[str, str], *arguments: str, stdin: bytes = b"", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(PERSEUS), *arguments],
        input=stdin,
        capture_output=True,
        env=door,
        timeout=LIMIT_S,
        check=False,
        **options,
    )


def start(
    door: dict[str, str], *arguments: str, stdin: Any = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(PERSEUS), *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=door,
    )


def test_output_and_exit_code_pass_through(door: dict[str, str]) -> None:
    done = perseus(door, "run", "--", "sh", "-c", "printf 'a\\0b'; echo oops >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"a\0b", b"oops\n", 7)


def test_what_is_not_there_is_127_and_said(door: dict[str, str]) -> None:
    done = perseus(door, "run", "--", "no-such-program")
    assert done.returncode == 127
    assert b"no such program on node here" in done.stderr


def test_small_stdin_rides_along(door: dict[str, str]) -> None:
    assert perseus(door, "run", "--", "cat", stdin=b"\xff\x00hi").stdout == b"\xff\x00hi"


def test_long_stdin_is_streamed(door: dict[str, str]) -> None:
    content = os.urandom(1 << 20) * 3
    done = perseus(door, "run", "--", "cat", stdin=content)
    assert done.stdout == content
    assert done.returncode == 0


def test_stdin_from_a_file(door: dict[str, str], tmp_path: Path) -> None:
    local = tmp_path / "input"
    local.write_bytes(b"x" * 200_000)
    with local.open("rb") as opened:
        process = start(door, "run", "--", "wc", "-c", stdin=opened)
        out, _ = process.communicate(timeout=LIMIT_S)
    assert out.strip() == b"200000"


def test_stdin_that_comes_slowly_is_seen_at_once(door: dict[str, str]) -> None:
    process = start(door, "run", "--", "cat", stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    for line in (b"one\n", b"two\n"):
        process.stdin.write(line)
        process.stdin.flush()
        assert process.stdout.readline() == line
    process.stdin.close()
    assert process.wait(LIMIT_S) == 0


def test_a_signal_reaches_the_task(door: dict[str, str]) -> None:
    script = "trap 'echo got; exit 9' INT; echo ready; while :; do sleep 0.02; done"
    process = start(door, "run", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=LIMIT_S)
    assert out == b"got\n"
    assert process.returncode == 9


def test_a_second_interrupt_cancels(door: dict[str, str]) -> None:
    script = "trap 'echo no' INT; echo ready; while :; do sleep 0.02; done"
    process = start(door, "run", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"no\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert b"is cancelled" in error


def test_signals_reach_the_task_under_json_and_events_are_whole(door: dict[str, str]) -> None:
    script = "trap 'echo got; exit 0' INT; echo ready; while :; do sleep 0.02; done"
    process = start(door, "--json", "run", "--", "sh", "-c", script)
    assert process.stdout is not None
    lines = iter(process.stdout)
    events = []
    for line in lines:
        events.append(json.loads(line))
        if events[-1]["stdout"]:
            break
    process.send_signal(signal.SIGINT)
    events += [json.loads(line) for line in lines]
    assert process.wait(LIMIT_S) == 0
    assert events[-1]["ending"]["exit_code"] == 0
    assert {event["task"] for event in events} == {0}
    assert b"got\n" in b"".join(base64.b64decode(event["stdout"]) for event in events)


def test_an_interrupt_that_no_job_takes_yet_leaves_with_130(tmp_path: Path) -> None:
    # A daemon that takes the connection and never answers.
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        context = tmp_path / "context.json"
        context.write_text(json.dumps({"name": "silent", "socket": str(path)}))
        for words in (["run", "true"], ["--json", "run", "true"]):
            process = start({**os.environ, "PERSEUS_CONTEXT": str(context)}, *words)
            assert process.stderr is not None
            taken, _ = silent.accept()
            with taken:
                taken.recv(1)
                process.send_signal(signal.SIGINT)
                taken.recv(1)
                # Signals that wait are one; the first must have come before the second is sent.
                deadline = time.monotonic() + LIMIT_S
                while process.poll() is None and time.monotonic() < deadline:
                    process.send_signal(signal.SIGINT)
                    select.select([process.stderr.fileno()], [], [], 0.05)
                _, error = process.communicate(timeout=LIMIT_S)
            assert (process.returncode, error.count(b"Traceback")) == (130, 0), (words, error)


def test_files_come_as_json(door: dict[str, str]) -> None:
    content = bytes(range(256))
    for path, given in (("/json.bin", content), ("/json.empty", b"")):
        assert perseus(door, "fs", "put", "-", path, stdin=given).returncode == 0
        for words in (["cat", path], ["tail", "-c", "1k", path], ["get", path, "-"]):
            done = perseus(door, "fs", *words, "--json")
            pieces = [json.loads(line) for line in done.stdout.splitlines()]
            assert b"".join(base64.b64decode(piece["data"]) for piece in pieces) == given
            assert (pieces[0]["path"], pieces[0]["offset_bytes"]) == (path, 0)
    gone = perseus(door, "fs", "cat", "/json.empty", "/nowhere", "--json")
    last = json.loads(gone.stdout.splitlines()[-1])
    assert (gone.returncode, last["error"]["code"]) == (125, "not_found")


def test_a_closed_pipe_ends_it_quietly(door: dict[str, str]) -> None:
    process = start(door, "run", "--", "yes")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(LIMIT_S) == 141
    assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("line", "code", "out", "error"),
    [
        ("run -- sh -c 'echo err >&2; exit 3' 2>&-", 3, "", ""),
        ("run -- sh -c 'echo hi; exit 3' >&-", 3, "", ""),
        # As a program between may leave them: closed, and given to the next file it read.
        ("run -- sh -c 'echo err >&2; exit 3' 2</dev/null", 3, "", ""),
        ("run -- sh -c 'echo hi; exit 3' 1</dev/null", 3, "", ""),
        ("run -- cat <&-", 0, "", ""),
        ("ps >&-", 0, "", ""),
        ("submit -- true >&-", 0, "", "is submitted"),
        ("fs put - /closed <&-", 2, "", "stdin is closed"),
        ("fs append /closed <&-", 2, "", "stdin is closed"),
        ("run -- echo hi >/dev/full", 125, "", "stdout cannot be written: No space"),
        ("run -- sh -c 'echo hi >&2' 2>/dev/full", 125, "", ""),
        ("fs cat /full >/dev/full", 125, "", "stdout cannot be written: No space"),
        ("fs tail /full >/dev/full", 125, "", "stdout cannot be written: No space"),
        ("fs get /full - >/dev/full", 125, "", "stdout cannot be written: No space"),
        ("--json fs cat /full >/dev/full", 125, "", "stdout cannot be written: No space"),
        ("ps >/dev/full", 125, "", "stdout cannot be written: No space"),
        ("--json ps >/dev/full", 125, "", "stdout cannot be written: No space"),
        ("--json run -- echo hi >/dev/full", 125, "", "stdout cannot be written: No space"),
        ("--json logs @last >/dev/full", 125, "", "cannot be written: No space"),
        ("logs @last >/dev/full", 125, "", "cannot be written: No space"),
        ("submit -- true >/dev/full", 125, "", "is submitted, but stdout cannot be written"),
        ("wait --timeout 0.1 @last 2>/dev/full", 0, "", ""),
    ],
)
def test_descriptors_that_are_closed_or_full(
    door: dict[str, str], line: str, code: int, out: str, error: str
) -> None:
    if "@last" in line:
        assert perseus(door, "run", "--", "echo", "hi").returncode == 0
    if "/full " in line:
        assert perseus(door, "fs", "put", "-", "/full", stdin=b"x").returncode == 0
    done = subprocess.run(
        ["sh", "-c", f"exec {PERSEUS} {line}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=door,
        timeout=LIMIT_S,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert error in done.stderr and bool(done.stderr) == bool(error)
    assert "defect" not in done.stderr
    assert done.stderr.count("perseus:") <= 1


@pytest.mark.parametrize(
    "words",
    [
        ["fs", "ls", b"/bad\xff"],
        ["fs", "put", b"bad\xff", "/n/"],
        ["logs", b"bad\xff"],
        ["run", "--name", b"bad\xff", "true"],
        ["run", "-e", b"A=bad\xff", "true"],
        ["run", "-e", "BAD", "true"],
        [b"bad\xff"],
    ],
)
def test_what_is_not_utf8_is_a_usage_error(door: dict[str, str], words: list[Any]) -> None:
    done = perseus(door | {"BAD": "\udcff"}, *words)
    assert done.returncode == 2
    assert b"is not UTF-8" in done.stderr and b"defect" not in done.stderr


def test_a_break_of_the_daemon_is_bridged(door: dict[str, str]) -> None:
    script = "echo first; sleep 0.3; echo second; exit 3"
    done = perseus(door, "run", "--name", "cut", "--", "sh", "-c", script)
    # The fake kills what was cut, as a daemon does that loses its caller.
    assert done.stdout.startswith(b"first\n")
    assert done.stdout.count(b"first") == 1
    assert b"waiting for it to come back" in done.stderr


def test_no_daemon_is_said(door: dict[str, str], tmp_path: Path) -> None:
    context = tmp_path / "gone.json"
    context.write_text(json.dumps({"name": "gone", "socket": str(tmp_path / "none.sock")}))
    done = perseus(door | {"PERSEUS_CONTEXT": str(context)}, "run", "--", "true")
    assert done.returncode == 125
    assert b"perseus doctor" in done.stderr


def test_doctor_knows_what_is_wrong_here(door: dict[str, str], tmp_path: Path) -> None:
    nowhere = perseus(door | {"PERSEUS_CONTEXT": str(tmp_path / "none.json")}, "doctor")
    assert nowhere.returncode == 1
    assert b"none.json does not exist" in nowhere.stdout
    context = tmp_path / "gone.json"
    context.write_text(json.dumps({"name": "gone", "socket": str(tmp_path / "run" / "x.sock")}))
    gone = perseus(door | {"PERSEUS_CONTEXT": str(context)}, "--json", "doctor")
    assert gone.returncode == 1
    (finding,) = json.loads(gone.stdout)
    assert (finding["severity"], finding["subject"]) == ("error", "daemon")
    assert finding["command"].startswith("perseus start --data ")
    context.write_text(
        json.dumps({"name": "old", "socket": str(tmp_path / "x"), "certificate_pem": "nonsense"})
    )
    broken = perseus(door | {"PERSEUS_CONTEXT": str(context)}, "doctor")
    assert b"certificate" in broken.stdout


def test_submit_prints_the_id_alone_and_the_rest_follows(door: dict[str, str]) -> None:
    job_id = perseus(door, "submit", "--", "sh", "-c", "echo x; exit 4").stdout.decode().strip()
    assert job_id.startswith("j")
    assert perseus(door, "wait", job_id).returncode == 4
    assert perseus(door, "logs", job_id).stdout == b"x\n"
    assert perseus(door, "attach", "@last").returncode == 4
    assert job_id in perseus(door, "ps").stdout.decode()
    first = json.loads(perseus(door, "--json", "ps").stdout)[0]
    assert (first["job_id"], first["state"]) == (job_id, "TASK_STATE_FAILED")
    assert b"all there is" in perseus(door, "why", job_id).stdout
    assert perseus(door, "logs", "nothing").returncode == 125


def test_files_go_both_ways(door: dict[str, str], tmp_path: Path) -> None:
    local = tmp_path / "a.bin"
    local.write_bytes(os.urandom(300_000))
    assert perseus(door, "fs", "put", str(local), "/a.bin").returncode == 0
    assert perseus(door, "fs", "get", "/a.bin", str(tmp_path / "b.bin")).returncode == 0
    assert (tmp_path / "b.bin").read_bytes() == local.read_bytes()
    assert perseus(door, "fs", "append", "/log", stdin=b"1\n2\n3\n").returncode == 0
    assert perseus(door, "fs", "cat", "/log").stdout == b"1\n2\n3\n"
    assert b"/a.bin" in perseus(door, "fs", "stat", "/a.bin").stdout
    assert perseus(door, "fs", "rm", "/none").returncode == 125
    assert perseus(door, "fs", "rm", "-f", "/none").returncode == 0


def test_get_writes_where_a_name_leads(door: dict[str, str], tmp_path: Path) -> None:
    assert perseus(door, "fs", "append", "/led", stdin=b"new").returncode == 0
    real, link, fifo = tmp_path / "real", tmp_path / "link", tmp_path / "fifo"
    real.write_bytes(b"old")
    real.chmod(0o755)
    link.symlink_to(real)
    assert perseus(door, "fs", "get", "/led", str(link)).returncode == 0
    assert (link.is_symlink(), real.read_bytes()) == (True, b"new")
    assert real.stat().st_mode & 0o777 == 0o755
    os.mkfifo(fifo)
    process = start(door, "fs", "get", "/led", str(fifo))
    # Opened for both, so that a command that leaves the FIFO alone does not hang the test.
    with open(os.open(fifo, os.O_RDWR), "rb", buffering=0) as reader:
        assert process.wait(LIMIT_S) == 0
        assert fifo.is_fifo()
        assert reader.read(100) == b"new"


def test_put_says_what_of_a_tree_it_leaves_out(door: dict[str, str], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "below" / "z").write_bytes(b"last")
    (tree / "file").write_bytes(b"first")
    (tree / "round").symlink_to(tree)
    os.mkfifo(tree / "a-fifo")
    (tree / "dangling").symlink_to("nowhere")
    (tree / "linked").symlink_to("file")
    done = perseus(door, "fs", "put", "-q", "-r", str(tree), "/tree")
    assert done.returncode == 1
    said = sorted(done.stderr.decode().replace(str(tree), "T").splitlines())
    assert said == [
        "perseus: left out T/a-fifo: neither a file nor a folder",
        "perseus: left out T/dangling: it leads nowhere",
        "perseus: left out T/round: a link to a folder",
    ]
    for path, content in (("/below/z", b"last"), ("/file", b"first"), ("/linked", b"first")):
        assert perseus(door, "fs", "cat", f"/tree{path}").stdout == content


def test_put_looks_at_all_it_is_given_before_the_first_byte(
    door: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "early").write_bytes(b"1")
    done = perseus(door, "fs", "put", str(tmp_path / "early"), str(tmp_path / "none"), "/")
    assert (done.returncode, b"does not exist" in done.stderr) == (125, True)
    assert perseus(door, "fs", "stat", "/early").returncode == 125


def test_tail_follows_a_file_from_writer_to_writer(door: dict[str, str]) -> None:
    assert perseus(door, "fs", "append", "/tailed", stdin=b"l0\nl1\n").returncode == 0
    process = start(door, "fs", "tail", "-f", "-n", "1", "/tailed")
    assert process.stdout is not None
    assert process.stdout.readline() == b"l1\n"
    for line in (b"l2\n", b"l3\n"):
        assert perseus(door, "fs", "append", "/tailed", stdin=line).returncode == 0
        assert process.stdout.readline() == line
    assert perseus(door, "fs", "rm", "/tailed").returncode == 0
    _, error = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, error) == (0, b"perseus: /tailed was removed\n")


def test_tail_ends_when_nobody_reads_it(door: dict[str, str]) -> None:
    assert perseus(door, "fs", "append", "/quiet", stdin=b"l1\n").returncode == 0
    process = start(door, "fs", "tail", "-f", "/quiet")
    assert process.stdout is not None
    assert process.stdout.readline() == b"l1\n"
    process.stdout.close()
    assert process.wait(LIMIT_S) == 141


def test_tail_says_what_cannot_be_meant(door: dict[str, str]) -> None:
    assert perseus(door, "fs", "mkdir", "/folder").returncode == 0
    done = perseus(door, "fs", "tail", "/folder")
    assert (done.returncode, b"is a folder" in done.stderr) == (125, True)
    assert perseus(door, "fs", "tail", "-n", "-5", "/folder").returncode == 2
    assert b"kind:           folder" in perseus(door, "fs", "stat", "/folder").stdout


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--workdir", "rel", "--", "true"],
        ["run", "--file", "../a=/x", "--", "true"],
        ["fs", "put", "-", "rel"],
        ["token", "create", "--ttl", "0"],
        ["init", "--listen", "nonsense", "--data", "never-made"],
        ["dev", "up", "--nodes", "0", "--dir", "never-made"],
        ["run", "--priority", "101", "--", "true"],
    ],
)
def test_what_cannot_be_meant_is_2(door: dict[str, str], tmp_path: Path, words: list[str]) -> None:
    done = perseus(door, *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b""), done.stderr
    assert os.listdir(tmp_path) == []


def test_a_local_cluster_that_is_refused_leaves_nothing(
    door: dict[str, str], tmp_path: Path
) -> None:
    done = perseus(door, "dev", "up", "--set", "nosuch=1", "--dir", "lab", cwd=tmp_path)
    assert (done.returncode, b"nosuch" in done.stderr) == (2, True)
    assert b"settings are: " in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_terminal_is_forwarded_and_submit_leaves_it_alone(door: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    with open(ours, "r+b", buffering=0) as typed, open(theirs, "rb", buffering=0) as terminal:
        process = start(door, "run", "--", "head", "-n", "1", stdin=terminal)
        typed.write(b"hello\n")
        out, error = process.communicate(timeout=LIMIT_S)
        assert (out, error, process.returncode) == (b"hello\n", b"", 0)
        process = start(door, "submit", "--", "true", stdin=terminal)
        out, _ = process.communicate(timeout=LIMIT_S)
        assert out.startswith(b"j")


def test_the_command_works_through_links_and_installed(
    door: dict[str, str], tmp_path: Path
) -> None:
    def ask(command: Path, **extra: str) -> str:
        environment = {k: v for k, v in door.items() if k not in ("PERSEUS_PYTHON", "PYTHONPATH")}
        done = subprocess.run(
            [str(command), "run", "echo", "x"],
            env=environment | extra,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return done.stdout + done.stderr

    link = tmp_path / "link"
    link.symlink_to(PERSEUS)
    assert ask(link, PERSEUS_PYTHON=sys.executable) == "x\n"
    for name, editable in (("regular", False), ("editable", True)):
        binaries = tmp_path / name / "bin"
        packages = tmp_path / name / "lib" / "python3.11" / "site-packages"
        binaries.mkdir(parents=True)
        packages.mkdir(parents=True)
        (tmp_path / name / "pyvenv.cfg").write_text(f"home = {sys.base_prefix}/bin\n")
        (binaries / "python3").symlink_to(sys.executable)
        shutil.copy(PERSEUS, binaries / "perseus")
        if editable:
            (packages / "__editable__.perseus-0.1.0.pth").write_text(f"{SOURCE}\n")
        else:
            (packages / "perseus").symlink_to(SOURCE / "perseus")
        assert ask(binaries / "perseus") == "x\n"
        other = tmp_path / f"link-{name}"
        other.symlink_to(binaries / "perseus")
        assert ask(other) == "x\n"


def test_a_python_that_this_user_cannot_run_is_told(door: dict[str, str], tmp_path: Path) -> None:
    """As in an environment that root made of a Python in its own home."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (tmp_path / "pyvenv.cfg").touch()
    (binaries / "python3").symlink_to(tmp_path / "not" / "there")
    shutil.copy(PERSEUS, binaries / "perseus")
    environment = {name: value for name, value in door.items() if name != "PERSEUS_PYTHON"}
    done = subprocess.run(
        [str(binaries / "perseus"), "version"],
        env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 126
    assert "cannot run the Python" in done.stderr and f"{binaries}/python3" in done.stderr


def test_many_bytes_come_fast(door: dict[str, str]) -> None:
    size = 200 << 20
    began = time.perf_counter()
    process = start(door, "run", "--", "head", "-c", str(size), "/dev/zero")
    assert process.stdout is not None
    count = 0
    while piece := process.stdout.read1(1 << 20):  # type: ignore[attr-defined]
        count += len(piece)
    elapsed = time.perf_counter() - began
    assert process.wait(LIMIT_S) == 0
    assert count == size
    print(f"run's output through the door: {size / elapsed / 1e6:.0f} MB/s")


def test_latency_of_a_whole_command(door: dict[str, str]) -> None:
    times = []
    for _ in range(15):
        began = time.perf_counter()
        assert perseus(door, "run", "true").returncode == 0
        times.append(time.perf_counter() - began)
    median_ms = sorted(times)[len(times) // 2] * 1e3
    print(f"perseus run true, whole command, against a plain process: {median_ms:.1f} ms")
    assert median_ms < 1000
