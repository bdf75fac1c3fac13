"""The one-node cluster that starts by itself when none is configured."""

import fcntl
import os
import platform
import re
from pathlib import Path
from typing import TextIO

from perseus.daemon import config, lifecycle, setup
from perseus.errors import UnavailableError
from perseus.ids import NODE_NAME_MAXIMUM

NAME = "embedded"


def data_folder() -> Path:
    """Where the embedded cluster lives: ``$XDG_DATA_HOME/perseus/embedded``."""
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(base) / "perseus" / NAME


def ensure() -> Path:
    """Starts the embedded cluster unless it runs; returns its context file.

    Safe when two commands do so at once: the second waits for the first.
    """
    data = data_folder()
    with _lock_file(data) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not config.exists(data):
            setup.initialise(data, "127.0.0.1:0", node_name())
        lifecycle.start(data)
    return config.Paths(data).context


def _lock_file(data: Path) -> TextIO:
    try:
        data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(data.parent / f"{NAME}.lock", "w")
    except OSError as error:
        raise UnavailableError(
            f"a cluster of this machine alone cannot keep its data in {data}: {error.strerror}",
            hint="name a folder that can be written: export "
            f"XDG_DATA_HOME=/tmp/perseus-{os.getuid()}; or use another cluster: "
            "perseus login HOST:PORT --token T",
        ) from None


def node_name() -> str:
    """This machine's host name, made fit to be a node's name."""
    name = re.sub(r"[^a-z0-9.-]+", "-", platform.node().lower()).strip("-.")
    return name[:NODE_NAME_MAXIMUM].strip("-.") or "node"
