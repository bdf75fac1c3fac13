"""Where the ``perseus`` command begins: ``run`` with the least that Python can load.

A warm ``perseus run true`` is mostly Python's own start, so the launcher starts
it without ``site``, and this module does the common form of ``run`` with a
handful of C modules: parse by hand, one request on the daemon's Unix socket,
bytes to the descriptors. Whatever is unusual (another command, help, a far
cluster, settings files) goes to ``perseus.cli.main``, after ``site`` was loaded
as in a usual start. ``tests/unit/test_cli_fast.py`` keeps heavy imports out.
"""

import os
import sys

from perseus.errors import PerseusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from perseus.cli.runspec import RunOptions
    from perseus.client.context import Context

EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
# Which of 0, 1 and 2 were closed, or could not be written, when we were started.
CLOSED: list[int] = []


def start(arguments: "Sequence[str]") -> None:
    """The launcher's entry: runs and ends the process without Python's slow farewell."""
    code = 125
    try:
        open_standard_descriptors()
        code = flush(main(arguments))
    except BrokenPipeError:
        code = EXIT_PIPE
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BaseException as error:
        # Who left by a second ^C, outside of what shows the job, chose the code.
        code = defect(error) if isinstance(error, Exception) else left(error)
    os._exit(code)


def left(error: BaseException) -> int:
    """The exit code of a ``foreground.Interrupted``, or of whatever else ends a program."""
    code = getattr(error, "exit_code", EXIT_INTERRUPTED)
    return code if isinstance(code, int) else EXIT_INTERRUPTED


def open_standard_descriptors() -> None:
    """Gives ``/dev/null`` the place of each of 0, 1 and 2 that was closed before us.

    Else the next file or socket opened would get that number, and what is written to
    stdout or stderr with it. As libc does for its guarded programs, 0 is opened for
    writing alone: reading a stdin that was closed stays an error. So it went for a program
    between, when 1 or 2 is open for reading alone: closed, and given to the next file.
    """
    for number in (0, 1, 2):
        if not _is_open(number):
            null = os.open("/dev/null", os.O_RDWR if number else os.O_WRONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            CLOSED.append(number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = os.fdopen(number, "w" if number else "r", closefd=False)
            setattr(sys, name, stream)


def _is_open(number: int) -> bool:
    """Whether a standard descriptor is there, and of 1 and 2 whether they are for writing."""
    from errno import EBADF

    try:
        if number:
            # Of no byte: nothing is written, and a pipe without a reader takes it too.
            os.write(number, b"")
        else:
            os.fstat(number)
    except OSError as error:
        return error.errno != EBADF
    return True


def flush(code: int) -> int:
    """Writes what is left; ``code``, or 125 when that was 0 but stdout cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
        return EXIT_PIPE
    except OSError as error:
        from perseus.cli.foreground import stdout_failed

        silence_stdout()
        failed = fail(stdout_failed(error))
        return code or failed
    return code


def silence_stdout() -> None:
    """What Python still holds for stdout goes nowhere, instead of failing once more."""
    null = os.open("/dev/null", os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def main(arguments: "Sequence[str]") -> int:
    """Runs one command; its exit code."""
    for word in arguments:
        if not (word.isascii() or is_text(word)):
            text = f"the argument {word[:80]!a} is not UTF-8"
            return fail_usage(text, asks_json(arguments))
    if arguments and arguments[0] == "run":
        code = _run(arguments[1:])
        if code is not None:
            return code
    if arguments and arguments[0] == "__complete":
        from perseus.cli.candidates import complete

        return complete(arguments[1:])
    load_site()
    from perseus.cli.main import main as full_main

    return full_main(list(arguments))


def is_text(word: str) -> bool:
    """Whether it can be sent; bytes that are not UTF-8 are lone surrogates in Python's words."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def load_site() -> None:
    """Makes installed packages importable when Python was started without ``site``."""
    if "site" in sys.modules:
        return
    import site

    site.main()


def _run(arguments: "Sequence[str]") -> int | None:
    """The fast path; None when it is not for it (nothing was done then)."""
    from perseus.cli import runspec

    options = runspec.parse(arguments)
    if options is None or options.get("detach") or has_settings():
        return None
    from perseus.client import context as contexts

    try:
        context = contexts.find()
        if context is None or not context.socket:
            return None
        if contexts.is_embedded(context) and not answers(context.socket):
            return None
        return _run_here(options, context)
    except PerseusError as error:
        return fail(error)


def _run_here(options: "RunOptions", context: "Context") -> int:
    from perseus.cli import runspec
    from perseus.cli.foreground import SIGNAL_TIMEOUT_S, Foreground, reached
    from perseus.client.spec import new_request_id
    from perseus.rpc.http_client import UnixConnection

    def send_signal(job_id: str, number: int) -> int:
        # A connection of its own: the job's is busy with its output.
        with UnixConnection(context.socket) as connection:
            request = {"job_id": job_id, "signal": number}
            answer = connection.call("Jobs.Kill", request, timeout_s=SIGNAL_TIMEOUT_S)
            return reached(answer)

    def look_up(job_id: str) -> "dict[str, Any]":
        with UnixConnection(context.socket) as connection:
            return connection.call("Jobs.GetJob", {"job_id": job_id}, timeout_s=SIGNAL_TIMEOUT_S)

    request = runspec.submit_request(options, new_request_id())
    foreground = Foreground(send_signal, look_up=look_up)
    foreground.catch_signals()
    feed = None
    is_over = False
    try:
        if not options.get("stdin"):
            from perseus.cli.stdin import give

            feed = give(context, request, foreground)
        connection = UnixConnection(context.socket)
        events = connection.stream("Jobs.Run", {"submit": request}, raw=True)
        code = foreground.run(events, context)
        is_over = True
        return code
    finally:
        if feed is not None:
            feed.end(keep=is_over)


def has_settings() -> bool:
    """Whether some file or variable may set defaults for ``run``."""
    environment = os.environ
    if any(
        name.startswith(("PERSEUS_RUN_", "PERSEUS_QUIET", "PERSEUS_JSON")) for name in environment
    ):
        return True
    from perseus.client.context import config_folder, exists

    return exists(config_folder(environment) + "/config.toml") or project_file() is not None


def project_file() -> str | None:
    """``perseus.toml`` in this folder or above, or None."""
    from perseus.client.context import exists

    try:
        folder = os.getcwd()
    except FileNotFoundError:
        return None
    while True:
        path = folder.rstrip("/") + "/perseus.toml"
        if exists(path):
            return path
        if folder in ("/", ""):
            return None
        folder = folder.rpartition("/")[0] or "/"


def answers(socket_path: str) -> bool:
    """Whether a daemon listens on the socket."""
    from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        probe.connect(socket_path)
    except OSError:
        return False
    finally:
        probe.close()
    return True


def say(text: str) -> None:
    """Writes to stderr; a stderr that is gone is nobody's loss."""
    try:  # noqa: SIM105 (contextlib would cost the fast path its import)
        os.write(2, text.encode(errors="replace"))
    except OSError:
        pass


def defect(error: BaseException) -> int:
    """Says what no one expected; with PERSEUS_DEBUG also where. Exit code 125."""
    if os.environ.get("PERSEUS_DEBUG"):
        import traceback

        traceback.print_exception(error)
    say(
        f"perseus: a defect of Perseus: {type(error).__name__}: {error}\n"
        "  PERSEUS_DEBUG=1 before the command shows where\n"
    )
    return 125


def fail_usage(message: str, as_json: bool = False) -> int:
    """Says what cannot be meant; exit code 2."""
    from perseus.cli.units import UsageError

    error = UsageError(message, hint="names, paths and arguments are UTF-8 text here")
    return fail(error, as_json)


def fail(error: PerseusError, as_json: bool = False, code: int = 0) -> int:
    """Says what happened on stderr, with ``as_json`` also as the last line of stdout; the
    exit code: ``code``, else 2 for what was typed and 125 for the rest."""
    from perseus.cli.units import UsageError, lines_shown

    hint = f"  {error.hint}\n" if error.hint else ""
    text = f"perseus: {error.message}\n{hint}"
    say(lines_shown(text) if os.isatty(2) else text)
    if as_json:
        say_json(error.as_json())
    return code or (2 if isinstance(error, UsageError) else 125)


def say_json(value: "dict[str, Any]") -> None:
    """A line of JSON on stdout, after what is there; a stdout that is gone is nobody's loss."""
    import json

    try:
        sys.stdout.flush()
        line = memoryview(f"{json.dumps(value)}\n".encode())
        while line:
            line = line[os.write(1, line) :]
    except OSError:
        silence_stdout()


def asks_json(arguments: "Sequence[str]") -> bool:
    """Whether --json is given, for errors of a line that could not be parsed."""
    words = list(arguments)
    own = words[: words.index("--")] if "--" in words else words
    named = os.environ.get("PERSEUS_JSON", "")
    return "--json" in own or named.lower() in ("1", "true", "yes", "on")
