"""One node's daemon: puts the parts together, runs them, ends them in order.

Order matters at the start: the data folder is locked and swept of what an
earlier daemon left, everything heavy is imported, the spawner is forked, and
only then do threads, gRPC and the event loop begin.
"""

import asyncio
import contextlib
import gc
import logging
import logging.handlers
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from perseus.daemon import config as config_module
from perseus.daemon.config import FolderLock, NodeConfig, Paths
from perseus.errors import PerseusError
from perseus.settings import Settings

LOG_MAXIMUM_BYTES = 4 << 20
LOG_FILES = 3
SWITCH_INTERVAL_S = 0.0005
GC_THRESHOLDS = (20_000, 20, 20)

_log = logging.getLogger("perseus.daemon")


class SpawnerGoneError(Exception):
    """The process that starts tasks has ended, and without it there is nothing to go on with."""


def run(data: Path, ready: Callable[[], None], accept_old_state: bool = False) -> None:
    """Runs the daemon of ``data`` until SIGTERM; ``ready`` is called when all doors answer.

    With ``accept_old_state`` a master goes on though machines know of a later state of it.
    Raises SpawnerGoneError when the daemon is to begin anew, and all of it has ended.
    """
    about = config_module.load(data)
    settings = config_module.effective_settings(about)
    paths = Paths(data)
    os.umask(0o077)
    # gRPC would write lines to the log for each stranger, what he says among them: the
    # server name, which may prove a live token.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    paths.make()
    lock = FolderLock(data)
    _start_log(paths.log, settings.log_level)
    try:
        _run(about, paths, settings, ready, accept_old_state)
    finally:
        with contextlib.suppress(FileNotFoundError):
            paths.pid.unlink()
        lock.release()


def _run(
    about: NodeConfig,
    paths: Paths,
    settings: Settings,
    ready: Callable[[], None],
    accept_old_state: bool,
) -> None:
    from perseus.daemon.reissue import reissue
    from perseus.daemon.serving import Daemon
    from perseus.filestore import chunkserver
    from perseus.runtime import descriptors, memory, spawner, spawner_journal

    left = spawner_journal.sweep(str(paths.attempts))
    if left:
        _log.warning("ended %d processes that an earlier daemon left", len(left))
    journal = str(paths.attempts / spawner_journal.JOURNAL_NAME)
    children = {"chunkserver": partial(_run_chunkserver, chunkserver, about, paths, settings)}
    forked = spawner.fork_spawner(children, journal)
    # After the fork, so that tasks have the limit that the daemon was started with.
    descriptors.raise_limit()
    _write_pid(paths.pid)
    reissue(about, paths, settings)
    _tune()
    memory.start_trimming()
    asyncio.run(Daemon(about, paths, settings, forked, accept_old_state).serve(ready))


def _tune() -> None:
    """Settings of the interpreter, measured with a thousand short tasks.

    The store's thread waits for the interpreter's lock after each statement: with
    the usual 5 ms a busy event loop would make every commit that slow. Jobs are
    many small objects without cycles, which the collector need not go through often.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _run_chunkserver(
    chunkserver: object, about: NodeConfig, paths: Paths, settings: Settings, control: object
) -> None:
    from perseus.filestore.chunkserver import ChunkserverConfig, main
    from perseus.runtime import descriptors

    descriptors.raise_limit()
    host, _ = config_module.split_address(about.advertise)
    made = ChunkserverConfig(
        chunks=paths.chunks,
        identity=paths.identity,
        cluster_id=about.cluster_id,
        node_id=about.node_id,
        listen=about.chunk_listen,
        advertise_host=host,
        master_address=about.master_address,
        disk_reserve_bytes=settings.disk_reserve_bytes,
        scrub_interval_s=settings.scrub_interval_s,
    )
    main(made, control)  # type: ignore[arg-type]


def _write_pid(path: Path) -> None:
    """The pid and when it began, so that a reused pid is never taken for the daemon."""
    from perseus.daemon.lifecycle import process_start

    # Renamed into place: nobody ever reads half of it.
    new = path.with_suffix(".new")
    new.write_text(f"{os.getpid()} {process_start(os.getpid())}\n")
    new.replace(path)


def _start_log(path: Path, level: str) -> None:
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = logging.StreamHandler()
    else:
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=LOG_MAXIMUM_BYTES, backupCount=LOG_FILES - 1
        )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


async def until_told(exit_with_pid: int | None) -> str:
    """Returns why to end: a signal's name, or that the process to live with has ended."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[str] = loop.create_future()

    def tell(reason: str) -> None:
        if not told.done():
            told.set_result(reason)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell, signal.Signals(number).name)
    if exit_with_pid is None:
        return await told
    try:
        descriptor = os.pidfd_open(exit_with_pid)
    except ProcessLookupError:
        return f"process {exit_with_pid} has ended"
    try:
        loop.add_reader(descriptor, tell, f"process {exit_with_pid} has ended")
        return await told
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def exit_with_pid() -> int | None:
    """The process with which this daemon is to end (``PERSEUS_EXIT_WITH_PID``), if any."""
    text = os.environ.get("PERSEUS_EXIT_WITH_PID", "")
    return int(text) if text.isdigit() else None


__all__ = ["PerseusError", "exit_with_pid", "run", "until_told"]
