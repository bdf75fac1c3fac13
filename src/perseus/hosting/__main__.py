"""What a task of a run executes: ``python -m perseus.hosting PROCESS``, or ``--clean RUN``."""

import asyncio
import fcntl
import os
import shutil
import sys
from pathlib import Path

from perseus.client.cluster import Cluster
from perseus.client.context import Context
from perseus.errors import ConflictError, PerseusError
from perseus.hosting.program import BUNDLE, unpack
from perseus.hosting.run import RECORD, Run, state_folder
from perseus.hosting.trace import keep

LOCK = "lock"
# The file of stdout, by the name under which the next attempt finds it.
TRACE = "trace"


def main() -> int:
    """The exit code."""
    try:
        if sys.argv[1] == "--clean":
            shutil.rmtree(state_folder(os.environ, sys.argv[2]), ignore_errors=True)
        else:
            _serve(sys.argv[1])
        return 0
    except PerseusError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1


def _serve(process: str) -> None:
    from perseus.hosting.supervisor import Supervisor, host_of

    run = Run.decode(Path(RECORD).read_bytes())
    if run.has_program:
        unpack(Path(BUNDLE).read_bytes(), Path())
    folder = state_folder(os.environ, run.run) / process
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Held while this task lives: an attempt that was given up may still be there.
    with open(folder / LOCK, "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConflictError(f"{process} of run {run.run} runs on this node already") from None
        keep(folder / TRACE, process)
        context = Context(name="node", socket=os.environ["PERSEUS_SOCKET"])
        with Cluster(context) as cluster:
            host = host_of(cluster, os.environ["PERSEUS_NODE"])
            asyncio.run(Supervisor(run, process, folder / "journal", cluster).serve(host))


if __name__ == "__main__":
    sys.exit(main())
