"""``run`` and ``submit``: what the fast path leaves over."""

import os
import sys
from typing import Any

from perseus.cli import fast, runspec
from perseus.cli.config import Configuration
from perseus.cli.foreground import SIGNAL_TIMEOUT_S, Foreground, reached
from perseus.cli.main import Invocation
from perseus.cli.stdin import give
from perseus.cli.units import UsageError
from perseus.client.spec import new_request_id
from perseus.errors import UnavailableError


def run(invocation: Invocation) -> int:
    """Runs in the foreground; the exit code is the task's."""
    request = _request(invocation)
    if invocation.options.detach:
        return _submit(invocation, request)
    foreground = make_foreground(invocation)
    foreground.catch_signals()
    feed = None
    is_over = False
    try:
        context = invocation.cluster.context
        if not request["spec"].get("stdin_path"):
            feed = give(context, request, foreground)
        transport = invocation.cluster.transport
        stream = transport.stream("Jobs/Run", {"submit": request}, raw=True)
        code = foreground.run(iter(stream), context)
        is_over = True
        return code
    finally:
        if feed is not None:
            feed.end(keep=is_over)


def submit(invocation: Invocation) -> int:
    """Submits; prints the job's id alone."""
    return _submit(invocation, _request(invocation))


def _submit(invocation: Invocation, request: dict[str, Any]) -> int:
    # A job that nobody waits for does not wait for a person at a terminal either.
    if not request["spec"].get("stdin_path") and not os.isatty(0):
        feed = give(invocation.cluster.context, request, make_foreground(invocation))
        if feed is not None:
            # Nobody will be there to send the rest, so all of it goes first.
            feed.wait()
    job_id = invocation.cluster.transport.call("Jobs/Submit", request)["job_id"]
    try:
        if invocation.console.as_json:
            invocation.console.json({"job_id": job_id})
        else:
            invocation.console.line(job_id)
            sys.stdout.flush()
        if 1 in fast.CLOSED:
            invocation.console.say(f"job {job_id} is submitted")
    except OSError as error:
        fast.silence_stdout()
        raise UnavailableError(
            f"job {job_id} is submitted, but stdout cannot be written: {error.strerror}",
            hint=f"perseus attach {job_id}; perseus kill {job_id}",
        ) from None
    return 0


def make_foreground(invocation: Invocation, cancels: bool = True) -> Foreground:
    """What shows a job here: its bytes, or with --json its events."""

    def send_signal(job_id: str, number: int) -> int:
        request = {"job_id": job_id, "signal": number}
        answer = invocation.cluster.transport.call("Jobs/Kill", request, timeout_s=SIGNAL_TIMEOUT_S)
        return reached(answer)

    def look_up(job_id: str) -> dict[str, Any]:
        request = {"job_id": job_id}
        transport = invocation.cluster.transport
        answer: dict[str, Any] = transport.call("Jobs/GetJob", request, timeout_s=SIGNAL_TIMEOUT_S)
        return answer

    console = invocation.console
    show = console.event if console.as_json else None
    return Foreground(send_signal, console.quiet, cancels, show, look_up)


def _request(invocation: Invocation) -> dict[str, Any]:
    options = vars(invocation.options)
    values = parsed_options(options, invocation.configuration)
    if not values.argv:
        raise UsageError("no command was given", hint=f"perseus {options['command']} -- CMD ARGS")
    if values.argv[0].startswith("-") and options["argv"][:1] != ["--"]:
        raise UsageError(
            f"there is no flag {values.argv[0]}",
            hint=f"perseus {options['command']} --help; the command comes after --",
        )
    return runspec.submit_request(values, new_request_id())


def parsed_options(options: dict[str, Any], configuration: Configuration) -> runspec.RunOptions:
    """What argparse found, with the defaults of the settings, as the fast path has it."""
    values = runspec.RunOptions()
    for dest, how, _, _ in runspec.FLAGS.values():
        given = options.get(dest)
        if given is None or given is False:
            given = configuration.run_default(dest, how)
        if given is not None:
            values.values[dest] = given
    argv = list(options["argv"])
    values.argv = argv[1:] if argv[:1] == ["--"] else argv
    return values
