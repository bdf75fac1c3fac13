"""A local cluster of real daemons on loopback, for trying out and for tests.

Each node is a full node in a folder of its own under one folder, with its own
certificate, socket, chunkserver and port. ``kill`` does to a node what pulling
the plug does: everything it runs, tasks included, ends at once.
"""

import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from perseus import settings as settings_module
from perseus.cli.units import UsageError
from perseus.daemon import config, lifecycle, setup
from perseus.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from perseus.runtime import processes
from perseus.shellwords import as_file

NODES_MAXIMUM = 32
MASTER_NAME = "node-1"
PROCESSES_MAXIMUM = 10_000
FREEZE_ROUNDS_MAXIMUM = 20


@dataclass(frozen=True, slots=True)
class DevNode:
    """One node of a local cluster: ``state`` is running, paused or stopped."""

    name: str
    state: str
    pid: int | None
    address: str
    is_master: bool
    data: str


def context_path(folder: Path) -> Path:
    """The context file of the local cluster in ``folder``."""
    return folder / "context.json"


def up(
    nodes: int,
    folder: Path,
    settings: dict[str, str] | None = None,
    labels: dict[str, dict[str, str]] | None = None,
) -> Path:
    """Starts ``nodes`` daemons in ``folder`` (anew, or those that stopped); its context file."""
    if not 1 <= nodes <= NODES_MAXIMUM:
        raise UsageError(
            f"--nodes {nodes} is not between 1 and {NODES_MAXIMUM}", hint="as in --nodes 3"
        )
    # Before anything is made: what is refused leaves nothing behind.
    settings_module.from_mappings(settings or {})
    folder = folder.resolve()
    _check_folder(folder)
    lock = _lock(folder)
    try:
        return _up(nodes, folder, settings, labels or {})
    finally:
        lock.release()


class _UpLock(config.FolderLock):
    """Held by the one `dev up` that works on a folder. What another finds there meanwhile, or
    after that was killed, is known by it for a local cluster's."""

    NAME = "up.lock"


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InvalidError(f"{folder} is not a folder", hint="choose another with --dir")
    is_ours = bool(_names(folder)) or (folder / _UpLock.NAME).exists()
    if folder.exists() and any(folder.iterdir()) and not is_ours:
        raise ConflictError(
            f"{folder} has files that are no local cluster's", hint="choose an empty folder"
        )


def _lock(folder: Path) -> _UpLock:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _UpLock(folder)
    except ConflictError:
        raise ConflictError(
            f"another command starts the local cluster in {folder} just now",
            hint=f"wait for it to end: perseus dev status --dir {as_file(folder)}",
        ) from None
    except OSError as error:
        raise InvalidError(
            f"cannot make a local cluster in {folder}: {error.strerror}",
            hint="choose another folder with --dir",
        ) from None


def _up(
    nodes: int,
    folder: Path,
    settings: dict[str, str] | None,
    labels: dict[str, dict[str, str]],
) -> Path:
    master = folder / "node-1"
    if not config.exists(master):
        setup.initialise(
            master, "127.0.0.1:0", "node-1", settings=settings, labels=labels.get("node-1")
        )
    lifecycle.start(master)
    shutil.copyfile(config.Paths(master).context, context_path(folder))
    context_path(folder).chmod(0o600)
    for number in range(2, nodes + 1):
        _start_node(folder, f"node-{number}", settings, labels.get(f"node-{number}"))
    _await_alive(folder, nodes)
    return context_path(folder)


def _start_node(
    folder: Path, name: str, settings: dict[str, str] | None, labels: dict[str, str] | None
) -> None:
    data = folder / name
    if not config.exists(data):
        token, address = setup.create_token(folder / "node-1")
        setup.join(address, token, data, "127.0.0.1:0", name, settings=settings, labels=labels)
    lifecycle.start(data)


def _await_alive(folder: Path, nodes: int, timeout_s: float = 60.0) -> None:
    """Returns when the master has heard of all running nodes."""
    deadline = time.monotonic() + timeout_s
    while setup.count_alive(folder / "node-1") < nodes:
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"not all {nodes} nodes of {folder} connected in {timeout_s:.0f} s",
                hint=f"perseus dev status --dir {as_file(folder)}; see node-*/log/perseusd.log",
            )
        time.sleep(0.02)


def status(folder: Path) -> list[DevNode]:
    """All nodes of the local cluster, by number."""
    return [_status(folder / name) for name in _known_names(folder)]


def _known_names(folder: Path) -> list[str]:
    names = _names(folder)
    if not names:
        raise NotFoundError(
            f"there is no local cluster in {folder}", hint=f"perseus dev up --dir {as_file(folder)}"
        )
    return names


def _status(data: Path) -> DevNode:
    about = config.load(data)
    pid = lifecycle.running_pid(data)
    state = "stopped" if pid is None else "paused" if _is_stopped(pid) else "running"
    return DevNode(about.node_name, state, pid, about.advertise, about.is_master, str(data))


def down(folder: Path, remove: bool = False) -> int:
    """Stops all nodes, the master last; with ``remove`` deletes their folders. How many ran."""
    # Nothing is read of a node: one that a newer Perseus made is stopped as the others are.
    names = _known_names(folder)
    pids = {name: lifecycle.running_pid(folder / name) for name in names}
    running = {name: pid for name, pid in pids.items() if pid is not None}
    for name in sorted(running, key=lambda name: name == MASTER_NAME):
        if _is_stopped(running[name]):
            resume(folder, name)
        lifecycle.stop(folder / name)
    if remove:
        for name in names:
            config.Paths(folder / name).remove_run()
        shutil.rmtree(folder)
    return len(running)


def kill(folder: Path, name: str) -> None:
    """Ends all processes of a node at once (SIGKILL), its tasks included."""
    tree = _freeze(folder, name)
    _signal_all(tree, signal.SIGKILL)
    _await_gone(tree)


def pause(folder: Path, name: str) -> None:
    """Stops all processes of a node where they are (SIGSTOP), as a frozen machine would."""
    _freeze(folder, name)


def resume(folder: Path, name: str) -> None:
    """Lets a paused node go on (SIGCONT): its tasks first, for once its daemon goes on it
    freezes them, as its lease is over."""
    _signal_all(dict(reversed(_tree(folder, name).items())), signal.SIGCONT)


def restart(folder: Path, name: str) -> None:
    """Kills the node if it runs, and starts it again on the same data."""
    data = _data(folder, name)
    if lifecycle.running_pid(data) is not None:
        kill(folder, name)
    lifecycle.start(data)


def _names(folder: Path) -> list[str]:
    found = [path.parent.name for path in folder.glob("node-*/cluster.json")]
    numbers = [int(name[5:]) for name in found if name[5:].isdecimal()]
    return [f"node-{number}" for number in sorted(numbers)]


def _data(folder: Path, name: str) -> Path:
    names = _known_names(folder)
    if name not in names:
        raise NotFoundError(
            f"the local cluster in {folder} has no node {name!r}",
            hint=f"its nodes are: {', '.join(names)}",
        )
    return folder / name


def _tree(folder: Path, name: str) -> dict[int, str]:
    """The daemon and all below it, as pid to start time."""
    root = lifecycle.running_pid(_data(folder, name))
    if root is None:
        raise UnavailableError(
            f"node {name} does not run", hint=f"perseus dev restart {name} --dir {as_file(folder)}"
        )
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := processes.stat(int(entry))) is not None:
            children.setdefault(found.parent, []).append(int(entry))
    tree: dict[int, str] = {}
    waiting = [root]
    while waiting and len(tree) < PROCESSES_MAXIMUM:
        pid = waiting.pop()
        started = lifecycle.process_start(pid)
        if started is not None:
            tree[pid] = started
        waiting += children.get(pid, [])
    return tree


def _freeze(folder: Path, name: str) -> dict[int, str]:
    """Stops the whole tree; looks again until nothing new was started meanwhile."""
    tree: dict[int, str] = {}
    for _ in range(FREEZE_ROUNDS_MAXIMUM):
        found = _tree(folder, name)
        if found.keys() <= tree.keys():
            break
        tree |= found
        _signal_all(found, signal.SIGSTOP)
    return tree


def _signal_all(tree: dict[int, str], number: int) -> None:
    for pid, started in tree.items():
        if lifecycle.process_start(pid) != started:
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _await_gone(tree: dict[int, str], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while any(lifecycle.process_start(pid) == started for pid, started in tree.items()):
        if time.monotonic() > deadline:
            raise UnavailableError("killed processes do not end", hint="see ps for state D")
        time.sleep(0.005)


def _is_stopped(pid: int) -> bool:
    found = processes.stat(pid)
    return found is not None and found.state == "T"
