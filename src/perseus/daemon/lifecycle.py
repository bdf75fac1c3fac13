"""Starting and stopping the daemon of a data folder, in the background.

``start`` returns when the daemon answers or has failed; a failure carries the
daemon's own words, not "see the log".
"""

import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path

import perseus
from perseus.daemon import config as config_module
from perseus.daemon.config import FolderLock, Paths
from perseus.errors import ConflictError, PerseusError, RefusedError, UnavailableError, from_code
from perseus.rpc.addresses import split_address
from perseus.rpc.http_client import UnixConnection
from perseus.runtime import processes
from perseus.shellwords import as_file

START_TIMEOUT_S = 60.0
DOOR_POLL_S = 0.02
STOP_TIMEOUT_S = 20.0
# For the master's first word to a node, and for what it says is wrong.
FIRST_WORD_TIMEOUT_S = 10.0
# Folders of sockets in /tmp that one start looks at.
SWEPT_MAXIMUM = 1000
# The subject of what Diagnose finds about the node it is asked at.
THIS_NODE = "this node"


def running_pid(data: Path) -> int | None:
    """The process id of the live daemon of ``data``, or None."""
    try:
        text = Paths(data).pid.read_text().split()
        pid, started = int(text[0]), text[1]
    except (OSError, ValueError, IndexError):
        return None
    return pid if process_start(pid) == started else None


def process_start(pid: int) -> str | None:
    """When ``pid`` began, in clock ticks since boot; None when it is gone or a zombie.

    With the pid it names a process for good: a reused pid has another start.
    """
    found = processes.stat(pid)
    return None if found is None else str(found.start_ticks)


def start(data: Path, timeout_s: float = START_TIMEOUT_S, *, accept_old_state: bool = False) -> int:
    """Starts the daemon of ``data`` unless it runs; returns its process id.

    ``accept_old_state`` lets a master go on with an old copy of its state; ConflictError
    when it runs already. Raises what the daemon raised, or UnavailableError after ``timeout_s``.
    """
    data = data.resolve()
    config_module.load(data)
    paths = Paths(data)
    pid = running_pid(data)
    if pid is not None:
        if accept_old_state:
            raise ConflictError(
                f"the daemon of {data} runs (process {pid}), and takes that only when it starts",
                hint="perseus stop; perseus start --accept-old-state",
            )
        _await_door(data, pid, timeout_s)
        return pid
    sweep_runs()
    paths.make()
    reader, writer = os.pipe()
    try:
        process = _launch(data, paths.log, writer, accept_old_state)
    finally:
        os.close(writer)
    with open(reader, "rb", buffering=0) as ready:
        answer = _await_answer(ready.fileno(), timeout_s)
    if answer == b"ready\n":
        return process.pid
    raise _failure(data, paths.log, answer, timeout_s)


def sweep_runs() -> None:
    """Removes folders of sockets in /tmp that are ours and whose data folder is gone: it was
    deleted by hand, and no other command comes by there."""
    for folder in islice(config_module.SHORT_ROOT.glob(f"perseus-{os.getuid()}-*"), SWEPT_MAXIMUM):
        with suppress(OSError, ValueError):
            is_ours = folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
            data = Path(os.fsdecode((folder / config_module.OWNER).read_bytes()))
            is_left = is_ours and Paths(data).run == folder and not data.exists()
            if is_left and running_pid(data) is None:
                Paths(data).remove_run()


def _await_door(data: Path, pid: int, timeout_s: float) -> None:
    """Returns when the daemon that somebody else is just starting answers."""
    paths = Paths(data)
    deadline = time.monotonic() + timeout_s
    while not _answers(paths.socket):
        if running_pid(data) != pid:
            raise UnavailableError(
                f"the daemon of {data} ended while it was starting",
                hint=f"see {as_file(paths.log)}",
            )
        if time.monotonic() > deadline:
            raise _failure(data, paths.log, None, timeout_s)
        time.sleep(DOOR_POLL_S)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def hear_master(data: Path) -> None:
    """Waits a little for the master's first word to the daemon of ``data``, which runs.

    Raises RefusedError when it does not want this node, and UnavailableError when it
    has not been heard of.
    """
    with UnixConnection(str(Paths(data).socket)) as connection:
        answer = connection.call("Cluster.Diagnose", {}, timeout_s=FIRST_WORD_TIMEOUT_S)
    for finding in answer.get("findings") or ():
        if finding.get("subject") == THIS_NODE and finding.get("severity") == "error":
            raise RefusedError(finding["message"], hint=finding.get("command") or "perseus doctor")


def command(data: Path, accept_old_state: bool) -> list[str]:
    """What runs the daemon of ``data``."""
    accept = ["--accept-old-state"] if accept_old_state else []
    return [sys.executable, "-m", "perseus.daemon", "--data", str(data), *accept]


def _launch(data: Path, log: Path, ready: int, accept_old_state: bool) -> subprocess.Popen[bytes]:
    with open(log, "ab", opener=_private) as output:
        return subprocess.Popen(
            [*command(data, accept_old_state), "--ready", str(ready)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[ready],
            start_new_session=True,
            cwd="/",
            env=environment(),
        )


def environment() -> dict[str, str]:
    """A daemon's: ours, and a way to find this program wherever it was started from."""
    source = str(Path(perseus.__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{source}:{inherited}" if inherited else source}


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _await_answer(descriptor: int, timeout_s: float) -> bytes | None:
    """What the daemon wrote until it closed the pipe; None after the time limit."""
    deadline = time.monotonic() + timeout_s
    parts: list[bytes] = []
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        part = os.read(descriptor, 65536)
        parts.append(part)
        if not part or part.endswith(b"\n"):
            return b"".join(parts)
    return None


def _failure(data: Path, log: Path, answer: bytes | None, timeout_s: float) -> PerseusError:
    if answer is None:
        return UnavailableError(
            f"the daemon of {data} did not become ready in {timeout_s:.0f} s",
            hint=f"see {as_file(log)}",
        )
    try:
        said = json.loads(answer)
        return from_code(said["code"], said["message"], hint=said["hint"])
    except (ValueError, KeyError):
        last = log.read_text(errors="replace").splitlines()[-5:]
        return UnavailableError(
            f"the daemon of {data} ended while starting: {' | '.join(last)}",
            hint=f"see {as_file(log)}",
        )


def advertise(data: Path, address: str) -> None:
    """From its next start on others reach the node of ``data`` at "host:port".

    Raises ConflictError while its daemon runs, or for a master.
    """
    split_address(address)
    about = config_module.load(data)
    lock = FolderLock(data)
    try:
        if about.is_master:
            raise ConflictError(
                f"{about.node_name} is the master: its nodes and clients know it at "
                f"{about.advertise}, and would not find it at {address}",
                hint="give the machine that address back; perseus start",
            )
        config_module.save(data, dataclasses.replace(about, advertise=address))
    finally:
        lock.release()


def stop(data: Path, timeout_s: float = STOP_TIMEOUT_S) -> bool:
    """Ends the daemon of ``data``, also one that is stopped (SIGSTOP): SIGTERM, then SIGKILL.

    False when none runs.
    """
    pid = running_pid(data)
    if pid is None:
        return False
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if running_pid(data) != pid:
            # It has ended, and the number may be another's by now.
            return True
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(descriptor, number)
            _wake(pid)
            if select.select([descriptor], [], [], timeout_s)[0]:
                return True
    except ProcessLookupError:
        return True
    finally:
        os.close(descriptor)
    raise UnavailableError(f"process {pid} of {data} does not end", hint=f"kill -9 {pid}")


def _wake(pid: int) -> None:
    """SIGCONT: what is stopped takes no SIGTERM. A daemon in the background leads a group,
    of its spawner and chunkserver, which it needs to end in order."""
    with suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGCONT)
        else:
            os.kill(pid, signal.SIGCONT)
