"""How an attempt ended, as its node tells the master: kind, exit code, a sentence."""

import signal

from perseus.errors import NotFoundError, PerseusError, RefusedError, TooLargeError
from perseus.jobs.spool import Spool
from perseus.proto.v1 import agent_pb2, jobs_pb2
from perseus.runtime.ports import Exit
from perseus.settings import INLINE_MAXIMUM_BYTES

EXIT_TIME_LIMIT = 124
EXIT_NODE_FAILURE = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
# How the sentence of an output limit ends, unless less than that is kept.
KEPT_UP_TO_THERE = "; the bytes up to there are kept"


def cancelled(stop: agent_pb2.StopAttempt) -> jobs_pb2.Ending:
    """How an attempt ends that was cancelled by ``stop``."""
    number = stop.signal or signal.SIGTERM
    return jobs_pb2.Ending(
        kind=jobs_pb2.ENDING_CANCELLED,
        exit_code=128 + number,
        signal=number,
        message=f"cancelled by {_signal_name(number)}",
    )


def with_own_code(cause: jobs_pb2.Ending, ended: Exit) -> jobs_pb2.Ending:
    """A cancelled program that caught the signal and chose its exit code has that code.

    Not so 0: whoever waits for the job would take what was cancelled for done.
    """
    if cause.kind != jobs_pb2.ENDING_CANCELLED or ended.signal or not ended.exit_code:
        return cause
    message = f"{cause.message}; it ended with exit code {ended.exit_code}"
    return jobs_pb2.Ending(
        kind=cause.kind, exit_code=ended.exit_code, signal=cause.signal, message=message
    )


def cut_short(ending: jobs_pb2.Ending, stop: agent_pb2.StopAttempt, words: str) -> jobs_pb2.Ending:
    """How an attempt ends that was cancelled by ``stop`` when its program had ended as in
    ``ending``, and of whose output something is missing for it, as ``words`` say."""
    made = jobs_pb2.Ending()
    made.CopyFrom(ending)
    if ending.kind in (jobs_pb2.ENDING_EXITED, jobs_pb2.ENDING_SIGNALED):
        # It is not well: what was to be kept is not.
        made = cancelled(stop)
        made.exit_code = ending.exit_code or made.exit_code
        how = ending.message or f"it had ended with exit code {ending.exit_code}"
        made.message = f"{made.message}; {how}"
    said, newline, hint = made.message.partition("\n")
    made.message = f"{said.removesuffix(KEPT_UP_TO_THERE)}; cut {words}{newline}{hint}"
    return made


def by_itself(ended: Exit) -> jobs_pb2.Ending:
    """How an attempt ends that nobody ended."""
    if not ended.signal:
        return jobs_pb2.Ending(kind=jobs_pb2.ENDING_EXITED, exit_code=ended.exit_code)
    return jobs_pb2.Ending(
        kind=jobs_pb2.ENDING_SIGNALED,
        exit_code=128 + ended.signal,
        signal=ended.signal,
        message=f"ended by {_signal_name(ended.signal)}",
    )


def not_started(error: PerseusError) -> jobs_pb2.Ending:
    """How an attempt ends whose program the node could not start."""
    codes = {
        NotFoundError: EXIT_NOT_FOUND,
        RefusedError: EXIT_NOT_EXECUTABLE,
        TooLargeError: EXIT_NOT_EXECUTABLE,
    }
    code = codes.get(type(error))
    if code is None:
        return node_failure(str(error))
    kind = jobs_pb2.ENDING_NOT_STARTED
    return jobs_pb2.Ending(kind=kind, exit_code=code, message=str(error))


def node_failure(message: str) -> jobs_pb2.Ending:
    """Perseus could not run it here, or could not keep its output."""
    kind = jobs_pb2.ENDING_NODE_FAILURE
    return jobs_pb2.Ending(kind=kind, exit_code=EXIT_NODE_FAILURE, message=message)


def time_over(limit_s: float) -> jobs_pb2.Ending:
    """How an attempt ends that ran past its time limit."""
    return jobs_pb2.Ending(
        kind=jobs_pb2.ENDING_TIME_LIMIT,
        exit_code=EXIT_TIME_LIMIT,
        message=f"ended by its time limit of {limit_s:g} s\n"
        "  to give it longer: perseus run --time-limit TIME",
    )


def limit_passed(kind: jobs_pb2.EndingKind, message: str) -> jobs_pb2.Ending:
    """How an attempt ends that was ended for what it wrote."""
    number = int(signal.SIGXFSZ)
    return jobs_pb2.Ending(kind=kind, exit_code=128 + number, signal=number, message=message)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def output_limit(spool: Spool) -> jobs_pb2.Ending:
    """It wrote more than it may."""
    return limit_passed(
        jobs_pb2.ENDING_OUTPUT_LIMIT,
        f"ended because its {spool.name} passed the limit of {spool.limit_bytes} bytes"
        f"{KEPT_UP_TO_THERE}\n  to keep more: perseus run --output-limit SIZE",
    )


def output_taken(spool: Spool) -> jobs_pb2.Ending:
    """The file of its output is not where it was."""
    return limit_passed(
        jobs_pb2.ENDING_OUTPUT_LIMIT,
        f"ended because it removed, moved or replaced its own {spool.name}, {spool.path}; "
        f"only the first {INLINE_MAXIMUM_BYTES} bytes of it are kept: a program writes to "
        f"{spool.name} and leaves the file alone",
    )
