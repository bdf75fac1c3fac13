"""Amounts as flags give them and people read them: sizes, times, numbers.

Light: the fast path reads flags with it. What an amount may look like is in
``perseus.amounts``; here is what to say of one that is none.
"""

from perseus import amounts
from perseus.errors import InvalidError
from perseus.shellwords import as_word, escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    Given = ParamSpec("Given")
    Answer = TypeVar("Answer")


class UsageError(InvalidError):
    """What was typed cannot be meant so: exit code 2, and nothing was asked of the cluster."""


def checked(
    call: "Callable[Given, Answer]", /, *given: "Given.args", **more: "Given.kwargs"
) -> "Answer":
    """What ``call`` answers to what was typed; its InvalidError is a UsageError."""
    try:
        return call(*given, **more)
    except InvalidError as error:
        raise UsageError(error.message, hint=error.hint) from None


def parse_size_bytes(text: str, flag: str = "") -> int:
    """``512M`` as bytes; raises UsageError."""
    value = amounts.size_bytes(text)
    if value is None:
        raise UsageError(f"{_name(flag)}{text!r} is not a size", hint="write it as 512M or 2G")
    return value


def parse_duration_s(text: str, flag: str = "") -> float:
    """``90``, ``90s``, ``1.5h`` as seconds; raises UsageError."""
    value = amounts.duration_s(text)
    if value is None:
        raise UsageError(f"{_name(flag)}{text!r} is not a time", hint="write it as 30s, 10m or 2h")
    return value


def parse_number(text: str, flag: str = "") -> float:
    """A number that is not negative; raises UsageError."""
    value = amounts.number_of(text)
    if value is None:
        what = f"{_name(flag)}{text!r} is not a number of 0 or more"
        raise UsageError(what, hint="as in --cpu 0.5")
    return value


def parse_integer(text: str, flag: str = "") -> int:
    """A whole number; raises UsageError."""
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f"{_name(flag)}{text!r} is not a whole number", hint=f"as in {_name(flag)}3"
        ) from None


def format_size(size_bytes: float) -> str:
    """``1.5G``; whole below 10 K and for bytes."""
    for unit in "BKMGTP":
        if size_bytes < 1024 or unit == "P":
            break
        size_bytes /= 1024
    if unit == "B":
        return f"{size_bytes:.0f}"
    return f"{size_bytes:.1f}{unit}" if size_bytes < 100 else f"{size_bytes:.0f}{unit}"


def format_duration(seconds: float) -> str:
    """``0.03s``, ``12s``, ``3m05s``, ``2h10m``, ``4d06h``."""
    if seconds < 10:
        return f"{max(seconds, 0):.2f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def _name(flag: str) -> str:
    return f"{flag} " if flag else ""


def quoted(name: str) -> str:
    """A name as a terminal may show it: with what does not print as a shell would be told it."""
    return name if name.isprintable() else as_word(name)


def lines_shown(text: str) -> str:
    """Sentences as a terminal may show them: lines and tabs as they are, and what would move
    the cursor or change colours in letters."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(one if one in "\n\t" or one.isprintable() else escaped(one) for one in text)
