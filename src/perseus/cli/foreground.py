"""The foreground of a job: its output on our descriptors, our signals to it.

``show`` takes the events of a Run or Follow stream (in JSON's form) and returns
the exit code to end with. The task's bytes go to descriptors 1 and 2 as they
are; sentences of the cluster go to stderr with ``perseus:`` before them.
Light imports only.
"""

import os
import sys
from binascii import a2b_base64
from time import monotonic, sleep

from perseus.errors import LeaseLostError, NotFoundError, PerseusError, UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from perseus.client.context import Context
else:
    # The half of ``signal`` in C; the other half loads ``enum``.
    import _signal as signal

FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
# Those that end a program which does nothing about them.
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
# Those by which a terminal or a session that goes away ends what only watches.
LEAVING = (signal.SIGHUP, signal.SIGTERM)
SIGINT_NUMBER = int(signal.SIGINT)
# How long a signal may take on its way; meanwhile output waits.
SIGNAL_TIMEOUT_S = 10.0
# How often what waits is interrupted, so that a signal that came just before it is seen.
SIGNAL_LOOK_S = 0.5
# How long the job's end may take to be told here, once its stdin was removed for that end.
ENDING_TIMEOUT_S = 5.0
ENDING_POLL_S = 0.01
# How long the rest of an output is still shown after an interrupt has ended the job.
REST_SHOWN_S = 2.0
EXIT_PERSEUS = 125
EXIT_PIPE = 141
WRITE_BYTES = 1 << 20
# Of a job that ended well, after an interrupt too, all output is shown.
STATE_FINISHED = "TASK_STATE_FINISHED"


class Interrupted(BaseException):
    """The person wants to leave at once, or nothing can be shown any more; ``exit_code`` is
    what to end with."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Foreground:
    """Shows one job. ``send_signal(job_id, number)`` returns how many tasks it reached whose
    program runs; signals that come before the job has an id are kept for it."""

    def __init__(
        self,
        send_signal: "Callable[[str, int], int]",
        quiet: bool = False,
        cancels: bool = True,
        show_event: "Callable[[dict[str, Any]], None] | None" = None,
        look_up: "Callable[[str], dict[str, Any]] | None" = None,
    ) -> None:
        self._send_signal = send_signal
        # What the cluster says of a job, as JSON's Job: for when its output is long in coming.
        self._look_up = look_up
        self._is_looking = False
        # When the job was first seen to have ended after an interrupt.
        self._seen_ended_s: float | None = None
        self.quiet = quiet
        # Shows an event whole (--json), in the place of its bytes and sentences.
        self._show_event = show_event
        # The job has ended and all of it is shown: a signal then has nobody to go to.
        self._is_over = False
        # Whether the job is cancelled when we leave (run), or goes on (attach).
        self.cancels = cancels
        self.job_id = ""
        # Signals that came before the job had an id.
        self._early: list[int] = []
        self._interrupts = 0
        # The node of the latest attempt.
        self._node = ""
        # Bytes that went out on descriptors 1 and 2.
        self.shown_bytes = {1: 0, 2: 0}
        # Whether the job has more than one task; then offsets say nothing.
        self.is_many = False
        self.exit_code: int | None = None
        self.failure: PerseusError | None = None
        # The failure ended tasks that ran.
        self._has_ended_tasks = False

    def catch_signals(self) -> None:
        """From here on signals go to the task; call in the main thread."""
        for number in FORWARDED:
            signal.signal(number, self._on_signal)
        # Python calls a handler between two of its own steps. A signal that comes after the
        # last one before a read that blocks would wait as long as the read does.
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, SIGNAL_LOOK_S, SIGNAL_LOOK_S)

    def run(self, events: "Iterator[dict[str, Any]]", context: "Context") -> int:
        """Shows the job to its end, over a daemon that goes away for a while.

        Returns the exit code to end with, also when the person leaves (130) or
        whoever reads our output does (141).
        """
        try:
            return self.show(events)
        except Interrupted as leaving:
            return leaving.exit_code
        except BrokenPipeError:
            return EXIT_PIPE
        except UnavailableError as error:
            if not self.job_id or self.failure is not None:
                raise
            from perseus.cli.reconnect import follow_again

            return follow_again(self, context, error)
        finally:
            # Whoever listens on the other end cancels the job when we were to wait for it.
            close = getattr(events, "close", None)
            if close is not None:
                close()

    def show(self, events: "Iterable[dict[str, Any]]") -> int:
        """Writes what comes; the exit code of the job when it has ended."""
        for event in events:
            if not self.job_id:
                self._begin(event.get("job_id") or "")
            self.is_many = self.is_many or bool(event.get("task"))
            self._node = event.get("node") or self._node
            self._show(event)
            ending = event.get("ending")
            if ending is not None:
                self.exit_code = self._end(ending)
        if self.failure is not None and not self._is_mere_end(self.failure):
            raise self.failure
        if self.exit_code is None:
            raise UnavailableError(
                "the daemon went away before the job had ended",
                hint=f"perseus logs -f {self.job_id}" if self.job_id else "perseus ps",
                maybe_done=True,
            )
        self._is_over = True
        return self.exit_code

    def _show(self, event: "dict[str, Any]") -> None:
        outputs = [
            (descriptor, data if isinstance(data, bytes) else a2b_base64(data))
            for descriptor, data in ((1, event.get("stdout")), (2, event.get("stderr")))
            if data
        ]
        if self._show_event is not None:
            self._pass_on(1, self._show_event, event)
        # Counted after it is out, so that nothing is left out after a break.
        for descriptor, content in outputs:
            if self._show_event is None:
                self._pass_on(descriptor, write, descriptor, content)
            self.shown_bytes[descriptor] += len(content)
        if event.get("message") and self._show_event is None:
            (self.warn if event.get("missing") else self.say)(event["message"])

    def _pass_on(self, descriptor: int, call: "Callable[..., None]", *given: "Any") -> None:
        try:
            call(*given)
        except BrokenPipeError:
            raise
        except OSError as error:
            name = "stderr" if descriptor == 2 else "stdout"
            tell(f"{name} cannot be written: {error.strerror}\n  perseus logs {self.job_id}")
            raise Interrupted(EXIT_PERSEUS) from None

    def fail(self, error: PerseusError) -> None:
        """Something beside the job (its stdin) failed: the job must not end as if it had not.

        For other threads; the job is killed and ``show`` raises the error at its end. But
        that stdin is gone may only mean that the job has ended, which we hear a moment later.
        """
        if _is_gone(error) and self.job_id and self._ends_soon():
            return
        self.failure = error
        if self.job_id:
            self._end_tasks()

    def _ends_soon(self) -> bool:
        deadline = monotonic() + ENDING_TIMEOUT_S
        while self.exit_code is None and monotonic() < deadline:
            sleep(ENDING_POLL_S)
        return self.exit_code is not None

    def _end_tasks(self) -> None:
        try:
            self._has_ended_tasks = self._send_signal(self.job_id, int(signal.SIGKILL)) > 0
        except PerseusError as other:
            self._has_ended_tasks = True
            self.warn(f"job {self.job_id} could not be ended: {other.message}")

    def _is_mere_end(self, failure: PerseusError) -> bool:
        """The job had ended by itself, and its stdin was removed with it."""
        return _is_gone(failure) and self.exit_code is not None and not self._has_ended_tasks

    def say(self, sentence: str) -> None:
        """A message of ours, on stderr alone; nothing with -q."""
        if not self.quiet:
            tell(sentence)

    def warn(self, sentence: str) -> None:
        """As ``say``, of what is wrong: also with -q."""
        tell(sentence)

    def _begin(self, job_id: str) -> None:
        self.job_id = job_id
        early, self._early = self._early, []
        for number in early if job_id else ():
            self._forward(number)
        if self.failure is not None:
            self._end_tasks()

    def _end(self, ending: "dict[str, Any]") -> int:
        code = int(ending.get("exit_code") or 0)
        kind = str(ending.get("kind", ""))
        message = ending.get("message") or ""
        is_news = message and kind not in ("", "ENDING_EXITED", "ENDING_SIGNALED")
        if is_news and self._show_event is None:
            known = not self._node or self._node in message
            self.warn(message if known else f"{self._node}: {message}")
        return code

    def _on_signal(self, number: int, _frame: "Any") -> None:
        if self._is_over:
            return
        if number in LEAVING and not self.cancels:
            # They mean us: a closed terminal must not end a job that was only watched.
            self._leave(number)
        if number == signal.SIGINT:
            self._interrupts += 1
        if self._interrupts >= 2 or (number == signal.SIGINT and not self.job_id and self._early):
            self._leave()
        if self.job_id:
            self._forward(number)
        else:
            self._early.append(number)

    def _look(self, _number: int, _frame: "Any") -> None:
        """That Python came here is enough for the other handlers to be called. After an
        interrupt it is also looked whether the job has ended, and we still show what was under
        way: of a flood that takes longer than anybody waits who has interrupted it."""
        if not self._interrupts or self._is_over or self._is_looking or not self.job_id:
            return
        self._is_looking = True
        try:
            self._leave_a_flood()
        finally:
            self._is_looking = False

    def _leave_a_flood(self) -> None:
        # A file gets all of it.
        if self._look_up is None or not os.isatty(1):
            return
        if self._seen_ended_s is not None and monotonic() < self._seen_ended_s + REST_SHOWN_S:
            return
        try:
            job = self._look_up(self.job_id)
        except PerseusError:
            return
        if not job.get("ended_at_s") or job.get("state") == STATE_FINISHED:
            return
        if self._seen_ended_s is None:
            self._seen_ended_s = monotonic()
            return
        self.warn(
            f"job {self.job_id} has ended; the rest of its output: perseus logs {self.job_id}"
        )
        raise Interrupted(int(job.get("exit_code") or 0))

    def _leave(self, number: int = SIGINT_NUMBER) -> None:
        # What follows takes seconds at most, and one more signal must not break into it.
        for other in FORWARDED:
            signal.signal(other, signal.SIG_IGN)
        if self.cancels:
            self.say(f"job {self.job_id} is cancelled" if self.job_id else "cancelled")
        else:
            self.say(f"job {self.job_id} goes on; perseus kill {self.job_id} ends it")
        raise Interrupted(128 + int(number))

    def _forward(self, number: int) -> None:
        try:
            reached = self._send_signal(self.job_id, int(number))
        except PerseusError as error:
            self.warn(f"signal {number} did not reach the job: {error.message}")
            return
        if not reached and self.cancels and number in ENDING:
            # Nothing of it runs, or its output alone is on its way: who wants to go is not
            # made to ask twice.
            self._leave(number)
        if number == signal.SIGINT and self._interrupts == 1 and sys.stderr and os.isatty(2):
            what = "cancels the job" if self.cancels else "leaves it"
            self.say(f"interrupt sent to job {self.job_id}; once more {what}")


def reached(answer: "dict[str, Any]") -> int:
    """How many tasks whose program runs a KillResponse tells of."""
    return int(answer.get("tasks") or 0) - int(answer.get("keeping") or 0)


def _is_gone(error: PerseusError) -> bool:
    """The file that stdin is written to was removed, as it is with the end of its job."""
    return isinstance(error, (LeaseLostError, NotFoundError))


def tell(sentence: str) -> None:
    """Says it on stderr; a stderr that is gone is nobody's loss."""
    try:
        if os.isatty(2):
            from perseus.cli.units import lines_shown

            sentence = lines_shown(sentence)
        write(2, f"perseus: {sentence}\n".encode(errors="replace"))
    except OSError:
        pass


def write_stdout(content: bytes) -> None:
    """All of ``content`` to stdout; raises UnavailableError when that cannot take it, and
    BrokenPipeError when nobody reads it."""
    try:
        write(1, content)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise stdout_failed(error) from None


def stdout_failed(error: OSError) -> UnavailableError:
    """What is said when stdout cannot be written."""
    return UnavailableError(
        f"stdout cannot be written: {error.strerror}",
        hint="see where it leads, and whether that is full",
    )


def write(descriptor: int, content: bytes) -> None:
    """All of ``content``, also to a pipe that is slow or not blocking."""
    view = memoryview(content)
    while view:
        try:
            view = view[os.write(descriptor, view[:WRITE_BYTES]) :]
        except BlockingIOError:
            from select import select

            select([], [descriptor], [])
