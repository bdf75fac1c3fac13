"""The answers of a cluster as typed values.

Each class mirrors a message of the protocol (``proto/perseus/v1``), whose
comments say what the fields mean; states are words in lower case ("running")
instead of enum names, and bytes are bytes. ``decode`` reads the protocol's JSON
form, ``encode`` gives it again, as ``--json`` prints it.
"""

import binascii
import dataclasses
import functools
import typing
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

Value = TypeVar("Value")

TERMINAL_STATES = frozenset({"finished", "failed", "lost", "cancelled"})
# Enum names begin with one of these; the word that follows is what we show.
_ENUM_PREFIXES = ("TASK_STATE_", "NODE_STATE_", "FILE_KIND_", "ENDING_", "ROLE_")
_WORDS = frozenset({"state", "kind", "role", "caller_role"})
_TASK_STATES = (
    "unspecified", "pending", "leased", "running", "finished", "failed", "lost", "cancelled",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of what a node has and a task needs."""

    cpu: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a node can do, measured when its agent starts."""

    resources: Resources = Resources()
    speed: float = 0.0
    architecture: str = ""
    operating_system: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a node is; ``cpu`` is the share of all cores in use, 0 to 1."""

    cpu: float = 0.0
    load_average: float = 0.0
    memory_available_bytes: int = 0
    disk_free_bytes: int = 0
    attempts_running: int = 0
    # The folder of replicas cannot be read.
    disk_gone: bool = False


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node; ``state`` is joined, alive, draining or lost."""

    node_id: str = ""
    name: str = ""
    state: str = ""
    address: str = ""
    chunk_address: str = ""
    capacity: Capacity = Capacity()
    load: Load = Load()
    labels: dict[str, str] = field(default_factory=dict)
    version: str = ""
    silent_s: float = 0.0
    tasks: int = 0
    chunks: int = 0
    chunk_bytes: int = 0
    is_master: bool = False
    clock_skew_s: float = 0.0
    certificate_expires_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """Which cluster answers, and who we are to it."""

    cluster_id: str = ""
    version: str = ""
    protocol_minimum: int = 0
    protocol_maximum: int = 0
    caller_name: str = ""
    caller_role: str = ""
    master_address: str = ""
    master_time_s: float = 0.0
    node_name: str = ""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token, shown this once; hand it to ``perseus join`` or ``perseus login``."""

    token: str = ""
    token_id: str = ""
    expires_at_s: float = 0.0
    master_address: str = ""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token that exists; ``used_by`` is empty while it can be used."""

    token_id: str = ""
    role: str = ""
    expires_at_s: float = 0.0
    used_by: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong; ``severity`` is error, warning or note."""

    severity: str = ""
    subject: str = ""
    message: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a task ended; ``kind`` is exited, signaled, time_limit, output_limit,
    cancelled, not_started or node_failure."""

    kind: str = ""
    exit_code: int = 0
    signal: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task of a job; ``state`` is pending, leased, running, finished, failed,
    lost or cancelled. With ``keeping`` its program has ended and its output is on its way."""

    index: int = 0
    state: str = ""
    attempt: int = 0
    node: str = ""
    ending: Ending | None = None
    started_at_s: float = 0.0
    ended_at_s: float = 0.0
    cpu_s: float = 0.0
    memory_peak_bytes: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    keeping: bool = False


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a task is, as far as listings show it."""

    argv: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str = ""
    stdin_path: str = ""
    resources: Resources = Resources()
    labels: dict[str, str] = field(default_factory=dict)
    architecture: str = ""
    node: str = ""
    retries: int = 3
    failure_retries: int = 0
    time_limit_s: float = 0.0
    priority: int = 0
    output_limit_bytes: int = 0
    pure: bool = False
    grace_s: float = 0.0


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as it was when asked; ``task_counts`` maps states to numbers of tasks, and of the
    running ones ``keeping`` have a program that has ended, and output on its way."""

    job_id: str = ""
    name: str = ""
    user: str = ""
    state: str = ""
    count: int = 0
    submitted_at_s: float = 0.0
    ended_at_s: float = 0.0
    exit_code: int = 0
    spec: TaskSpec = field(default_factory=TaskSpec)
    task_counts: dict[str, int] = field(default_factory=dict)
    tasks: list[TaskInfo] = field(default_factory=list)
    folder: str = ""
    keeping: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether all its tasks have ended."""
        return self.state in TERMINAL_STATES


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or folder; ``kind`` is file or directory. Of a file that is being
    written, ``size_bytes`` counts the sealed chunks. ``in_master``: it is a folder or
    small (4 KiB at most), and its one copy is on the disk of the master."""

    path: str = ""
    inode: int = 0
    kind: str = ""
    size_bytes: int = 0
    modified_at_s: float = 0.0
    created_at_s: float = 0.0
    open: bool = False
    replicas: int = 0
    chunks: int = 0
    live_replicas: int = 0
    owner: str = ""
    checksum: int = 0
    has_checksum: bool = False
    in_master: bool = False

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rstrip("/").rpartition("/")[2] or "/"

    @property
    def is_directory(self) -> bool:
        """Whether it is a folder."""
        return self.kind == "directory"


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Room and use of the filestore below a path."""

    files: int = 0
    directories: int = 0
    size_bytes: int = 0
    replica_bytes: int = 0
    capacity_bytes: int = 0
    free_bytes: int = 0
    chunks: int = 0
    chunks_under_replicated: int = 0
    chunks_lost: int = 0


@dataclass(frozen=True, slots=True)
class FollowEvent:
    """One step of a job: output, a change of state, a sentence, or the end."""

    job_id: str = ""
    task: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    state: str = ""
    node: str = ""
    attempt: int = 0
    message: str = ""
    ending: Ending | None = None
    missing: bool = False


def decode(kind: type[Value], values: Mapping[str, Any]) -> Value:
    """A message from its JSON form; absent fields take their defaults."""
    arguments = {}
    for name, other, hint in _fields(cast(Hashable, kind)):
        value = values.get(other, values.get(name))
        if value is not None:
            arguments[name] = _convert(hint, name, value)
    return kind(**arguments)


@functools.cache
def _fields(kind: Any) -> list[tuple[str, str, Any]]:
    """(name, name in lowerCamelCase, type) of each field."""
    hints = typing.get_type_hints(kind)
    return [(item.name, camel(item.name), hints[item.name]) for item in dataclasses.fields(kind)]


@functools.cache
def camel(name: str) -> str:
    """``job_id`` as the JSON form has it: ``jobId``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _convert(hint: Any, name: str, value: Any) -> Any:
    if hint is str:
        return _word(str(value)) if name in _WORDS else str(value)
    if hint is bytes:
        # A stream read raw has them as they are.
        return value if isinstance(value, bytes) else binascii.a2b_base64(value)
    if hint in (int, float, bool):
        return hint(value)
    origin = typing.get_origin(hint)
    if origin is list:
        (item,) = typing.get_args(hint)
        return [_convert_item(item, name, one) for one in value]
    if origin is dict:
        if name == "task_counts":
            return {_TASK_STATES[int(key)]: int(one) for key, one in value.items()}
        return dict(value)
    kinds = [one for one in typing.get_args(hint) if one is not type(None)]
    return decode(kinds[0] if kinds else hint, value)


def _convert_item(hint: Any, name: str, value: Any) -> Any:
    return str(value) if hint is str else _convert(hint, name, value)


def _word(text: str) -> str:
    """``TASK_STATE_RUNNING`` as ``running``; other words stay."""
    for prefix in _ENUM_PREFIXES:
        if text.startswith(prefix):
            return text.removeprefix(prefix).lower().replace("unspecified", "")
    return text


def encode(value: Any) -> Any:
    """The protocol's JSON form of a message, with all fields there and numbers as numbers.

    Enums have the names they have in the protocol again, bytes are base64.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: _encode_field(type(value).__name__, item.name, getattr(value, item.name))
            for item in dataclasses.fields(value)
        }
    if isinstance(value, bytes):
        return binascii.b2a_base64(value, newline=False).decode()
    if isinstance(value, (list, tuple)):
        return [encode(one) for one in value]
    if isinstance(value, dict):
        return {key: encode(one) for key, one in value.items()}
    return value


# The beginnings of enum names, by message and field.
_PREFIXES = {
    ("JobInfo", "state"): "TASK_STATE_",
    ("TaskInfo", "state"): "TASK_STATE_",
    ("FollowEvent", "state"): "TASK_STATE_",
    ("NodeInfo", "state"): "NODE_STATE_",
    ("FileInfo", "kind"): "FILE_KIND_",
    ("Ending", "kind"): "ENDING_",
    ("ClusterInfo", "caller_role"): "ROLE_",
    ("TokenInfo", "role"): "ROLE_",
}


def _encode_field(message: str, name: str, value: Any) -> Any:
    if name == "task_counts":
        return {str(_TASK_STATES.index(state)): count for state, count in value.items()}
    prefix = _PREFIXES.get((message, name))
    if prefix is not None:
        return prefix + (value or "unspecified").upper()
    return encode(value)
