"""``make run``: a cluster of three nodes here, the main job on real files, and a node that dies.

Every command is shown as a person would type it, with what it printed. All is
stopped and removed at the end, also when something fails.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMAND = str(Path(sys.executable).parent / "perseus")
LOG_LINES = 120_000
LIMIT_S = 120.0
SHOWN_LINES = 12


class Demo:
    """Runs commands in a folder of its own and shows them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own = {"HOME": str(folder), "PERSEUS_EXIT_WITH_PID": str(os.getpid()), "LANG": "C.UTF-8"}
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **own}
        self.environment["PATH"] = f"{Path(COMMAND).parent}:{self.environment['PATH']}"

    def say(self, text: str) -> None:
        print(f"\n# {text}", flush=True)

    def shell(self, line: str) -> str:
        """Shows and runs a line as typed at a prompt; its stdout. Ends the demo when it fails."""
        print(f"$ {line}", flush=True)
        done = self._run(["sh", "-c", line])
        lines = (done.stderr + done.stdout).splitlines()
        for text in lines[:SHOWN_LINES]:
            print(text)
        if len(lines) > SHOWN_LINES:
            print(f"... {len(lines) - SHOWN_LINES} more lines")
        sys.stdout.flush()
        if done.returncode != 0:
            raise SystemExit(f"that ended with {done.returncode}")
        return done.stdout

    def ask(self, *arguments: str) -> Any:
        """What a command says with --json; not shown."""
        done = self._run([COMMAND, *arguments, "--json"])
        done.check_returncode()
        return json.loads(done.stdout)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="perseus-demo-"))
    demo = Demo(folder)
    try:
        with _cluster(demo):
            _files(demo)
            _main_job(demo)
            _dying_node(demo)
            demo.say("what is wrong now, and what mends it")
            demo.shell("perseus doctor || true")
        demo.say("stopped. `make test` runs all tests; docs/quickstart.md goes on from here.")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


@contextlib.contextmanager
def _cluster(demo: Demo) -> Iterator[None]:
    demo.say("three nodes on this machine: real daemons, certificates, sockets and disks")
    started = demo.shell("perseus dev up --nodes 3 --dir lab --set lease_s=3 --set heartbeat_s=0.5")
    try:
        match = re.search(r"PERSEUS_CONTEXT=(\S+)", started)
        context = match[1].strip("'\"") if match else str(demo.folder / "lab/context.json")
        demo.environment["PERSEUS_CONTEXT"] = context
        demo.shell("perseus nodes")
        yield
    finally:
        subprocess.run(
            [COMMAND, "dev", "down", "--dir", "lab", "--remove"],
            cwd=demo.folder,
            env=demo.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )


def _files(demo: Demo) -> None:
    """Real text (this repository's own) and a log of some megabytes."""
    demo.say("files for it: the text of this repository, and a web server's log")
    sources = sorted(
        [*ROOT.glob("src/**/*.py"), *ROOT.glob("proto/**/*.proto"), *ROOT.glob("*.md")]
    )
    words = " ".join(path.read_text() for path in sources).split()
    (demo.folder / "words.txt").write_text("\n".join(words) + "\n")
    with (demo.folder / "access.log").open("w") as log:
        log.writelines(_log_lines())
    demo.shell("wc -lc words.txt access.log")
    demo.shell("perseus fs mkdir /demo")
    demo.shell("perseus fs put words.txt access.log /demo/")
    demo.shell("perseus fs ls -l /demo")


def _log_lines() -> Iterator[str]:
    """Lines as of a web server, the same in every run."""
    state = 1
    for number in range(LOG_LINES):
        state = (state * 48271) % 2147483647
        status = (200, 200, 200, 304, 404, 500)[state % 6]
        seconds = number % 86400
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        yield f'10.0.{state % 7}.{state % 251} [{clock}] "GET /page/{state % 997}" {status}\n'


def _main_job(demo: Demo) -> None:
    demo.say("the main job: a program, its input from here, its output back here")
    demo.shell("perseus run -- uname -sm")
    demo.shell("perseus run -- sort -u < words.txt > sorted.txt")
    demo.shell("LC_ALL=C.UTF-8 sort -u words.txt | cmp - sorted.txt && wc -l sorted.txt")
    demo.say("input from the filestore: it runs where the bytes are; pipes are pipes")
    program = "{ count[$NF]++ } END { for (status in count) print count[status], status }"
    demo.shell(f"perseus run --stdin /demo/access.log -- awk {shlex.quote(program)} | sort -rn")
    demo.say("exit codes pass through")
    demo.shell("perseus run -- sh -c 'exit 7'; echo \"exit code $?\"")


def _dying_node(demo: Demo) -> None:
    demo.say("now a node loses its power in the middle of a task")
    demo.shell(
        "perseus nodes drain node-1    # the master's node: so that another one gets the task"
    )
    line = "perseus run --stdin /demo/words.txt -- sh -c 'sleep 2; exec sort -u' > again.txt"
    print(f"$ {line} &", flush=True)
    running = subprocess.Popen(
        ["sh", "-c", line],
        cwd=demo.folder,
        env=demo.environment,
        stdin=subprocess.DEVNULL,
        stderr=sys.stdout,
    )
    try:
        node = _node_of_running_task(demo)
        demo.shell(f"perseus dev kill {node} --dir lab")
        if running.wait(LIMIT_S) != 0:
            raise SystemExit(f"the job ended with {running.returncode}")
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
    demo.shell("cmp sorted.txt again.txt && echo 'the output is whole, and there once'")
    demo.shell("perseus why @last")


def _node_of_running_task(demo: Demo) -> str:
    """The node on which the latest job's task runs."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        answer = demo.ask("ps")
        for job in answer if isinstance(answer, list) else answer.get("jobs", [answer]):
            for task in demo.ask("ps", str(job["job_id"])).get("tasks", []):
                if task.get("node"):
                    return str(task["node"])
        time.sleep(0.1)
    raise SystemExit("the task did not start")


if __name__ == "__main__":
    raise SystemExit(main())
