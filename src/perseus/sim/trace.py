"""What happened in a run, event by event, for eyes and for comparing runs."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from hashlib import sha256
from typing import Any

from perseus.algo.process import Id

EVENTS_MAXIMUM = 100_000
VALUE_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Happened:
    """One event. ``kind`` is start, send, receive, timer, crash or fault; ``peer`` and ``mark``
    tie a receive to its send."""

    at_s: float
    kind: str
    who: Id
    what: str = ""
    peer: Id = ""
    mark: int = 0

    def __str__(self) -> str:
        words = {"send": "->", "receive": "<-"}.get(self.kind, self.kind)
        return f"{self.at_s:10.4f}  {self.who:8} {words} {self.peer} {self.what}".rstrip()


class Trace:
    """Takes down the last events of a run; give it to ``World`` as ``trace``."""

    def __init__(self, most: int = EVENTS_MAXIMUM) -> None:
        self.events: deque[Happened] = deque(maxlen=most)
        self.count = 0
        self._digest = sha256()

    def __call__(self, at_s: float, kind: str, who: Id, more: Any) -> None:
        if kind in ("send", "receive"):
            peer, message, mark = more
            event = Happened(at_s, kind, who, brief(message), peer, mark)
        elif kind == "fault":
            event = Happened(at_s, kind, who, str(more))
        else:
            event = Happened(at_s, kind, who, more or "")
        self.count += 1
        self.events.append(event)
        self._digest.update(f"{at_s!r} {kind} {who} {event.what} {event.peer}\n".encode())

    @property
    def digest(self) -> str:
        """The same for two runs in which the same happened."""
        return self._digest.hexdigest()


def brief(value: Any) -> str:
    """A message as one would write it on a blackboard: ``Vote(2, 0, 0)``."""
    return _brief(value)[:VALUE_WIDTH]


def _brief(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.name)
    if is_dataclass(value) and not isinstance(value, type):
        inside = ", ".join(_brief(getattr(value, field.name)) for field in fields(value))
        return f"{type(value).__name__}({inside})"
    if isinstance(value, tuple | list):
        if len(value) > 3:
            return f"[{len(value)} items]"
        return f"[{', '.join(_brief(item) for item in value)}]"
    if isinstance(value, set | frozenset):
        # Not in the order of their hashes, which differs from run to run.
        return f"{{{', '.join(sorted(_brief(item) for item in value))}}}"
    return repr(value)


def text(events: Sequence[Happened]) -> str:
    """One event a line."""
    return "\n".join(str(event) for event in events)
