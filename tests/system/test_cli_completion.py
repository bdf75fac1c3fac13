"""Completion of names that only the cluster knows: real shells, a real cluster."""

import os
import pty
import re
import select
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import LIMIT_S, Cluster, cluster

BIN = Path(__file__).resolve().parents[2] / "src" / "perseus" / "cli" / "bin"


# A name that a shell would make several commands of.
EVIL = "a`echo x` $(echo y) 'z'; echo \"w\""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("completion"), nodes=2) as made:
        made.environment["PATH"] = f"{BIN}:{made.environment['PATH']}"
        made.environment["PERSEUS_PYTHON"] = shutil.which("python3") or ""
        for path in ("/data/words.txt", "/data/two words.txt", "/logs/a:b.txt"):
            made.perseus("fs", "put", "-p", "-", path, stdin=b"x").ok()
        made.perseus("fs", "put", "-p", "-", f"/evil/{EVIL}", stdin=b"it is one word\n").ok()
        script = made.perseus("completion", "bash").ok().text
        (made.folder.parent / "script").write_text(script)
        yield made


@pytest.fixture(scope="module")
def job(lab: Cluster) -> str:
    return lab.perseus("submit", "--", "sleep", "600").ok().text.strip()


def bash(lab: Cluster, *words: str) -> list[str]:
    """What bash is offered, by the script that the program gives it."""
    quoted = " ".join(f"'{word}'" for word in ("perseus", *words))
    # Of = and : bash makes words of their own.
    line = re.sub(" ([=:])( |$)", r"\1", " ".join(["perseus", *words]))
    program = f"""
source '{lab.folder.parent}/script'
COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}
word=${{COMP_WORDS[COMP_CWORD]}}; [[ $word == [=:] ]] && word=
_perseus perseus "$word" "${{COMP_WORDS[COMP_CWORD - 1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", program], env=lab.environment, capture_output=True, timeout=LIMIT_S
    )
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    return [line for line in done.stdout.decode().splitlines() if line]


def test_nodes(lab: Cluster) -> None:
    assert bash(lab, "nodes", "drain", "") == ["node-1", "node-2"]
    assert bash(lab, "run", "--node", "node-2") == ["node-2"]
    folder = str(lab.folder)
    assert bash(lab, "dev", "kill", "--dir", folder, "n") == ["node-1", "node-2"]


def test_jobs(lab: Cluster, job: str) -> None:
    for command in ("logs", "wait", "attach", "retry", "why", "kill", "ps"):
        assert job in bash(lab, command, ""), command
    assert bash(lab, "logs", job[:3]) == [job]
    assert "@last" in bash(lab, "logs", "@")
    ended = lab.perseus("submit", "--", "true").ok().text.strip()
    lab.perseus("wait", ended).ok()
    assert bash(lab, "kill", ended) == [] and bash(lab, "logs", ended) == [ended]


def test_paths(lab: Cluster) -> None:
    assert {"/data/", "/logs/", "/jobs/"} <= set(bash(lab, "fs", "ls", ""))
    assert bash(lab, "fs", "cat", "/data/w") == ["/data/words.txt"]
    assert bash(lab, "fs", "cat", "/data/") == ["/data/two\\ words.txt", "/data/words.txt"]
    assert bash(lab, "fs", "ls", "/data") == ["/data/"]
    assert bash(lab, "run", "--stdin", "/data/w") == ["/data/words.txt"]
    # As bash cuts --file words=/da and /logs/a:b.
    assert bash(lab, "run", "--file", "words", "=", "/data/w") == ["/data/words.txt"]
    assert bash(lab, "fs", "cat", "/logs/a", ":", "b") == ["b.txt"]
    assert bash(lab, "fs", "cat", "/nowhere/") == []


def test_contexts_flags_and_values_stay(lab: Cluster) -> None:
    folder = lab.home / ".config" / "perseus" / "contexts"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(lab.context, folder / "attic.json")
    assert bash(lab, "context", "use", "at") == ["attic"]
    assert bash(lab, "--context", "at") == ["attic"]
    assert "--follow" in bash(lab, "logs", "--f")
    assert bash(lab, "token", "create", "--role", "v") == ["viewer"]
    assert "drain" in bash(lab, "nodes", "")


def typed(lab: Cluster, keys: str, wanted: str) -> str:
    """What an interactive bash shows after these keys, once ``wanted`` is among it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(lab.home)
        # Nothing but the command is on the screen: no mark of the paste mode, no bell.
        os.environ.clear()
        os.environ.update(lab.environment | {"PS1": "$ ", "TERM": "dumb", "INPUTRC": "/dev/null"})
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    try:
        os.write(terminal, b'eval "$(perseus completion bash)"; echo rea""dy\n')
        shown = _until(terminal, "ready")
        os.write(terminal, keys.encode())
        shown = _until(terminal, wanted)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)
    return shown


def _until(terminal: int, wanted: str) -> str:
    shown = ""
    deadline_s = time.monotonic() + LIMIT_S
    while wanted not in shown:
        left_s = deadline_s - time.monotonic()
        assert left_s > 0 and select.select([terminal], [], [], left_s)[0], (wanted, shown)
        shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


def test_a_person_presses_the_key(lab: Cluster) -> None:
    typed(lab, "perseus nodes drain node-\t\t", "node-1")
    typed(lab, "perseus fs ls /dat\tw\t", "/data/words.txt")
    # What a shell would take for two words is quoted.
    typed(lab, "perseus fs cat /data/tw\t", "two\\ words.txt")
    typed(lab, "perseus run --file x=/data/wo\t", "x=/data/words.txt")
    typed(lab, "perseus logs @l\t", "@last")


@pytest.mark.parametrize("begun", ["/evil/", "/evil/a\\`e", "'/evil/a`e", '"/evil/', "/evil/'a"])
def test_a_name_is_completed_as_one_word(lab: Cluster, begun: str) -> None:
    """Else whoever may write files would have others run commands by a press of a key."""
    typed(lab, f"perseus fs cat {begun}\t\n", "it is one word")


@pytest.mark.parametrize("shell", ["fish", "zsh"])
def test_other_shells(lab: Cluster, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    if shell == "fish":
        program = (
            "perseus completion fish | source; complete -C 'perseus nodes drain node-'; "
            "complete -C 'perseus fs cat /data/w'; complete -C 'perseus run --stdin /data/w'"
        )
        command = ["fish", "--no-config", "-c", program]
    else:
        program = """
autoload -U compinit; compinit -u -D
eval "$(perseus completion zsh)"
emulate sh; setopt ksharrays
try() { COMP_WORDS=(perseus "$@"); COMP_CWORD=$#; COMP_LINE="perseus $*"
        COMP_POINT=${#COMP_LINE}; cur=${COMP_WORDS[$COMP_CWORD]}
        _perseus perseus "$cur" x; printf '%s\\n' "${COMPREPLY[@]}"; }
try nodes drain node-; try fs cat /data/w; try run --stdin /data/w
"""
        command = ["zsh", "-f", "-c", program]
    done = subprocess.run(
        command, env=lab.environment, capture_output=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL
    )
    shown = done.stdout.decode().split()
    assert {"node-1", "node-2"} <= set(shown), (done.stdout, done.stderr)
    assert shown.count("/data/words.txt") == 2, (done.stdout, done.stderr)


def test_it_is_quick(lab: Cluster) -> None:
    took_s = []
    for _ in range(7):
        begun_s = time.perf_counter()
        done = subprocess.run(
            [str(BIN / "perseus"), "__complete", "fs", "ls", "/da"],
            env=lab.environment, capture_output=True, timeout=LIMIT_S,
        )  # fmt: skip
        took_s.append(time.perf_counter() - begun_s)
        assert done.stdout == b"/data/\n"
    print(f"a completion takes {statistics.median(took_s) * 1000:.0f} ms")
    # Generous, for a machine that does other things; a quiet one takes a tenth.
    assert min(took_s) < 1.0
