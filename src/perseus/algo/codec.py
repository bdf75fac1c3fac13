"""Values as bytes: messages on the wire, durable state on disk.

Self-describing msgpack, by a closed list of classes: nothing is loaded by name that an
algorithm did not define, and no code runs on the way in. Frozen dataclasses and enums
carry their class's name and its ``version`` (a ClassVar, 1 where there is none): a field
that is missing takes its default, a newer version than is known here is refused.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, cast

import msgspec

from perseus.algo.layout import Layout
from perseus.algo.process import Process
from perseus.errors import IncompatibleError, InvalidError

DEPTH_MAXIMUM = 64
# One message or one value; more is a mistake, or somebody's attack.
SIZE_MAXIMUM_BYTES = 16 << 20

_PLAIN = frozenset({int, str, bytes, float, bool, type(None)})
_TUPLE, _RECORD, _ENUM, _SET, _LIST, _MAP, _BIG = range(7)
# msgpack has integers of 64 bits.
_INTEGERS = range(-(1 << 63), 1 << 64)


class Codec:
    """Encodes and decodes values of the classes it was made with."""

    def __init__(self, classes: Iterable[type]) -> None:
        self._classes: dict[str, type] = {}
        for kind in classes:
            known = self._classes.setdefault(kind.__name__, kind)
            if known is not kind:
                raise InvalidError(
                    f"two classes are called {kind.__name__}: {known.__module__} and"
                    f" {kind.__module__}",
                    hint="messages of one algorithm have different names",
                )
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder()

    @staticmethod
    def of(layout: Layout) -> "Codec":
        """For all dataclasses and enums that the modules of the layout's processes know."""
        modules = {
            base.__module__
            for group in layout.groups.values()
            for base in group.kind.__mro__
            if issubclass(base, Process) and base is not Process
        }
        found: dict[int, type] = {}
        for name in sorted(modules):
            for value in vars(sys.modules[name]).values():
                if isinstance(value, type) and _is_value(value):
                    found[id(value)] = value
        return Codec(found.values())

    def encode(self, value: Any) -> bytes:
        """The value as bytes; raises InvalidError for what cannot be told to others."""
        return self._encoder.encode(self._plain(value, 0))

    def decode(self, data: bytes) -> Any:
        """The value; raises InvalidError or IncompatibleError."""
        if len(data) > SIZE_MAXIMUM_BYTES:
            raise InvalidError(f"a value of {len(data)} bytes; the most is {SIZE_MAXIMUM_BYTES}")
        try:
            return self._value(self._decoder.decode(data), 0)
        except (msgspec.DecodeError, TypeError, IndexError, KeyError, ValueError) as error:
            raise InvalidError(f"these bytes are no value: {error}") from None

    def _plain(self, value: Any, depth: int) -> Any:
        kind = value.__class__
        if kind in _PLAIN:
            if kind is int and value not in _INTEGERS:
                return [_BIG, str(value)]
            return value
        if depth > DEPTH_MAXIMUM:
            raise InvalidError(f"a value that is nested more than {DEPTH_MAXIMUM} deep")
        deeper = depth + 1
        if isinstance(value, Enum):
            return [_ENUM, self._name(kind), value.name]
        if isinstance(value, tuple) and kind is tuple:
            return [_TUPLE, *(self._plain(item, deeper) for item in value)]
        if isinstance(value, list):
            return [_LIST, *(self._plain(item, deeper) for item in value)]
        if isinstance(value, set | frozenset):
            return [_SET, *sorted((self._plain(item, deeper) for item in value), key=repr)]
        if isinstance(value, dict):
            pairs = value.items()
            return [_MAP, *([self._plain(k, deeper), self._plain(v, deeper)] for k, v in pairs)]
        if is_dataclass(value):
            items = {f.name: self._plain(getattr(value, f.name), deeper) for f in fields(value)}
            return [_RECORD, self._name(kind), _version(kind), items]
        raise InvalidError(
            f"a {kind.__name__} cannot be sent or kept",
            hint="use numbers, text, bytes, tuples, enums and @dataclass(frozen=True)",
        )

    def _name(self, kind: type) -> str:
        if self._classes.get(kind.__name__) is not kind:
            raise InvalidError(
                f"{kind.__name__} is not a message of this algorithm",
                hint="define or import it in the module of the process",
            )
        return kind.__name__

    def _value(self, plain: Any, depth: int) -> Any:
        if not isinstance(plain, list):
            if isinstance(plain, dict):
                raise ValueError("a map without a name")
            return plain
        if depth > DEPTH_MAXIMUM:
            raise ValueError("too deep")
        tag, *rest = plain
        deeper = depth + 1
        if tag == _TUPLE:
            return tuple(self._value(item, deeper) for item in rest)
        if tag == _RECORD:
            name, version, items = rest
            return self._record(name, version, items, deeper)
        if tag == _ENUM:
            return cast(Any, self._classes[rest[0]])[rest[1]]
        if tag == _LIST:
            return [self._value(item, deeper) for item in rest]
        if tag == _SET:
            return frozenset(self._value(item, deeper) for item in rest)
        if tag == _MAP:
            return {self._value(k, deeper): self._value(v, deeper) for k, v in rest}
        if tag == _BIG:
            return int(rest[0])
        raise ValueError(f"the tag {tag!r}")

    def _record(self, name: str, version: int, items: dict[str, Any], depth: int) -> Any:
        kind = self._classes.get(name)
        if kind is None or not is_dataclass(kind):
            raise InvalidError(f"there is no message {name!r} here")
        if version > _version(kind):
            raise IncompatibleError(
                f"{name} of version {version}; version {_version(kind)} is known here",
                hint="run the same program everywhere",
            )
        known = {}
        for field in fields(kind):
            if field.name in items:
                known[field.name] = self._value(items[field.name], depth)
            elif field.default is MISSING and field.default_factory is MISSING:
                raise InvalidError(f"{name} lacks {field.name}")
        return kind(**known)


class Judge:
    """Says of many values whether they can be sent and kept, mostly by a look in a set:
    values of one class with fields of the same classes are judged once."""

    __slots__ = ("_codec", "_known", "_readers")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._known: set[Any] = set(_PLAIN)
        # By class what gives the values of its fields.
        self._readers: dict[type, Callable[[Any], tuple[Any, ...]]] = {}

    def check(self, value: Any) -> None:
        """Raises InvalidError for what the codec would refuse."""
        kind = value.__class__
        if kind in self._known:
            return
        read = self._readers.get(kind)
        if read is None:
            self._judge(value)
            return
        shape = (kind, *map(_shape, read(value)))
        if shape not in self._known:
            self._codec.encode(value)
            self._known.add(shape)

    def _judge(self, value: Any) -> None:
        """One of a class that was not seen before, or that is not kept in mind."""
        self._codec.encode(value)
        kind = type(value)
        if isinstance(value, Enum) or (is_dataclass(kind) and not fields(kind)):
            self._known.add(kind)
        elif is_dataclass(kind):
            self._readers[kind] = _reader([field.name for field in fields(kind)])


def _shape(value: Any) -> Any:
    kind = value.__class__
    if kind is tuple and value:
        return tuple, value[0].__class__, value[-1].__class__
    return kind


def _reader(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    read = attrgetter(*names)
    return read if len(names) > 1 else lambda value: (read(value),)


def _version(kind: type) -> int:
    if any(field.name == "version" for field in fields(cast(Any, kind))):
        return 1
    return int(getattr(kind, "version", 1))


def _is_value(kind: type) -> bool:
    if issubclass(kind, Enum):
        return kind is not Enum
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)
