"""Copies of processes that share what cannot change, and hashable pictures of them.

``copy.deepcopy`` would copy every message and cost ten times as much.
"""

from dataclasses import is_dataclass
from enum import Enum
from types import FunctionType, MethodType
from typing import Any

from perseus.algo import durability
from perseus.algo.kept import Kept
from perseus.algo.process import Place, Process
from perseus.errors import InvalidError

_LEAVES = frozenset({int, str, bytes, float, bool, type(None), type, FunctionType, Place})
_DURABLE = (durability.DurableList, durability.DurableDict, durability.DurableSet)
# What belongs to the host, not to the process.
_SHARED = ("_host", "_taken", "_place", "_ids", "random", "id", "peers", "everyone", "majority")


class Clones:
    """Copies that belong together: what two of them shared, their copies share."""

    def __init__(self, handle: type) -> None:
        """``handle`` is the class of timers, which are shared."""
        self._handle = handle
        self._made: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        """The copy of a value."""
        kind = value.__class__
        if kind in _LEAVES or kind in (self._handle, Kept) or isinstance(value, Enum):
            return value
        if _is_frozen(kind) and not durability.can_change(value):
            return value
        if kind is tuple:
            return tuple(self.of(item) for item in value)
        if kind is frozenset:
            return value
        known = self._made.get(id(value))
        return known if known is not None else self._copy(value, kind)

    def _copy(self, value: Any, kind: type) -> Any:
        made: Any
        if isinstance(value, _DURABLE):
            made = kind(value._name, self.of(value._changes), value)
            self._made[id(value)] = made
            return made
        if isinstance(value, Process):
            made = self._made[id(value)] = object.__new__(kind)
            for name, item in value.__dict__.items():
                made.__dict__[name] = item if name in _SHARED else self.of(item)
            return made
        if kind is MethodType:
            return MethodType(value.__func__, self.of(value.__self__))
        if isinstance(value, list):
            made = self._made[id(value)] = kind()
            made.extend(self.of(item) for item in value)
        elif isinstance(value, dict):
            made = self._made[id(value)] = kind()
            made.update((self.of(key), self.of(item)) for key, item in value.items())
        elif isinstance(value, set):
            made = self._made[id(value)] = kind(self.of(item) for item in value)
        elif isinstance(value, tuple):
            made = kind(*(self.of(item) for item in value))
        elif is_dataclass(value) or (hasattr(value, "__dict__") and not callable(value)):
            made = self._made[id(value)] = object.__new__(kind)
            for name in _names(value):
                object.__setattr__(made, name, self.of(getattr(value, name)))
        else:
            raise _cannot(kind)
        return made


def frozen(value: Any, handle: type, order: dict[int, int]) -> Any:
    """A hashable picture: equal for two values that an algorithm cannot tell apart.

    ``order`` gives timers that are pending their place; others look alike.
    """
    kind = value.__class__
    if kind in _LEAVES:
        return value
    if kind is Kept:
        return ("kept", frozen(value.value, handle, order))
    if kind is handle:
        return ("timer", order.get(value.number, -1))
    if isinstance(value, Enum):
        return value
    if kind is MethodType:
        return ("method", value.__func__)
    if isinstance(value, Process):
        items = value.__dict__.items()
        return tuple(
            (name, frozen(item, handle, order)) for name, item in items if name not in _SHARED
        )
    if isinstance(value, dict):
        pairs = value.items()
        return ("dict", *((frozen(k, handle, order), frozen(v, handle, order)) for k, v in pairs))
    if isinstance(value, set | frozenset):
        return frozenset(frozen(item, handle, order) for item in value)
    if isinstance(value, list | tuple):
        return (kind.__name__, *(frozen(item, handle, order) for item in value))
    if is_dataclass(value) or hasattr(value, "__dict__"):
        return (kind, *(frozen(getattr(value, n), handle, order) for n in _names(value)))
    raise _cannot(kind)


def _names(value: Any) -> tuple[str, ...]:
    if is_dataclass(value):
        return tuple(value.__dataclass_fields__)
    return tuple(value.__dict__)


def _is_frozen(kind: type) -> bool:
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and parameters.frozen


def _cannot(kind: type) -> InvalidError:
    return InvalidError(
        f"a process that holds a {kind.__module__}.{kind.__name__} cannot be explored",
        hint="keep numbers, text, lists, dicts, sets, dataclasses and methods of the process",
    )
