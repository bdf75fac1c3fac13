"""The spawner's own process: one thread, one poll loop, no asyncio.

It starts programs (vfork), tells how they end, and is their undertaker: at the
end of a task it kills what is left of the task's process group, and when the
agent goes away every group; when the agent's lease passes unrenewed it stops
them all where they are (``spawner_freeze``). Orphans of tasks
come to it (PR_SET_CHILD_SUBREAPER) and are reaped; one that left its group for
a session of its own is killed when the task it comes from has ended, known by
the variable PERSEUS_ATTEMPT_FOLDER; where its environment does not say (it was
emptied, or overwritten), when no task is left that began before it did. It also
forks Python children without exec, so that they share its memory.

Each task is killed by group only between its start and its reaping, so a
reused pid is never hit.
"""

import ctypes
import errno
import gc
import logging
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NoReturn

from perseus.runtime.processes import stat
from perseus.runtime.spawner_freeze import Freezer
from perseus.runtime.spawner_journal import MARK, Journal, Span, marks_of, ticks
from perseus.runtime.spawner_wire import (
    Ended,
    Failed,
    Fork,
    Forked,
    Free,
    Freeze,
    FromSpawner,
    Guard,
    KillAll,
    Signal,
    Start,
    Started,
    Thaw,
    ToSpawner,
    Wire,
)
from perseus.shellwords import as_file

Children = Mapping[str, Callable[[socket.socket], None]]

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
# Passes over what is still alive when the agent is gone; each kills and reaps all it finds.
_LAST_PASSES_MAXIMUM = 100
_LAST_PASS_S = 0.05
_UMASK = 0o022

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def _name_process(name: bytes) -> None:
    _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0)


def _release_descriptors(*kept: int) -> None:
    """Lets go of what was inherited beyond the standard three and the log.

    Their numbers are pointed at /dev/null, not closed: an object of the parent that
    still believes in its number must never write into something of ours.
    """
    keep = {0, 1, 2, *kept, *_log_descriptors()}
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor not in keep and descriptor != null:
            # The listing's own descriptor is closed by now.
            with suppress(OSError):
                os.fstat(descriptor)
                os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def _log_descriptors() -> set[int]:
    """What the handlers of the daemon's log write to; forked children log as well."""
    found = set()
    for handler in logging.getLogger().handlers:
        with suppress(OSError, ValueError, AttributeError):
            found.add(handler.stream.fileno())  # type: ignore[attr-defined]
    return found


def _nothing(number: int, frame: object) -> None:
    """A handler that does nothing: unlike SIG_IGN it does not outlive exec."""


def _set_signals() -> None:
    """Survives the signals meant for the daemon; children get the defaults on exec."""
    for number in signal.valid_signals():
        ours = number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        if ours or signal.getsignal(number) == signal.SIG_IGN:
            with suppress(OSError, ValueError):
                signal.signal(number, _nothing)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def run(connection: socket.socket, children: Children, journal: str | None) -> NoReturn:
    """The forked process from here to its end; never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        _release_descriptors(connection.fileno())
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _name_process(b"perseus-spawner")
        _set_signals()
        code = SpawnerProcess(connection, children, journal).run()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


class SpawnerProcess:
    """The state of the loop."""

    def __init__(self, connection: socket.socket, children: Children, journal: str | None) -> None:
        self._children = children
        self._journal = Journal(journal) if journal is not None else None
        self._wire: Wire[ToSpawner] = Wire(connection, list[ToSpawner])
        # Live tasks, and when they began.
        self._tasks: dict[int, Span] = {}
        # What marks the processes of each live task: its pid to its folder.
        self._marks: dict[int, bytes] = {}
        # Live forked children, by pid.
        self._forked: dict[int, str] = {}
        self._requests: deque[Start | Fork] = deque()
        # What starts when a live task has ended, by its pid.
        self._following: dict[int, list[Start]] = {}
        self._answers: list[FromSpawner] = []
        self._freezer = Freezer()
        # When all tasks are frozen, by CLOCK_BOOTTIME; 0: never.
        self._guard_s = 0.0
        # Why tasks are frozen and none starts: the guard's time has passed, until a new one
        # comes; the agent said so, until it thaws them.
        self._is_guarded = False
        self._is_held = False
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._wakeup, wakeup_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wakeup_in, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)

    def run(self) -> int:
        """Serves until the agent is gone, then ends all; the process' exit code."""
        try:
            while True:
                self._turn()
        except (EOFError, ConnectionError, BrokenPipeError):
            return 0
        finally:
            self._end_all()

    def _turn(self) -> None:
        ready = dict(self._poll.poll(self._timeout_ms()))
        connection = self._wire.connection.fileno()
        if self._wakeup in ready:
            with suppress(BlockingIOError):
                os.read(self._wakeup, 4096)
            self._reap()
        if ready.get(connection, 0) & ~select.POLLOUT:
            for message in self._wire.receive():
                self._take(message)
        if self._guard_s and time.clock_gettime(time.CLOCK_BOOTTIME) >= self._guard_s:
            self._guard_s = 0.0
            self._is_guarded = True
            self._freeze()
        if self._requests:
            self._serve(self._requests.popleft())
        self._flush()

    def _timeout_ms(self) -> float | None:
        if self._requests:
            return 0
        if self._guard_s and self._tasks:
            left_s = self._guard_s - time.clock_gettime(time.CLOCK_BOOTTIME)
            return max(0.0, left_s * 1000.0) + 1.0
        return None

    def _flush(self) -> None:
        if self._journal is not None:
            self._journal.write(self._tasks)
        if self._answers:
            self._wire.queue(list(self._answers), [])
            self._answers.clear()
        more = 0 if self._wire.flush() else select.POLLOUT
        self._poll.modify(self._wire.connection, select.POLLIN | more)

    def _take(self, message: ToSpawner) -> None:
        match message:
            case Start() | Fork():
                self._requests.append(message)
            case Free():
                self._free(message.pid)
            case Signal():
                # What is frozen goes on by Thaw alone.
                if message.pid in self._tasks and not (
                    self._is_frozen and message.signal == signal.SIGCONT
                ):
                    _signal_group(message.pid, message.signal)
            case KillAll():
                self._kill_tasks()
                self._refuse_starts("all tasks of this node were killed before it started")
            case Guard():
                self._guard_s = message.until_s
                self._is_guarded = False
                if not self._is_held:
                    self._freezer.thaw(self._tasks)
            case Freeze():
                self._is_held = True
                self._freeze()
            case Thaw():
                self._is_held = False
                if not self._is_guarded:
                    self._freezer.thaw(message.pids)

    @property
    def _is_frozen(self) -> bool:
        return self._is_held or self._is_guarded

    def _freeze(self) -> None:
        """Nothing goes on and nothing asked for before will start."""
        self._freezer.freeze({pid: self._marks.get(pid) for pid in self._tasks}, self._forked)
        self._refuse_starts("the node's lease has passed")

    def _free(self, pid: int) -> None:
        starts = self._following.pop(pid, [])
        for request in [each for each in self._requests if isinstance(each, Start)]:
            if request.after == pid and pid in self._tasks:
                self._requests.remove(request)
                starts.append(request)
        self._refuse(starts, "the task before it goes on")

    def _refuse_starts(self, said: str) -> None:
        starts = [each for each in self._requests if isinstance(each, Start)]
        for request in starts:
            self._requests.remove(request)
        for following in self._following.values():
            starts += following
        self._following.clear()
        self._refuse(starts, said)

    def _refuse(self, starts: Iterable[Start], said: str) -> None:
        self._answers += [Failed(request.number, "lease_lost", said, "") for request in starts]

    def _serve(self, request: Start | Fork) -> None:
        if self._is_frozen and isinstance(request, Start):
            self._refuse((request,), "the node's lease has passed")
            return
        if isinstance(request, Start) and request.after in self._tasks:
            self._following.setdefault(request.after, []).append(request)
            return
        try:
            if isinstance(request, Start):
                self._start(request)
            else:
                self._fork(request)
        except Exception as error:
            # Whatever one request holds must not end the others.
            self._answers.append(_failure(request, error))

    def _start(self, request: Start) -> None:
        opened: list[int] = []
        try:
            stdin = self._null
            if request.stdin_path != os.devnull:
                stdin = _open_stdin(request.stdin_path)
                opened.append(stdin)
            opened.append(_open_output(request.stdout_path))
            opened.append(_open_output(request.stderr_path))
            earliest = ticks()
            process = subprocess.Popen(
                request.argv,
                stdin=stdin,
                stdout=opened[-2],
                stderr=opened[-1],
                cwd=request.working_directory,
                env=request.environment,
                start_new_session=True,
                umask=_UMASK,
            )
        finally:
            for descriptor in opened:
                os.close(descriptor)
        # Its end is ours to reap; without this Popen would do so when collected.
        process.returncode = 0
        span = self._tasks[process.pid] = Span(earliest, ticks())
        if self._journal is not None:
            self._journal.note(process.pid, span)
        mark = request.environment.get(MARK)
        if mark is not None:
            self._marks[process.pid] = f"{MARK}={mark}".encode()
        self._answers.append(Started(request.number, process.pid))

    def _fork(self, request: Fork) -> None:
        child = self._children.get(request.name)
        if child is None:
            raise ValueError(f"there is no child named {request.name!r}")
        ours, theirs = socket.socketpair()
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _run_child(request.name, child, theirs)
        theirs.close()
        self._forked[pid] = request.name
        self._flush()
        self._wire.queue([Forked(request.number, pid)], [ours])

    def _reap(self) -> None:
        """Reports and reaps all that has ended, orphans of tasks too."""
        ends = []
        while (pid := _ended_pid()) > 0:
            if pid in self._tasks:
                # Not reaped yet: so the number still means this group and no other.
                _signal_group(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            self._marks.pop(pid, None)
            self._requests.extendleft(self._following.pop(pid, ()))
            if self._tasks.pop(pid, None) is not None or self._forked.pop(pid, None) is not None:
                ends.append((pid, status, usage, _is_group_gone(pid)))
        # What descends from a task and outlives it is in its group, or has come to us.
        has_strays = self._kill_strays()
        for pid, status, usage, is_group_gone in ends:
            code = os.waitstatus_to_exitcode(status)
            cpu_s = usage.ru_utime + usage.ru_stime
            left_nothing = is_group_gone and not has_strays
            peak_bytes = _peak_bytes(usage.ru_maxrss)
            self._answers.append(Ended(pid, code, cpu_s, peak_bytes, left_nothing))

    def _kill_strays(self) -> bool:
        """Kills adopted orphans whose task has ended; the end of each brings us here again.

        Whether there are adopted orphans at all, or it cannot be told.
        """
        children = _own_children()
        if children is None:
            return True
        strays = set(children).difference(self._tasks, self._forked)
        for pid in strays:
            if self._is_of_an_ended_task(pid):
                # Our child: until we reap it the number is its own.
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        return bool(strays)

    def _is_of_an_ended_task(self, pid: int) -> bool:
        marks = marks_of(pid)
        if marks:
            return not marks.intersection(self._marks.values())
        # It tells nothing: so it may be of any live task that had begun when it did.
        found = stat(pid)
        return found is not None and not any(
            span.earliest <= found.start_ticks for span in self._tasks.values()
        )

    def _kill_tasks(self) -> None:
        for pid in self._tasks:
            _signal_group(pid, signal.SIGKILL)

    def _end_all(self) -> None:
        """SIGKILL to all that descends from here, until nothing does."""
        for _ in range(_LAST_PASSES_MAXIMUM):
            self._kill_tasks()
            for pid in _own_children() or ():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._reap()
            if _ended_pid() < 0:
                return
            self._poll_wakeup()

    def _poll_wakeup(self) -> None:
        select.select([self._wakeup], [], [], _LAST_PASS_S)
        with suppress(BlockingIOError):
            os.read(self._wakeup, 4096)


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError, OSError):
        os.killpg(pid, number)


def _ended_pid() -> int:
    """A child that has ended and is not reaped yet; 0: none has, -1: there are no children."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return -1
    return 0 if found is None else found.si_pid


def _own_children() -> list[int] | None:
    """Children and adopted orphans; None where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb", buffering=0) as file:
            return [int(pid) for pid in file.readall().split()]
    except OSError:
        return None


def _is_group_gone(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _peak_bytes(peak_kib: int) -> int:
    """A program's peak memory; 0 when it stayed below the spawner's own.

    Between vfork and exec a program is accounted the spawner's memory, so less cannot be told.
    """
    own_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_kib * 1024 if peak_kib > own_kib else 0


def _open_stdin(path: str) -> int:
    """Opens without waiting for a FIFO's writer; reading waits as usual."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(descriptor, True)
    return descriptor


def _open_output(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _run_child(
    name: str, child: Callable[[socket.socket], None], connection: socket.socket
) -> None:
    """The forked child from here to its end; dies with the spawner."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _release_descriptors(connection.fileno())
        _name_process(f"perseus-{name}"[:15].encode())
        child(connection)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _failure(request: Start | Fork, error: Exception) -> Failed:
    """Words for a person, and the code that tells 126 from 127."""
    if isinstance(request, Fork):
        return Failed(request.number, "internal", f"{request.name}: {error}", "")
    program, folder = request.argv[0] if request.argv else "", request.working_directory
    if not isinstance(error, OSError):
        return Failed(request.number, "invalid", f"cannot start {program!r}: {error}", "")
    number = error.errno or 0
    if error.filename not in (program, None) and error.filename != folder:
        return Failed(request.number, "unavailable", f"{error.filename}: {error.strerror}", "")
    if not os.path.isdir(folder) or not os.access(folder, os.X_OK):
        said = f"working directory {folder}: {_folder_trouble(folder)}"
        hint = "make it on that node, or name another: --workdir FOLDER"
        return Failed(request.number, "unavailable", said, hint)
    return _program_failure(request.number, program, folder, number)


def _folder_trouble(folder: str) -> str:
    if not os.path.exists(folder):
        return "no such folder"
    return "permission denied" if os.path.isdir(folder) else "is not a folder"


def _program_failure(request: int, program: str, folder: str, number: int) -> Failed:
    quoted = as_file(program)
    if number in (errno.ENOENT, errno.ENOTDIR):
        if "/" in program and os.path.exists(os.path.join(folder, program)):
            said = f"{program}: the interpreter that its first line or header names is missing"
            hint = f"install it there, or name one that is: perseus run -- sh {quoted}"
            return Failed(request, "refused", said, hint)
        if "/" in program and not os.path.isabs(program):
            said = f"{program}: command not found in the task's working folder"
            hint = "put the program there: perseus fs put PROGRAM /PROGRAM; "
            hint += "perseus run --file PROGRAM=/PROGRAM -- ./PROGRAM"
            return Failed(request, "not_found", said, hint)
        hint = "is it installed on every node? `perseus run --node NAME` chooses one"
        return Failed(request, "not_found", f"{program}: command not found", hint)
    if number == errno.E2BIG:
        hint = "pass the list through stdin or a file instead, as xargs does"
        return Failed(request, "too_large", f"{program}: argument list too long", hint)
    if number == errno.ENOEXEC:
        said = f"{program}: wrong format: neither a program for this machine nor a #! script"
        hint = f"run it by its interpreter (perseus run -- sh {quoted}); --arch chooses nodes"
        return Failed(request, "refused", said, hint)
    if number in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO):
        return Failed(request, "unavailable", f"{program}: {os.strerror(number)}", "")
    hint = f"is it a program that the daemon's user may run? ls -l {quoted}; chmod a+x {quoted}"
    return Failed(request, "refused", f"{program}: {os.strerror(number)}", hint)
