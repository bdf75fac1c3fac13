"""What processes send and keep, taken as it is at one moment, the same under every host.

The codec has the last word: what it refuses is refused here with its own error, and what
it would change on the way is so here too (a ``defaultdict`` arrives as a ``dict``). Most
messages are numbers and text in a frozen dataclass; they are looked at part by part and
passed on as they are. Only lists, dicts and sets are copied, and what holds them.

What was taken before and holds the same things still is not copied anew, as a whole or as a
part: of a large value in which little changes, that little is.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import is_dataclass
from enum import Enum, Flag
from functools import partial
from itertools import repeat
from operator import call
from typing import Any, Final, cast

import msgspec

from perseus.algo.codec import DEPTH_MAXIMUM, PLAIN, SIZE_MAXIMUM_BYTES, Codec, Record
from perseus.algo.kept import Insides, Kept, are_unchanged

# Parts of values that were looked at and are met again, as the entries of a log that go to
# every follower: so many are kept in mind that cannot change and so many that can, and of so
# many bytes together. The former are none larger than that, nor deeper.
FIXED_MAXIMUM = 10_000
CHANGING_MAXIMUM = 500
KNOWN_MAXIMUM_BYTES = 4 << 20
SMALL_BYTES = 1000
SHALLOW = 8
# Parts that are looked up together rather than one by one.
MANY = 4
# Bytes that the codec adds at most to each part of a value, besides two names: of its field,
# and of its class or member.
_ADDED_BYTES = 32

# There is but one.
_EMPTY: Final = ()
_bytes_of = msgspec.msgpack.Encoder().encode

# Makes a copy of a value as it was.
_Opener = Callable[[], Any]
# How large a value is without names, how deep it goes, and what copies it; None where it can
# never change, and needs no copy.
_Weighed = tuple[int, int, _Opener | None]


class _UnknownError(Exception):
    """It cannot be said here; the codec says."""


# What msgspec raises for what it has no bytes for.
_UNSURE = (_UnknownError, OverflowError, TypeError, UnicodeEncodeError)


class Values:
    """Takes the values of one algorithm."""

    __slots__ = (
        "_atoms", "_changing", "_codec", "_fixed", "_fixed_values", "_known_bytes", "_records",
        "_surely_bytes",
    )  # fmt: skip

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        # Classes whose values have nothing in them.
        self._atoms: set[type] = set(PLAIN)
        self._records: dict[type, Record] = {}
        # By identity: of records that can never change the size; their depth, and they themselves,
        # so that no other has their identity; of those that can, what was found when they were met.
        self._fixed: dict[int, int] = {}
        self._fixed_values: dict[int, tuple[int, Any]] = {}
        self._changing: dict[int, tuple[Any, Insides, int, int, _Opener]] = {}
        self._known_bytes = 0
        # What has at most so many bytes by itself is surely within the codec's bound.
        self._surely_bytes = SIZE_MAXIMUM_BYTES // (_ADDED_BYTES + 2 * codec.longest_name_bytes)

    def taken(self, value: Any) -> Any:
        """The value if it can never change, else a copy of it as it is now; raises
        InvalidError for what the codec refuses."""
        record = self._records.get(value.__class__)
        parts = (value,) if record is None else record.read(value)
        atoms = self._atoms
        try:
            for part in parts:
                if part.__class__ not in atoms and part is not _EMPTY:
                    return self._taken_of_parts(value, record, parts)
            if len(_bytes_of(parts)) <= self._surely_bytes:
                return value
        except _UNSURE:
            return self._taken_by_codec(value)
        self._codec.encode(value)
        return value

    def _taken_of_parts(self, value: Any, record: Record | None, parts: Sequence[Any]) -> Any:
        key = id(value)
        if key in self._fixed:
            return value
        insides: Insides = ([], [], [])
        opener: _Opener | None
        if key in self._changing and are_unchanged(self._changing[key][1]):
            _, insides, size, depth, opener = self._changing[key]
        elif record is None:
            size, depth, opener = self._weigh(value, 0, insides)
        else:
            size, depth, openers = self._weigh_all(parts, 1, insides)
            # What is sent and cannot change is most often met but once.
            opener = None if openers is None else _maker(record.make, parts, openers)
            if opener is not None:
                self._make_room(size)
                self._changing[key] = value, insides, size, depth, opener
        if size > self._surely_bytes or depth >= DEPTH_MAXIMUM:
            self._codec.encode(value)
        return value if opener is None else Kept(value, insides, opener, self._is_same)

    def _taken_by_codec(self, value: Any) -> Kept:
        content = self._codec.encode(value)
        return Kept(None, ([], [], []), partial(self._codec.decode, content), self._is_same)

    def _is_same(self, one: Any, other: Any) -> bool:
        return self._codec.encode(one) == self._codec.encode(other)

    def _weigh_all(
        self, parts: Sequence[Any], above: int, insides: Insides
    ) -> tuple[int, int, list[_Opener | None] | None]:
        """Each of them: what copies it, if anything copies one of them. Raises what says that
        it is not known how a value is."""
        atoms, fixed = self._atoms, self._fixed
        if atoms.issuperset(map(type, parts)):
            return len(_bytes_of(parts)), 0, None
        if len(parts) >= MANY:
            try:
                return sum(map(fixed.__getitem__, map(id, parts))), SHALLOW, None
            except KeyError:
                pass
        changing, size, deepest, loose, openers = self._changing, 0, 0, [], None
        for place, part in enumerate(parts):
            if part.__class__ in atoms:
                loose.append(part)
                continue
            key = id(part)
            if key in fixed:
                more, below, opener = fixed[key], self._fixed_values[key][0], None
            elif key in changing and are_unchanged(changing[key][1]):
                _, theirs, more, below, opener = changing[key]
                insides[0].extend(theirs[0])
                insides[1].extend(theirs[1])
                insides[2].extend(theirs[2])
            else:
                more, below, opener = self._weigh(part, above, insides)
            size += more
            if below > deepest:
                deepest = below
            if opener is not None:
                if openers is None:
                    openers = cast(list[_Opener | None], [None] * len(parts))
                openers[place] = opener
        if loose:
            size += len(_bytes_of(loose))
        return size, deepest, openers

    def _weigh(self, value: Any, above: int, insides: Insides) -> _Weighed:
        """One that is not known yet."""
        kind = value.__class__
        if above > DEPTH_MAXIMUM:
            raise _UnknownError
        record = self._records.get(kind)
        if record is not None:
            return self._weigh_record(value, record, above + 1, insides)
        if isinstance(value, dict):
            return self._weigh_dict(value, above + 1, insides)
        if kind is tuple:
            size, below, openers = self._weigh_all(value, above + 1, insides)
            opener = None if openers is None else _maker(_tuple_of, value, openers)
            return size, below + 1, opener
        if isinstance(value, list):
            return self._weigh_list(value, above + 1, insides)
        if isinstance(value, set | frozenset):
            return self._weigh_set(value, above + 1, insides)
        return self._weigh_new(value, above, insides)

    def _weigh_record(self, value: Any, record: Record, above: int, insides: Insides) -> _Weighed:
        first, parts = len(insides[0]), record.read(value)
        size, below, openers = self._weigh_all(parts, above, insides)
        below += 1
        self._make_room(size)
        if openers is None:
            if size < SMALL_BYTES and below <= SHALLOW:
                self._fixed[id(value)] = size
                self._fixed_values[id(value)] = below, value
            return size, below, None
        opener = _maker(record.make, parts, openers)
        holders, lengths, contents = insides
        mine = holders[first:], lengths[first:], contents[first:]
        self._changing[id(value)] = value, mine, size, below, opener
        return size, below, opener

    def _make_room(self, size: int) -> None:
        """For one more that is known."""
        self._known_bytes += size
        if len(self._changing) >= CHANGING_MAXIMUM:
            self._changing.clear()
        if len(self._fixed) >= FIXED_MAXIMUM or self._known_bytes > KNOWN_MAXIMUM_BYTES:
            self._known_bytes = size
            for known in (self._fixed, self._fixed_values, self._changing):
                known.clear()

    def _weigh_dict(self, value: dict[Any, Any], above: int, insides: Insides) -> _Weighed:
        keys, parts = tuple(value), tuple(value.values())
        holders, lengths, contents = insides
        holders += (value, value.values())
        lengths += (len(keys), len(keys))
        contents += (keys, parts)
        atoms = self._atoms
        if atoms.issuperset(map(type, keys)) and atoms.issuperset(map(type, parts)):
            return len(_bytes_of(value)), 1, dict(value).copy
        size, below, openers = self._weigh_all(keys, above, insides)
        if openers is not None:
            raise _UnknownError
        more, deeper, openers = self._weigh_all(parts, above, insides)
        opener: _Opener
        if openers is None:
            opener = dict(value).copy
        else:
            opener = _maker(partial(_dict_of, keys), parts, openers)
        return size + more, (below if below > deeper else deeper) + 1, opener

    def _weigh_list(self, value: list[Any], above: int, insides: Insides) -> _Weighed:
        parts = tuple(value)
        size, below, openers = self._weigh_holder(value, parts, above, insides)
        if openers is None:
            return size, below + 1, list(parts).copy
        return size, below + 1, _maker(_list_of, parts, openers)

    def _weigh_holder(
        self, value: Collection[Any], parts: Sequence[Any], above: int, insides: Insides
    ) -> tuple[int, int, list[_Opener | None] | None]:
        holders, lengths, contents = insides
        holders.append(value)
        lengths.append(len(parts))
        contents.append(parts)
        return self._weigh_all(parts, above, insides)

    def _weigh_set(
        self, value: set[Any] | frozenset[Any], above: int, insides: Insides
    ) -> _Weighed:
        parts = tuple(value)
        if isinstance(value, frozenset):
            size, below, openers = self._weigh_all(parts, above, insides)
        else:
            size, below, openers = self._weigh_holder(value, parts, above, insides)
        if openers is not None:
            raise _UnknownError
        return size, below + 1, None if isinstance(value, frozenset) else set(parts).copy

    def _weigh_new(self, value: Any, above: int, insides: Insides) -> _Weighed:
        """One of a class that was not met before."""
        kind: type = value.__class__
        if is_dataclass(kind) and cast(Any, kind).__dataclass_params__.frozen:
            self._records[kind] = record = self._codec.record(kind)
            return self._weigh_record(value, record, above + 1, insides)
        if isinstance(value, Enum) and not isinstance(value, Flag):
            self._codec.name_of(kind)
            self._atoms.add(kind)
            return len(_bytes_of(value)), 0, None
        raise _UnknownError


def _maker(
    make: Callable[..., Any], parts: Sequence[Any], openers: Sequence[_Opener | None]
) -> _Opener:
    """Makes it of new copies of those parts that can change, and of the others."""
    each = [opener or repeat(part).__next__ for part, opener in zip(parts, openers, strict=True)]
    return partial(_made, make, each)


def _made(make: Callable[..., Any], openers: Sequence[_Opener]) -> Any:
    return make(*map(call, openers))


def _dict_of(keys: Sequence[Any], *parts: Any) -> dict[Any, Any]:
    return dict(zip(keys, parts, strict=True))


def _list_of(*parts: Any) -> list[Any]:
    return [*parts]


def _tuple_of(*parts: Any) -> tuple[Any, ...]:
    return parts
