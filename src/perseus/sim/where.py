"""Where in the code of an algorithm something happened, for the person who wrote it."""

import os
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from perseus.algo.process import Handler, Process


class Step(NamedTuple):
    """A step that is under way: whose, and what it runs."""

    process: Process
    handler: Handler
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.process.id}, {type(self.process).__name__}.{_name(self)}"


def _name(step: Step) -> str:
    """The handler as its class has it, not the host's half of it."""
    process, handler, arguments = step
    if handler == process._host_start:
        return "start"
    if handler == process._give_up:
        return getattr(arguments[1], "__name__", "request")
    if handler != process._host_deliver:
        return getattr(handler, "__name__", "after")
    sender, message, _, answers = arguments
    if answers:
        return f"on_reply of {type(message).__name__} from {sender}"
    found = process._handlers.get(type(message))
    return f"{found.__name__ if found else 'unhandled'} of {type(message).__name__} from {sender}"


# A call that is under way: file, line, function.
_Call = tuple[str, int, str]


def raised_at(error: BaseException, process: Process) -> str:
    """``file:line`` of the innermost call that is of the algorithm's own files, else of any."""
    return _place(list(_of_traceback(error.__traceback__)), process).partition(" ")[0]


def stands_at(frame: FrameType | None, process: Process | None) -> str:
    """The same of code that runs, and in which function."""
    calls = []
    while frame is not None:
        calls.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return _place(calls[::-1], process)


def _of_traceback(traceback: TracebackType | None) -> Iterator[_Call]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield code.co_filename, traceback.tb_lineno, code.co_name
        traceback = traceback.tb_next


def _place(calls: list[_Call], process: Process | None) -> str:
    """Of the innermost call, of which the outermost comes first."""
    own = set() if process is None else _files(type(process))
    mine = [call for call in calls if call[0] in own]
    if not calls:
        return "nowhere"
    file, line, name = (mine or calls)[-1]
    return f"{os.path.basename(file)}:{line} in {name}"


def _files(kind: type[Process]) -> set[str]:
    modules = [base.__module__ for base in kind.__mro__ if base not in (Process, object)]
    return {getattr(sys.modules.get(name), "__file__", None) or "" for name in modules}
