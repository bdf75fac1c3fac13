"""The data folder of a node: where things lie in it, and ``cluster.json``.

``cluster.json`` says which node of which cluster this folder is. It holds no
secret. A folder of a newer layout is refused, never guessed at.
"""

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

from perseus import settings as settings_module
from perseus.errors import ConflictError, IncompatibleError, InvalidError, NotFoundError
from perseus.rpc.addresses import join_address, split_address
from perseus.runtime.real import RealDisk
from perseus.settings import DATA_VERSION, Settings
from perseus.shellwords import as_file

__all__ = ["FolderLock", "NodeConfig", "Paths", "join_address", "split_address"]

# Paths of Unix sockets are at most 107 bytes on Linux.
SOCKET_PATH_MAXIMUM = 100
# Where the folder of the sockets is when the data folder's path is too long. Not by TMPDIR:
# the daemon and all commands must find the same one.
SHORT_ROOT = Path("/tmp")
# In such a folder: the path of the data folder that it is of.
OWNER = "data"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What ``cluster.json`` holds."""

    cluster_id: str
    node_id: str
    node_name: str
    # Where the agent listens, "host:port", and where others reach it.
    listen: str
    advertise: str
    # Where the chunkserver listens; port 0 lets the kernel choose.
    chunk_listen: str
    is_master: bool
    master_address: str
    # Settings kept with the node; the environment goes before them.
    settings: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    format: int = DATA_VERSION


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things lie in a data folder."""

    data: Path

    @property
    def config(self) -> Path:
        return self.data / "cluster.json"

    @property
    def identity(self) -> Path:
        return self.data / "identity"

    @property
    def state(self) -> Path:
        return self.data / "state.db"

    @property
    def mark(self) -> Path:
        """How far this node knows the master's state; see ``state_mark``."""
        return self.data / "state.mark"

    @property
    def chunks(self) -> Path:
        return self.data / "chunks"

    @property
    def attempts(self) -> Path:
        return self.data / "attempts"

    @property
    def run(self) -> Path:
        """Sockets and the pid; elsewhere when the data folder's path is too long for a socket."""
        # However it is named here: a relative path is shorter than what the daemon knows.
        data = self.data.resolve()
        if len(os.fsencode(data / "run")) <= SOCKET_PATH_MAXIMUM - len("/perseusd.sock"):
            return self.data / "run"
        digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
        return SHORT_ROOT / f"perseus-{os.getuid()}-{digest}"

    @property
    def socket(self) -> Path:
        return self.run / "perseusd.sock"

    @property
    def grpc_socket(self) -> Path:
        return self.run / "grpc.sock"

    @property
    def pid(self) -> Path:
        return self.run / "perseusd.pid"

    @property
    def log(self) -> Path:
        return self.data / "log" / "perseusd.log"

    @property
    def context(self) -> Path:
        """The context of the person who made this node, where it is the master."""
        return self.data / "context.json"

    def make(self) -> None:
        """Makes the folders, readable by their owner alone."""
        for folder in (self.data, self.identity, self.chunks, self.attempts, self.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.parent.mkdir(mode=0o700, exist_ok=True)
        # Other local users may reach the socket; whether they may speak is the daemon's to say.
        if self.run.parent == self.data:
            os.chmod(self.data, 0o711)
        _check_owner(self.run)
        os.chmod(self.run, 0o711)
        if self.run.parent != self.data:
            (self.run / OWNER).write_bytes(os.fsencode(self.data.resolve()))

    def remove_run(self) -> None:
        """Removes the folder of the sockets where it is not in the data folder."""
        if self.run.parent != self.data:
            shutil.rmtree(self.run, ignore_errors=True)


def _check_owner(folder: Path) -> None:
    status = os.lstat(folder)
    if status.st_uid != os.getuid():
        raise InvalidError(
            f"{folder} belongs to another user (uid {status.st_uid})",
            hint="choose another folder with --data, or run as that user",
        )


def exists(data: Path) -> bool:
    """Whether ``data`` is a node's data folder already."""
    return Paths(data).config.exists()


def load(data: Path) -> NodeConfig:
    """Reads ``cluster.json``; raises NotFoundError, InvalidError or IncompatibleError."""
    path = Paths(data).config
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise NotFoundError(
            f"{data} is not the data folder of a node",
            hint=f"make it one: perseus init --data {as_file(data)}, or "
            f"perseus join HOST:PORT --token T --data {as_file(data)}",
        ) from None
    except (ValueError, OSError) as error:
        raise _broken(path, f"cannot be read: {error}") from error
    version = values.get("format") if isinstance(values, dict) else None
    if not isinstance(version, int) or version < 1:
        raise _broken(path, "is not a node's configuration (no format)")
    if version > DATA_VERSION:
        raise IncompatibleError(
            f"{data} was written by a newer Perseus (data format {version}; "
            f"this program knows up to {DATA_VERSION})",
            hint="upgrade Perseus on this machine",
        )
    known = {item.name: _kind(item.type) for item in dataclasses.fields(NodeConfig)}
    given = {name: value for name, value in values.items() if name in known}
    for name, value in given.items():
        # Else it would fail much later, and far from here.
        if not isinstance(value, known[name]):
            raise _broken(path, f"cannot be used: {name} is {value!r}")
    try:
        return NodeConfig(**given)
    except TypeError as error:
        raise _broken(path, f"lacks something: {error}") from error


def _broken(path: Path, what: str) -> InvalidError:
    """It was edited or damaged. What it held stands nowhere else, so no command mends it."""
    return InvalidError(
        f"{path} {what}",
        hint=f"mend it or put back a copy ({as_file(path)} of a backup); "
        "else take this machine as new: perseus join HOST:PORT --token T --data OTHER-FOLDER",
    )


def _kind(annotation: Any) -> type:
    """``dict[str, str]`` as dict; a plain class as itself."""
    kind: type = get_origin(annotation) or annotation
    return kind


def save(data: Path, config: NodeConfig) -> None:
    """Writes ``cluster.json`` durably."""
    text = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    RealDisk().write(str(Paths(data).config), text.encode(), 0o600)


def effective_settings(config: NodeConfig) -> Settings:
    """The environment before what is kept with the node."""
    return settings_module.from_mappings(settings_module.from_environment(), config.settings)


class FolderLock:
    """Held by the daemon for as long as it lives, so that two never share a folder."""

    NAME = "lock"

    def __init__(self, data: Path) -> None:
        self._descriptor = os.open(data / self.NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise ConflictError(
                f"another daemon runs on {data}", hint=f"perseus stop --data {as_file(data)}"
            ) from None

    def release(self) -> None:
        """Lets another daemon have the folder."""
        os.close(self._descriptor)
