"""What all tests share: where they may write, what they need, what they must not leave.

- ``@pytest.mark.needs("curl", "nft")`` skips a test where a program is missing;
  every test that did not run is named at the end.
- The person's own configuration and clusters are out of reach of every test.
- A process that outlives the tests is ended, named, and makes the run fail.
- With several workers (pytest-xdist; `make test` takes one for each core) each has a mark and
  folders of its own, and the run that started them tells what they left.
"""

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SESSION = uuid.uuid4().hex
GRACE_S = 5.0

# A machine shared with others is slow at times; that is no finding about the code.
settings.register_profile("perseus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("perseus")


def persons_own(names: Iterable[str]) -> list[str]:
    """Variables that lead to the person's cluster. How much is tried is the caller's to say."""
    ours = [name for name in names if name.startswith("PERSEUS_")]
    return [name for name in ours if not name.startswith("PERSEUS_TEST_")]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*programs): programs of the system it calls")
    # A shell that runs this behind it has it ignore ^C, and so would all that is started here.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["PATH"] += os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
    for name in persons_own(os.environ):
        del os.environ[name]
    os.environ["PERSEUS_TEST_SESSION"] = SESSION
    home = tempfile.mkdtemp(prefix="perseus-test-")
    config.stash[_HOME] = home
    for name in ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "CACHE_HOME", "RUNTIME_DIR"):
        folder = Path(home, name.lower())
        folder.mkdir(mode=0o700)
        os.environ[f"XDG_{name}"] = str(folder)


_HOME = pytest.StashKey[str]()


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_HOME], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test by its folder: unit, sim or system."""
    for item in items:
        kind = item.path.relative_to(ROOT / "tests").parts[0]
        if kind in ("unit", "sim", "system"):
            item.add_marker(kind)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        missing = [program for program in mark.args if shutil.which(program) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}: run tools/system-packages.sh as root")


def pytest_sessionfinish(session: pytest.Session) -> None:
    left = session.config.stash.setdefault(_LEFT, [])
    for process in [process for process in psutil.process_iter() if _is_ours(process)]:
        left.append(_describe(process))
        _end(process)
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left"] = left
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


_LEFT = pytest.StashKey[list[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker has ended: what it left is the run's to tell."""
    output = getattr(node, "workeroutput", {})
    node.config.stash.setdefault(_LEFT, []).extend(output.get("left", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section("not run")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.line(f"NOT RUN {report.nodeid}: {reason}", yellow=True)
    for line in terminalreporter.config.stash.get(_LEFT, []):
        terminalreporter.line(f"LEFT RUNNING, now ended: {line}", red=True)


def _is_ours(process: psutil.Process) -> bool:
    """Whether it descends from this run: it has inherited the run's mark.

    Workers have inherited it too, and end by themselves.
    """
    if process.pid == os.getpid():
        return False
    try:
        if process.environ().get("PERSEUS_TEST_SESSION") != SESSION:
            return False
        return process.ppid() != os.getpid() or not _is_worker(process)
    except psutil.Error:
        return False


def _is_worker(process: psutil.Process) -> bool:
    return any("execnet" in word for word in process.cmdline())


def _describe(process: psutil.Process) -> str:
    try:
        return f"pid {process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"pid {process.pid}"


def _end(process: psutil.Process) -> None:
    try:
        process.kill()
        process.wait(GRACE_S)
    except psutil.Error:
        pass


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A new folder with a short path: names of Unix sockets hold at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="p-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
