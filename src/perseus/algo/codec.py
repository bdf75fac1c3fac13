"""Values as bytes: messages on the wire, durable state on disk.

Self-describing msgpack, by a closed list of classes: nothing is loaded by name that an
algorithm did not define, and no code runs on the way in. Frozen dataclasses and enums
carry their class's name and its ``version`` (a ClassVar, 1 where there is none): a field
that is missing takes its default, a newer version than is known here is refused.
"""

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, NamedTuple, cast

import msgspec

from perseus.algo.kept import Kept
from perseus.algo.layout import Layout
from perseus.algo.process import Process
from perseus.errors import IncompatibleError, InvalidError

DEPTH_MAXIMUM = 64
# One message or one value; more is a mistake, or somebody's attack.
SIZE_MAXIMUM_BYTES = 16 << 20

PLAIN: frozenset[type] = frozenset({int, str, bytes, float, bool, type(None)})
_TUPLE, _RECORD, _ENUM, _FROZENSET, _LIST, _MAP, _BIG, _SET = range(8)
# msgpack has integers of 64 bits.
_INTEGERS = range(-(1 << 63), 1 << 64)
_HINT = "use numbers, text, bytes, tuples, enums and @dataclass(frozen=True)"


class Record(NamedTuple):
    """What is known of a class of dataclasses."""

    name: str
    version: int
    # Of its fields, and what reads them from a value.
    names: tuple[str, ...]
    read: Callable[[Any], tuple[Any, ...]]
    # Makes a value of what its fields are to be, in their order.
    make: Callable[..., Any]


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
        self._records: dict[type, Record] = {}
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

    @property
    def longest_name_bytes(self) -> int:
        """Of all names that a value's bytes may have: of classes, fields and members."""
        names = [*self._classes]
        for kind in self._classes.values():
            names += (
                kind.__members__
                if issubclass(kind, Enum)
                else [f.name for f in fields(cast(Any, kind))]
            )
        return max((len(name.encode()) for name in names), default=0)

    def encode(self, value: Any) -> bytes:
        """The value as bytes; raises InvalidError for what cannot be told to others."""
        if value.__class__ is Kept:
            value = value.value
        try:
            content = self._bytes_of(self._plain(value, 0))
        except UnicodeEncodeError as error:
            said = f"{error.object[error.start : error.end]!r} is no text that UTF-8 has"
            raise InvalidError(said, hint="bytes, for what is not text") from None
        if len(content) > SIZE_MAXIMUM_BYTES:
            raise InvalidError(
                f"it takes {len(content)} bytes, and the most is {SIZE_MAXIMUM_BYTES} (16 MiB)",
                hint="send and keep it in parts, or only what is new of it",
            )
        return content

    def _bytes_of(self, plain: Any) -> bytes:
        try:
            return self._encoder.encode(plain)
        except OverflowError:
            return self._encoder.encode(_without_big(plain))

    def decode(self, data: bytes) -> Any:
        """The value; raises InvalidError or IncompatibleError."""
        if len(data) > SIZE_MAXIMUM_BYTES:
            raise InvalidError(f"a value of {len(data)} bytes; the most is {SIZE_MAXIMUM_BYTES}")
        try:
            return self._value(self._decoder.decode(data), 0)
        except (msgspec.DecodeError, TypeError, IndexError, KeyError, ValueError) as error:
            raise InvalidError(f"these bytes are no value: {error}") from None

    def record(self, kind: type) -> Record:
        """A class of dataclasses; raises InvalidError for one whose values cannot be told, or
        not be made again from what was told."""
        found = self._records.get(kind)
        if found is None:
            name = self.name_of(kind)
            names = tuple(field.name for field in fields(cast(Any, kind)))
            make = _maker(kind, names)
            found = Record(name, _version(kind), names, _reader(names), make)
            self._records[kind] = found
        return found

    def _plain(self, value: Any, depth: int) -> Any:
        kind = value.__class__
        if kind in PLAIN:
            return value
        if depth > DEPTH_MAXIMUM:
            raise InvalidError(f"it is nested more than {DEPTH_MAXIMUM} deep", hint="in parts")
        if kind is tuple:
            return [_TUPLE, *self._plain_each(value, depth + 1)]
        record = self._records.get(kind)
        if record is not None:
            return self._plain_record(value, record, depth + 1)
        if isinstance(value, Enum):
            return [_ENUM, self.name_of(kind), _member(value)]
        if isinstance(value, dict):
            keys = self._plain_each(value, depth + 1)
            return [_MAP, *zip(keys, self._plain_each(value.values(), depth + 1), strict=True)]
        if isinstance(value, list):
            return [_LIST, *self._plain_each(value, depth + 1)]
        if isinstance(value, set | frozenset):
            tag = _SET if isinstance(value, set) else _FROZENSET
            return [tag, *sorted(self._plain_each(value, depth + 1), key=repr)]
        if is_dataclass(value):
            return self._plain_record(value, self.record(kind), depth + 1)
        raise InvalidError(f"a {kind.__name__} cannot be sent or kept", hint=_HINT)

    def _plain_record(self, value: Any, record: Record, depth: int) -> Any:
        items = self._plain_each(record.read(value), depth)
        named = dict(zip(record.names, items, strict=True))
        return [_RECORD, record.name, record.version, named]

    def _plain_each(self, values: Iterable[Any], depth: int) -> list[Any]:
        # Most are plain already: a call for each of them would cost more than all else.
        return [v if v.__class__ in PLAIN else self._plain(v, depth) for v in values]

    def name_of(self, kind: type) -> str:
        """By which a class is known; raises InvalidError where it is not."""
        if self._classes.get(kind.__name__) is kind:
            return kind.__name__
        if is_dataclass(kind) and not cast(Any, kind).__dataclass_params__.frozen:
            raise InvalidError(
                f"a {kind.__name__} could change after it was sent or kept",
                hint=f"@dataclass(frozen=True) above class {kind.__name__}; replace(value,"
                " name=...) of dataclasses makes a changed copy",
            )
        raise InvalidError(
            f"{kind.__name__} is not a message of this algorithm",
            hint="define or import it in the module of the process",
        )

    def _value(self, plain: Any, depth: int) -> Any:
        if plain.__class__ in PLAIN:
            return plain
        if plain.__class__ is not list:
            raise ValueError("a map without a name")
        if depth > DEPTH_MAXIMUM:
            raise ValueError("too deep")
        tag, deeper = plain[0], depth + 1
        if tag == _RECORD:
            _, name, version, items = plain
            return self._record(name, version, items, deeper)
        if tag == _TUPLE:
            return tuple(self._values(plain[1:], deeper))
        if tag == _MAP:
            keys = self._values([key for key, _ in plain[1:]], deeper)
            items = self._values([value for _, value in plain[1:]], deeper)
            return dict(zip(keys, items, strict=True))
        if tag == _ENUM:
            return cast(Any, self._classes[plain[1]])[plain[2]]
        if tag == _BIG:
            return int(plain[1], 16)
        make = _MAKES.get(tag)
        if make is None:
            raise ValueError(f"the tag {tag!r}")
        return make(self._values(plain[1:], deeper))

    def _values(self, plain: Iterable[Any], depth: int) -> list[Any]:
        return [p if p.__class__ in PLAIN else self._value(p, depth) for p in plain]

    def _record(self, name: str, version: int, items: dict[str, Any], depth: int) -> Any:
        kind = self._classes.get(name)
        if kind is None or not is_dataclass(kind):
            raise InvalidError(f"there is no message {name!r} here")
        record = self.record(kind)
        if version > record.version:
            raise IncompatibleError(
                f"{name} of version {version}; version {record.version} is known here",
                hint="run the same program everywhere",
            )
        known = {each: items[each] for each in record.names if each in items}
        if len(known) < len(record.names):
            _check_lacks(kind, known)
        return kind(**dict(zip(known, self._values(known.values(), depth), strict=True)))


# What is made of its items at once, by its tag.
_MAKES: dict[int, Callable[[list[Any]], Any]] = {
    _LIST: list,
    _FROZENSET: frozenset,
    _SET: set,
}


def _without_big(plain: Any) -> Any:
    """The same, with integers that msgpack does not have as text."""
    if isinstance(plain, list | tuple):
        return [_without_big(each) for each in plain]
    if isinstance(plain, dict):
        return {name: _without_big(each) for name, each in plain.items()}
    return [_BIG, hex(plain)] if plain.__class__ is int and plain not in _INTEGERS else plain


def _check_lacks(kind: type, known: dict[str, Any]) -> None:
    """Raises InvalidError for a field that is not there and has no default."""
    for field in fields(cast(Any, kind)):
        if (
            field.name not in known
            and field.default is MISSING
            and field.default_factory is MISSING
        ):
            raise InvalidError(f"{kind.__name__} lacks {field.name}")


def _member(value: Enum) -> str:
    if value.name not in value.__class__.__members__:
        raise InvalidError(
            f"{value!r} is more than one member of {value.__class__.__name__}",
            hint="a frozenset of members, or a number",
        )
    return value.name


def _maker(kind: type, names: tuple[str, ...]) -> Callable[..., Any]:
    """Makes values of a class; raises InvalidError for one that is not made from its fields:
    who gets such a message could not make it."""
    try:
        signature = inspect.signature(kind)
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        raise InvalidError(
            f"a {kind.__name__} cannot be made from its fields where it arrives: {error}",
            hint="no field(init=False), InitVar, or __init__ of its own",
        ) from None
    taken = signature.parameters.values()
    in_order = [each.name for each in taken if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if tuple(in_order[: len(names)]) == names:
        return kind
    return lambda *parts: kind(**dict(zip(names, parts, strict=True)))


def _reader(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if not names:
        return lambda value: ()
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
