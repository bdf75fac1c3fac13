"""Amounts as people type and read them: bytes and seconds for flags, settings and files alike.

Light: the fast path reads flags with it. A size is a number and one of
B, K, M, G, T (1024-based; ``KiB``, ``KB`` mean the same); a time is seconds or
a number and one of ms, s, m, h, d. What is no amount gives None: who asks
knows what to say of it.
"""

_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TIMES = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def size_bytes(text: str) -> int | None:
    """``512M`` as bytes, not negative."""
    number, unit = _split(text)
    unit = unit.lower().removesuffix("ib") if len(unit) == 3 else unit.lower()
    unit = unit[0] if len(unit) == 2 and unit[1] == "b" else unit
    if unit not in _SIZES:
        return None
    if number.isdecimal():
        # Exact, also where a float would round.
        return int(number) * _SIZES[unit]
    value = number_of(number)
    return None if value is None else int(value * _SIZES[unit])


def duration_s(text: str) -> float | None:
    """``90``, ``90s``, ``1.5h`` as seconds, not negative."""
    number, unit = _split(text)
    value = number_of(number)
    if value is None or unit.lower() not in _TIMES:
        return None
    return value * _TIMES[unit.lower()]


def number_of(text: str) -> float | None:
    """A number that is finite and not negative."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def counted(count: int, one: str, many: str = "") -> str:
    """``1 node``, ``2 nodes``; ``many`` where an s alone does not do."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def _split(text: str) -> tuple[str, str]:
    end = len(text)
    while end and text[end - 1].isalpha():
        end -= 1
    return text[:end].strip(), text[end:]
