"""The peers: how each runs one command, started here with its own keys and ports."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.base import Bench, run

START_LIMIT_S = 30.0


@contextmanager
def one_command(bench: Bench, program: str) -> Iterator[dict[str, Callable[[], float]]]:
    """A timer for each peer that is here, by name, running ``program`` once."""
    timers: dict[str, Callable[[], float]] = {
        "subprocess": lambda: run([program]),
        "xargs -P2": lambda: run(["sh", "-c", f"echo 1 | xargs -P2 -n1 {program}"]),
    }
    with ExitStack() as stack:
        if shutil.which("parallel"):
            timers["GNU parallel"] = lambda: run(
                ["parallel", "--will-cite", "-j2", program, ":::", "1"]
            )
        else:
            bench.skip("GNU parallel", "not installed")
        for name, start in (("ssh", _ssh), ("srun", _slurm)):
            try:
                command = stack.enter_context(start(bench.folder))
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                bench.skip(name, str(error))
            else:
                timers[name] = lambda command=command: run([*command, program])  # type: ignore[misc]
        yield timers


def _need(*programs: str) -> list[str]:
    """The programs' full paths; sshd asks to be called by its own."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    found = [shutil.which(program, path=path) for program in programs]
    missing = [program for program, place in zip(programs, found, strict=True) if not place]
    if missing:
        raise RuntimeError(f"{', '.join(missing)} not installed (tools/bench-packages.sh)")
    return [place for place in found if place]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come up in {START_LIMIT_S:.0f} s")
        time.sleep(0.05)


def _succeeds(command: list[str], environment: dict[str, str] | None = None) -> bool:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return done.returncode == 0


@contextmanager
def _process(command: list[str], environment: dict[str, str] | None = None) -> Iterator[None]:
    """A server in the foreground for the length of a block."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _ssh(folder: Path) -> Iterator[list[str]]:
    """A private sshd on loopback; the command that runs something through it."""
    keygen, sshd, ssh = _need("ssh-keygen", "sshd", "ssh")
    keys = folder / "ssh"
    keys.mkdir(mode=0o700)
    for name in ("host", "user"):
        run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)])
    (keys / "authorized").write_text((keys / "user.pub").read_text())
    (keys / "authorized").chmod(0o600)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = _free_port()
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": keys / "host",
        "AuthorizedKeysFile": keys / "authorized",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "PermitRootLogin": "prohibit-password",
    }
    (keys / "config").write_text("".join(f"{key} {value}\n" for key, value in options.items()))
    client = [ssh, "-F", "none", "-i", str(keys / "user"), "-p", str(port), "-o", "BatchMode=yes"]
    client += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={keys / 'known'}"]
    client += ["-o", "LogLevel=ERROR", f"{getpass.getuser()}@127.0.0.1"]
    with _process([sshd, "-D", "-e", "-f", str(keys / "config")]):
        _await(lambda: _succeeds([*client, "true"]), "sshd")
        yield client


@contextmanager
def _slurm(folder: Path) -> Iterator[list[str]]:
    """A private Slurm of one node on loopback, with its own munge; the srun command."""
    munged, controller, daemon, srun = _need("munged", "slurmctld", "slurmd", "srun")
    if os.getuid() != 0:
        raise RuntimeError("slurmd runs as root only")
    base = folder / "slurm"
    base.mkdir(mode=0o755)
    (base / "key").write_bytes(os.urandom(128))
    (base / "key").chmod(0o400)
    _write_slurm_config(base)
    environment = {**os.environ, "SLURM_CONF": str(base / "slurm.conf")}
    munge = [munged, "--foreground", "--force", f"--socket={base / 'munge.sock'}"]
    munge += [f"--key-file={base / 'key'}", f"--pid-file={base / 'munge.pid'}"]
    munge += [f"--seed-file={base / 'seed'}", f"--log-file={base / 'munge.log'}"]
    with ExitStack() as stack:
        stack.enter_context(_process(munge))
        _await((base / "munge.sock").exists, "munged")
        stack.enter_context(_process([controller, "-D", "-i"], environment))
        stack.enter_context(_process([daemon, "-D", "-N", "localhost"], environment))
        client = ["env", f"SLURM_CONF={base / 'slurm.conf'}", srun, "-Q", "-n1", "--immediate=5"]
        _await(lambda: _succeeds([*client, "true"]), "slurm")
        yield client


def _write_slurm_config(base: Path) -> None:
    (base / "state").mkdir()
    (base / "spool").mkdir()
    settings = {
        "ClusterName": "bench",
        "SlurmctldHost": "localhost(127.0.0.1)",
        "SlurmctldPort": _free_port(),
        "SlurmdPort": _free_port(),
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={base / 'munge.sock'}",
        "CredType": "cred/munge",
        "SlurmUser": "root",
        "StateSaveLocation": base / "state",
        "SlurmdSpoolDir": base / "spool",
        "SlurmctldPidFile": base / "ctld.pid",
        "SlurmdPidFile": base / "d.pid",
        "SlurmctldLogFile": base / "ctld.log",
        "SlurmdLogFile": base / "d.log",
        "ProctrackType": "proctrack/pgid",
        "TaskPlugin": "task/none",
        "MpiDefault": "none",
        "SelectType": "select/cons_tres",
        "ReturnToService": 2,
    }
    lines = [f"{key}={value}" for key, value in settings.items()]
    lines.append(f"NodeName=localhost NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN")
    lines.append("PartitionName=all Nodes=ALL Default=YES State=UP")
    (base / "slurm.conf").write_text("\n".join(lines) + "\n")
