"""Every setting of Perseus: its name, default, bounds and meaning, in one place.

A daemon takes a setting from its environment (``PERSEUS_LEASE_S``), else from its
data folder, else the default. What the data folder holds was chosen when the
node was made: by ``--set``, else ``perseus.toml`` (in that folder or above), else
``$XDG_CONFIG_HOME/perseus/config.toml``. Text may give a size as ``20M`` and a
time as ``2h``, where the setting's name ends in its unit. The reference page is made from this
table; ``tests`` fail on a setting that is not documented or has no bounds.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from perseus import amounts
from perseus.errors import InvalidError
from perseus.versions import PROTOCOL_MAXIMUM as PROTOCOL_MAXIMUM
from perseus.versions import PROTOCOL_MINIMUM as PROTOCOL_MINIMUM

# The version of the data folder's layout that this program writes and reads.
DATA_VERSION = 1

INLINE_MAXIMUM_BYTES = 4096
CHUNK_MAXIMUM_BYTES = 64 << 20
BLOCK_BYTES = 64 << 10
FRAME_MAXIMUM_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a daemon; the comment above each is its reference entry."""

    # Seconds a node may act after its last heartbeat; a node silent for longer is lost.
    lease_s: float = 10.0
    # Seconds between heartbeats; at most a third of lease_s.
    heartbeat_s: float = 1.0
    # Replicas of a file's chunks where its folder does not say otherwise.
    replicas: int = 2
    # Seconds a writer may be silent before its file is closed for it.
    write_lease_s: float = 30.0
    # Seconds a finished job is kept for `perseus logs`; its output goes with it.
    keep_jobs_s: float = 7 * 86400.0
    # The most finished jobs kept, whatever their age.
    keep_jobs: int = 10_000
    # The most tasks of finished jobs kept, in the master's memory (each takes 3 kB); the jobs
    # that ended first go first, but none within a minute of its end.
    keep_tasks: int = 100_000
    # The most bytes kept of each of a task's outputs when its spec does not say.
    output_limit_bytes: int = 10 << 30
    # Bytes a node keeps free on its disk; below it no new chunk is placed there, and tasks
    # that fill the disk are ended.
    disk_reserve_bytes: int = 256 << 20
    # Seconds that the scrubber rests after a pass over a node's replicas.
    scrub_interval_s: float = 86400.0
    # Seconds before a lost node's chunks are made anew elsewhere, counted from its loss.
    replication_delay_s: float = 5.0
    # Seconds a node's certificate lasts; it is renewed when a third of this is left.
    certificate_s: float = 90 * 86400.0
    # Seconds the certificate of a person or program lasts; each use renews it when a third is left.
    user_certificate_s: float = 365 * 86400.0
    # What local users other than the daemon's own may do over the Unix socket:
    # none, viewer or user.
    socket_role: str = "none"
    # Cores offered to tasks; 0 means all of the machine.
    cpu: float = 0.0
    # Level of the daemon's log: debug, info, warning or error.
    log_level: str = "info"


# The least and the most of each number, both included.
BOUNDS: dict[str, tuple[float, float]] = {
    "lease_s": (0.5, 3600.0),
    "heartbeat_s": (0.05, 1200.0),
    "replicas": (1, 16),
    "write_lease_s": (1.0, 86400.0),
    "keep_jobs_s": (0.0, 3650 * 86400.0),
    "keep_jobs": (0, 1_000_000),
    "keep_tasks": (0, 100_000_000),
    "output_limit_bytes": (0, 1 << 60),
    "disk_reserve_bytes": (0, 1 << 60),
    "scrub_interval_s": (1.0, 366 * 86400.0),
    "replication_delay_s": (0.0, 86400.0),
    "certificate_s": (10.0, 3650 * 86400.0),
    "user_certificate_s": (10.0, 3650 * 86400.0),
    "cpu": (0.0, 65536.0),
}
# What a word may be.
CHOICES: dict[str, tuple[str, ...]] = {
    "socket_role": ("none", "viewer", "user"),
    "log_level": ("debug", "info", "warning", "error"),
}


def from_mappings(*layers: Mapping[str, Any]) -> Settings:
    """Settings from layers, the first one winning.

    Raises InvalidError for an unknown name and for a value out of its bounds.
    """
    known = {field.name: field for field in fields(Settings)}
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        for name, value in layer.items():
            if name not in known:
                raise InvalidError(
                    f"there is no setting {name!r}",
                    hint=f"settings are: {', '.join(sorted(known))}",
                )
            merged[name] = _convert(name, type(known[name].default), value)
    return Settings(**merged)


def from_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The settings that ``PERSEUS_*`` variables give."""
    names = (field.name for field in fields(Settings))
    return {
        name: environment[f"PERSEUS_{name.upper()}"]
        for name in names
        if f"PERSEUS_{name.upper()}" in environment
    }


def range_text(name: str) -> str:
    """What a setting may be, in words."""
    if name in CHOICES:
        return ", ".join(CHOICES[name])
    least, most = BOUNDS[name]
    return f"{least:.15g} to {most:.15g}"


def _convert(name: str, kind: type, value: Any) -> Any:
    converted = _read(name, kind, value)
    if converted is None:
        what, hint = _meaning(name, kind)
        raise InvalidError(f"setting {name} = {value!r} is not {what}", hint=hint)
    if name in CHOICES:
        fits = converted in CHOICES[name]
    else:
        least, most = BOUNDS[name]
        # So written that what is no number at all does not fit either.
        fits = least <= converted <= most
    if not fits:
        raise InvalidError(
            f"setting {name} = {value!r} is not possible", hint=f"{name}: {range_text(name)}"
        )
    return converted


def _read(name: str, kind: type, value: Any) -> Any:
    """The value as its kind; None when it cannot be meant so."""
    if isinstance(value, str) and name.endswith("_bytes"):
        return amounts.size_bytes(value)
    if isinstance(value, str) and name.endswith("_s"):
        return amounts.duration_s(value)
    if isinstance(value, bool) or (kind is int and isinstance(value, float) and value % 1):
        return None
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _meaning(name: str, kind: type) -> tuple[str, str]:
    """What a setting is, in words, and how it may be written."""
    if name.endswith("_bytes"):
        return "a whole number of bytes", f"write it as {name}=20M or {name}=1G"
    if name.endswith("_s"):
        return "a number of seconds", f"write it as {name}=10s or {name}=2h"
    return "a whole number" if kind is int else "a number", f"{name}: {range_text(name)}"
