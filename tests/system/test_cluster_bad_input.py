"""Bad input: each gives a clear error that names what to do next, and loses nothing."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Cluster, cluster, until

import perseus


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("one"), nodes=1) as made:
        yield made


def test_no_such_program(one: Cluster) -> None:
    done = one.perseus("run", "--", "no-such-program-anywhere")
    assert done.code == 127
    assert "no-such-program-anywhere" in done.stderr and "node-1" in done.stderr


def test_a_program_that_is_not_executable(one: Cluster, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    done = one.perseus("run", "--", str(plain))
    assert done.code == 126
    assert str(plain) in done.stderr


def test_no_such_input(one: Cluster) -> None:
    done = one.perseus("run", "--stdin", "/not/there", "--", "cat")
    assert done.code == 125
    assert "/not/there" in done.stderr


def test_no_node_fits_and_why_tells_the_resource(one: Cluster) -> None:
    job = one.perseus("submit", "--memory", "900T", "--", "true").ok().text.strip()
    why = one.perseus("why", job).ok().text
    assert "memory" in why and "node-1" in why
    one.perseus("kill", job).ok()


@pytest.mark.parametrize("path", ["/a/../b", "relative", "", "/" + "x" * 300])
def test_paths_that_cannot_be(one: Cluster, path: str) -> None:
    done = one.perseus("fs", "stat", path)
    assert done.code in (2, 125), done.stderr
    assert "perseus:" in done.stderr


def test_a_path_with_nul(one: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSEUS_CONTEXT", str(one.context))
    with pytest.raises(perseus.errors.InvalidError, match="NUL"):
        perseus.connect().fs.stat("/a\0b")


def test_an_argument_list_that_is_too_long(one: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSEUS_CONTEXT", str(one.context))
    with pytest.raises(perseus.errors.PerseusError, match=r"long|MiB"):
        perseus.connect().run(["true", "x" * (3 << 20)]).wait()


def test_unknown_and_ambiguous_ids(one: Cluster) -> None:
    done = one.perseus("logs", "zzzzzzzz")
    assert done.code == 125 and "zzzzzzzz" in done.stderr
    jobs = [one.perseus("submit", "--", "true").ok().text.strip() for _ in range(40)]
    first: dict[str, str] = {}
    prefix = next(j[0] for j in jobs if first.setdefault(j[0], j) != j)
    done = one.perseus("wait", prefix)
    assert done.code == 125 and "is the beginning of" in done.stderr
    assert one.perseus("wait", "@last").code == 0


def test_used_wrong_and_expired_tokens(one: Cluster, tmp_path: Path) -> None:
    address = one.perseus("--json", "nodes").ok().json()[0]["address"]
    token = one.perseus("token", "create", "--role", "user").ok().text.split()[-1]
    home = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    one.perseus("login", address, "--token", token, extra=home).ok()
    done = one.perseus("login", address, "--token", token, extra=home)
    assert done.code == 125 and "token" in done.stderr
    token = one.perseus("token", "create", "--role", "user").ok().text.split()[-1]
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    done = one.perseus("login", address, "--token", wrong, extra=home)
    assert done.code == 125 and "certificate authority" in done.stderr
    done = one.perseus("login", address, "--token", "nonsense", extra=home)
    assert done.code in (2, 125) and "token" in done.stderr


def test_a_token_that_has_expired(one: Cluster, tmp_path: Path) -> None:
    address = one.perseus("--json", "nodes").ok().json()[0]["address"]
    made = (
        one.perseus("token", "create", "--ttl", "1s", *role).ok().text.split()
        for role in (("--role", "user"), ())
    )
    user, node = (next(word for word in words if word.startswith("perseus1.")) for words in made)
    made_s = time.monotonic()
    until(lambda: time.monotonic() > made_s + 1.5, "both have expired")
    home = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    data = tmp_path / "data"
    for done in (
        one.perseus("login", address, "--token", user, extra=home),
        one.perseus(
            "join", address, "--token", node, "--data", str(data), "--listen", "127.0.0.1:0"
        ),
    ):
        assert done.code == 125 and "expired" in done.stderr
        assert "on the master: perseus token create" in done.stderr
        assert "perseus token create --role user" in done.stderr
    assert not data.exists()


def test_a_name_that_is_taken(one: Cluster, tmp_path: Path) -> None:
    address = one.perseus("--json", "nodes").ok().json()[0]["address"]
    words = one.perseus("token", "create").ok().text.split()
    token = next(word for word in words if word.startswith("perseus1."))
    join = ("join", address, "--token", token, "--data", str(tmp_path / "d"))
    done = one.perseus(*join, "--listen", "127.0.0.1:0", "--name", "node-1")
    assert done.code == 125 and "a node named node-1 is in the cluster and alive" in done.stderr
    assert "choose another name with --name" in done.stderr
    # And it is done as the hint says, with the same token, for a refusal does not use it up.
    one.perseus(*join, "--listen", "127.0.0.1:0", "--name", "node-9").ok()
    one.perseus("stop", "--data", str(tmp_path / "d")).ok()
    one.perseus("nodes", "rm", "node-9").ok()


def test_a_port_in_use(one: Cluster, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = one.perseus("init", "--data", str(tmp_path / "d"), "--listen", f"127.0.0.1:{port}")
    assert done.code == 125 and str(port) in done.stderr


def test_a_folder_of_another_cluster_and_of_a_newer_version(one: Cluster, tmp_path: Path) -> None:
    data = one.folder / "node-1"
    done = one.perseus("init", "--data", str(data), "--listen", "127.0.0.1:0")
    assert done.code == 125 and "cluster" in done.stderr
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "cluster.json").write_text('{"format": 99}')
    done = one.perseus("start", "--data", str(newer))
    assert done.code == 125 and "newer" in done.stderr


def test_no_daemon(tmp_path: Path, one: Cluster) -> None:
    gone = tmp_path / "gone.json"
    gone.write_text(
        '{"name": "gone", "cluster_id": "x", "address": "127.0.0.1:1", "socket": "/nonexistent"}'
    )
    gone.chmod(0o600)
    done = one.perseus("nodes", extra={"PERSEUS_CONTEXT": str(gone)})
    assert done.code == 125 and "daemon" in done.stderr


def test_100_000_lines_of_output(one: Cluster) -> None:
    done = one.perseus("run", "--", "seq", "100000").ok()
    assert done.stdout.count(b"\n") == 100_000


def test_output_limit_fails_clearly(one: Cluster) -> None:
    done = one.perseus("run", "--output-limit", "1M", "--", "yes")
    assert done.code == 128 + signal.SIGXFSZ
    assert len(done.stdout) == 1 << 20
    assert "limit" in done.stderr


def test_time_limit(one: Cluster) -> None:
    done = one.perseus("run", "--time-limit", "0.3", "--", "sleep", "60")
    assert done.code == 124
    # Who only waits for it is told no less.
    waited = one.perseus("wait", "@last")
    assert waited.code == 124 and not waited.stdout
    assert "ended by its time limit of 0.3 s\n  to give it longer" in waited.stderr


@pytest.mark.parametrize(
    ("code", "arguments", "words", "hint"),
    [
        (127, ["no-such-program"], "command not found", "perseus run --node NAME"),
        (126, ["/etc/passwd"], "Permission denied", "chmod a+x /etc/passwd"),
        (124, ["--time-limit", "0.2", "sleep", "100"], "its time limit of 0.2 s", "--time-limit"),
        (153, ["--output-limit", "9", "seq", "99"], "the limit of 9 bytes", "--output-limit SIZE"),
        (125, ["--workdir", "/no", "--retries", "0", "true"], "/no: no such", "--workdir FOLDER"),
    ],
)
@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_an_end_that_is_not_the_programs_own_is_told_with_the_next_step_also_with_quiet(
    one: Cluster, code: int, arguments: list[str], words: str, hint: str, quiet: list[str]
) -> None:
    done = one.perseus("run", *quiet, *arguments)
    said, _, after = done.stderr.partition("\n")
    assert done.code == code and words in said and hint in after
    told = one.perseus("why", "@last").ok().text.splitlines()
    assert any(words in line and hint in line for line in told)


def test_usage_errors_are_2_and_suggest(one: Cluster) -> None:
    done = one.perseus("nodse")
    assert done.code == 2 and "nodes" in done.stderr


def test_an_embedded_cluster_starts_by_itself(tmp_path: Path) -> None:
    values = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PERSEUS_EXIT_WITH_PID": str(os.getpid()),
    }
    command = [sys.executable, "-m", "perseus", "run", "--", "uname", "-s"]
    done = subprocess.run(command, capture_output=True, env=values, timeout=90)
    assert (done.returncode, done.stdout) == (0, b"Linux\n"), done.stderr
    stop = [sys.executable, "-m", "perseus", "stop"]
    assert subprocess.run(stop, env=values, timeout=90).returncode == 0


def test_output_that_is_missing_is_a_failure(one: Cluster) -> None:
    job = one.perseus("submit", "--", "head", "-c", "100000", "/dev/zero").ok().text.strip()
    assert one.perseus("wait", job).code == 0
    one.perseus("fs", "rm", "-r", f"/jobs/{job}").ok()
    for more in ((), ("--json",)):
        done = one.perseus(*more, "logs", job)
        assert done.code == 125, done.stderr
        assert "stdout is missing" in done.stderr + done.text


def test_kill_says_what_came_of_it(one: Cluster) -> None:
    job = one.perseus("submit", "--memory", "900T", "--", "true").ok().text.strip()
    assert "1 task cancelled" in one.perseus("kill", job).ok().stderr
    assert "has ended already (cancelled)" in one.perseus("kill", job).ok().stderr
