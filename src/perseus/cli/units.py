"""Amounts as people type and read them: sizes, times, numbers.

Light: the fast path reads flags with it. A size is a number and one of
B, K, M, G, T (1024-based; ``KiB``, ``KB`` mean the same); a time is seconds or
a number and one of ms, s, m, h, d.
"""

from perseus.errors import InvalidError


class UsageError(InvalidError):
    """What was typed cannot be meant so: exit code 2, and nothing was asked of the cluster."""


_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TIMES = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size_bytes(text: str, flag: str = "") -> int:
    """``512M`` as bytes; raises UsageError."""
    number, unit = _split(text)
    unit = unit.lower().removesuffix("ib") if len(unit) == 3 else unit.lower()
    unit = unit[0] if len(unit) == 2 and unit[1] == "b" else unit
    value = _number(number)
    if value is None or value < 0 or unit not in _SIZES:
        raise UsageError(f"{_name(flag)}{text!r} is not a size", hint="write it as 512M or 2G")
    return int(value * _SIZES[unit])


def parse_duration_s(text: str, flag: str = "") -> float:
    """``90``, ``90s``, ``1.5h`` as seconds; raises UsageError."""
    number, unit = _split(text)
    value = _number(number)
    if value is None or value < 0 or unit.lower() not in _TIMES:
        raise UsageError(f"{_name(flag)}{text!r} is not a time", hint="write it as 30s, 10m or 2h")
    return value * _TIMES[unit.lower()]


def parse_number(text: str, flag: str = "") -> float:
    """A number that is not negative; raises UsageError."""
    value = _number(text)
    if value is None or value < 0:
        raise UsageError(f"{_name(flag)}{text!r} is not a number", hint="as in --cpu 0.5")
    return value


def parse_integer(text: str, flag: str = "") -> int:
    """A whole number; raises UsageError."""
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{_name(flag)}{text!r} is not a whole number") from None


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


def _split(text: str) -> tuple[str, str]:
    end = len(text)
    while end and text[end - 1].isalpha():
        end -= 1
    return text[:end].strip(), text[end:]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None


def _name(flag: str) -> str:
    return f"{flag} " if flag else ""
