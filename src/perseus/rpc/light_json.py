"""JSON for the fast path: as the module ``json``, without the 10 ms of importing it.

``json`` imports ``re`` and ``enum`` to offer what is not needed here. Its parts
in C do the work alone; where this Python has them not, or differently, ``json``
itself serves. Texts are what our own daemon sends: one value, nothing after it.
"""

from __future__ import annotations

# ``typing`` would import ``re``.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

loads: Callable[[str], Any]
dumps: Callable[[Any], str]


class _Context:
    """What the scanner of ``json.decoder.JSONDecoder`` reads off its decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def _from_c() -> tuple[Callable[[str], Any], Callable[[Any], str]]:
    import _json

    context: Any = _Context()
    scan = _json.make_scanner(context)
    encode = _json.make_encoder(
        None, _refuse, _json.encode_basestring, None, ":", ",", False, False, True
    )

    def loads(text: str) -> Any:
        text = text.strip()
        try:
            value, end = scan(text, 0)
        except StopIteration:
            raise ValueError("not a JSON value") from None
        if end != len(text):
            raise ValueError("more than one JSON value")
        return value

    def dumps(value: Any) -> str:
        return "".join(encode(value, 0))

    if dumps(loads('{"a":[1,null,"ü"]}')) != '{"a":[1,null,"ü"]}':
        raise TypeError("the parts of json in C are not those known")
    return loads, dumps


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is not JSON")


def _from_module() -> tuple[Callable[[str], Any], Callable[[Any], str]]:
    import json

    def dumps(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    return json.loads, dumps


try:
    loads, dumps = _from_c()
except (ImportError, AttributeError, TypeError, ValueError):
    loads, dumps = _from_module()
